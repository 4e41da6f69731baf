"""The contract between a picture and everything that judges it: what a filter is.

A filter measures pictures and returns evidence. It decides nothing: keep ranges over its scores live in the
recipe, and `curation.recipe.judge` alone turns them into a verdict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

RgbImage = npt.NDArray[np.uint8]
"""Decoded pixels, uint8, shape (H, W, 3), RGB, after EXIF orientation; read-only, since every filter sees the same."""


class FaceCaptionError(Exception):
    """Root of every error this project raises on purpose; the tree is drawn in `curation.errors`.

    Its arguments are the lines of its message, one each unless a class says otherwise: what stands in one of them stays
    within its line wherever it is printed.
    """

    exit_code: ClassVar[int] = 70

    def __str__(self) -> str:
        """Return the message."""
        return "\n".join(map(str, self.args))

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of the message."""
        has_own_text = type(self).__str__ is not FaceCaptionError.__str__
        return (str(self),) if has_own_text else tuple(map(str, self.args))


class Settings(BaseModel):
    """Base of every table of a recipe: frozen, typed, and closed to names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class TableSettings(Settings):
    """A table of a recipe that has grown: what came later is told only where it is not the default.

    So it is in no digest until it says something, and what was made before keeps its identity.
    """

    LATER: ClassVar[frozenset[str]] = frozenset()
    """Keys that came after the first release."""

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        defaults = {name: fields[name].get_default(call_default_factory=True) for name in self.LATER}
        unchanged = {name for name, default in defaults.items() if getattr(self, name) == default}
        return {name: value for name, value in values.items() if name not in unchanged}


@dataclass(frozen=True)
class Evidence:
    """Base of what filters measure: a frozen dataclass of floats, ints, strings, tuples and other dataclasses.

    Coordinates are pixels of the decoded picture after EXIF orientation, origin at its top left corner.
    It maps to an Arrow struct field by field (`curation.measure.arrow`), and back without loss.
    """


@dataclass(frozen=True)
class WeightsFile:
    """One file of trained weights, already verified: its catalogue name, where it lies and its sha256 in hex."""

    name: str
    path: str
    sha256: str


@dataclass(frozen=True)
class ScoreMeaning:
    """What a score says, in words that whoever never read its code can use."""

    about: str
    """What it measures."""
    unit: str
    """Unit or range."""
    example: float
    """A value that a picture may have."""
    low: str = ""
    """What may be wrong with a picture that has less than a recipe keeps; empty where nothing more can be said."""
    high: str = ""
    """The same of one that has more."""

    def failure(self, kind: str) -> str:
        """Return what a keep range says by turning a picture away as `low`, `high` or `not_finite`."""
        if kind == "not_finite":
            return f"no number came out: {self.about}"
        said = {"low": self.low, "high": self.high}[kind]
        return said or f"{'less' if kind == 'low' else 'more'} than the recipe keeps: {self.about}"


@runtime_checkable
class Explained(Protocol):
    """What a filter defines beside, so that reports and the reference can say what its scores mean."""

    @property
    def MEANINGS(self) -> Mapping[str, ScoreMeaning]:  # noqa: N802
        """The meaning of every one of `SCORES`."""
        ...


class Filter(Protocol):
    """Measures pictures; never decides. `FilterModule.build` makes it."""

    def measure(self, images: Sequence[RgbImage]) -> list[Any]:
        """Return one evidence per picture, in the order given; a picture's evidence never depends on the others."""
        ...


class FilterModule(Protocol):
    """What a module `filters/<name>.py` defines to be a filter: the whole contract, and nothing else is asked of it.

    `Measure`, `Score` and `EVIDENCE` are its own classes; its functions take those.
    """

    @property
    def __name__(self) -> str:
        """Dotted name of the module."""
        ...

    @property
    def VERSION(self) -> int:  # noqa: N802  the contract's names are those of constants and classes of a module
        """Raised whenever the same picture would give other evidence."""
        ...

    @property
    def EVIDENCE(self) -> type[Any]:  # noqa: N802
        """Its own subclass of `Evidence`."""
        ...

    @property
    def SCORES(self) -> tuple[str, ...]:  # noqa: N802
        """The names of its scores."""
        ...

    @property
    def Measure(self) -> type[Settings]:  # noqa: N802
        """Parameters that change the evidence: model, input side, confidence floor, ..."""
        ...

    @property
    def Score(self) -> type[Settings]:  # noqa: N802
        """Parameters of the scores alone, free to change after measuring."""
        ...

    def scores(self, evidence: Any, score: Any) -> dict[str, float]:
        """Return name -> finite score, in the order of `SCORES`: a pure function of its own evidence."""
        ...

    def weights(self, measure: Any) -> tuple[str, ...]:
        """Return catalogue names or paths of the weights that it needs."""
        ...

    def build(self, measure: Any, device: str) -> Filter:
        """Return the filter, loaded; heavy imports happen in here and nowhere else."""
        ...


@runtime_checkable
class StandIn(Protocol):
    """What a filter defines beside, where it can screen one that has joint scores."""

    def stand_in(self, evidence: Any, score: Any) -> Any:
        """Return what joint scores take for the evidence of the filter that this one screens."""
        ...


@runtime_checkable
class Follower(Protocol):
    """What a filter defines beside, where it looks at what another one has found, such as the face: `faces`.

    Its `measure` takes, after the pictures, one sequence of evidences for each of `INPUTS`, in the pictures' order. Its
    own evidence is a function of picture and inputs, and its measurement key holds theirs.
    """

    @property
    def INPUTS(self) -> tuple[str, ...]:  # noqa: N802
        """Names of filters of the recipe; they know of no follower, and it of them only what their evidence holds."""
        ...


@runtime_checkable
class Extended(Protocol):
    """What a filter defines beside, where other distributions may bring a part of it, such as a detector."""

    def plugins(self, measure: Any) -> tuple[Any, ...]:
        """Return the `filters.plugins.Plugin`s that it measures with; their versions stand in its measurement key."""
        ...


CONTRACT = ("VERSION", "EVIDENCE", "SCORES", "Measure", "Score", "scores", "weights", "build")
"""The names of `FilterModule`, for a message about a module that lacks one."""

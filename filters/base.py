"""The contract between a picture and everything that judges it: what a filter is.

A filter measures pictures and returns evidence. It decides nothing: keep ranges over its scores live in the
recipe, and `curation.recipe.judge` alone turns them into a verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

RgbImage = npt.NDArray[np.uint8]
"""Decoded pixels, uint8, shape (H, W, 3), RGB, after EXIF orientation; read-only, since every filter sees the same."""


class FaceCaptionError(Exception):
    """Root of every error this project raises on purpose; the tree is drawn in `curation.errors`."""

    exit_code: ClassVar[int] = 70


class Settings(BaseModel):
    """Base of every table of a recipe: frozen, typed, and closed to names it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


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


class Filter(Protocol):
    """Measures pictures; never decides.

    A module `filters/<name>.py` is a filter when it defines

    - `VERSION: int`, raised whenever the same picture would give other evidence;
    - `EVIDENCE`, its `Evidence` class, and `SCORES`, the names of its scores;
    - `Measure(Settings)`, parameters that change the evidence (model, input side, confidence floor, ...);
    - `Score(Settings)`, parameters of the scores alone, free to change after measuring;
    - `scores(evidence, score) -> dict[str, float]`, pure: name -> finite score, in the order of `SCORES`;
    - `weights(measure) -> tuple[str, ...]`, catalogue names or paths of the weights that it needs;
    - `stand_in(evidence, score)`, only where it can screen a filter that has joint scores: what these take for that
      filter's evidence;
    - `build(measure, device) -> Filter`, which loads them; heavy imports happen in there and nowhere else.
    """

    def measure(self, images: Sequence[RgbImage]) -> list[Any]:
        """Return one evidence per picture, in the order given; a picture's evidence never depends on the others."""
        ...

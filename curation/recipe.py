"""A recipe: everything a run will do, read from one TOML file, validated before anything starts, and frozen."""

import difflib
import importlib
import pkgutil
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, get_args

from pydantic import Field, ValidationError

import configs
import filters
from curation.commit import digest
from curation.errors import RecipeError
from curation.joint import JOINT_SCORES, Bounds, JointScore, Known
from curation.judge import Criterion, KeepRange
from curation.settings import CurateSettings, DecodeLimits, FetchSettings, PackSettings, RankSettings
from filters.base import Settings

S = TypeVar("S", bound=Settings)
UNKNOWN = Bounds(float("-inf"), float("inf"))
OUTSIDE_DIGEST = (
    "order", "num_batch_samples", "device", "num_gpus",
    "isolate", "max_decode_s", "max_measure_s", "max_measure_mib", "max_quarantined", "max_quarantined_fraction",
)  # fmt: skip
"""Fields of `[curate]` that change cost, or guard the machine, but judge no picture."""


class FilterStanza(Settings):
    """One `[[filters]]` table, before its filter's own module has looked at it."""

    name: str
    measure: dict[str, Any] = Field(default_factory=dict)
    score: dict[str, Any] = Field(default_factory=dict)
    joint: dict[str, dict[str, Any]] = Field(default_factory=dict)
    keep: dict[str, KeepRange] = Field(default_factory=dict)


class RecipeFile(Settings):
    """The top level of a recipe file."""

    schema_version: int = Field(ge=1, le=1)
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    description: str = ""
    rank: RankSettings = RankSettings()
    fetch: FetchSettings = FetchSettings()
    decode: DecodeLimits = DecodeLimits()
    curate: CurateSettings = CurateSettings()
    filters: tuple[FilterStanza, ...] = Field(min_length=1)
    pack: PackSettings = PackSettings()


@dataclass(frozen=True)
class FilterPlan:
    """One filter as the recipe wants it: its module, its parameters and its keep ranges."""

    name: str
    module: ModuleType
    measure: Settings
    score: Settings
    joint: Mapping[str, JointScore]
    keep: Mapping[str, KeepRange]

    def scores(self, evidence: Any) -> dict[str, float]:
        """Return the filter's own scores of one evidence."""
        scores: dict[str, float] = self.module.scores(evidence, self.score)
        return scores


@dataclass(frozen=True)
class Recipe:
    """Everything a run will do."""

    name: str
    path: str
    file: RecipeFile
    filters: tuple[FilterPlan, ...]
    """In declared order, which decides who is named when several filters reject."""

    @property
    def order(self) -> tuple[str, ...]:
        """Execution order of the filters."""
        return self.file.curate.order or tuple(plan.name for plan in self.filters)

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The recipe with every default filled in, as plain values: what is written beside a stage's output."""
        value = self.file.model_dump(mode="json", exclude_none=True)
        value["filters"] = [_plan_values(plan) for plan in self.filters]
        return value

    @cached_property
    def digest(self) -> str:
        """The sha256 of all that can change a verdict or a byte of output; execution order and device are outside."""
        return digest(self._inside(self.resolved))

    @cached_property
    def curate_digest(self) -> str:
        """The digest of what `curate` alone depends on, so that a new shard size does not measure anything again."""
        inside = self._inside(self.resolved)
        return digest({key: inside[key] for key in ("schema_version", "decode", "curate", "filters")})

    @cached_property
    def criteria(self) -> tuple[Criterion, ...]:
        """Every keep range as a criterion, in declared order."""
        return tuple(_criterion(plan, score, keep) for plan in self.filters for score, keep in plan.keep.items())

    def __reduce__(self) -> tuple[Any, ...]:
        return recipe_of, (self.file.model_dump(mode="json", exclude_unset=True), self.path)

    @staticmethod
    def _inside(resolved: Mapping[str, Any]) -> dict[str, Any]:
        curate = {key: value for key, value in resolved["curate"].items() if key not in OUTSIDE_DIGEST}
        return {**resolved, "curate": curate}


def load_recipe(path: Path | str) -> Recipe:
    """Read and validate a recipe; a bare name such as `facecaptionhq-4m` is one of those that come with the package.

    Raises:
        RecipeError: the file is missing, is not TOML, or a key of it does not hold.
    """
    file = _find(Path(path))
    try:
        values = tomllib.loads(file.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{file}: not valid TOML: {error}") from error
    return recipe_of(values, str(file))


def bundled_recipes() -> tuple[str, ...]:
    """Return the names of the recipes that come with the package."""
    return tuple(sorted(path.stem for path in _configs_folder().glob("*.toml")))


def _configs_folder() -> Path:
    return Path(next(iter(configs.__path__)))


def _find(path: Path) -> Path:
    if path.is_file():
        return path
    bundled = _configs_folder() / f"{path.name}.toml"
    if path.parent == Path() and bundled.is_file():
        return bundled
    raise RecipeError(f"{path}: no such recipe; give a TOML file or one of {', '.join(bundled_recipes())}")


def recipe_of(values: Mapping[str, Any], where: str) -> Recipe:
    """Build a recipe from plain values; `where` names them in errors.

    Raises:
        RecipeError: a key does not hold.
    """
    file = validated(RecipeFile, values, where, "")
    plans = tuple(_plan(stanza, where, f"filters[{i}]") for i, stanza in enumerate(file.filters))
    names = [plan.name for plan in plans]
    if len(set(names)) != len(names):
        raise RecipeError(f"{where}: filters: a name stands twice in {names}; each filter has one stanza")
    for plan in plans:
        for score in plan.joint:
            if missing := [name for name in JOINT_SCORES[score].inputs if name not in names]:
                raise RecipeError(f"{where}: filter {plan.name!r}: keep.{score} also needs a filter {missing[0]!r}")
    if file.curate.order and sorted(file.curate.order) != sorted(names):
        raise RecipeError(f"{where}: curate.order {list(file.curate.order)} must name each of {names} once")
    return Recipe(name=file.name, path=where, file=file, filters=plans)


def _plan(stanza: FilterStanza, where: str, place: str) -> FilterPlan:
    if stanza.name not in filter_names():
        raise RecipeError(f"{where}: {place}.name: no filter {stanza.name!r}; {_choices(stanza.name, filter_names())}")
    module = importlib.import_module(f"filters.{stanza.name}")
    joint = {name: score for name, score in JOINT_SCORES.items() if score.owner == stanza.name}
    if unknown := [name for name in stanza.joint if name not in joint]:
        raise RecipeError(f"{where}: {place}.joint.{unknown[0]}: unknown; {_choices(unknown[0], joint)}")
    scores = (*module.SCORES, *joint)
    if unknown := [name for name in stanza.keep if name not in scores]:
        raise RecipeError(f"{where}: {place}.keep.{unknown[0]}: no such score; {_choices(unknown[0], scores)}")
    return FilterPlan(
        name=stanza.name,
        module=module,
        measure=validated(module.Measure, stanza.measure, where, f"{place}.measure"),
        score=validated(module.Score, stanza.score, where, f"{place}.score"),
        joint={
            name: validated(score, stanza.joint.get(name, {}), where, f"{place}.joint.{name}")
            for name, score in joint.items()
            if name in stanza.keep or name in stanza.joint
        },
        keep=stanza.keep,
    )


def filter_names() -> tuple[str, ...]:
    """Return the modules of `filters` that are filters: those whose source defines how to build one."""
    names = (info.name for info in pkgutil.iter_modules(filters.__path__) if not info.ispkg)
    return tuple(name for name in sorted(names) if hasattr(importlib.import_module(f"filters.{name}"), "SCORES"))


def _criterion(plan: FilterPlan, score: str, keep: KeepRange) -> Criterion:
    joint = plan.joint.get(score)
    if joint is not None:
        return Criterion(plan.name, score, keep, joint.inputs, joint.bounds)
    bounds: Callable[[Known], Bounds] = partial(_own_bounds, plan, score)
    return Criterion(plan.name, score, keep, (plan.name,), bounds)


def _own_bounds(plan: FilterPlan, score: str, known: Known) -> Bounds:
    evidence = known[plan.name]
    if evidence is None:
        return UNKNOWN
    value = plan.scores(evidence)[score]
    return Bounds(value, value)


def _plan_values(plan: FilterPlan) -> dict[str, Any]:
    return {
        "name": plan.name,
        "measure": plan.measure.model_dump(mode="json"),
        "score": plan.score.model_dump(mode="json"),
        "joint": {name: score.model_dump(mode="json") for name, score in plan.joint.items()},  # type: ignore[attr-defined]
        "keep": {name: keep.model_dump(mode="json", exclude_none=True) for name, keep in plan.keep.items()},
    }


def validated(model: type[S], values: Mapping[str, Any], where: str, place: str) -> S:
    """Return the table that `values` describe; `where` and `place` say in errors which file and table they are of.

    Raises:
        RecipeError: a key does not hold.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise RecipeError("\n".join(_explain(model, where, place, fault) for fault in error.errors())) from None


def _explain(model: type[Settings], where: str, place: str, fault: Mapping[str, Any]) -> str:
    path = list(fault["loc"])
    dotted = ".".join(str(step) for step in path)
    key = f"{place}.{dotted}" if place else dotted
    if fault["type"] == "extra_forbidden":
        return f"{where}: {key}: unknown key; {_choices(str(path[-1]), _fields_at(model, path[:-1]))}"
    return f"{where}: {key}: {fault['msg']} (got {fault['input']!r})"


def _fields_at(model: type[Settings], path: Sequence[Any]) -> tuple[str, ...]:
    """Return the field names of the table that stands at `path`; list indices and free keys lead on to their model."""
    for step in path:
        if step not in model.model_fields:
            continue
        annotation = model.model_fields[step].annotation
        arguments = (annotation, *get_args(annotation))
        inner = next((a for a in arguments if isinstance(a, type) and issubclass(a, Settings)), None)
        if inner is None:
            return ()
        model = inner
    return tuple(model.model_fields)


def _choices(wrong: str, names: Sequence[str] | Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(wrong, list(names), n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}the choices are {', '.join(names)}" if names else f"{hint}nothing can stand here"

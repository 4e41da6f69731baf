"""A recipe: everything a run will do, read from one TOML file, validated before anything starts, and frozen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import Field

import configs
from curation.errors import RecipeError
from curation.recipe.captioning import CaptioningSettings
from curation.recipe.filter_plan import FilterPlan, FilterStanza, ScreenPlan, criterion_of, plan_of, plan_values
from curation.recipe.joint_scores import JOINT_SCORES
from curation.recipe.judge import Criterion, KeepRange
from curation.recipe.limits import LimitsRecord, require_held, require_measured_alike, with_limits, without_changed
from curation.recipe.overrides import overridden
from curation.recipe.screens import may_hold
from curation.recipe.settings import (
    CaptionSettings,
    CurateSettings,
    DecodeLimits,
    FetchSettings,
    PackSettings,
    RankSettings,
)
from curation.recipe.validation import read_toml, validated
from curation.storage.publish import digest
from filters.base import Settings

OUTSIDE_DIGEST = (
    "order", "num_batch_samples", "device", "device_server", "num_gpus",
    "isolate", "max_decode_s", "max_measure_s", "max_measure_mib", "max_quarantined", "max_quarantined_fraction",
)  # fmt: skip
"""Fields of `[curate]` that change cost, or guard the machine, but judge no picture."""


class RecipeFile(Settings):
    """The top level of a recipe file."""

    schema_version: int = Field(ge=1, le=1)
    """Version of the form of this file."""
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")
    """What manifests and reports call the recipe."""
    description: str = ""
    """What it is for, in one sentence."""
    rank: RankSettings = RankSettings()
    fetch: FetchSettings = FetchSettings()
    decode: DecodeLimits = DecodeLimits()
    curate: CurateSettings = CurateSettings()
    filters: tuple[FilterStanza, ...] = Field(min_length=1)
    captions: CaptionSettings | None = None
    caption: CaptioningSettings | None = None
    pack: PackSettings = PackSettings()
    limits: LimitsRecord | None = None
    """In a file: the path of a lock that `calibrate` wrote, or a table `file`, `labels` (`curation.recipe.limits`)."""


@dataclass(frozen=True)
class Recipe:
    """Everything a run will do."""

    name: str
    path: str
    file: RecipeFile
    filters: tuple[FilterPlan, ...]
    """In declared order, which decides who is named when several filters reject."""

    @cached_property
    def screens(self) -> Mapping[str, tuple[ScreenPlan, ...]]:
        """Filter -> its screens; none where the recipe switches them off."""
        is_on = self.file.curate.screens == "on"
        return {plan.name: plan.screens if is_on else () for plan in self.filters}

    @cached_property
    def measurers(self) -> tuple[FilterPlan, ...]:
        """Everything that measures and has a column: the filters in declared order, each after its screens."""
        return tuple(
            measurer
            for plan in self.filters
            for measurer in (*(screen.plan for screen in self.screens[plan.name]), plan)
        )

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Execution order of all that measures; a screen that the recipe's order leaves out precedes its filter."""
        named = self.file.curate.order or tuple(plan.name for plan in self.filters)
        order: list[str] = []
        for name in named:
            screens = [screen.plan.name for screen in self.screens.get(name, ())]
            order += [screen for screen in screens if screen not in named]
            order += [name] if any(plan.name == name for plan in self.measurers) else []
        return tuple(order)

    @cached_property
    def certain(self) -> frozenset[str]:
        """Who has certainly measured every kept sample.

        All filters but those that a screen may spare or that no keep range of its own score asks, and the screen that
        is asked first about each keep range. With `measure = "all"` everything has.
        """
        if self.file.curate.measure == "all":
            return frozenset(plan.name for plan in self.measurers)
        spared = {
            plan.name
            for plan in self.filters
            if all(self._may_be_spared(plan, score, keep) for score, keep in plan.keep.items())
        }
        first = {criterion.screens[0].screen for criterion in self.criteria if criterion.screens}
        return frozenset(plan.name for plan in self.filters if plan.name not in spared) | first

    def _may_be_spared(self, plan: FilterPlan, score: str, keep: KeepRange) -> bool:
        proofs = [proof for screen in self.screens[plan.name] for proof in screen.proofs]
        return score in plan.joint or may_hold(keep, score, proofs)

    @cached_property
    def resolved(self) -> dict[str, Any]:
        """The recipe with every default filled in, as plain values: what is written beside a stage's output."""
        values = self.file.model_dump(mode="json", exclude_none=True)
        values["filters"] = [plan_values(plan) for plan in self.filters]
        return values

    @cached_property
    def digest(self) -> str:
        """The sha256 of all that can change a verdict or a byte of output; execution order and device are outside."""
        return digest(self._inside(self.resolved))

    @cached_property
    def curate_digest(self) -> str:
        """The digest of what `curate` alone depends on, so that a new shard size does not measure anything again."""
        return digest(self.curate_part)

    @cached_property
    def curate_part(self) -> dict[str, Any]:
        """That part of the resolved recipe."""
        inside = self._inside(self.resolved)
        asked = {key: inside[key] for key in ("schema_version", "decode", "curate", "filters")}
        told = {"max_caption_characters": self.file.pack.max_caption_characters}
        return asked if self.file.captions is None else {**asked, "captions": told}

    @cached_property
    def criteria(self) -> tuple[Criterion, ...]:
        """Every keep range as a criterion, in declared order."""
        return tuple(
            criterion_of(plan, score, keep, self.screens[plan.name])
            for plan in self.filters
            for score, keep in plan.keep.items()
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return recipe_of, (self.file.model_dump(mode="json", exclude_unset=True), self.path)

    @staticmethod
    def _inside(resolved: Mapping[str, Any]) -> dict[str, Any]:
        curate = {key: value for key, value in resolved["curate"].items() if key not in OUTSIDE_DIGEST}
        return {**resolved, "curate": curate}


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read and validate a recipe; a bare name such as `facecaptionhq-4m` is one of those that come with the package.

    Each override is `key=value` as on the command line (`curation.recipe.overrides`). The values that it gives are the
    recipe's from then on, in its digest and in what is written beside a stage's output. Where it names limits, those
    of the lock are its own, but for what an override says of them; the lock is looked for beside the recipe, or, where
    an override names it, from the working folder on.

    Raises:
        RecipeError: the file is missing, is not TOML, or a key of it or of an override does not hold.
    """
    file = _find(Path(path))
    where = " with ".join([str(file), *overrides])
    of_limits = [override for override in overrides if override.partition("=")[0].strip().split(".")[0] == "limits"]
    values = overridden(read_toml(file), of_limits)
    values, lock = with_limits(values, Path() if of_limits else file.parent, where)
    recipe = recipe_of(values, where)
    if others := [override for override in overrides if override not in of_limits]:
        recipe = recipe_of(without_changed(overridden(values, others)), where)
    if lock is not None:
        require_measured_alike(recipe.filters, lock, f"{where}: limits")
    return recipe


def recipe_text(name: Path | str) -> str:
    """Return a recipe's file as it is written, comments and all.

    Raises:
        RecipeError: there is none of this name.
    """
    return _find(Path(name)).read_text(encoding="utf-8")


def described_recipes() -> Mapping[str, str]:
    """Return the recipes that come with the package by name, with what each says of itself."""
    return {name: load_recipe(name).file.description for name in bundled_recipes()}


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
    near = get_close_matches(path.stem, bundled_recipes(), n=1)
    meant = f"; did you mean {near[0]}?" if near else ""
    raise RecipeError(f"{path}: no such recipe; give a TOML file or one of {', '.join(bundled_recipes())}{meant}")


def recipe_of(values: Mapping[str, Any], where: str) -> Recipe:
    """Build a recipe from plain values; `where` names them in errors.

    Raises:
        RecipeError: a key does not hold.
    """
    file = validated(RecipeFile, values, where, "")
    plans = tuple(plan_of(stanza, where, f"filters[{i}]") for i, stanza in enumerate(file.filters))
    names = [plan.name for plan in plans]
    columns = [*names, *(screen.plan.name for plan in plans for screen in plan.screens)]
    if len(set(columns)) != len(columns):
        raise RecipeError(f"{where}: filters: a name stands twice in {columns}; each filter has one stanza")
    for plan in plans:
        if missing := [name for name in plan.inputs if name not in names]:
            raise RecipeError(f"{where}: filter {plan.name!r} also needs a filter {missing[0]!r}")
        for score in [*plan.joint, *(name for screen in plan.screens for name in screen.joint)]:
            if missing := [name for name in JOINT_SCORES[score].inputs if name not in names]:
                raise RecipeError(f"{where}: filter {plan.name!r}: {score} also needs a filter {missing[0]!r}")
    if file.limits is not None:
        require_held(file.limits, plans, where)
    _require_order(file.curate.order, plans, where)
    recipe = Recipe(name=file.name, path=where, file=file, filters=plans)
    if file.pack.near_duplicate_bits is not None and "look" not in recipe.certain:
        raise RecipeError(
            f"{where}: pack.near_duplicate_bits: needs a filter 'look' that measures all that is kept, so with a keep "
            f"range of its own, such as keep.num_set_bits = {{ min = 0 }}"
        )
    return recipe


def _require_order(order: Sequence[str], plans: Sequence[FilterPlan], where: str) -> None:
    """Make sure that an execution order names every filter once, and screens, if at all, before their filter."""
    if not order:
        return
    chains = [[*(screen.plan.name for screen in plan.screens), plan.name] for plan in plans]
    names, all_names = [plan.name for plan in plans], [name for chain in chains for name in chain]
    if len(set(order)) != len(order) or set(order) - set(all_names) or set(names) - set(order):
        choices = f"; it may name {', '.join(n for n in all_names if n not in names)} too" if all_names != names else ""
        raise RecipeError(f"{where}: curate.order {list(order)} must name each of {names} once{choices}")
    for chain in chains:
        named = [name for name in order if name in chain]
        if named != [name for name in chain if name in named]:
            raise RecipeError(f"{where}: curate.order {list(order)}: {chain} must stand in this order")

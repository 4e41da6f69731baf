"""Says in which values the recipe that a folder was made by is not the one that is asked for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curation.dataset.manifest import MANIFEST_NAME, Manifest, read_manifest
from curation.dataset.stages import CAPTION, CURATE, FETCH, RANK
from curation.errors import RecipeError, UsageError
from curation.recipe.differences import changes_back, differences, options_of, told
from curation.recipe.overrides import as_toml, overridden
from curation.recipe.recipe import OUTSIDE_DIGEST, Recipe, recipe_of

TABLES: Mapping[str, tuple[str, ...]] = {
    RANK.name: ("rank",),
    FETCH.name: ("fetch", "decode"),
    CAPTION.name: ("caption",),
}
"""Stage -> tables of a recipe that its output depends on; of `curate` the recipe itself says it, of others all."""


def require_curated_by(source: Path, curated: Manifest, recipe: Recipe, command: str) -> None:
    """Make sure that a curated folder was decided by this recipe.

    Raises:
        UsageError: it was not; names each key, both values, and the options with which the command takes the folder.
    """
    if curated.extra.get("curate_digest") == recipe.curate_digest:
        return
    before, now = part_of(CURATE.name, curated.recipe), part_of(CURATE.name, recipe.resolved)
    changes = [] if before is None or now is None else list(differences(before, now))
    if not changes or before is None or now is None:
        raise UsageError(
            f"{source}: curated with recipe {curated.recipe_name!r}, whose filters are not those of {recipe.name!r}; "
            f"{command} it with that recipe, or curate again with this one"
        )
    options = _options_to(curated.extra.get("curate_digest"), changes_back(before, now), recipe)
    how = f"add {options}" if options is not None else f"name the recipe {curated.recipe_name!r} as it was then"
    raise UsageError(
        f"{source}: decided by other values than recipe {recipe.name!r} has: {told(changes)}; to {command} it as it "
        f"is, {how}; or decide again with this recipe"
    )


def _options_to(curate_digest: str | None, changes: Sequence[str] | None, recipe: Recipe) -> str | None:
    """Return changes of a recipe as they are typed, where they do make one that decides alike."""
    if changes is None:
        return None
    try:
        made = recipe_of(overridden(as_toml(recipe.resolved), changes), "the recipe as it was then")
    except RecipeError:
        return None
    return options_of(changes) if made.curate_digest == curate_digest else None


def how_apart(target: Path, stage: str, recipe: Recipe | None) -> str:
    """Return in which values a folder's recipe differs from another, in words; empty where that is not known."""
    if recipe is None or not (target / MANIFEST_NAME).is_file():
        return ""
    before, now = part_of(stage, read_manifest(target).recipe), part_of(stage, recipe.resolved)
    return "" if before is None or now is None else told(list(differences(before, now)))


def part_of(stage: str, values: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the part of a resolved recipe that a stage depends on; None where it is of another version."""
    if stage == CURATE.name:
        try:
            part = recipe_of(values, "the recipe in a manifest").curate_part
        except RecipeError:
            return None
        return part if "captions" not in part else {**part, "captions": "given", "pack": part["captions"]}
    own = {key: values[key] for key in TABLES.get(stage, tuple(values)) if key in values}
    curate = {key: value for key, value in values.get("curate", {}).items() if key not in OUTSIDE_DIGEST}
    return {**own, "curate": curate} if "curate" in own else own

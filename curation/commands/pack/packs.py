"""Which packs there are of a run, wherever they lie, and which of them follow what is curated now."""

from contextlib import suppress
from pathlib import Path

from curation.commands.pack.stage import CURATED_RECIPE, pack_work
from curation.dataset.manifest import HISTORY, MADE_FROM, MANIFEST_NAME, SUPERSEDED, Manifest, read_manifest
from curation.dataset.stages import CURATE, PACK
from curation.errors import RecipeError
from curation.recipe.recipe import recipe_of
from curation.run.folders import StageFolder, derived_stages, stages_of


def packs_of(run: Path) -> dict[StageFolder, Manifest]:
    """Return every finished pack of a run, or of a curated folder, that can be reached, with its manifest."""
    places = [place for place in (*stages_of(run), *derived_stages(run)) if place.stage == PACK.name]
    return {
        place: read_manifest(place.folder, PACK.name)
        for place in places
        if (place.folder / MANIFEST_NAME).is_file()
    }  # fmt: skip


def superseded_packs(run: Path) -> list[Path]:
    """Return the packs that were made from an earlier state of what is curated."""
    folder = next(place.folder for place in stages_of(run) if place.stage == CURATE.name)
    curated = read_manifest(folder, CURATE.name)
    return [place.folder for place, packed in packs_of(run).items() if is_superseded(packed, curated)]


def is_superseded(packed: Manifest, curated: Manifest) -> bool:
    """Whether a pack was made from a state that the curated folder had once and has no more."""
    if packed.work_digest == pack_work(curated, recipe_of(packed.recipe, "the pack's recipe")):
        return False
    made_from = packed.extra.get(MADE_FROM)
    if made_from == curated.state or made_from in curated.extra.get(SUPERSEDED, ()):
        return made_from != curated.state
    by = packed.extra.get(CURATED_RECIPE)  # a release that named no states
    return by != curated.recipe_digest and by in _earlier_recipes(curated)


def _earlier_recipes(curated: Manifest) -> set[str]:
    """Return the digests of the recipes that judged a curated folder before."""
    digests: set[str] = set()
    for values in curated.extra.get(HISTORY, ()):
        with suppress(RecipeError):  # of another version
            digests.add(recipe_of(values, "a recipe of before").digest)
    return digests

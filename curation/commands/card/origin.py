"""Which pack a card is of, and which run it was packed from."""

from dataclasses import dataclass
from pathlib import Path

from curation.commands.pack.packs import is_superseded, packs_of
from curation.commands.pack.stage import pack_work
from curation.dataset.manifest import BEFORE_FORGET, MADE_FROM, MANIFEST_NAME, SUPERSEDED, Manifest, read_manifest
from curation.dataset.stages import CURATE, PACK, STAGES
from curation.errors import RecipeError, UsageError
from curation.recipe.recipe import recipe_of
from curation.run.folders import StageFolder, stages_of
from curation.storage.paths import named, resolved, spellings


@dataclass(frozen=True)
class Origin:
    """A pack, and the run that it was packed from."""

    pack: StageFolder
    manifest: Manifest
    run: Path | None
    """None where the run is not known: then nobody can say what was forgotten there, or decided anew."""
    is_superseded: bool = False
    """Whether the run's curated folder has another state by now."""

    @property
    def stages(self) -> tuple[StageFolder, ...]:
        """The finished stages before the pack, as far as they are known, and the pack, in their order."""
        return (*(place for place in _finished(self.run) if place.stage != PACK.name), self.pack)


def origin_of(folder: Path, run: Path | None = None) -> Origin:
    """Return the pack that a folder is, or that the run in it has, with its run.

    Raises:
        UsageError: there is no finished pack, there are several, or it was not packed from that run.
    """
    folder = named(folder)
    places = stages_of(folder)
    if resolved(places[0].folder) != resolved(folder):
        return _origin(_only_pack(folder), folder)
    if places[0].stage != PACK.name:
        raise UsageError(f"{folder}: a folder of {places[0].stage}; give the run, or a folder that `pack` wrote")
    pack = StageFolder(PACK.name, folder, PACK.name)
    if run is not None:
        return _origin(pack, named(run))
    manifest = read_manifest(folder, PACK.name)
    homes = (place.parent for place in spellings(folder))
    return _origin(pack, next((home for home in homes if _curated_for(manifest, home)), None))


def _origin(pack: StageFolder, run: Path | None) -> Origin:
    manifest = read_manifest(pack.folder, PACK.name)
    if run is None:
        return Origin(pack, manifest, None)
    curated = _curated_for(manifest, run)
    if curated is None:
        raise UsageError(f"{pack.folder}: was not packed from what lies in {run}; name the run by --run")
    return Origin(pack, manifest, run, is_superseded(manifest, curated))


def _only_pack(run: Path) -> StageFolder:
    packs = list(packs_of(run))
    own = [place for place in packs if place.folder == run / PACK.name]
    if len(found := own or packs) != 1:
        shown = ", ".join(str(place.folder) for place in found) or "none"
        raise UsageError(f"{run}: give the folder of one finished pack; of this run there is: {shown}")
    return StageFolder(PACK.name, found[0].folder, PACK.name)


def _curated_for(packed: Manifest, run: Path) -> Manifest | None:
    """Return the curated folder's manifest of a run if it is the one that a pack was made from, in whatever state."""
    if not (run / CURATE.name / MANIFEST_NAME).exists():
        return None
    curated = read_manifest(run / CURATE.name, CURATE.name)
    if MADE_FROM not in packed.extra:  # of a release that named no states: what lies beside it is taken for its own
        return curated
    states = {curated.state, *curated.extra.get(SUPERSEDED, ()), *curated.extra.get(BEFORE_FORGET, ())}
    try:
        is_of_it = packed.work_digest == pack_work(curated, recipe_of(packed.recipe, "the pack's recipe"))
        return curated if is_of_it or packed.extra.get(MADE_FROM) in states else None
    except RecipeError:
        return curated if packed.extra.get(MADE_FROM) in states else None


def _finished(run: Path | None) -> tuple[StageFolder, ...]:
    if run is None:
        return ()
    places = (StageFolder(name, run / name, name) for name in STAGES)
    return tuple(place for place in places if (place.folder / MANIFEST_NAME).exists())

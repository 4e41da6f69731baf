"""The curated folder that is reviewed: its shards, its recipe, and where the pictures lie that it rejected."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from curation.commands.curate.origin import source_shards
from curation.commands.decide.stage import places_of
from curation.dataset.manifest import Manifest, read_manifest
from curation.dataset.sources import SourceShard
from curation.dataset.stages import CURATE
from curation.errors import UsageError
from curation.recipe.recipe import Recipe, recipe_of
from curation.storage.paths import is_local

LABELS_SUFFIX = ".jsonl"


@dataclass(frozen=True)
class CuratedShard:
    """One curated shard."""

    name: str
    ledger: Path
    tar: Path
    """Holds what was kept, by uid."""
    source: SourceShard | None
    """What was curated, by key; None where it is not here."""


@dataclass(frozen=True)
class Reviewed:
    """A finished folder of `curate`."""

    folder: Path
    manifest: Manifest
    recipe: Recipe
    shards: tuple[CuratedShard, ...]

    @property
    def run(self) -> Path:
        """The run that it lies in: there its tombstones and, unless told otherwise, its labels lie."""
        return self.folder.parent


def open_curated(run: Path, source: Path | None = None) -> Reviewed:
    """Return what `curate` made of a run; `source` is what was curated, where it no longer lies as the run recorded.

    Raises:
        UsageError: nothing is curated here, `curate` has not finished, or there is nothing at `source`.
        VerificationError: the manifest is not as it was written.
    """
    folder, came_from = places_of(run, source)
    manifest = read_manifest(folder, CURATE.name)
    there = _sources(came_from, is_asked=source is not None)
    shards = tuple(
        CuratedShard(
            report.shard, report.file(folder, ".parquet"), report.file(folder, ".tar"), there.get(report.shard)
        )
        for report in manifest.shards
    )
    return Reviewed(folder, manifest, recipe_of(manifest.recipe, f"{folder}: the recipe in its manifest"), shards)


def labels_place(reviewed: Reviewed, labels: Path | None, default: tuple[str, str]) -> Path:
    """Return the file that labels are added to: `labels`, or by default in the run's own folder for them.

    Raises:
        UsageError: `labels` is not called `NAME.jsonl`, by which a file of labels is known; the run lies in an object
            store, where nothing can be added to a file, or has no folder of its own.
    """
    if labels is not None:
        if labels.suffix != LABELS_SUFFIX or labels.resolve().suffix != LABELS_SUFFIX:
            raise UsageError(f"--labels {labels}: the name of a file of labels ends in {LABELS_SUFFIX}")
        return labels
    if not is_local(reviewed.folder) or reviewed.folder.name != CURATE.name:
        why = "lies in an object store" if not is_local(reviewed.folder) else "is no folder `curate` of a run"
        raise UsageError(f"{reviewed.folder}: {why}; name the file for labels on a disk with --labels FILE")
    return reviewed.run.joinpath(*default)


def _sources(source: Path, *, is_asked: bool) -> Mapping[str, SourceShard]:
    """Return the shards of what was curated, by name; where nobody named it, it may be gone."""
    try:
        return {shard.name: shard for shard, _ in source_shards(source)}
    except UsageError:
        if is_asked:
            raise
        return {}

"""What a folder was curated from, and the shards of a source."""

from pathlib import Path

from curation.dataset.manifest import MANIFEST_NAME, WORK_NAME
from curation.dataset.sources import SourceShard, TarShard, shards_in
from curation.dataset.stages import FETCH
from curation.run.folders import done_records
from curation.run.target import finished
from curation.storage.paths import location

ORIGIN, TARGET = "source", "target"
"""Where a done record says what was curated and into which folder, among what may differ between equal runs."""


def origin_of(target: Path) -> Path | None:
    """Return what a folder was curated from, by its done records; None where they do not say, or it lies there no more.

    Shards that were curated before a source was moved may name its old place: the first that is there counts.
    """
    for name in dict.fromkeys(record.run.get(ORIGIN) for record in done_records(target)):
        if name is not None and (origin := location(str(name))).exists():
            return origin
    return None


def source_shards(source: Path) -> list[tuple[SourceShard, str | None]]:
    """Return the shards of a source in order of name, each with the sha256 that a manifest of `fetch` names, if any.

    Raises:
        UsageError: the source is missing, holds nothing that could be read, or is one that `fetch` has not finished.
    """
    if (source / WORK_NAME).exists() or (source / MANIFEST_NAME).exists():
        tars = ((report, report.file(source, ".tar")) for report in finished(source, FETCH).shards)
        return [(TarShard(tar.stem, tar), report.files[tar.name].sha256) for report, tar in tars]
    return [(shard, None) for shard in shards_in(source)]

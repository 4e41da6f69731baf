"""Where the pictures lie that a run was curated from: those it turned away are nowhere else."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from curation.commands.curate.origin import origin_of, source_shards
from curation.dataset.sample import Sample
from curation.dataset.sources import SourceShard, source_samples
from curation.dataset.sources.made import FileShard
from curation.dataset.stages import CURATE, FETCH
from curation.dataset.tar.names import split_name
from curation.errors import FaceCaptionError


@dataclass(frozen=True)
class CuratedFrom:
    """What a run was curated from, cut into shards by name; empty where it cannot be found."""

    folder: Path | None = None
    shards: Mapping[str, SourceShard] = field(default_factory=dict)

    @contextmanager
    def samples(self, shard: str, keys: set[str]) -> Iterator[Iterator[Sample]]:
        """Yield the samples of a shard that have one of these keys.

        Raises:
            ShardError: it cannot be read.
        """
        source = self.shards[shard]
        if isinstance(source, FileShard):  # of a folder no more files are read than are wanted
            wanted = tuple(pair for pair in source.members if split_name(pair[0])[0] in keys)
            source = replace(source, members=wanted)
        with source.opened() as tar:
            yield (sample for sample in source_samples(source, tar) if sample.key in keys)


def find_origin(run: Path, given: Path | None) -> CuratedFrom:
    """Return what a run was curated from: `given`, else its own `fetch`, else what its done records name.

    Raises:
        UsageError: there is nothing to read in `given`.
    """
    if given is not None:
        return CuratedFrom(given, {shard.name: shard for shard, _ in source_shards(given)})
    own = run / FETCH.name
    folder = own if own.is_dir() else origin_of(run / CURATE.name)
    if folder is None:
        return CuratedFrom()
    try:
        return CuratedFrom(folder, {shard.name: shard for shard, _ in source_shards(folder)})
    except FaceCaptionError:
        return CuratedFrom(folder)

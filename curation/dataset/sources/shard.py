"""One shard of a source: whatever it is made of, it is read as a local tar."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from curation.dataset.sample import Sample
from curation.dataset.sources.counts import held_against_counts
from curation.dataset.tar.read import Layout, layout_of, samples_of
from curation.errors import ShardError
from curation.storage.paths import local_copy

NUM_SHARD_SAMPLES = 1000
"""Samples of a shard that is made of something else than a tar."""


class SourceShard(Protocol):
    """A named part of a source: frozen, picklable."""

    @property
    def name(self) -> str:
        """Name of the shard that is made of it."""
        ...

    @property
    def path(self) -> Path:
        """What errors name: the file, or the folder of the files, that it is made of."""
        ...

    def opened(self) -> AbstractContextManager[Path]:
        """Yield a local tar of its samples, with the same bytes each time; what was made for it goes afterwards.

        Raises:
            ShardError: what it is made of is not there, or cannot be read.
        """
        ...


@dataclass(frozen=True)
class TarShard:
    """A tar as it lies on a disk or in a store."""

    name: str
    path: Path
    is_counted: bool = False
    """Whether no manifest vouches for it, so that it is held against the counts that lie beside it."""

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """Yield it, or a copy of it."""
        with local_copy(self.path) as tar:
            yield tar


@dataclass(frozen=True)
class UnreadableShard:
    """What should have been a shard: it fails with its reason, and the others go on."""

    name: str
    path: Path
    reason: str

    @contextmanager
    def opened(self) -> Iterator[Path]:
        """Yield nothing.

        Raises:
            ShardError: always.
        """
        raise ShardError(self.reason)
        yield self.path  # makes this a generator


def source_layout(shard: SourceShard, tar: Path) -> Layout:
    """Return what a shard that was opened as `tar` holds.

    Raises:
        ShardError: the tar is not whole, parts of a sample stand apart, or it holds another number of pictures than
            is said beside it.
    """
    layout = layout_of(tar, shard.path)
    held_against_counts(layout, shard.path, is_counted=getattr(shard, "is_counted", False))
    return layout


def source_samples(shard: SourceShard, tar: Path) -> Iterator[Sample]:
    """Yield the samples of a shard that was opened as `tar`, each within the limits for what comes from outside.

    Raises:
        ShardError: as `source_layout`; nothing is yielded then.
    """
    yield from samples_of(source_layout(shard, tar), tar, shard.path)

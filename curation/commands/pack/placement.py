"""Which kept sample goes into which final shard, and in what order: a pure function of the seats and the recipe.

Source shards are put into an order drawn from the seed and taken a window at a time; the samples of a window are
shuffled together, and the row of all windows is cut where a shard has its bytes. So no shard holds the large pictures,
and a source shard is read for those final shards alone that its window fills, whatever the size of the dataset. Nor is
more in memory than a window at a time.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from curation.dataset.redaction import coarse_size
from curation.images.containers import ImageFormat
from curation.recipe.settings import PackSettings

NUM_WINDOW_SHARDS = 16
"""Source shards whose samples are shuffled together; each is read once for every final shard that its window fills."""
NUM_OTHER_BYTES = 4096
"""About what a sample takes in a tar beside its picture: three headers, metadata, caption."""


@dataclass(frozen=True, slots=True)
class Placed:
    """One kept sample on its way into a final shard."""

    uid: str
    source_shard: str
    row: int
    """Row of the source shard's ledger."""
    format: ImageFormat
    num_bytes: int = 0
    """Bytes of the picture as fetched; coarse, or 0 where nobody knows, once it is forgotten."""
    is_forgotten: bool = False
    """Whether it only holds the place of a forgotten sample, so that all others keep theirs."""
    repeated: tuple[int, ...] = ()
    """Places of those of its captions that too many share to be trained on."""
    told: str = ""
    """What names the new caption that it has (`curation.commands.caption`); empty where it has none."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Tell `pickle` how it is made again, in a third of the time that it takes by itself."""
        told = self.num_bytes, self.is_forgotten, self.repeated, self.told
        return Placed, (self.uid, self.source_shard, self.row, self.format, *told)

    @property
    def weight(self) -> int:
        """About how many bytes it takes in a tar; the same before and after it is forgotten."""
        return coarse_size(self.num_bytes) + NUM_OTHER_BYTES


Seats = Callable[[str], Sequence[Placed]]
"""Returns the seats of a source shard by its name; asked once for each."""
Chunk = tuple[str, tuple[Placed, ...]]
"""A final shard's name, and its samples in order."""


def shuffled(shards: Iterable[str], seats: Seats, seed: int) -> Iterator[Placed]:
    """Yield the seats of all source shards in the order in which they are packed."""
    names = sorted(shards, key=lambda name: (_drawn(seed, name), name))
    filled = (here for here in map(seats, names) if here)
    while window := list(islice(filled, NUM_WINDOW_SHARDS)):
        yield from sorted(
            chain.from_iterable(window), key=lambda seat: (_drawn(seed, seat.uid), seat.source_shard, seat.row)
        )


def cut(shards: Iterable[str], seats: Seats, settings: PackSettings) -> Iterator[Chunk]:
    """Yield the final shards: every one but the last is as full as the settings let it be."""
    number, weight = 0, 0
    chunk: list[Placed] = []
    for seat in shuffled(shards, seats, settings.shuffle_seed):
        is_full = weight + seat.weight > settings.max_shard_bytes or len(chunk) == settings.num_shard_samples
        if chunk and is_full:
            yield f"{number:05d}", tuple(chunk)
            number, weight, chunk = number + 1, 0, []
        chunk.append(seat)
        weight += seat.weight
    if chunk:
        yield f"{number:05d}", tuple(chunk)


def _drawn(seed: int, name: str) -> bytes:
    """Return eight bytes that look drawn by lot and depend on seed and name alone."""
    return hashlib.blake2b(f"{seed}/{name}".encode("utf-8", "surrogateescape"), digest_size=8).digest()

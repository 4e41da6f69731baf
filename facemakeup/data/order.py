"""Which sample comes when: a pure function of (seed, epoch, position), so that resuming needs one integer.

Nothing is ever shuffled in memory. A permutation of 0..n-1 is computed position by position by a Feistel network with
cycle walking (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002), so that any position of any
epoch costs the same. Order does not know ranks or workers: they take slices of the same global batches.
"""

import hashlib
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from typing import Protocol

import numpy as np
import numpy.typing as npt

NUM_ROUNDS = 6
MASK_64 = (1 << 64) - 1


@dataclass(frozen=True)
class Place:
    """One seat of the endless stream of samples: global batch `b` of size G holds positions b * G .. b * G + G - 1."""

    position: int
    epoch: int
    row: int
    """Row of the tar index."""


class Order(Protocol):
    """An endless sequence of global batches over the rows of a tar index."""

    @property
    def batch_size(self) -> int:
        """Seats of a global batch."""
        ...

    def seat(self, number: int, seat: int) -> Place:
        """Return who sits in a seat of global batch `number`, both 0-based; the cost does not depend on `number`."""
        ...

    def substitute(self, place: Place, attempt: int) -> Place:
        """Return who takes the seat of a sample that cannot be used; `attempt` counts from 0."""
        ...


@dataclass(frozen=True)
class BlockShuffle:
    """Permutes 0..num_samples-1 in two steps, so that reads stay local.

    Blocks of `block` neighbours are permuted as wholes; then the members of every `window` consecutive blocks are
    permuted among one another. At any time at most `window` blocks are being read.
    """

    num_samples: int
    block: int
    window: int
    seed: int

    def row(self, epoch: int, position: int) -> int:
        """Return the row at `position` (0..num_samples-1) of an epoch."""
        num_blocks = -(-self.num_samples // self.block)
        blocks_key = _key(self.seed, epoch, "blocks", self.num_samples)
        short = _inverse(num_blocks - 1, num_blocks, blocks_key)
        slot, _ = self._slot(position, short)
        group = slot // self.window
        first = self._start(group * self.window, short)
        last = self._start(min((group + 1) * self.window, num_blocks), short)
        inner_key = _key(self.seed, epoch, "window", group)
        slot, within = self._slot(first + _permuted(position - first, last - first, inner_key), short)
        return _permuted(slot, num_blocks, blocks_key) * self.block + within

    @property
    def _num_short(self) -> int:
        """Samples of the last block."""
        return self.num_samples - (-(-self.num_samples // self.block) - 1) * self.block

    def _start(self, slot: int, short: int) -> int:
        """Return the first position of a slot, when the one short block sits in slot `short`."""
        return slot * self.block - (self.block - self._num_short if slot > short else 0)

    def _slot(self, position: int, short: int) -> tuple[int, int]:
        """Return the slot of a position, and the place within it."""
        after = self._start(short + 1, short)
        if position < after:
            slot = min(position // self.block, short)
            return slot, position - slot * self.block
        slot = short + 1 + (position - after) // self.block
        return slot, (position - after) % self.block


@dataclass(frozen=True)
class StreamOrder:
    """Epoch after epoch without a seam: every epoch holds every row exactly once, and a batch may span two epochs."""

    num_samples: int
    batch_size: int
    block: int
    window: int
    seed: int

    def seat(self, number: int, seat: int) -> Place:
        """Return who sits in a seat of global batch `number`."""
        position = number * self.batch_size + seat
        epoch, within = divmod(position, self.num_samples)
        return Place(position, epoch, self._shuffle.row(epoch, within))

    def substitute(self, place: Place, attempt: int) -> Place:
        """Return any row, drawn by (seed, position, attempt)."""
        drawn = _key(self.seed, place.position, "substitute", attempt) % self.num_samples
        return Place(place.position, place.epoch, drawn)

    @cached_property
    def _shuffle(self) -> BlockShuffle:
        return BlockShuffle(self.num_samples, self.block, self.window, self.seed)


@dataclass(frozen=True)
class BucketOrder:
    """Batches of equal shape: each bucket has its own shuffle, and the batches of all buckets are permuted.

    Every epoch holds every row at least once; a bucket that does not fill its last batch begins again at its start.
    """

    buckets: tuple[npt.NDArray[np.int64], ...]
    """Rows of each bucket in rising order; none is empty."""
    batch_size: int
    block: int
    window: int
    seed: int

    def seat(self, number: int, seat: int) -> Place:
        """Return who sits in a seat of global batch `number`; its rows share a bucket."""
        epoch, within = divmod(number, self._ends[-1])
        drawn = _permuted(within, self._ends[-1], _key(self.seed, epoch, "buckets", 0))
        bucket = bisect_right(self._ends, drawn)
        rows = self.buckets[bucket]
        within = (drawn - (self._ends[bucket - 1] if bucket else 0)) * self.batch_size + seat
        shuffle = BlockShuffle(len(rows), self.block, self.window, _key(self.seed, 0, "bucket", bucket))
        return Place(number * self.batch_size + seat, epoch, int(rows[shuffle.row(epoch, within % len(rows))]))

    def substitute(self, place: Place, attempt: int) -> Place:
        """Return another row of the same bucket, drawn by (seed, position, attempt)."""
        rows = next(rows for rows in self.buckets if _holds(rows, place.row))
        drawn = _key(self.seed, place.position, "substitute", attempt) % len(rows)
        return Place(place.position, place.epoch, int(rows[drawn]))

    @cached_property
    def _ends(self) -> list[int]:
        """Number of batches of an epoch in the buckets up to and with each."""
        return list(accumulate(-(-len(rows) // self.batch_size) for rows in self.buckets))


def _holds(rows: npt.NDArray[np.int64], row: int) -> bool:
    """Whether rising `rows` hold `row`."""
    nearest = int(np.searchsorted(rows, row))
    return nearest < len(rows) and int(rows[nearest]) == row


def batch(order: Order, number: int) -> tuple[Place, ...]:
    """Return global batch `number`, 0-based."""
    return tuple(order.seat(number, seat) for seat in range(order.batch_size))


def keyed_sample(num_rows: int, num_samples: int) -> list[int]:
    """Return `num_samples` different rows of 0..num_rows-1, spread by a key that is always the same."""
    key = _key(0, 0, "held out", 0)
    return [_permuted(number, num_rows, key) for number in range(num_samples)]


@lru_cache(maxsize=4096)
def _key(seed: int, number: int, purpose: str, part: int) -> int:
    """Return 64 bits that depend on all arguments."""
    text = f"{seed}/{number}/{purpose}/{part}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def _permuted(value: int, size: int, key: int) -> int:
    """Return where a keyed permutation of 0..size-1 sends `value`."""
    half = _half_bits(size)
    while True:
        value = _feistel(value, half, key, range(NUM_ROUNDS))
        if value < size:
            return value


@lru_cache(maxsize=64)
def _inverse(value: int, size: int, key: int) -> int:
    """Return whom the same permutation sends to `value`."""
    half = _half_bits(size)
    mask = (1 << half) - 1
    while True:
        left, right = value >> half, value & mask
        for number in reversed(range(NUM_ROUNDS)):
            left, right = right ^ (_mixed(left, key, number) & mask), left
        value = (left << half) | right
        if value < size:
            return value


def _half_bits(size: int) -> int:
    return max(1, ((size - 1).bit_length() + 1) // 2)


def _feistel(value: int, half: int, key: int, rounds: range) -> int:
    mask = (1 << half) - 1
    left, right = value >> half, value & mask
    for number in rounds:
        left, right = right, left ^ (_mixed(right, key, number) & mask)
    return (left << half) | right


def _mixed(value: int, key: int, number: int) -> int:
    """Return 64 well mixed bits (finaliser of SplitMix64: Steele, Lea and Flood, OOPSLA 2014)."""
    mixed = (value + key + (number + 1) * 0x9E3779B97F4A7C15) & MASK_64
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK_64
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK_64
    return mixed ^ (mixed >> 31)

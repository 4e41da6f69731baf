"""Which samples are set aside for validation, and the order of the others."""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from facemakeup.data.order import Order, Place, keyed_sample

Rows = npt.NDArray[np.int64]


def held_out_rows(num_rows: int, num_samples: int, choice: str) -> Rows:
    """Return the rows, rising, that validation takes of an index: a keyed sample of it, or its first."""
    if choice == "first":
        return np.arange(num_samples)
    return np.array(sorted(keyed_sample(num_rows, num_samples)), dtype=np.int64)


def others(num_rows: int, held_out: Rows) -> Rows:
    """Return the rows of an index that are not held out, rising."""
    return np.setdiff1d(np.arange(num_rows), held_out, assume_unique=True)


@dataclass(frozen=True)
class Among:
    """An order over 0..n-1, told of the n rows of `rows`, which rise."""

    order: Order
    rows: Rows

    @property
    def batch_size(self) -> int:
        """Seats of a global batch."""
        return self.order.batch_size

    def seat(self, number: int, seat: int) -> Place:
        """Return who sits in a seat of global batch `number`."""
        place = self.order.seat(number, seat)
        return replace(place, row=int(self.rows[place.row]))

    def substitute(self, place: Place, attempt: int) -> Place:
        """Return another of these rows."""
        inner = replace(place, row=int(np.searchsorted(self.rows, place.row)))
        other = self.order.substitute(inner, attempt)
        return replace(other, row=int(self.rows[other.row]))


@dataclass(frozen=True)
class Without:
    """An order over 0..n-1, told of the n rows of a longer index that are not held out."""

    order: Order
    held_out: Rows
    """Rising."""

    @property
    def batch_size(self) -> int:
        """Seats of a global batch."""
        return self.order.batch_size

    def seat(self, number: int, seat: int) -> Place:
        """Return who sits in a seat of global batch `number`."""
        return self._outer(self.order.seat(number, seat))

    def substitute(self, place: Place, attempt: int) -> Place:
        """Return another row that is not held out."""
        inner = replace(place, row=place.row - bisect_left(self._held, place.row))
        return self._outer(self.order.substitute(inner, attempt))

    def _outer(self, place: Place) -> Place:
        return replace(place, row=place.row + bisect_right(self._before, place.row))

    @cached_property
    def _held(self) -> list[int]:
        return [int(row) for row in self.held_out]

    @cached_property
    def _before(self) -> list[int]:
        """For each held-out row, how many rows that are not held out lie before it."""
        return [row - number for number, row in enumerate(self._held)]

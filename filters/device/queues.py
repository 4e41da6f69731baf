"""Which pictures go through a device together: those of one network and shape that have gathered while it was busy.

Nobody waits for a batch to fill. A device that is free takes what is there; while it works the next batch gathers, so
batches grow with the load by themselves.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

Shape = tuple[int, int, int]
"""Network, height, width."""
R = TypeVar("R")


@dataclass
class Queues(Generic[R]):
    """What waits for one lane of a device, by network and shape."""

    max_pixels: int
    """Height x width of all pictures of a batch together, at most, but always one picture."""
    max_pictures: int
    _waiting: dict[Shape, deque[tuple[int, R]]] = field(default_factory=dict)
    _tickets: "count[int]" = field(default_factory=count)

    def __len__(self) -> int:
        """Return how many wait."""
        return sum(map(len, self._waiting.values()))

    def add(self, shape: Shape, request: R) -> None:
        """Let a request wait behind all that came before."""
        self._waiting.setdefault(shape, deque()).append((next(self._tickets), request))

    def take(self) -> tuple[Shape, list[R]]:
        """Return the batch of whoever has waited longest: as many of its shape as a power of two lets be taken.

        A device prepares itself for each size of a batch that it has not met, so there are few sizes.
        """
        shape = min(self._waiting, key=lambda one: self._waiting[one][0][0])
        queue = self._waiting[shape]
        room = max(1, min(self.max_pictures, self.max_pixels // (shape[1] * shape[2])))
        together = 1 << (min(room, len(queue)).bit_length() - 1)
        batch = [queue.popleft()[1] for _ in range(together)]
        if not queue:
            del self._waiting[shape]
        return shape, batch

    def drop(self, is_unwanted: Callable[[R], bool]) -> None:
        """Forget requests that nobody waits for any more."""
        for shape, queue in list(self._waiting.items()):
            kept = deque(entry for entry in queue if not is_unwanted(entry[1]))
            if kept:
                self._waiting[shape] = kept
            else:
                del self._waiting[shape]

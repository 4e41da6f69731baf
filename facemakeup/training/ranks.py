"""What the processes of one run agree on, over the CPU: no GPU is waited for.

A rank that fails alone would leave the others waiting in the next collective operation for as long as it lets them. So
what a rank reads, writes or loads for itself is done `together`. What fails on one rank in the midst of the arithmetic
(a GPU that is out of memory, between the collective operations of a step, of a checkpoint, or of sharded weights) is
not: that process ends, and it is for the launcher to end the others.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch

from filters.base import FaceCaptionError

T = TypeVar("T")
PATIENCE = timedelta(days=1)
"""How long ranks wait for one that draws pictures or writes a checkpoint; a dead one is noticed by its connection."""


class PeerError(FaceCaptionError):
    """Another process of the run failed, and says why; carries the exit code of that failure."""

    def __init__(self, rank: int, message: str, exit_code: int) -> None:
        super().__init__(f"process {rank} of this run failed: {message}")
        self.exit_code = exit_code  # type: ignore[misc]  # that of the other failure


class Ranks:
    """The processes of a run, of which this is one."""

    def __init__(self, accelerator: Any) -> None:
        """Connect them; every rank makes one at the same place."""
        self.rank, self.world = int(accelerator.process_index), int(accelerator.num_processes)
        self._group: Any = None
        if self.world > 1:
            self._group = torch.distributed.new_group(backend="gloo", timeout=PATIENCE)

    def largest(self, number: int) -> int:
        """Return the largest of all ranks' numbers."""
        if self.world == 1:
            return number
        shared = torch.tensor(number)
        torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX, group=self._group)
        return int(shared)

    def gathered(self, value: T) -> list[T]:
        """Return every rank's value, in order of rank."""
        if self.world == 1:
            return [value]
        values: list[Any] = [None] * self.world
        torch.distributed.all_gather_object(values, value, group=self._group)
        return values

    def together(self, act: Callable[[], T]) -> T:
        """Return what `act` returns, where it succeeds on every rank.

        Raises:
            PeerError: it succeeded here, but not everywhere; where it fails its own error is raised.
        """
        failure: Exception | None = None
        try:
            result = act()
        except Exception as error:  # noqa: BLE001  raised below, once the others know
            failure = error
        if not self.largest(int(failure is not None)):
            return result
        said = (str(failure) or repr(failure), getattr(failure, "exit_code", 1)) if failure else None
        told = self.gathered(said)
        if failure is not None:
            raise failure
        raise next(PeerError(rank, *problem) for rank, problem in enumerate(told) if problem is not None)

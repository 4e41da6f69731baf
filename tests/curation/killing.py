"""Kills a piece of work before or after any of its commit points."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from curation.storage import lease
from tests.curation.smith import load, smith

Work = Callable[[], object]
NEVER = -1


class Killer:
    """Does work that can be pickled, and strikes at a chosen moment of it."""

    def __init__(self, smith: "Connection[Any, Any]") -> None:
        self._smith = smith

    def count_steps(self, work: Work) -> int:
        """Do the work and return how many moments there are at which it could be killed."""
        status, num_steps = self._ask(NEVER, work)
        assert status == 0 and num_steps
        return num_steps

    def kill_at(self, step: int, work: Work) -> None:
        """Begin the work, and kill it just before or after a commit point."""
        assert self._ask(step, work)[0] == -signal.SIGKILL

    def _ask(self, step: int, work: Work) -> tuple[int, int]:
        self._smith.send((step, work))
        status, num_steps = self._smith.recv()
        return status, num_steps


@contextmanager
def killing() -> Iterator[Killer]:
    """Yield a killer, whose process ends with the block."""
    with smith(_forked) as connection:
        yield Killer(connection)


def _forked(step: int, work: Work) -> tuple[int, int]:
    """Return the exit code of the fork and the moments that it passed; load what it had to, for the next one."""
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        code = 1
        try:
            lease.BEAT_S = 3600.0  # heartbeats are moments, too, and come when the clock on the wall says so
            clock = _Clock(step)
            clock.patch()
            work()
            os.write(writer, " ".join((str(clock.now), *sys.modules)).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        num_steps, *modules = pipe.read().split() or ["0"]
    load(modules)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), int(num_steps)


class _Clock:
    """Counts the moments before and after every rename, link and removal and those of fsync, and strikes at one.

    An fsync is one moment: to a reader of files, the bytes of a killed process are there before it as after it.
    """

    def __init__(self, strike_at: int) -> None:
        self.now, self._strike_at = 0, strike_at

    def patch(self) -> None:
        setattr(os, "fsync", self._watched(os.fsync, num_ticks_after=0))  # noqa: B010  this process is about to end
        setattr(os, "link", self._watched(os.link))  # noqa: B010
        setattr(Path, "replace", self._watched(Path.replace))  # noqa: B010
        setattr(Path, "unlink", self._watched(Path.unlink))  # noqa: B010

    def _watched(self, call: Callable[..., Any], num_ticks_after: int = 1) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._tick()
            result = call(*args, **kwargs)
            for _ in range(num_ticks_after):
                self._tick()
            return result

        return watched

    def _tick(self) -> None:
        if self.now == self._strike_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.now += 1

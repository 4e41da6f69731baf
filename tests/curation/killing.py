"""Kills a piece of work before or after any of its commit points: in a forked copy of this process, so it is quick."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any


def count_steps(work: Callable[[], object]) -> int:
    """Do the work in a forked process and return how many moments there are at which it could be killed."""
    reader, writer = os.pipe()
    status = _forked(work, -1, writer)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        steps = pipe.read()
    assert status == 0 and steps
    return int(steps)


def kill_at(step: int, work: Callable[[], object]) -> None:
    """Begin the work in a forked process, and kill that one just before or after a commit point."""
    assert os.waitstatus_to_exitcode(_forked(work, step, None)) == -signal.SIGKILL


def _forked(work: Callable[[], object], step: int, writer: int | None) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            clock = _Clock(step)
            clock.patch()
            work()
            if writer is not None:
                os.write(writer, str(clock.now).encode())
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


class _Clock:
    """Counts the moments before and after every fsync, rename, link and removal, and strikes at one."""

    def __init__(self, strike_at: int) -> None:
        self.now, self._strike_at = 0, strike_at

    def patch(self) -> None:
        setattr(os, "fsync", self._watched(os.fsync))  # noqa: B010  this process is about to end
        setattr(os, "link", self._watched(os.link))  # noqa: B010
        setattr(Path, "replace", self._watched(Path.replace))  # noqa: B010
        setattr(Path, "unlink", self._watched(Path.unlink))  # noqa: B010

    def _watched(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(*args: Any, **kwargs: Any) -> Any:
            self._tick()
            result = call(*args, **kwargs)
            self._tick()
            return result

        return watched

    def _tick(self) -> None:
        if self.now == self._strike_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.now += 1

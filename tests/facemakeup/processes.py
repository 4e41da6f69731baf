"""The command line in processes of its own, each forked from one that has loaded the trainer's libraries already.

To load them takes several times as long as the trainings of the tests.
"""

import os
import signal
import sys
from collections.abc import Mapping
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TextIO

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.facemakeup.loaded"])


class Command:
    """A command that runs; what it says goes to `said` and `warned`."""

    def __init__(self, arguments: list[str], folder: Path, dies_at: str | None, environment: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.glob("*.out")))
        self._out, self._err = folder / f"{number}.out", folder / f"{number}.err"
        self._out.touch()
        self.process = CONTEXT.Process(
            target=_run, args=(arguments, str(self._out), str(self._err), dies_at, {**os.environ, **environment})
        )
        self.process.start()

    @property
    def said(self) -> str:
        return self._out.read_text()

    @property
    def warned(self) -> str:
        return self._err.read_text() if self._err.exists() else ""

    def end(self, seconds: float = 250) -> int:
        """Wait for the command and return its exit code."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, f"does not end: {self.warned}"
        return self.process.exitcode

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def start(arguments: list[str], folder: Path, dies_at: str | None = None, **environment: str) -> Command:
    """Begin `facecaptionhq` with some arguments; at a line that has `dies_at` in it the process kills itself."""
    return Command(arguments, folder, dies_at, environment)


def _run(arguments: list[str], out: str, err: str, dies_at: str | None, environment: Mapping[str, str]) -> None:
    import cli

    for path, stream in ((out, sys.stdout), (err, sys.stderr)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, stream.fileno())
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["facecaptionhq", *arguments]
    if dies_at is not None:
        sys.stderr = _Tripwire(sys.stderr, dies_at)
    cli.main()


class _Tripwire:
    """A stream that kills its process at a line: nothing of what comes after the line has begun by then."""

    def __init__(self, stream: TextIO, line: str) -> None:
        self._stream, self._line = stream, line

    def write(self, text: str) -> int:
        length = self._stream.write(text)
        if self._line in text:
            self._stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return length

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

"""SIGTERM ends a command as Ctrl-C does: what is being done is unwound, and the command says how to go on."""

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

ENDS = (signal.SIGINT, signal.SIGTERM)


KEEPS_NOTHING = frozenset(
    {
        "import",
        "plan",
        "order",
        "doctor",
        "why",
        "status",
        "verify",
        "report",
        "calibrate",
        "fairness",
        "solve",
        "card",
        "ledger",
    }
)
"""Commands of which nothing is left where they are interrupted: the same one begins anew."""
PROGRAMS = frozenset({"facecaptionhq", "cli"})
"""What a process of ours is called by."""


def command_typed() -> str | None:
    """Return this process's command as it would be typed again; None where it is another program that calls us."""
    called = os.path.basename(sys.argv[0]) if sys.argv else ""  # noqa: PTH119  a name, whatever stands before it
    return shlex.join(["facecaptionhq", *sys.argv[1:]]) if called.removesuffix(".py") in PROGRAMS else None


def said_of_interrupt(words: Sequence[str]) -> str:
    """Return what becomes of a command that is interrupted, which these words were typed for."""
    if next((word for word in words if not word.startswith("-")), None) in KEEPS_NOTHING:
        return "interrupted; nothing of it is kept, and the same command begins anew"
    return "interrupted; what is committed stays, and the same command goes on"


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


def end_at_once() -> None:
    """Let Ctrl-C end this process without a word while its commands are loaded: nothing has begun that could be told.

    Only where the process is our program; one that was told to ignore Ctrl-C goes on doing so.
    """
    if command_typed() is not None and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def heed_ends() -> Callable[[], bool]:
    """Raise KeyboardInterrupt for Ctrl-C from here on, and `Terminated` for SIGTERM, as `heed_sigterm` says."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return heed_sigterm()


def heed_sigterm() -> Callable[[], bool]:
    """Raise `Terminated` in the main thread where SIGTERM comes, and return what says whether it came.

    A child that was forked from here just ends.
    A stage that handles the signal itself, as training does, takes this one's place for as long.
    """
    ours, came = os.getpid(), False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if os.getpid() == ours:
            came = True
            raise Terminated
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)
    return lambda: came


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Put handlers back that a library replaces, those below Python too; outside the main thread nothing is done."""
    handlers = {number: signal.getsignal(number) for number in ENDS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:
                try:
                    signal.signal(number, handler)
                except ValueError:  # not the main thread, in which alone handlers are set
                    return

"""SIGINT and SIGTERM while training: the step ends, the state is saved, and the process leaves as the signal asks."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

CAUGHT = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A signal ended the run after its state was saved."""

    def __init__(self, number: int, step: int) -> None:
        super().__init__(f"{signal.Signals(number).name} after step {step}, which is saved")
        self.exit_code = 128 + number
        """What a shell reports of a process that this signal ended."""


@contextmanager
def interruptible() -> Iterator[Callable[[], int]]:
    """Let signals come between steps alone; yield what returns the number of the last that came, 0 where none did."""
    came = [0]

    def take(number: int, _: object) -> None:
        came.append(number)

    old = {number: signal.getsignal(number) for number in CAUGHT}
    try:
        for number in CAUGHT:
            signal.signal(number, take)
    except ValueError:  # not the main thread: nothing is caught
        old = {}
    try:
        yield lambda: came[-1]
    finally:
        for caught, handler in old.items():
            signal.signal(caught, handler)

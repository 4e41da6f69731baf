"""The engine of our own: threads that take the next URL, ask for it, and put into the spool what arrives."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from curation.commands.fetch.bodies import Bodies
from curation.commands.fetch.http import Answer
from curation.recipe.settings import FetchSettings

Ask = Callable[[int, str], Answer]
"""Asks for one URL, by its place in the pass; it never raises."""


def directly(urls: Sequence[str], bodies: Bodies, folder: Path, settings: FetchSettings, ask: Ask) -> None:
    """Ask for every URL, in order, as many at a time as there are threads, and fill `bodies`.

    Raises:
        OSError: the disk does not take what arrives; nobody is asked any more then.
    """
    left = deque(enumerate(urls))
    problems: list[BaseException] = []

    def work() -> None:
        try:
            while (taken := _next(left)) is not None:
                answer = ask(*taken)
                bodies.store(taken[0], answer.stream, answer.reason)
        except BaseException as problem:  # noqa: BLE001  told to whoever waits
            problems.append(problem)
            left.clear()

    num_threads = min(settings.num_threads, len(urls))
    threads = [threading.Thread(target=work, name=f"fetch-{number}", daemon=True) for number in range(num_threads)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        left.clear()
    if problems:
        raise problems[0]


def _next(left: deque[tuple[int, str]]) -> tuple[int, str] | None:
    try:
        return left.popleft()
    except IndexError:  # another thread took the last
        return None

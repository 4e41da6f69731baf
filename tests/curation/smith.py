"""A small process that forks for each piece of work: it has loaded what the work needs, and nothing else.

To fork the process of the tests, with its threads and its gigabytes, would cost more than the work itself.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

Forked = Callable[..., Any]
"""Does a piece of work in a fork of the process that it is called in, and returns what is to be said of it."""


@contextmanager
def smith(forked: Forked) -> "Iterator[Connection[Any, Any]]":
    """Yield a way to send tuples of arguments for `forked`, and to receive what it returns, until the block ends."""
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, forked), daemon=True)
    process.start()
    there.close()
    try:
        yield here
    finally:
        here.close()
        process.join()
        process.close()


def _serve(connection: "Connection[Any, Any]", forked: Forked) -> None:
    while True:
        try:
            arguments = connection.recv()
        except EOFError:
            return
        connection.send(forked(*arguments))


def load(names: Sequence[str]) -> None:
    """Import what a fork had to import, for the next one; what its library makes by itself is passed over."""
    for name in names:
        if name not in sys.modules:
            try:
                import_module(name)
            except ImportError:
                continue

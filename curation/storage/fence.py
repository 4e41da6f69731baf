"""What stands between a run that was replaced and the files on which its successor relies.

Whoever holds a folder is fenced while it works there (`curation.storage.lease`), and every change of a file passes
the fence, so no writer has to think of it. A thread that was not fenced passes freely: heartbeats must.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Fence:
    """A folder whose files may be changed only while its holder is still the holder."""

    root: Path
    passing: Callable[[], AbstractContextManager[None]]
    """Enters only where nobody has taken over (else LeaseError), and on a disk lets nobody do so before it is left."""


_FENCES: ContextVar[tuple[Fence, ...]] = ContextVar("fences", default=())


@contextmanager
def fenced(fence: Fence) -> Iterator[None]:
    """Let every change below `fence.root` pass the fence until the block ends; of several, the last one counts."""
    before = _FENCES.set((fence, *_FENCES.get()))
    try:
        yield
    finally:
        _FENCES.reset(before)


def is_fenced(path: Path) -> bool:
    """Whether a change at `path` must pass a fence."""
    return _fence_around(path) is not None


@contextmanager
def passing(path: Path) -> Iterator[None]:
    """Change something at `path` within the block: on a disk nobody takes the folder over before it ends.

    Raises:
        LeaseError: another run took the folder over.
    """
    fence = _fence_around(path)
    if fence is None:
        yield
        return
    with fence.passing():
        yield


def _fence_around(path: Path) -> Fence | None:
    return next((fence for fence in _FENCES.get() if str(path).startswith(f"{str(fence.root).rstrip('/')}/")), None)

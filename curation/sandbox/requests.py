"""How requests travel to the cell: pickles on a stream, so that pictures go from memory to memory without a copy.

Only this way is anything unpickled: the worker, which has met no pixels, is believed; what comes back is JSON.
"""

import os
import pickle
from typing import IO, Any

BUFFER_BYTES = 1 << 16
"""What is read at a time; larger pictures are read to where they stay."""


class _Pipe:
    """What a pickler writes to: a descriptor, and nothing that would be written later."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: Any) -> int:
        """Write all of it."""
        left = memoryview(data).cast("B")
        while left:
            left = left[os.write(self._descriptor, left) :]
        return len(data)


def send(request: Any, descriptor: int) -> None:
    """Write a request.

    Raises:
        OSError: nobody reads any more.
    """
    pickle.dump(request, _Pipe(descriptor), pickle.HIGHEST_PROTOCOL)


def requests_on(descriptor: int) -> IO[bytes]:
    """Return what `receive` reads requests from."""
    return open(descriptor, "rb", BUFFER_BYTES, closefd=False)


def receive(file: IO[bytes]) -> Any:
    """Return the next request.

    Raises:
        EOFError: the worker is gone.
    """
    try:
        return pickle.load(file)  # noqa: S301  of the process that started this one
    except pickle.UnpicklingError as error:  # it went while it wrote
        raise EOFError(str(error)) from error

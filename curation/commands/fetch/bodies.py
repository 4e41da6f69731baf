"""The spool of a pass: the bytes that arrive, one body behind the other, and a note of each.

The shard's own tar, in the order of the selection, is written from here once every picture was looked at.
"""

import hashlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from curation.errors import ShardError

CHUNK_BYTES = 1 << 20
"""What of a body is in memory at once."""


@dataclass(frozen=True)
class BodyPlace:
    """Where a body lies in the file, and what it hashed to when it arrived."""

    offset: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Arrival:
    """What the engine said of one request: where its body lies, or why there is none."""

    place: BodyPlace | None
    error: str | None


class Bodies:
    """The file of one pass; all threads share it."""

    def __init__(self, path: Path) -> None:
        """Begin the file.

        Raises:
            OSError: the disk does not take it.
        """
        self._path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        self._num_bytes = 0
        self._lock = threading.Lock()
        self.arrivals: dict[int, Arrival] = {}
        """By the number of the request."""
        self.trouble: OSError | None = None
        """What the disk said first; img2dataset prints it and goes on."""

    def take(self, number: int, content: bytes | None, error: str | None) -> None:
        """Take what came of one request: a body, or why there is none.

        Raises:
            OSError: the disk does not take it.
        """
        place = None
        if content is not None:
            offset = self._reserved(len(content))
            self._write(content, offset)
            place = BodyPlace(offset, len(content), hashlib.sha256(content).hexdigest())
        self.arrivals[number] = Arrival(place, error)

    def store(self, number: int, stream: IO[bytes] | None, error: str | None) -> None:
        """Take what came of one request from a file at its start, which is closed.

        Raises:
            OSError: the disk does not take it.
        """
        if stream is None:
            self.arrivals[number] = Arrival(None, error)
            return
        with stream:
            num_bytes = stream.seek(0, os.SEEK_END)
            stream.seek(0)
            if num_bytes <= CHUNK_BYTES:
                return self.take(number, stream.read(), error)
            offset, hashed, num_stored = self._reserved(num_bytes), hashlib.sha256(), 0
            while chunk := stream.read(CHUNK_BYTES):
                self._write(chunk, offset + num_stored)
                hashed.update(chunk)
                num_stored += len(chunk)
        self.arrivals[number] = Arrival(BodyPlace(offset, num_stored, hashed.hexdigest()), error)

    def read(self, place: BodyPlace) -> bytes:
        """Return a body.

        Raises:
            ShardError: it is not the one that arrived.
        """
        content = os.pread(self._file, place.num_bytes, place.offset)
        if hashlib.sha256(content).hexdigest() != place.sha256:
            raise ShardError(f"{self._path}: what lies at byte {place.offset} is not what arrived there")
        return content

    def end(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def _reserved(self, num_bytes: int) -> int:
        """Return where a body may be written: room that no other has."""
        with self._lock:
            offset = self._num_bytes
            self._num_bytes += num_bytes
        return offset

    def _write(self, content: bytes, offset: int) -> None:
        try:
            num_written = os.pwrite(self._file, content, offset)
            while num_written < len(content):
                num_written += os.pwrite(self._file, memoryview(content)[num_written:], offset + num_written)
        except OSError as error:
            self.trouble = self.trouble or error
            raise

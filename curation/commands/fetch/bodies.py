"""What img2dataset's downloader writes into here: the bytes that arrive, one behind the other.

Its own writers make a tar with a JSON file beside every picture, and a table, which nobody reads but to take the
pictures out again: the shard's own tar, in the order of the selection, is written from here once every picture was
looked at.
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.errors import ShardError


@dataclass(frozen=True)
class BodyPlace:
    """Where a body lies in the file, and what it hashed to when it arrived."""

    offset: int
    num_bytes: int
    sha256: str


@dataclass(frozen=True)
class Arrival:
    """What img2dataset said of one request: where its body lies, or why there is none."""

    place: BodyPlace | None
    error: str | None


class Bodies:
    """The file of one pass; img2dataset takes it for a writer of samples, whose form `write` and `close` have."""

    def __init__(self, path: Path) -> None:
        """Begin the file.

        Raises:
            OSError: the disk does not take it.
        """
        self._path = path
        self._file = path.open("xb+")
        self._num_bytes = 0
        self.arrivals: dict[int, Arrival] = {}
        """By the number of the request."""
        self.trouble: OSError | None = None
        """What the disk said first; img2dataset prints it and goes on."""

    def writer(self, *_: Any) -> "Bodies":
        """Return what is written into, whatever img2dataset tells a writer of the shard."""
        return self

    def write(self, image_bytes: bytes | None, key: str, caption: str | None, meta: Mapping[str, Any]) -> None:
        """Take what came of one request.

        Raises:
            OSError: the disk does not take it.
        """
        place = None
        if image_bytes is not None:
            place = BodyPlace(self._num_bytes, len(image_bytes), hashlib.sha256(image_bytes).hexdigest())
            try:
                self._file.write(image_bytes)
            except OSError as error:
                self.trouble = self.trouble or error
                raise
            self._num_bytes += len(image_bytes)
        self.arrivals[int(key)] = Arrival(place, meta["error_message"])

    def close(self) -> None:
        """Hand all that was written to the system; it can be read from then on."""
        self._file.flush()

    def read(self, place: BodyPlace) -> bytes:
        """Return a body.

        Raises:
            ShardError: it is not the one that arrived.
        """
        content = os.pread(self._file.fileno(), place.num_bytes, place.offset)
        if hashlib.sha256(content).hexdigest() != place.sha256:
            raise ShardError(f"{self._path}: what lies at byte {place.offset} is not what arrived there")
        return content

    def end(self) -> None:
        """Let go of the file."""
        self._file.close()

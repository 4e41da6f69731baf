"""One response: usual ones by a reader of our own, all others by the standard library, with one outcome.

Usual is a response of HTTP/1.1 whose head arrives in one piece, and that says once, by its `Content-Length`, where it
ends. Only such a one, or one in chunks alone, leaves its connection fit for another request.
"""

import http.client
import io
import re
import time
from typing import Any, Protocol

from curation.commands.fetch.heads import Headers, length_in, read_headers, usual
from curation.commands.fetch.wire import Wire
from curation.recipe.settings import FetchSettings

CHUNK_BYTES = 1 << 16
MAX_INTERIM = 20
"""Interim responses (1xx) before the one that counts."""
SWITCHING = 101
WITHOUT_BODY = frozenset({SWITCHING, 204, 304})
STATUS = re.compile(rb"HTTP/1\.1 ([2-9][0-9][0-9]) ([\x20-\x7e]*)\r\n")
"""A usual status line (RFC 9112, 4) of a final response."""
GATHERED_BYTES = 1 << 14
"""A body of which more than this is missing is gathered before anybody is woken for it."""
DRAIN_BYTES, DRAIN_S = CHUNK_BYTES, 0.5
"""How much of a body that nobody wants is read, and for how long, so that its connection can be used again."""


class RefusedError(Exception):
    """The reading stops for a reason that has a name."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Response(Protocol):
    """A final response, read up to its body."""

    status: int
    reason: str
    headers: Headers
    chunked: bool

    def read(self, amt: int, /) -> bytes:
        """Return so many bytes of the body, fewer only where it ends."""
        ...

    def read1(self, n: int, /) -> bytes:
        """Return what came of the body, at most so many bytes; none where it ends."""
        ...


def begin(wire: Wire, settings: FetchSettings, deadline: float) -> "UsualResponse | AnyResponse":
    """Read the head of a response; interim ones (RFC 9110, 15.2), such as 103 Early Hints, are passed over.

    Raises:
        http.client.HTTPException: it is none.
        TimeoutError: the server is silent, or the deadline (`time.monotonic`) passed.
        RefusedError: it is too slow.
    """
    patient = Patient(wire, settings, deadline)
    came = patient.receive(CHUNK_BYTES)
    status, end = STATUS.match(came), came.find(b"\r\n\r\n")
    if status is not None and end >= 0:
        headers = usual(came[status.end() : end + 2])
        if headers is not None and (length := _only_length(int(status[1]), headers)) is not None:
            reason = status[2].decode("ascii").strip()
            return UsualResponse(patient, int(status[1]), reason, headers, length, came[end + 4 :])
    patient.put_back(came)
    response = AnyResponse(patient)
    response.begin()
    return response


def _only_length(status: int, headers: Headers) -> int | None:
    """Return the length of a body where one header, and no other, says where it ends."""
    lengths = headers.get_all("content-length")
    if len(lengths) != 1 or "transfer-encoding" in headers or status in WITHOUT_BODY:
        return None
    return length_in(lengths[0])


class UsualResponse:
    """A response whose body is so many bytes."""

    chunked = False

    def __init__(
        self, patient: "Patient", status: int, reason: str, headers: Headers, length: int, came: bytes
    ) -> None:
        """Take what came behind the head."""
        self.status, self.reason, self.headers = status, reason, headers
        self._patient, self._num_missing, self._came = patient, length, came
        self.num_promised = length
        self._stays = not _closes(headers)

    def read(self, amt: int, /) -> bytes:
        """Return so many bytes of the body, fewer only where it ends."""
        pieces = [piece := self.read1(amt)]
        while piece and (num_bytes := min(amt := amt - len(piece), self._num_missing)) > 0:
            pieces.append(piece := self._patient.receive(num_bytes, is_long=num_bytes > GATHERED_BYTES))
            self._num_missing -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def read1(self, n: int, /) -> bytes:
        """Return what came of the body, at most so many bytes; none where it ends."""
        n = min(n, self._num_missing)
        if n == 0:
            return b""
        if self._came:
            piece, self._came = self._came[:n], self._came[n:]
        else:
            piece = self._patient.receive(n)
        self._num_missing -= len(piece)
        return piece

    def drain(self) -> None:
        """Read a short body that nobody wants.

        Raises:
            OSError: it does not come in time, or at all.
            RefusedError: it comes too slowly.
        """
        if self._stays and self._num_missing <= DRAIN_BYTES:
            self._patient.hurry(DRAIN_S)
            while self.read1(CHUNK_BYTES):
                pass

    @property
    def is_spent(self) -> bool:
        """Whether it was read to its end, nothing came behind it, and its connection stays open."""
        return self._stays and self._num_missing == 0 and not self._came

    @property
    def is_followed(self) -> bool:
        """Whether it was read to its end, and more came right behind it than belongs to it."""
        return self._num_missing == 0 and bool(self._came)

    def close(self) -> None:
        """Let go of what came."""
        self._came = b""


class AnyResponse(http.client.HTTPResponse):
    """A response whose body the standard library frames."""

    headers: Headers  # type: ignore[assignment]

    def __init__(self, patient: "Patient") -> None:
        """Read nothing yet."""
        super().__init__(patient)  # type: ignore[arg-type]
        self._patient = patient
        self._stays = self._has_ended = False
        self._num_left = 0

    def begin(self) -> None:
        """Read the head.

        Raises:
            http.client.HTTPException: it is none.
        """
        version, self.status, reason = self._final_status()
        if not version.startswith("HTTP/1.") and version != "HTTP/0.9":
            raise http.client.UnknownProtocol(version)
        self.reason, self.headers, self.will_close = reason.strip(), read_headers(self.fp), True
        self.chunked = (self.headers.get("transfer-encoding") or "").lower() == "chunked"
        self.chunk_left = None
        self.length = None if self.chunked else length_in(self.headers.get("content-length") or "")
        if self.status in WITHOUT_BODY:
            self.length = 0
        self._stays = version == "HTTP/1.1" and self.chunked and _has_no_other_end(self.status, self.headers)

    @property
    def is_spent(self) -> bool:
        """Whether its last chunk was read, nothing came behind it, and its connection stays open."""
        return self._stays and self._has_ended and self._num_left == 0

    @property
    def is_followed(self) -> bool:
        """Whether its last chunk was read, and more came right behind it than belongs to it."""
        return self._has_ended and self._num_left > 0

    def drain(self) -> None:
        """Read a short body that nobody wants.

        Raises:
            OSError: it does not come in time, or at all.
            RefusedError: it comes too slowly.
            http.client.HTTPException: it is not framed as it says.
        """
        if self._stays:
            self._patient.hurry(DRAIN_S)
            num_bytes = 0
            while num_bytes <= DRAIN_BYTES and (piece := self.read1(CHUNK_BYTES)):
                num_bytes += len(piece)

    def _read_and_discard_trailer(self) -> None:
        """Take note that the last chunk was read, and of what came behind it."""
        super()._read_and_discard_trailer()  # type: ignore[misc]
        self._has_ended, self._num_left = True, self._patient.count_left(self.fp)

    def _final_status(self) -> tuple[str, int, str]:
        for _ in range(MAX_INTERIM):
            line: tuple[str, int, str] = self._read_status()  # type: ignore[attr-defined]
            if not 100 <= line[1] < 200 or line[1] == SWITCHING:
                return line
            read_headers(self.fp)
        raise http.client.BadStatusLine(f"more than {MAX_INTERIM} interim responses")


def _has_no_other_end(status: int, headers: Headers) -> bool:
    is_bare = status not in WITHOUT_BODY and "content-length" not in headers
    return is_bare and len(headers.get_all("transfer-encoding")) == 1 and not _closes(headers)


def _closes(headers: Headers) -> bool:
    return "close" in ",".join(headers.get_all("connection")).lower()


class Patient:
    """A wire's bytes; each read ends by the deadline, and a server slower than the minimum rate is given up."""

    def __init__(self, wire: Wire, settings: FetchSettings, deadline: float) -> None:
        self._wire, self._settings, self._deadline = wire, settings, deadline
        self._first_byte: float | None = None
        self._num_bytes = 0
        self._back = b""
        self.is_resting = False

    def receive(self, num_bytes: int, *, is_long: bool = False) -> bytes:
        """Return what has come, or comes next, at most so many bytes; none where the other side hung up.

        Where they are many, those that come in the next moments are gathered.

        Raises:
            TimeoutError: nothing comes in time.
            RefusedError: what comes, comes too slowly.
        """
        if self._back:
            piece, self._back = self._back[:num_bytes], self._back[num_bytes:]
            return piece
        now = time.monotonic()
        if now >= self._deadline:
            raise TimeoutError("the deadline has passed")
        if self._first_byte is not None:
            elapsed = now - self._first_byte
            if elapsed > self._settings.grace_s and self._num_bytes < elapsed * self._settings.min_bytes_per_s:
                raise RefusedError("too_slow", f"{self._num_bytes} bytes in {elapsed:.1f} s")
        seconds = min(self._settings.timeout_s, self._deadline - now)
        piece = self._wire.gather(num_bytes, seconds) if is_long else self._wire.receive(num_bytes, seconds)
        if self._first_byte is None:
            self._first_byte = time.monotonic()
        self._num_bytes += len(piece)
        return piece

    def put_back(self, came: bytes) -> None:
        """Let what came be read once more."""
        self._back = came

    def hurry(self, seconds: float) -> None:
        """Wait for no more than some seconds from now on."""
        self._deadline = min(self._deadline, time.monotonic() + seconds)

    def count_left(self, file: Any) -> int:
        """Return how many bytes were read for a buffered file that nobody took out of it."""
        self.is_resting = True
        try:
            return len(file.peek(1)) + len(self._back)
        finally:
            self.is_resting = False

    def makefile(self, _: str) -> io.BufferedReader:
        """Return the buffered file that HTTPResponse asks a socket for."""
        return io.BufferedReader(_Raw(self), CHUNK_BYTES)


class _Raw(io.RawIOBase):
    def __init__(self, patient: Patient) -> None:
        self._patient = patient

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Read what has come; nothing while that is only looked at."""
        if self._patient.is_resting:
            return None
        piece = self._patient.receive(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

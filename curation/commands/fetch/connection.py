"""One request on one socket of which every single wait is bounded, and whose address was checked where it connects."""

import http.client
import io
import socket
import ssl
import time
from functools import lru_cache
from typing import Any

from curation.commands.fetch.body import CHUNK_BYTES, RefusedError
from curation.commands.fetch.ssrf_guard import require_allowed
from curation.recipe.settings import FetchSettings

MAX_INTERIM = 20
"""Interim responses (1xx) before the one that counts."""
SWITCHING = 101


class Connection(http.client.HTTPConnection):
    """One request on one socket of which every single wait is bounded."""

    def __init__(
        self, host: str, port: int | None, scheme: str, settings: FetchSettings, deadline: float, allow_loopback: bool
    ) -> None:
        """Connect to nothing yet; `deadline` (`time.monotonic`) ends all waiting."""
        self._is_tls = scheme == "https"
        self.default_port = 443 if self._is_tls else 80
        super().__init__(host, port or self.default_port)
        self._settings = settings
        self._deadline = deadline
        self._allow_loopback = allow_loopback

    def connect(self) -> None:
        """Resolve once, check every address, and take the first that answers; what connects is what was checked."""
        addresses = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        for *_, address in addresses:
            require_allowed(str(address[0]).partition("%")[0], allow_loopback=self._allow_loopback)
        plain = self._first_open(addresses)
        try:
            plain.settimeout(self._patience_s())
            self.sock = _tls().wrap_socket(plain, server_hostname=self.host) if self._is_tls else plain
        except BaseException:
            plain.close()
            raise

    def _first_open(self, addresses: list[Any]) -> socket.socket:
        problem: OSError | None = None
        for family, kind, protocol, _, address in addresses:
            opened = socket.socket(family, kind, protocol)
            try:
                opened.settimeout(self._patience_s())
                opened.connect(address)
            except OSError as error:
                opened.close()
                problem = error
            except BaseException:
                opened.close()
                raise
            else:
                return opened
        raise problem or OSError("no address")

    def _patience_s(self) -> float:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError("the deadline has passed")
        return min(self._settings.timeout_s, remaining)

    def response_class(self, sock: socket.socket, *args: Any, **kwargs: Any) -> http.client.HTTPResponse:  # type: ignore[override]
        """Let the response read through `_Patient`."""
        patient: Any = _Patient(sock, self._settings, self._deadline)
        return _Response(patient, *args, **kwargs)


class _Response(http.client.HTTPResponse):
    """The final response: interim ones (RFC 9110, 15.2), such as 103 Early Hints, are read and passed over."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(MAX_INTERIM):
            line: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not 100 <= line[1] < 200 or line[1] == SWITCHING:
                return line
            http.client.parse_headers(self.fp)
        raise http.client.BadStatusLine(f"more than {MAX_INTERIM} interim responses")


class _Patient(io.RawIOBase):
    """A socket's bytes; each read ends by the deadline, and a server slower than the minimum rate is given up."""

    def __init__(self, sock: socket.socket, settings: FetchSettings, deadline: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)  # keeps the socket open until this is closed
        self._settings = settings
        self._deadline = deadline
        self._first_byte: float | None = None
        self._num_bytes = 0

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return the buffered file that HTTPResponse asks a socket for."""
        return io.BufferedReader(self, CHUNK_BYTES)

    def close(self) -> None:
        """Let go of the socket."""
        self._raw.close()
        super().close()

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what has come."""
        now = time.monotonic()
        elapsed = 0.0 if self._first_byte is None else now - self._first_byte
        if now >= self._deadline:
            raise TimeoutError("the deadline has passed")
        if elapsed > self._settings.grace_s and self._num_bytes < elapsed * self._settings.min_bytes_per_s:
            raise RefusedError("too_slow", f"{self._num_bytes} bytes in {elapsed:.1f} s")
        self._sock.settimeout(min(self._settings.timeout_s, self._deadline - now))
        num_bytes: int = self._raw.readinto(buffer) or 0
        if self._first_byte is None:
            self._first_byte = time.monotonic()
        self._num_bytes += num_bytes
        return num_bytes


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()

"""One request on one socket of which every single wait is bounded, and whose address was checked where it connects."""

import http.client
import io
import re
import socket
import ssl
import time
from functools import lru_cache
from typing import Any

from curation.commands.fetch.heads import Headers, read_headers
from curation.commands.fetch.ssrf_guard import require_allowed
from curation.dataset.sample import DEFAULT_PORTS
from curation.recipe.settings import FetchSettings

CHUNK_BYTES = 1 << 16
MAX_INTERIM = 20
"""Interim responses (1xx) before the one that counts."""
SWITCHING = 101
WITHOUT_BODY = frozenset({SWITCHING, 204, 304})
UNSENDABLE = re.compile(r"[\0-\x20\x7f]")
"""Characters that no host has, and that would be taken for the end of a line."""


class RefusedError(Exception):
    """The reading stops for a reason that has a name."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Connection:
    """One request on one socket of which every single wait is bounded."""

    def __init__(
        self, host: str, port: int | None, scheme: str, settings: FetchSettings, deadline: float, allow_loopback: bool
    ) -> None:
        """Connect to nothing yet; `deadline` (`time.monotonic`) ends all waiting.

        Raises:
            http.client.InvalidURL: the host holds what would break the request.
        """
        if UNSENDABLE.search(host):
            raise http.client.InvalidURL(f"{host!r} is no host")
        self._is_tls = scheme == "https"
        self._host, self._port = host, port or DEFAULT_PORTS[scheme]
        place = f"[{host}]" if ":" in host else host
        self._place = place if self._port == DEFAULT_PORTS[scheme] else f"{place}:{self._port}"
        self._settings = settings
        self._deadline = deadline
        self._allow_loopback = allow_loopback
        self._socket: socket.socket | None = None

    def get(self, target: str, headers: str) -> "Response":
        """Ask for a path and query, in ASCII; return the response, read up to its body."""
        self._socket = self._connected()
        self._socket.sendall(f"GET {target} HTTP/1.1\r\nHost: {self._place}\r\n{headers}\r\n".encode("ascii"))
        response = Response(_Patient(self._socket, self._settings, self._deadline))
        response.begin()
        return response

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()

    def _connected(self) -> socket.socket:
        """Resolve once, check every address, and take the first that answers; what connects is what was checked."""
        addresses = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        for *_, address in addresses:
            require_allowed(str(address[0]).partition("%")[0], allow_loopback=self._allow_loopback)
        plain = self._first_open(addresses)
        try:
            plain.settimeout(self._patience_s())
            return _tls().wrap_socket(plain, server_hostname=self._host) if self._is_tls else plain
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


class Response(http.client.HTTPResponse):
    """The final response; interim ones (RFC 9110, 15.2), such as 103 Early Hints, are read and passed over.

    How its body is framed is the standard library's; its head is read by `curation.commands.fetch.heads`.
    """

    headers: Headers  # type: ignore[assignment]

    def __init__(self, patient: "_Patient") -> None:
        """Read nothing yet."""
        super().__init__(patient)  # type: ignore[arg-type]

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
        self.length = None if self.chunked else _number(self.headers.get("content-length"))
        if self.status in WITHOUT_BODY:
            self.length = 0

    def _final_status(self) -> tuple[str, int, str]:
        for _ in range(MAX_INTERIM):
            line: tuple[str, int, str] = self._read_status()  # type: ignore[attr-defined]
            if not 100 <= line[1] < 200 or line[1] == SWITCHING:
                return line
            read_headers(self.fp)
        raise http.client.BadStatusLine(f"more than {MAX_INTERIM} interim responses")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isascii() and text.strip().isdecimal() else None


class _Patient(io.RawIOBase):
    """A socket's bytes; each read ends by the deadline, and a server slower than the minimum rate is given up."""

    def __init__(self, sock: socket.socket, settings: FetchSettings, deadline: float) -> None:
        self._sock = sock
        self._settings = settings
        self._deadline = deadline
        self._first_byte: float | None = None
        self._num_bytes = 0

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return the buffered file that HTTPResponse asks a socket for."""
        return io.BufferedReader(self, CHUNK_BYTES)

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
        num_bytes = self._sock.recv_into(buffer)
        if self._first_byte is None:
            self._first_byte = time.monotonic()
        self._num_bytes += num_bytes
        return num_bytes


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()

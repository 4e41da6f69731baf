"""Reads one URL from a server that may be hostile: bounded in bytes, time, rate and redirects, and guarded.

Nothing here follows a proxy of the environment, asks for compression, or trusts what a header promises.
"""

import http.client
import io
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from curation.commands.fetch.politeness import Hosts, retry_after_s
from curation.commands.fetch.ssrf_guard import BlockedAddressError, guarded, require_allowed
from curation.dataset.urls import ascii_host
from curation.recipe.settings import FetchSettings

CHUNK_BYTES = 1 << 16
SCHEMES = ("http", "https")
REDIRECTS = frozenset({301, 302, 303, 307, 308})
SLOW_DOWN = frozenset({429, 503})
GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
KEPT_HEADERS = (
    "content-type",
    "content-length",
    "content-encoding",
    "etag",
    "last-modified",
    "location",
    "retry-after",
    "x-robots-tag",
)
"""Response headers that the ledger keeps: the evidence for an opt-out, and what names a version of a picture."""
MAX_HEADER_CHARACTERS = 1000
RULES_WITH_VALUES = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
"""Rules of `X-Robots-Tag` that carry a colon without naming an agent."""
URL_SAFE = "!#$%&'()*+,/:;=?@[]~"


Refused = Callable[[str], str | None]
"""Returns why a URL must not be asked, or None."""


@dataclass(frozen=True)
class Answer:
    """What came of one request: the body, or a stable reason why there is none, and the evidence."""

    body: bytes | None = None
    reason: str | None = None
    message: str | None = None
    """Detail for a person; not stable."""
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those of `KEPT_HEADERS` that the last response carried."""
    final_url: str | None = None
    """Where a redirect led, else None."""


class RefusedError(Exception):
    """The reading stops for a reason that has a name."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def all_may_be_asked(_: str) -> str | None:
    """Refuse nothing."""
    return None


def read_url(
    url: str,
    settings: FetchSettings,
    hosts: Hosts,
    *,
    allow_loopback: bool = False,
    refused: Refused = all_may_be_asked,
) -> Answer:
    """Return what `url` answers; never raises for anything that a server or a URL does.

    `refused` is asked about the URL and about every redirect before a socket is opened.
    """
    deadline = time.monotonic() + settings.deadline_s
    answer = Answer()
    try:
        with guarded(allow_loopback=allow_loopback):
            for _ in range(settings.max_redirects + 1):
                here = url if answer.final_url is None else answer.final_url
                if (reason := refused(here)) is not None:
                    raise RefusedError(reason, "listed, so not asked")
                answer = _hop(here, answer.final_url, settings, hosts, deadline, allow_loopback)
                if answer.status not in REDIRECTS or answer.reason is not None:
                    return answer
                if answer.final_url in (url, here):
                    return replace(answer, reason="redirect_loop", message="redirects to itself")
        return replace(answer, reason="redirect_loop", message=f"more than {settings.max_redirects} redirects")
    except RefusedError as refusal:
        return replace(answer, body=None, reason=refusal.reason, message=str(refusal))
    except Exception as error:  # noqa: BLE001  whatever a stranger's URL or server provokes is a reason
        return replace(answer, body=None, reason=_reason_of(error), message=f"{type(error).__name__}: {error}"[:300])


def _reason_of(error: Exception) -> str:
    """Return the stable reason behind an exception."""
    kinds: tuple[tuple[type[Exception], str], ...] = (
        (BlockedAddressError, "blocked_address"),
        (TimeoutError, "timeout"),
        (socket.gaierror, "dns"),
        (ssl.SSLError, "tls"),
        (http.client.IncompleteRead, "truncated_body"),
        (http.client.InvalidURL, "bad_url"),
        (http.client.HTTPException, "bad_answer"),
        (ValueError, "bad_url"),
        (OSError, "connection"),
        (zlib.error, "bad_encoding"),
    )
    if isinstance(error, http.client.RemoteDisconnected):
        return "connection"
    return next((reason for kind, reason in kinds if isinstance(error, kind)), "not_downloaded")


def _hop(
    url: str, final_url: str | None, settings: FetchSettings, hosts: Hosts, deadline: float, allow_loopback: bool
) -> Answer:
    """Ask once, without following a redirect; where there is one, `final_url` of the answer is where it leads."""
    parts = urlsplit(url)
    if parts.scheme.lower() not in SCHEMES:
        raise RefusedError("blocked_scheme", f"{parts.scheme!r} is neither http nor https")
    if not parts.hostname:
        raise RefusedError("bad_url", "no host")
    host = parts.hostname if ":" in parts.hostname else parts.hostname.encode("idna").decode()
    known_as = ascii_host(host)
    with hosts.visit(known_as) as may_ask:
        if not may_ask:
            raise RefusedError("host_backoff", f"{host} asked to be left alone")
        connection = _Connection(host, parts.port, parts.scheme.lower(), settings, deadline, allow_loopback)
        try:
            target = quote(parts.path or "/", safe=URL_SAFE)
            target += f"?{quote(parts.query, safe=URL_SAFE)}" if parts.query else ""
            connection.request("GET", target, headers=_request_headers(settings.user_agent_token))
            with connection.getresponse() as response:
                answer = replace(_answer(response, settings), final_url=final_url)
                if answer.status in REDIRECTS:
                    answer = replace(answer, final_url=urljoin(url, _utf8(response.headers.get("location", ""))))
        finally:
            connection.close()
    if answer.status in SLOW_DOWN:
        asked = retry_after_s(answer.headers.get("retry-after"), settings.max_retry_after_s)
        hosts.back_off(known_as, settings.retry_wait_s if asked is None else asked)
    return answer


def _request_headers(token: str) -> dict[str, str]:
    agent = f"Mozilla/5.0 (compatible; {token}; +https://github.com/rom1504/img2dataset)"
    return {"User-Agent": agent, "Accept": "image/*,*/*;q=0.5", "Accept-Encoding": "identity", "Connection": "close"}


def _answer(response: http.client.HTTPResponse, settings: FetchSettings) -> Answer:
    headers = {
        name: ", ".join(values)[:MAX_HEADER_CHARACTERS]
        for name in KEPT_HEADERS
        if (values := response.headers.get_all(name))
    }
    seen = Answer(status=response.status, headers=headers)
    if is_opted_out(response.headers.get_all("x-robots-tag", []), settings):
        return replace(seen, reason="opted_out", message=headers["x-robots-tag"])
    if response.status in REDIRECTS:
        return seen
    if not 200 <= response.status < 300:
        reason = "http_5xx" if response.status >= 500 else f"http_{response.status}"
        return replace(seen, reason=reason, message=response.reason)
    try:
        body = _decoded(_body(response, settings), headers.get("content-encoding", "identity"), settings.max_bytes)
    except RefusedError as refusal:
        return replace(seen, reason=refusal.reason, message=str(refusal))
    return replace(seen, body=body) if body else replace(seen, reason="empty_body", message="no bytes")


def is_opted_out(values: Sequence[str], settings: FetchSettings) -> bool:
    """Return whether `X-Robots-Tag` headers forbid us the picture, in a rule for all agents or for ours."""
    for header in values:
        agent: str | None = None
        for rule in header.lower().split(","):
            name, colon, rest = (part.strip() for part in rule.partition(":"))
            if colon and name not in RULES_WITH_VALUES:
                agent = name
            directive = rest if colon else name
            if agent in (None, settings.user_agent_token) and directive in settings.opt_out_directives:
                return True
    return False


def _utf8(location: str) -> str:
    """Return a header of raw bytes, which http.client reads as Latin-1, as the UTF-8 that it mostly is."""
    return location.encode("latin-1", "replace").decode("utf-8", "replace")


def _body(response: http.client.HTTPResponse, settings: FetchSettings) -> bytes:
    """Return the whole body, read as it comes."""
    promised = response.length
    if promised is not None and promised > settings.max_bytes:
        raise RefusedError("too_many_bytes", f"{promised} bytes promised; at most {settings.max_bytes}")
    body = bytearray()
    while chunk := response.read1(CHUNK_BYTES):
        body += chunk
        if len(body) > settings.max_bytes:
            raise RefusedError("too_many_bytes", f"more than {settings.max_bytes} bytes")
    if promised is not None and len(body) != promised:
        raise RefusedError("truncated_body", f"{len(body)} of {promised} bytes")
    return bytes(body)


def _decoded(body: bytes, encoding: str, max_bytes: int) -> bytes:
    """Undo a compression that nobody asked for; the limit counts what comes out."""
    if encoding.strip().lower() in ("", "identity"):
        return body
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        raise RefusedError("bad_encoding", f"content-encoding {encoding!r} was not asked for")
    decompressor = zlib.decompressobj(GZIP_OR_ZLIB)
    plain = decompressor.decompress(body, max_bytes + 1)
    if len(plain) > max_bytes:
        raise RefusedError("too_many_bytes", f"unpacks to more than {max_bytes} bytes")
    if not decompressor.eof:
        raise RefusedError("truncated_body", "the compressed body ends early")
    return plain


class _Connection(http.client.HTTPConnection):
    """One request on one socket of which every single wait is bounded."""

    def __init__(
        self, host: str, port: int | None, scheme: str, settings: FetchSettings, deadline: float, allow_loopback: bool
    ) -> None:
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
        return http.client.HTTPResponse(patient, *args, **kwargs)


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

"""Reads one URL from a server that may be hostile: bounded in bytes, time, rate and redirects, and guarded.

Nothing here follows a proxy of the environment, asks for compression, or trusts what a header promises.
"""

import http.client
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import IO
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from curation.commands.fetch.body import SpoolError, receive
from curation.commands.fetch.connection import Connection, RefusedError, Response
from curation.commands.fetch.opt_outs import OptOut, header_opt_out, is_opted_out
from curation.commands.fetch.politeness import Hosts, retry_after_s
from curation.commands.fetch.ssrf_guard import BlockedAddressError, guarded
from curation.dataset.urls import ascii_host
from curation.recipe.settings import FetchSettings

__all__ = ["Answer", "Gate", "RefusedError", "is_opted_out", "read_url"]

SCHEMES = ("http", "https")
REDIRECTS = frozenset({301, 302, 303, 307, 308})
SLOW_DOWN = frozenset({429, 503})
KEPT_HEADERS = (
    "content-type",
    "content-length",
    "content-range",
    "content-encoding",
    "content-usage",
    "etag",
    "last-modified",
    "location",
    "retry-after",
    "tdm-policy",
    "tdm-reservation",
    "x-robots-tag",
)
"""Response headers that the ledger keeps: the evidence for an opt-out, and what names a version of a picture."""
MAX_HEADER_CHARACTERS = 1000
URL_SAFE = "!#$%&'()*+,/:;=?@[]~"


@dataclass(frozen=True)
class Answer:
    """What came of one request: the body, or a stable reason why there is none, and the evidence."""

    stream: IO[bytes] | None = None
    """The body, as a file at its start; whoever takes it closes it."""
    reason: str | None = None
    message: str | None = None
    """Detail for a person; not stable."""
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those of `KEPT_HEADERS` that the last response carried."""
    final_url: str | None = None
    """Where a redirect led, else None."""
    opt_out: OptOut | None = None
    """Who does not want the picture used, and where that is said."""

    @property
    def body(self) -> bytes | None:
        """The whole body, read from `stream`."""
        if self.stream is None:
            return None
        self.stream.seek(0)
        return self.stream.read()


Gate = Callable[[str], Answer | None]
"""Asked before every URL, redirects too: says why it must not be asked for, or None."""


def read_url(
    url: str,
    settings: FetchSettings,
    hosts: Hosts,
    *,
    gate: Gate | None = None,
    allow_loopback: bool = False,
    heeds_opt_outs: bool = True,
    folder: Path | None = None,
) -> Answer:
    """Return what `url` answers; never raises for anything that a server or a URL does.

    A large body lies in `folder`, or where temporary files lie. `heeds_opt_outs` is off for what is no picture.

    Raises:
        SpoolError: the body cannot be kept.
    """
    reading = _Reading(settings, hosts, gate, allow_loopback, heeds_opt_outs, folder)
    answer = Answer()
    try:
        with guarded(allow_loopback=allow_loopback):
            for _ in range(settings.max_redirects + 1):
                here = url if answer.final_url is None else answer.final_url
                answer = reading.hop(here, answer)
                if answer.status not in REDIRECTS or answer.reason is not None:
                    return answer
                if answer.final_url in (url, here):
                    return replace(answer, reason="redirect_loop", message="redirects to itself")
        return replace(answer, reason="redirect_loop", message=f"more than {settings.max_redirects} redirects")
    except RefusedError as refusal:
        return replace(answer, reason=refusal.reason, message=str(refusal))
    except SpoolError:
        raise
    except Exception as error:  # noqa: BLE001  whatever a stranger's URL or server provokes is a reason
        return replace(answer, reason=_reason_of(error), message=f"{type(error).__name__}: {error}"[:300])


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


class _Reading:
    """What it takes to ask for one URL, hop by hop, within one deadline; time spent in queues is not counted."""

    def __init__(
        self, settings: FetchSettings, hosts: Hosts, gate: Gate | None, allow_loopback: bool, heeds_opt_outs: bool,
        folder: Path | None,
    ) -> None:  # fmt: skip
        self._settings, self._hosts, self._gate = settings, hosts, gate
        self._allow_loopback, self._heeds_opt_outs, self._folder = allow_loopback, heeds_opt_outs, folder
        self._left_s = settings.deadline_s

    def hop(self, url: str, before: Answer) -> Answer:
        """Ask once, without following a redirect; where there is one, `final_url` of the answer is where it leads."""
        parts = urlsplit(url)
        if parts.scheme.lower() not in SCHEMES:
            raise RefusedError("blocked_scheme", f"{parts.scheme!r} is neither http nor https")
        if not parts.hostname:
            raise RefusedError("bad_url", "no host")
        host = parts.hostname if ":" in parts.hostname else parts.hostname.encode("idna").decode()
        if self._gate is not None and (closed := self._gate(url)) is not None:
            return replace(closed, status=before.status, headers=before.headers, final_url=before.final_url)
        known_as = ascii_host(host)
        with self._hosts.visit(known_as) as obstacle:
            if obstacle is not None:
                raise RefusedError(obstacle, f"{host} is not asked now")
            try:
                answer = self._ask(url, parts, host)
            except (TimeoutError, socket.gaierror):
                self._hosts.failed(known_as)
                raise
            self._note(known_as, answer)
        if before.final_url is not None:
            answer = replace(answer, final_url=before.final_url)
        if answer.status in REDIRECTS and answer.reason is None:
            return replace(answer, final_url=urljoin(url, _utf8(answer.headers.get("location", ""))))
        return answer

    def _ask(self, url: str, parts: SplitResult, host: str) -> Answer:
        started = time.monotonic()
        deadline = min(started + self._left_s, self._hosts.ends_at)
        connection = Connection(host, parts.port, parts.scheme.lower(), self._settings, deadline, self._allow_loopback)
        try:
            target = quote(parts.path or "/", safe=URL_SAFE)
            target += f"?{quote(parts.query, safe=URL_SAFE)}" if parts.query else ""
            with connection.get(target, _request_headers(self._settings.user_agent_token)) as response:
                return self._answer(url, response)
        finally:
            connection.close()
            self._left_s -= time.monotonic() - started

    def _note(self, host: str, answer: Answer) -> None:
        """Let the others know how a host fared."""
        if answer.status in SLOW_DOWN:
            asked = retry_after_s(answer.headers.get("retry-after"), self._settings.max_retry_after_s)
            self._hosts.back_off(host, self._settings.retry_wait_s if asked is None else asked)
        elif answer.reason == "too_slow":
            self._hosts.failed(host)
        else:
            self._hosts.served(host)

    def _answer(self, url: str, response: Response) -> Answer:
        headers = {
            name: ", ".join(values)[:MAX_HEADER_CHARACTERS]
            for name in KEPT_HEADERS
            if (values := response.headers.get_all(name))
        }
        seen = Answer(status=response.status, headers=headers)
        if self._heeds_opt_outs and (found := header_opt_out(response.headers, self._settings)) is not None:
            where, value = found
            opt_out = OptOut(where, value[:MAX_HEADER_CHARACTERS], url)
            return replace(seen, reason="opted_out", message=f"{where}: {value}"[:300], opt_out=opt_out)
        if response.status in REDIRECTS:
            return seen
        if not 200 <= response.status < 300:
            reason = "http_5xx" if response.status >= 500 else f"http_{response.status}"
            return replace(seen, reason=reason, message=response.reason)
        try:
            return replace(seen, stream=receive(response, self._settings, self._folder))
        except RefusedError as refusal:
            return replace(seen, reason=refusal.reason, message=str(refusal))


@lru_cache(maxsize=1)
def _request_headers(token: str) -> str:
    fields = {
        "User-Agent": f"Mozilla/5.0 (compatible; {token}; +https://github.com/rom1504/img2dataset)",
        "Accept": "image/*,*/*;q=0.5",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items())


def _utf8(location: str) -> str:
    """Return a header of raw bytes, which http.client reads as Latin-1, as the UTF-8 that it mostly is."""
    return location.encode("latin-1", "replace").decode("utf-8", "replace")

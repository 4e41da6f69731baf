"""Reads one URL from a server that may be hostile: bounded in bytes, time, rate and redirects, and guarded.

Nothing here follows a proxy of the environment, asks for compression, or trusts what a header promises.
"""

import http.client
import re
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import IO
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from curation.commands.fetch.body import SpoolError, receive
from curation.commands.fetch.connection import Connection, StaleError, WebOrigin
from curation.commands.fetch.kept import Kept
from curation.commands.fetch.opt_outs import OptOut, header_opt_out, is_opted_out
from curation.commands.fetch.politeness import Hosts, retry_after_s
from curation.commands.fetch.response import RefusedError, Response
from curation.commands.fetch.ssrf_guard import BlockedAddressError, guarded
from curation.dataset.sample import DEFAULT_PORTS
from curation.dataset.urls import ascii_host
from curation.recipe.settings import FetchSettings

__all__ = ["NOTHING_YET", "Answer", "Gate", "RefusedError", "is_opted_out", "read_url"]

SCHEMES = ("http", "https")
REDIRECTS = frozenset({301, 302, 303, 307, 308})
SLOW_DOWN = frozenset({429, 503})
KEPT_HEADERS = frozenset(
    {
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
    }
)
"""Response headers that the ledger keeps: the evidence for an opt-out, and what names a version of a picture."""
MAX_HEADER_CHARACTERS = 1000
MAX_MESSAGE_CHARACTERS = 300
URL_SAFE = "!#$%&'()*+,/:;=?@[]~"
PLAIN = re.compile(r"[A-Za-z0-9/._-]*")
"""What is sent as it is."""


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


NOTHING_YET = Answer()
"""What is known before anybody was asked."""
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
    kept: Kept | None = None,
    visited: set[str] | None = None,
) -> Answer:
    """Return what `url` answers; never raises for anything that a server or a URL does.

    A large body lies in `folder`, or where temporary files lie. `heeds_opt_outs` is off for what is no picture.
    `kept` holds what connections are open already; without it every request has one of its own. `visited` is told the
    names of the hosts on which the answer depends.

    Raises:
        SpoolError: the body cannot be kept.
    """
    reading = _Reading(settings, hosts, gate, allow_loopback, heeds_opt_outs, folder, kept or Kept())
    reading.visited = visited if visited is not None else set()
    answer = NOTHING_YET
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
        return replace(answer, reason=refusal.reason, message=_short(str(refusal)))
    except SpoolError:
        raise
    except Exception as error:  # noqa: BLE001  whatever a stranger's URL or server provokes is a reason
        return replace(answer, reason=_reason_of(error), message=_short(f"{type(error).__name__}: {error}"))


def _short(message: str) -> str:
    return message[:MAX_MESSAGE_CHARACTERS]


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
        folder: Path | None, kept: Kept,
    ) -> None:  # fmt: skip
        self._settings, self._hosts, self._gate, self._kept = settings, hosts, gate, kept
        self._allow_loopback, self._heeds_opt_outs, self._folder = allow_loopback, heeds_opt_outs, folder
        self._left_s = settings.deadline_s
        self.visited: set[str] = set()

    def hop(self, url: str, before: Answer) -> Answer:
        """Ask once, without following a redirect; where there is one, `final_url` of the answer is where it leads."""
        parts = urlsplit(url)
        if parts.scheme.lower() not in SCHEMES:
            raise RefusedError("blocked_scheme", f"{parts.scheme!r} is neither http nor https")
        if not (hostname := parts.hostname):
            raise RefusedError("bad_url", "no host")
        host, known_as = _names(hostname)
        self.visited.add(known_as)
        if self._gate is not None and (closed := self._gate(url)) is not None:
            return replace(closed, status=before.status, headers=before.headers, final_url=before.final_url)
        with self._hosts.visit(known_as) as obstacle:
            if obstacle is not None:
                raise RefusedError(obstacle, f"{host} is not asked now")
            try:
                answer = self._ask(url, parts, host, known_as)
            except (TimeoutError, socket.gaierror):
                self._hosts.failed(known_as)
                raise
            self._note(known_as, answer)
        if before.final_url is not None:
            answer = replace(answer, final_url=before.final_url)
        if answer.status in REDIRECTS and answer.reason is None:
            return replace(answer, final_url=urljoin(url, _utf8(answer.headers.get("location", ""))))
        return answer

    def _ask(self, url: str, parts: SplitResult, host: str, known_as: str) -> Answer:
        started = time.monotonic()
        deadline = min(started + self._left_s, self._hosts.ends_at)
        scheme = parts.scheme.lower()
        origin = WebOrigin(scheme, host, parts.port or DEFAULT_PORTS[scheme])
        try:
            target = _sent(parts.path or "/") + (f"?{_sent(parts.query)}" if parts.query else "")
            if (kept := self._kept.take(known_as, origin)) is None:
                return self._exchange(self._opened(origin, deadline), url, target, known_as, deadline)
            try:
                return self._exchange(kept, url, target, known_as, deadline)
            except StaleError as stale:
                return self._asked_anew(stale, origin, url, target, known_as, deadline)
        finally:
            self._left_s -= time.monotonic() - started

    def _opened(self, origin: WebOrigin, deadline: float) -> Connection:
        return self._kept.open(origin, self._settings, deadline, allow_loopback=self._allow_loopback)

    def _asked_anew(
        self, stale: StaleError, origin: WebOrigin, url: str, target: str, known_as: str, deadline: float
    ) -> Answer:
        """Ask on a new connection what a kept one has not answered, or with its last response.

        Where that was another one, answers of the kept connection were not those of their requests: the host is noisy.
        """
        answer = None
        try:
            answer = self._exchange(self._opened(origin, deadline), url, target, known_as, deadline)
            return answer
        finally:
            is_another = stale.seen is not None and (answer is None or stale.seen != _evidence(answer))
            if stale.is_noise or is_another:
                self._kept.noisy.add(known_as)

    def _exchange(self, connection: Connection, url: str, target: str, known_as: str, deadline: float) -> Answer:
        """Ask on a connection, which is kept afterwards or closed.

        Raises:
            StaleError: it was kept before, and its answer cannot be believed.
        """
        response = None
        try:
            headers = _request_headers(self._settings.user_agent_token)
            response = connection.get(target, headers, self._settings, deadline)
            try:
                answer = self._answer(url, response)
            except (OSError, http.client.HTTPException, zlib.error) as error:
                if connection.is_kept:
                    raise StaleError(str(error), is_noise=False, seen=type(error)) from error
                raise
            if answer.stream is None and answer.opt_out is None and not response.is_spent:
                with suppress(OSError, RefusedError, http.client.HTTPException):
                    response.drain()
            if connection.is_kept and not response.is_spent:  # whether the answer is its own will never be known
                if answer.stream is not None:
                    answer.stream.close()
                raise StaleError("its last answer", is_noise=response.is_followed, seen=_evidence(answer))
            return answer
        finally:
            if response is not None and response.is_spent:
                self._kept.give(known_as, connection)
            else:
                connection.close()
            if response is not None:
                response.close()

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
        found_headers = response.headers
        headers = {
            name: ", ".join(found_headers.get_all(name))[:MAX_HEADER_CHARACTERS]
            for name in found_headers.among(KEPT_HEADERS)
        }
        status = response.status
        if self._heeds_opt_outs and (found := header_opt_out(response.headers, self._settings)) is not None:
            where, value = found
            opt_out = OptOut(where, value[:MAX_HEADER_CHARACTERS], url)
            message = _short(f"{where}: {value}")
            return Answer(reason="opted_out", message=message, status=status, headers=headers, opt_out=opt_out)
        if status in REDIRECTS:
            return Answer(status=status, headers=headers)
        if not 200 <= status < 300:
            reason = "http_5xx" if status >= 500 else f"http_{status}"
            return Answer(reason=reason, message=_short(response.reason), status=status, headers=headers)
        try:
            stream = receive(response, self._settings, self._folder)
            return Answer(stream, status=status, headers=headers)
        except RefusedError as refusal:
            return Answer(reason=refusal.reason, message=_short(str(refusal)), status=status, headers=headers)


@lru_cache(maxsize=4096)
def _names(hostname: str) -> tuple[str, str]:
    """Return a host as it is resolved, and as it is known to politeness.

    Raises:
        UnicodeError: it is none.
    """
    host = hostname if ":" in hostname else hostname.encode("idna").decode()
    return host, ascii_host(host)


def _evidence(answer: Answer) -> tuple[int | None, str | None, Mapping[str, str]]:
    return answer.status, answer.reason, answer.headers


def _sent(text: str) -> str:
    return text if PLAIN.fullmatch(text) else quote(text, safe=URL_SAFE)


@lru_cache(maxsize=1)
def _request_headers(token: str) -> str:
    fields = {
        "User-Agent": f"Mozilla/5.0 (compatible; {token}; +https://github.com/rom1504/img2dataset)",
        "Accept": "image/*,*/*;q=0.5",
        "Accept-Encoding": "identity",
    }
    return "".join(f"{name}: {value}\r\n" for name, value in fields.items())


def _utf8(location: str) -> str:
    """Return a header of raw bytes, which http.client reads as Latin-1, as the UTF-8 that it mostly is."""
    return location.encode("latin-1", "replace").decode("utf-8", "replace")

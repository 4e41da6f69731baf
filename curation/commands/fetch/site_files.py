"""What a site says of all its pictures in one file, read once per site and part, through the same guard as they are."""

import threading
from collections import defaultdict
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Protocol
from urllib.parse import SplitResult, urlsplit

from curation.commands.fetch.http import Answer, read_url
from curation.commands.fetch.kept import Kept
from curation.commands.fetch.opt_outs import OptOut
from curation.commands.fetch.politeness import HOST_BACKOFF, HOST_UNREACHABLE, PART_DEADLINE, Hosts
from curation.dataset.urls import ascii_host, host_of
from curation.recipe.settings import FetchSettings

MAX_BYTES = 4 << 20
NUM_PARSED_BYTES = 500 << 10
"""What must be parsed of a robots.txt at least, and is of any such file at most (RFC 9309, 2.5)."""
MIN_REDIRECTS = 5
"""What must be followed at least (RFC 9309, 2.3.1.2)."""
PASSING = frozenset({"http_408", "http_429"})
"""Answers that say nothing of whether there is such a file; every other 4xx says that there is none."""
NO_WAY = frozenset({"dns", "connection", "timeout", "tls", "bad_url", "blocked_address", HOST_UNREACHABLE})
"""Reasons that hold for the pictures of the site as well, which are then told so."""
NOT_NOW = frozenset({HOST_BACKOFF, PART_DEADLINE})

Reader = Callable[[str], Answer]


class Rules(Protocol):
    """What one such file says to us."""

    def forbid(self, url: str) -> str | None:
        """Return what keeps us from a URL, or None."""
        ...


@dataclass(frozen=True)
class Kind:
    """A kind of file that speaks for its site."""

    path: str
    """Where it lies."""
    where: str
    """What the evidence calls it."""
    unreachable: str
    """Reason where the site answers, but not with one that could be read: all of it is forbidden then."""
    parse: Callable[[str], Rules]
    """What reads its text."""


class _NoRules:
    """What a file that is not there says."""

    def forbid(self, _: str) -> str | None:
        """Forbid nothing."""
        return None


NO_RULES = _NoRules()


@dataclass
class _Site:
    lock: threading.Lock = field(default_factory=threading.Lock)
    rules: Rules | None = None
    failure: Answer | None = None


class SiteFiles:
    """Which pictures the files of one kind leave to us; all threads share it."""

    def __init__(
        self, kind: Kind, settings: FetchSettings, hosts: Hosts, kept: Kept, *, allow_loopback: bool = False
    ) -> None:
        """Read nothing yet."""
        redirects = max(MIN_REDIRECTS, settings.max_redirects)
        own = settings.model_copy(update={"max_bytes": MAX_BYTES, "max_redirects": redirects})
        self._kind = kind
        self._read: Reader = lambda url: read_url(
            url, own, hosts, allow_loopback=allow_loopback, heeds_opt_outs=False, kept=kept
        )
        self._lock = threading.Lock()
        self._sites: defaultdict[str, _Site] = defaultdict(_Site)

    def __call__(self, url: str) -> Answer | None:
        """Return why a URL must not be asked for, or None."""
        address = _site_of(url) + self._kind.path
        with self._lock:
            site = self._sites[address]
        if site.rules is None and (closed := self._closed(address, site)) is not None:
            return closed
        value = None if site.rules is None else site.rules.forbid(url)
        if value is None:
            return None
        opt_out = OptOut(self._kind.where, value, address)
        return Answer(reason="opted_out", message=f"{address}: {value}", opt_out=opt_out)

    def _closed(self, address: str, site: _Site) -> Answer | None:
        """Read a site's file, once; return why nothing of the site may be asked for, or None."""
        with site.lock:
            if site.rules is None and site.failure is None:
                answer = self._read(address)
                if answer.reason in NOT_NOW:
                    return Answer(reason=answer.reason, message=f"{address}: {answer.message}")
                site.rules, site.failure = self._judged(address, answer)
            return site.failure

    def begin_pass(self) -> None:
        """Let every file that could not be read be asked for once more."""
        with self._lock:
            for address in [address for address, site in self._sites.items() if site.failure is not None]:
                del self._sites[address]

    def forget(self, hosts: Set[str]) -> None:
        """Let the files of some hosts, mostly of none, be asked for once more."""
        with self._lock:
            for address in [address for address in self._sites if host_of(address) in hosts] if hosts else ():
                del self._sites[address]

    def _judged(self, address: str, answer: Answer) -> tuple[Rules | None, Answer | None]:
        """Return the rules that an answer gives, or why there are none to go by."""
        reason = answer.reason
        if reason is None:
            text = (answer.body or b"")[:NUM_PARSED_BYTES].decode("utf-8-sig", "replace")
            return self._kind.parse(text), None
        is_absent = reason.startswith("http_4") and reason not in PASSING
        if is_absent or reason in ("empty_body", "redirect_loop"):
            return NO_RULES, None
        reason = reason if reason in NO_WAY and answer.status is None else self._kind.unreachable
        return None, Answer(reason=reason, message=f"{address}: {answer.message}")


def _site_of(url: str) -> str:
    """Return the address of a URL's site: one however it is spelled.

    Raises:
        ValueError: the URL has no valid port.
    """
    parts = urlsplit(url)
    return _site(parts.scheme.lower(), parts.netloc)


@lru_cache(maxsize=4096)
def _site(scheme: str, netloc: str) -> str:
    parts = SplitResult(scheme, netloc, "", "", "")
    host = ascii_host(parts.hostname or "")
    place = f"[{host}]" if ":" in host else host
    is_usual = parts.port in (None, {"http": 80, "https": 443}.get(scheme))
    return f"{scheme}://{place}{'' if is_usual else f':{parts.port}'}"

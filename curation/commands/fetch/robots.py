"""robots.txt (RFC 9309), read once per site and part, through the same guard and limits as the pictures themselves."""

import re
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from protego import Protego

from curation.commands.fetch.http import Answer, read_url
from curation.commands.fetch.opt_outs import OptOut, agents, forbids_use
from curation.commands.fetch.politeness import HOST_BACKOFF, HOST_UNREACHABLE, PART_DEADLINE, Hosts
from curation.dataset.urls import ascii_host
from curation.recipe.settings import FetchSettings

ROBOTS_UNREACHABLE = "robots_unreachable"
"""The site answers, but not with a robots.txt that could be read: all of it is forbidden then (RFC 9309, 2.3.1.4)."""
MAX_BYTES = 4 << 20
NUM_PARSED_BYTES = 500 << 10
"""What must be parsed at least, and is at most (RFC 9309, 2.5)."""
MIN_REDIRECTS = 5
"""What must be followed at least (RFC 9309, 2.3.1.2)."""
PASSING = frozenset({"http_408", "http_429"})
"""Answers that say nothing of whether there is a robots.txt; every other 4xx says that there is none."""
NO_WAY = frozenset({"dns", "connection", "timeout", "tls", "bad_url", "blocked_address", HOST_UNREACHABLE})
"""Reasons that hold for the pictures of the site as well, which are then told so."""
NOT_NOW = frozenset({HOST_BACKOFF, PART_DEADLINE})
USAGE = re.compile(r"\s*content-(?:usage|signal)\s*:\s*(?:(/\S*)\s)?([^#]*)", re.IGNORECASE)
AGENT = re.compile(r"\s*user-?\s?agent\s*:?\s*([^#]*)", re.IGNORECASE)

Reader = Callable[[str], Answer]


@dataclass
class _Site:
    lock: threading.Lock = field(default_factory=threading.Lock)
    rules: "Rules | None" = None
    failure: Answer | None = None


class Rules:
    """What one robots.txt says to us."""

    def __init__(self, text: str, settings: FetchSettings) -> None:
        """Parse its text; lines that mean nothing are ignored, as the standard has it."""
        named = {match[1].strip().lower() for line in text.splitlines() if (match := AGENT.match(line))}
        names = agents(settings)
        self._agents = tuple(name for name in names if name in named) or names[:1]
        self._crawling = Protego.parse(text)
        self._usage = Protego.parse(_usage_as_crawling(text, settings))

    def forbid(self, url: str) -> str | None:
        """Return the kind of rule that keeps us from a URL, or None; our own groups count before that for all."""
        for kind, rules in (("disallow", self._crawling), ("content-usage", self._usage)):
            for agent in self._agents:
                if not rules.can_fetch(url, agent):
                    return f"{kind} for {agent}"
        return None


class Robots:
    """Which pictures the robots.txt of their sites leaves to us; all threads share it."""

    def __init__(self, settings: FetchSettings, hosts: Hosts, *, allow_loopback: bool = False) -> None:
        """Read nothing yet."""
        redirects = max(MIN_REDIRECTS, settings.max_redirects)
        own = settings.model_copy(update={"max_bytes": MAX_BYTES, "max_redirects": redirects})
        self._settings = settings
        self._read: Reader = lambda url: read_url(url, own, hosts, allow_loopback=allow_loopback, heeds_opt_outs=False)
        self._lock = threading.Lock()
        self._sites: defaultdict[str, _Site] = defaultdict(_Site)

    def __call__(self, url: str) -> Answer | None:
        """Return why a URL must not be asked for, or None."""
        address = _address(url)
        with self._lock:
            site = self._sites[address]
        with site.lock:
            if site.rules is None and site.failure is None:
                answer = self._read(address)
                if answer.reason in NOT_NOW:
                    return Answer(reason=answer.reason, message=f"{address}: {answer.message}")
                site.rules, site.failure = self._judged(address, answer)
        if site.rules is None:
            return site.failure
        value = site.rules.forbid(url)
        if value is None:
            return None
        return Answer(reason="opted_out", message=f"{address}: {value}", opt_out=OptOut("robots.txt", value, address))

    def begin_pass(self) -> None:
        """Let every robots.txt that could not be read be asked for once more."""
        with self._lock:
            for address in [address for address, site in self._sites.items() if site.failure is not None]:
                del self._sites[address]

    def _judged(self, address: str, answer: Answer) -> tuple[Rules | None, Answer | None]:
        """Return the rules that an answer gives, or why there are none to go by."""
        reason = answer.reason
        if reason is None:
            text = (answer.body or b"")[:NUM_PARSED_BYTES].decode("utf-8-sig", "replace")
            return Rules(text, self._settings), None
        is_absent = reason.startswith("http_4") and reason not in PASSING
        if is_absent or reason in ("empty_body", "redirect_loop"):
            return Rules("", self._settings), None
        reason = reason if reason in NO_WAY and answer.status is None else ROBOTS_UNREACHABLE
        return None, Answer(reason=reason, message=f"{address}: {answer.message}")


def _address(url: str) -> str:
    """Return where the robots.txt of a URL's site lies: one address however the site is spelled.

    Raises:
        ValueError: the URL has no valid port.
    """
    parts = urlsplit(url)
    scheme, host = parts.scheme.lower(), ascii_host(parts.hostname or "")
    place = f"[{host}]" if ":" in host else host
    is_usual = parts.port in (None, {"http": 80, "https": 443}.get(scheme))
    return f"{scheme}://{place}{'' if is_usual else f':{parts.port}'}/robots.txt"


def _usage_as_crawling(text: str, settings: FetchSettings) -> str:
    """Return rules of usage (draft-ietf-aipref-attach, 3; Content Signals) as Allow and Disallow, in their groups.

    So the longest match decides here as there. Every other rule stays as a line that only ends a list of agents; what
    stands before any group is for all.
    """
    lines = ["User-agent: *", "x: x"]
    for line in text.splitlines():
        if usage := USAGE.match(line):
            verb = "Disallow" if forbids_use(usage[2], settings) else "Allow"
            lines.append(f"{verb}: {usage[1] or '/'}")
        elif AGENT.match(line):
            lines.append(line)
        elif line.partition("#")[0].strip():
            lines.append("x: x")
    return "\n".join(lines)

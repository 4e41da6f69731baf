"""Passes over the URLs of a part, by one of two engines, and the account of each of them.

An engine hands out URLs and stores what arrives, nothing else: what asks, and all its guards, are
`curation.commands.fetch.http` under both. What was stored is held against what was asked for, and every URL gets one
outcome. What may succeed later is asked for again in a later pass.
"""

import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType

from curation.commands.fetch.bodies import Bodies
from curation.commands.fetch.body import SpoolError
from curation.commands.fetch.direct import Ask, directly
from curation.commands.fetch.http import NOTHING_YET, Answer, Gate, read_url
from curation.commands.fetch.kept import Kept, keeping
from curation.commands.fetch.outcomes import LOST, Downloads, UrlOutcome, account
from curation.commands.fetch.politeness import Hosts, interleaved, scattered
from curation.commands.fetch.robots import robots_txt
from curation.commands.fetch.site_files import SiteFiles
from curation.commands.fetch.tdmrep import TDMREP
from curation.commands.fetch.through_img2dataset import import_img2dataset, through_img2dataset
from curation.dataset.urls import host_of
from curation.errors import ShardError
from curation.recipe.settings import FetchSettings

__all__ = ["LOST", "Downloads", "UrlOutcome", "account", "download", "warm_up"]

Engine = Callable[[Sequence[str], Bodies, Path, FetchSettings, Ask], None]
ENGINES: Mapping[str, Engine] = MappingProxyType({"direct": directly, "img2dataset": through_img2dataset})
Refused = Callable[[str], str | None]
"""Says why a URL must not be asked for, or None."""

NOISY = "its host sent more than it was asked for"
MAX_IDLE_PASSES = 3
"""Passes in a row in which nobody could be asked, after which the hosts are left alone for good."""


def all_may_be_asked(_: str) -> str | None:
    """Refuse nothing."""
    return None


@contextmanager
def download(  # long: its options, and one line of passes
    urls: Sequence[str],
    folder: Path,
    settings: FetchSettings,
    *,
    refused: Mapping[int, str] = MappingProxyType({}),
    refused_url: Refused = all_may_be_asked,
    allow_loopback: bool = False,
    heeds_robots: bool = True,
) -> Iterator[Downloads]:
    """Download `urls` into the private `folder`, in as many passes as it takes, and account for each of them.

    `refused` names rows that are not asked for at all, and why; `refused_url` says so of a URL, that of a redirect too.
    `heeds_robots` is off under a waiver only.

    Raises:
        ShardError: the engine tells of rows that nobody asked for.
        OSError: the disk does not take what arrives.
    """
    downloads = Downloads(len(urls))
    hosts = Hosts(settings.num_host_connections, settings.timeout_s, time.monotonic() + settings.part_deadline_s)
    kinds = [robots_txt(settings), TDMREP] if heeds_robots else [TDMREP]
    for row, reason in refused.items():
        downloads.outcomes[row] = UrlOutcome(None, reason)
    with ExitStack() as stack:
        kept = stack.enter_context(keeping(settings))
        sites = [SiteFiles(kind, settings, hosts, kept, allow_loopback=allow_loopback) for kind in kinds]
        number = num_idle = 0
        while rows := _worth_asking(urls, downloads, hosts, settings):
            if number > 0:
                downloads.seconds_waiting += _wait([urls[row] for row in rows], hosts, settings)
                hosts.begin_pass()
                for files in sites:
                    files.begin_pass()
            gate = partial(_gate, refused_url, sites)
            web = _Web(settings, hosts, kept, gate, allow_loopback, folder / f"pass-{number}")
            before = downloads.total_attempts
            noisy = frozenset(kept.noisy)
            stack.callback(_run_pass(urls, rows, web, downloads).end)
            for files in sites:
                files.forget(kept.noisy - noisy)
            downloads.num_asked.append(len(rows))
            number += 1
            num_idle = 0 if downloads.total_attempts > before else num_idle + 1
            if num_idle == MAX_IDLE_PASSES or time.monotonic() >= hosts.ends_at:
                break
        yield downloads


def _gate(refused_url: Refused, sites: Sequence[SiteFiles], url: str) -> Answer | None:
    if (reason := refused_url(url)) is not None:
        return Answer(reason=reason, message="listed, so not asked")
    return next((closed for files in sites if (closed := files(url)) is not None), None)


@dataclass(frozen=True)
class _Web:
    """What one pass asks with, and where its files lie."""

    settings: FetchSettings
    hosts: Hosts
    kept: Kept
    gate: Gate | None
    allow_loopback: bool
    folder: Path


def _worth_asking(urls: Sequence[str], downloads: Downloads, hosts: Hosts, settings: FetchSettings) -> list[int]:
    """Return the rows of the next pass in the order in which they are asked for.

    Those that were asked for least come first; within a host, neighbours in a folder lie apart, so that one tenant's
    trouble is not met in a row; and those of one host lie far apart.
    """
    known = {row: host_of(urls[row]) for row in downloads.pending(settings.num_retries + 1)}
    led = {row: host_of(to) for row in known if (to := downloads.outcomes[row].final_url) is not None}
    rows = [row for row in known if not hosts.has_given_up(led.get(row, known[row]))]
    rows = sorted(scattered(urls, rows), key=downloads.num_attempts)
    return [rows[place] for place in interleaved([known[row] for row in rows])]


def _wait(urls: Sequence[str], hosts: Hosts, settings: FetchSettings) -> float:
    """Wait before a later pass: the recipe's time, or as long as the most patient host asks for; return how long."""
    silence = max((hosts.silence_s(host) for host in {host_of(url) for url in urls}), default=0.0)
    seconds = min(max(settings.retry_wait_s, silence), max(0.0, hosts.ends_at - time.monotonic()))
    time.sleep(seconds)
    return seconds


def _run_pass(urls: Sequence[str], rows: Sequence[int], web: _Web, downloads: Downloads) -> Bodies:
    """Ask for some rows, settle each of them, and return what holds the bodies that arrived."""
    folder = web.folder
    folder.mkdir(parents=True)
    answers: dict[int, Answer] = {}
    visited: dict[int, set[str]] = {}
    seconds: list[float] = []
    trouble: list[SpoolError] = []

    def ask(place: int, url: str) -> Answer:
        asked, visited[place] = time.monotonic(), set()
        try:
            answer = read_url(
                url, web.settings, web.hosts,
                gate=web.gate, allow_loopback=web.allow_loopback, folder=folder, kept=web.kept, visited=visited[place],
            )  # fmt: skip
        except SpoolError as error:
            trouble.append(error)
            answer = Answer(reason=LOST)
        seconds.append(time.monotonic() - asked)
        answers[place] = answer
        return answer

    started, bodies, noisy = time.monotonic(), Bodies(folder / "bodies"), frozenset(web.kept.noisy)
    with ExitStack() as stack:
        stack.callback(bodies.end)
        ENGINES[web.settings.engine]([urls[row] for row in rows], bodies, folder, web.settings, ask)
        if trouble:
            raise trouble[0].__cause__ or trouble[0]
        if bodies.trouble is not None:
            raise bodies.trouble
        if unknown := bodies.arrivals.keys() - set(range(len(rows))):
            raise ShardError(f"{folder}: rows that nobody asked for are told of: {sorted(unknown)[:5]}")
        stack.pop_all()
    downloads.seconds_waiting += max(0.0, time.monotonic() - started - sum(seconds) / web.settings.num_threads)
    web.kept.settle()
    turned_noisy = web.kept.noisy - noisy
    in_doubt = {place for place, names in visited.items() if not turned_noisy.isdisjoint(names)}
    _settle(rows, bodies, answers, in_doubt, downloads)
    return bodies


def _settle(
    rows: Sequence[int], bodies: Bodies, answers: Mapping[int, Answer], in_doubt: Container[int], downloads: Downloads
) -> None:
    """Account for the rows of a pass; whose host sent more than it was asked for is asked for all over again."""
    for place, row in enumerate(rows):
        if place in in_doubt:
            downloads.outcomes[row] = UrlOutcome(None, LOST, NOISY)
            continue
        arrival = bodies.arrivals.get(place)
        outcome = account(arrival, answers.get(place, NOTHING_YET))
        downloads.settle(row, outcome, bodies, None if arrival is None else arrival.place)


def warm_up(settings: FetchSettings) -> None:
    """Import what takes a process seconds the first time, so that no part is charged for it."""
    if settings.engine == "img2dataset":
        import_img2dataset()

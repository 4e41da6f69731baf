"""The one door to img2dataset: its own downloader, run in this process on one list of URLs and then called to account.

Its function that reads a URL is replaced by `curation.commands.fetch.http`, its writer by
`curation.commands.fetch.bodies`. It hands on what arrives without decoding it, in the order in which things arrive; a
row that throws inside it is gone without a trace. So what was written is held against what was asked for, and every URL
gets one outcome. What may succeed later is asked for again in a later pass.
"""

import contextlib
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import pyarrow as pa

from curation.commands.fetch.bodies import Bodies
from curation.commands.fetch.body import SpoolError
from curation.commands.fetch.http import Answer, Gate, read_url
from curation.commands.fetch.outcomes import LOST, Downloads, UrlOutcome, account
from curation.commands.fetch.politeness import Hosts, interleaved, scattered
from curation.commands.fetch.robots import robots_txt
from curation.commands.fetch.site_files import SiteFiles
from curation.commands.fetch.tdmrep import TDMREP
from curation.dataset.urls import host_of
from curation.errors import ShardError
from curation.recipe.settings import FetchSettings

__all__ = ["LOST", "Downloads", "UrlOutcome", "account", "download", "warm_up"]

SHARD = "00000"
MAX_ROWS = 10**9
Refused = Callable[[str], str | None]
"""Says why a URL must not be asked for, or None."""

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
        ShardError: img2dataset tells of rows that nobody asked for.
        OSError: the disk does not take what arrives.
    """
    downloads = Downloads(len(urls))
    hosts = Hosts(settings.num_host_connections, settings.timeout_s, time.monotonic() + settings.part_deadline_s)
    kinds = [robots_txt(settings), TDMREP] if heeds_robots else [TDMREP]
    sites = [SiteFiles(kind, settings, hosts, allow_loopback=allow_loopback) for kind in kinds]
    for row, reason in refused.items():
        downloads.outcomes[row] = UrlOutcome(None, reason)
    with ExitStack() as stack:
        number = num_idle = 0
        while rows := _worth_asking(urls, downloads, hosts, settings):
            if number > 0:
                downloads.seconds_waiting += _wait([urls[row] for row in rows], hosts, settings)
                hosts.begin_pass()
                for files in sites:
                    files.begin_pass()
            gate = partial(_gate, refused_url, sites)
            web = _Web(settings, hosts, gate, allow_loopback, folder / f"pass-{number}")
            before = downloads.total_attempts
            stack.callback(_run_pass(urls, rows, web, downloads).end)
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
    seconds: list[float] = []
    trouble: list[SpoolError] = []

    def download_image(request: tuple[int, str], *_: Any) -> tuple[int, IO[bytes] | None, str | None]:
        place, url = request
        asked = time.monotonic()
        try:
            answer = read_url(
                url, web.settings, web.hosts, gate=web.gate, allow_loopback=web.allow_loopback, folder=folder
            )
        except SpoolError as error:
            trouble.append(error)
            answer = Answer(reason=LOST)
        seconds.append(time.monotonic() - asked)
        answers[place] = replace(answer, stream=None)
        return place, answer.stream, answer.reason

    started, bodies = time.monotonic(), Bodies(folder / "bodies")
    with ExitStack() as stack:
        stack.callback(bodies.end)
        _run_img2dataset([urls[row] for row in rows], bodies, folder, web.settings, download_image)
        if trouble:
            raise trouble[0].__cause__ or trouble[0]
        if bodies.trouble is not None:
            raise bodies.trouble
        if unknown := bodies.arrivals.keys() - set(range(len(rows))):
            raise ShardError(f"{folder}: img2dataset tells of rows that nobody asked for: {sorted(unknown)[:5]}")
        stack.pop_all()
    downloads.seconds_waiting += max(0.0, time.monotonic() - started - sum(seconds) / web.settings.num_threads)
    for place, row in enumerate(rows):
        arrival = bodies.arrivals.get(place)
        outcome = account(arrival, answers.get(place, Answer()))
        downloads.settle(row, outcome, bodies, None if arrival is None else arrival.place)
    return bodies


def _run_img2dataset(
    urls: Sequence[str], bodies: Bodies, folder: Path, settings: FetchSettings, download_image: Any
) -> None:
    """Let img2dataset's `Downloader` fill `bodies`; its counts lie in the folder, its prints go where talk belongs."""
    module, resizer_class = _import_img2dataset()
    downloader = module.Downloader(
        sample_writer_class=bodies.writer,
        resizer=resizer_class(256, "no", resize_only_if_bigger=False, disable_all_reencoding=True),
        thread_count=settings.num_threads,
        save_caption=False,
        extract_exif=False,
        output_folder=str(folder),
        column_list=["url"],
        timeout=settings.timeout_s,
        number_sample_per_shard=MAX_ROWS,
        oom_shard_count=len(SHARD),
        compute_hash=None,  # `Bodies` hashes what it stores
        verify_hash_type=None,
        encode_format="jpg",
        retries=0,
        user_agent_token=settings.user_agent_token,
        disallowed_header_directives=None,
    )
    wanted = folder / "urls.arrow"
    table = pa.table({"url": pa.array(urls, pa.string())})
    with pa.OSFile(str(wanted), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    with contextlib.redirect_stdout(sys.stderr), _replaced(module, "download_image", download_image):
        downloader.download_shard((int(SHARD), str(wanted)))


@contextmanager
def _replaced(module: Any, name: str, replacement: Any) -> Iterator[None]:
    """Put a function of ours in the place of one of img2dataset's; one part at a time runs in a process."""
    original = getattr(module, name)
    setattr(module, name, replacement)
    try:
        yield
    finally:
        setattr(module, name, original)


def warm_up() -> None:
    """Import what takes a process seconds the first time, so that no part is charged for it."""
    _import_img2dataset()


def _import_img2dataset() -> tuple[Any, Any]:
    """Import img2dataset without the call home of its albumentations and its warning of a module gone in 3.13."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from img2dataset import downloader
        from img2dataset.resizer import Resizer
    return downloader, Resizer

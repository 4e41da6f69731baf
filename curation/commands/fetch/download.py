"""The one door to img2dataset: its own downloader, run in this process on one list of URLs and then called to account.

Its function that reads a URL is replaced by `curation.commands.fetch.http`.
It stores what arrives without decoding it, in the order in which things arrive; a row that throws inside it is gone
without a trace. So its tar is read back strictly and compared with its own table, and every URL gets one outcome. What
may succeed later is asked for again in a later pass.
"""

import contextlib
import hashlib
import io
import os
import sys
import tarfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.commands.fetch.http import Answer, Refused, all_may_be_asked, read_url
from curation.commands.fetch.politeness import Hosts, interleaved
from curation.dataset.tar import read_samples
from curation.dataset.urls import host_of
from curation.errors import ShardError
from curation.recipe.settings import FetchSettings

SHARD = "00000"
MAX_ROWS = 10**9
STATUS_SUCCESS = "success"
LOST = "lost_by_downloader"
HOST_BACKOFF = "host_backoff"
RETRYABLE = frozenset({"dns", "timeout", "http_5xx", "http_408", "http_429", HOST_BACKOFF, LOST})
"""Reasons that may pass: only these are asked for again."""


@dataclass(frozen=True)
class UrlOutcome:
    """What became of one URL: the sha256 of the bytes that arrived, or why none did, and the server's evidence."""

    sha256: str | None
    reason: str | None
    message: str | None = None
    """Detail for a person; not stable."""
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    final_url: str | None = None


class Downloads:
    """Outcomes in the order of the URLs, with access to the bytes that arrived."""

    def __init__(self, num_urls: int) -> None:
        """Know nothing yet of `num_urls` URLs."""
        self.outcomes = [UrlOutcome(None, LOST)] * num_urls
        self.num_asked: list[int] = []
        """URLs asked for in each pass."""
        self.seconds_waiting = 0.0
        """Spent between the passes, and in each of them on the last few URLs while most threads had nothing to do."""
        self._places: dict[int, tuple[tarfile.TarFile, str]] = {}

    def settle(self, row: int, outcome: UrlOutcome, tar: tarfile.TarFile, member: str | None) -> None:
        """Record what became of a row."""
        self.outcomes[row] = outcome
        if member is not None:
            self._places[row] = (tar, member)

    def pending(self) -> list[int]:
        """Return the rows that are worth asking for again."""
        return [row for row, outcome in enumerate(self.outcomes) if outcome.reason in RETRYABLE]

    def image_bytes(self, row: int) -> bytes:
        """Return the bytes that arrived for a row.

        Raises:
            ShardError: they are not those whose sha256 the outcome names.
        """
        tar, member = self._places[row]
        file = tar.extractfile(member)
        content = b"" if file is None else file.read()
        if hashlib.sha256(content).hexdigest() != self.outcomes[row].sha256:
            raise ShardError(f"{tar.name!s}: row {row} changed after it was read back")
        return content


@contextmanager
def download(
    urls: Sequence[str],
    folder: Path,
    settings: FetchSettings,
    *,
    refused: Mapping[int, str] = MappingProxyType({}),
    refused_url: Refused = all_may_be_asked,
    allow_loopback: bool = False,
) -> Iterator[Downloads]:
    """Download `urls` into the private `folder`, in as many passes as it takes, and account for each of them.

    `refused` names rows that are not asked for at all, and why; `refused_url` says so of a URL, that of a redirect too.

    Raises:
        ShardError: what img2dataset wrote is not whole, or contradicts itself.
    """
    downloads = Downloads(len(urls))
    hosts = Hosts(settings.num_host_connections, settings.timeout_s)
    for row, reason in refused.items():
        downloads.outcomes[row] = UrlOutcome(None, reason)
    rows = downloads.pending()
    with ExitStack() as stack:
        for number in range(settings.num_retries + 1):
            if not rows:
                break
            if number > 0:
                downloads.seconds_waiting += _wait([urls[row] for row in rows], hosts, settings)
            rows = [rows[place] for place in interleaved([host_of(urls[row]) for row in rows])]
            tar = _run_pass(
                urls, rows, folder / f"pass-{number}", settings, hosts, allow_loopback, refused_url, downloads
            )
            stack.enter_context(tar)
            downloads.num_asked.append(len(rows))
            rows = downloads.pending()
        yield downloads


def _wait(urls: Sequence[str], hosts: Hosts, settings: FetchSettings) -> float:
    """Wait before a later pass: the recipe's time, or as long as the most patient host asks for; return how long."""
    silence = max((hosts.silence_s(host) for host in {host_of(url) for url in urls}), default=0.0)
    seconds = max(settings.retry_wait_s, silence)
    time.sleep(seconds)
    return seconds


def _run_pass(
    urls: Sequence[str],
    rows: Sequence[int],
    folder: Path,
    settings: FetchSettings,
    hosts: Hosts,
    allow_loopback: bool,
    refused_url: Refused,
    downloads: Downloads,
) -> tarfile.TarFile:
    """Ask for some rows, settle each of them, and return the tar that holds what arrived."""
    folder.mkdir(parents=True)
    answers: dict[int, Answer] = {}
    seconds: list[float] = []

    def download_image(request: tuple[int, str], *_: Any) -> tuple[int, io.BytesIO | None, str | None]:
        place, url = request
        asked = time.monotonic()
        answer = read_url(url, settings, hosts, allow_loopback=allow_loopback, refused=refused_url)
        seconds.append(time.monotonic() - asked)
        answers[place] = replace(answer, body=None)
        return place, None if answer.body is None else io.BytesIO(answer.body), answer.reason

    started = time.monotonic()
    _run_img2dataset([urls[row] for row in rows], folder, settings, download_image)
    downloads.seconds_waiting += max(0.0, time.monotonic() - started - sum(seconds) / settings.num_threads)
    tar_path = folder / f"{SHARD}.tar"
    table = pq.read_table(folder / f"{SHARD}.parquet", columns=["key", "status", "error_message", "sha256"])
    said = {int(row["key"]): row for row in table.to_pylist()}
    arrived = {int(sample.key): hashlib.sha256(sample.image_bytes).hexdigest() for sample in read_samples(tar_path)}
    if unknown := (said.keys() | arrived.keys()) - set(range(len(rows))):
        raise ShardError(f"{tar_path}: holds rows that nobody asked for: {sorted(unknown)[:5]}")
    tar = tarfile.open(tar_path, "r:")  # noqa: SIM115  the caller closes it
    members = {int(name.partition(".")[0]): name for name in tar.getnames() if name.endswith(".jpg")}
    for place, row in enumerate(rows):
        outcome = account(said.get(place), arrived.get(place), answers.get(place, Answer()))
        downloads.settle(row, outcome, tar, members.get(place))
    return tar


def account(row: Mapping[str, Any] | None, sha256: str | None, answer: Answer) -> UrlOutcome:
    """Return what became of one URL: img2dataset's row, the hash of the bytes in its tar, and the server's answer.

    Raises:
        ShardError: the first two contradict each other.
    """
    seen = UrlOutcome(None, None, answer.message, answer.status, answer.headers, answer.final_url)
    if row is None or (row["status"] == STATUS_SUCCESS and sha256 is None):
        if sha256 is not None:
            raise ShardError(f"img2dataset stored bytes with sha256 {sha256} but has no row for them")
        return replace(seen, reason=LOST)
    if row["status"] != STATUS_SUCCESS:
        return replace(seen, reason=row["error_message"] or LOST)
    if sha256 != row["sha256"]:
        raise ShardError(f"img2dataset saw bytes with sha256 {row['sha256']} and stored others, {sha256}")
    return replace(seen, sha256=sha256)


def _run_img2dataset(urls: Sequence[str], folder: Path, settings: FetchSettings, download_image: Any) -> None:
    """Let img2dataset's `Downloader` write its tar, table and counts; its prints go where talk belongs."""
    module, resizer_class, writer_class = _import_img2dataset()
    downloader = module.Downloader(
        sample_writer_class=writer_class,
        resizer=resizer_class(256, "no", resize_only_if_bigger=False, disable_all_reencoding=True),
        thread_count=settings.num_threads,
        save_caption=False,
        extract_exif=False,
        output_folder=str(folder),
        column_list=["url"],
        timeout=settings.timeout_s,
        number_sample_per_shard=MAX_ROWS,
        oom_shard_count=len(SHARD),
        compute_hash="sha256",
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


def _import_img2dataset() -> tuple[Any, Any, Any]:
    """Import img2dataset without the call home of its albumentations and its warning of a module gone in 3.13."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from img2dataset import downloader
        from img2dataset.resizer import Resizer
        from img2dataset.writer import WebDatasetSampleWriter
    return downloader, Resizer, WebDatasetSampleWriter

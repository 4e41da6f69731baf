"""The one door to img2dataset: its own downloader, run in this process on one list of URLs and then called to account.

It stores what arrives without decoding it, in the order in which things arrive; a row that throws inside it is gone
without a trace. So its tar is read back strictly and compared with its own table, and every URL gets one outcome.
"""

import contextlib
import hashlib
import os
import re
import sys
import tarfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import ShardError
from curation.settings import FetchSettings
from curation.tar import read_samples

SHARD = "00000"
MAX_ROWS = 10**9
STATUS_SUCCESS = "success"
LOST = "lost_by_downloader"
EMPTY = "empty_body"

REASONS: tuple[tuple[str, str], ...] = (
    (r"X-Robots-Tag", "opted_out"),
    (r"HTTP Error 30\d", "redirect_loop"),
    (r"HTTP Error 5\d\d", "http_5xx"),
    (r"IncompleteRead", "truncated_body"),
    (r"timed out", "timeout"),
    (r"Name or service not known|nodename nor servname|name resolution|No address associated|getaddrinfo", "dns"),
    (r"CERTIFICATE|SSL", "tls"),
    (r"control characters|codec can't encode|nonnumeric port|Invalid IPv6|unknown url type|label too long", "bad_url"),
    (r"refused|reset by peer|closed connection|No route to host|unreachable|BadStatusLine|Broken pipe", "connection"),
)
"""Message of img2dataset -> our stable reason; the first that matches counts."""
OTHER = "not_downloaded"


@dataclass(frozen=True)
class UrlOutcome:
    """What became of one URL: the sha256 of the bytes that arrived, or why none did."""

    sha256: str | None
    reason: str | None
    message: str | None = None
    """What img2dataset said; not stable."""


class Downloads:
    """Outcomes in the order of the URLs, with access to the bytes that arrived."""

    def __init__(self, outcomes: Sequence[UrlOutcome], tar: tarfile.TarFile, members: Mapping[int, str]) -> None:
        """Keep an open tar and the member that belongs to each row."""
        self.outcomes = outcomes
        self._tar = tar
        self._members = members

    def image_bytes(self, row: int) -> bytes:
        """Return the bytes that arrived for a row.

        Raises:
            ShardError: they are not those whose sha256 the outcome names.
        """
        file = self._tar.extractfile(self._members[row])
        content = b"" if file is None else file.read()
        if hashlib.sha256(content).hexdigest() != self.outcomes[row].sha256:
            raise ShardError(f"{self._tar.name!s}: row {row} changed after it was read back")
        return content


@contextmanager
def download(urls: Sequence[str], folder: Path, settings: FetchSettings) -> Iterator[Downloads]:
    """Download `urls` into the private `folder` and account for each of them.

    Raises:
        ShardError: what img2dataset wrote is not whole, or contradicts itself.
    """
    folder.mkdir(parents=True)
    _run_img2dataset(urls, folder, settings)
    tar_path = folder / f"{SHARD}.tar"
    table = pq.read_table(folder / f"{SHARD}.parquet", columns=["key", "status", "error_message", "sha256"])
    rows = {int(row["key"]): row for row in table.to_pylist()}
    arrived = {int(sample.key): hashlib.sha256(sample.image_bytes).hexdigest() for sample in read_samples(tar_path)}
    if unknown := (rows.keys() | arrived.keys()) - set(range(len(urls))):
        raise ShardError(f"{tar_path}: holds rows that nobody asked for: {sorted(unknown)[:5]}")
    outcomes = [account(rows.get(row), arrived.get(row)) for row in range(len(urls))]
    with tarfile.open(tar_path, "r:") as tar:
        members = {int(name.partition(".")[0]): name for name in tar.getnames() if name.endswith(".jpg")}
        yield Downloads(outcomes, tar, members)


def account(row: Mapping[str, Any] | None, sha256: str | None) -> UrlOutcome:
    """Return what became of one URL, from its row in img2dataset's table and the hash of its bytes in the tar.

    Raises:
        ShardError: the two contradict each other.
    """
    if row is None or (row["status"] == STATUS_SUCCESS and sha256 is None):
        if sha256 is not None:
            raise ShardError(f"img2dataset stored bytes with sha256 {sha256} but has no row for them")
        return UrlOutcome(None, LOST)
    if row["status"] != STATUS_SUCCESS:
        return UrlOutcome(None, reason_of(row["error_message"] or ""), row["error_message"])
    if sha256 != row["sha256"]:
        raise ShardError(f"img2dataset saw bytes with sha256 {row['sha256']} and stored others, {sha256}")
    if sha256 == hashlib.sha256(b"").hexdigest():
        return UrlOutcome(None, EMPTY)
    return UrlOutcome(sha256, None)


def reason_of(message: str) -> str:
    """Return the stable reason behind a message of img2dataset."""
    if client_error := re.search(r"HTTP Error (4\d\d)", message):
        return f"http_{client_error[1]}"
    return next((reason for pattern, reason in REASONS if re.search(pattern, message)), OTHER)


def _run_img2dataset(urls: Sequence[str], folder: Path, settings: FetchSettings) -> None:
    """Let img2dataset's `Downloader` write its tar, table and counts; its prints go where talk belongs."""
    downloader_class, resizer_class, writer_class = _import_img2dataset()
    downloader = downloader_class(
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
        retries=settings.num_retries,
        user_agent_token=settings.user_agent_token,
        disallowed_header_directives=list(settings.opt_out_directives),
    )
    wanted = folder / "urls.arrow"
    table = pa.table({"url": pa.array(urls, pa.string())})
    with pa.OSFile(str(wanted), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    with contextlib.redirect_stdout(sys.stderr):
        downloader.download_shard((int(SHARD), str(wanted)))


def _import_img2dataset() -> tuple[Any, Any, Any]:
    """Import img2dataset without the call home of its albumentations and its warning of a module gone in 3.13."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from img2dataset.downloader import Downloader
        from img2dataset.resizer import Resizer
        from img2dataset.writer import WebDatasetSampleWriter
    return Downloader, Resizer, WebDatasetSampleWriter

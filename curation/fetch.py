"""The stage `fetch`: one part of the selection becomes one shard of original bytes, every row of it accounted for."""

import json
import logging
import os
import shutil
import socket
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.commit import TEMP_FOLDER, digest, publish, sha256_of
from curation.containers import sniff_format
from curation.download import Downloads, UrlOutcome, download
from curation.errors import ShardError, UsageError
from curation.ledger import BASE_FIELDS, base_row, count_rejections, write_ledger
from curation.manifest import Manifest, ShardReport, committed, write_report
from curation.rank import LEDGER as RANK_LEDGER
from curation.rank import SELECTION_SCHEMA
from curation.recipe import Recipe
from curation.runner import OnOutcome, Spread, run_shards, silent, told
from curation.settings import FetchSettings
from curation.stage import claim, finish, finished
from curation.tar import write_tar
from curation.version import CODE_VERSION

log = logging.getLogger(__name__)

STAGE = "fetch"
NUM_MESSAGES_SHOWN = 20
OUTSIDE_DIGEST = {"num_threads", "num_host_connections"}
LEDGER_SCHEMA = pa.schema(
    [
        *BASE_FIELDS,
        pa.field("status", pa.int32()),
        pa.field("headers", pa.string()),
        pa.field("final_url", pa.string()),
        pa.field("num_bytes", pa.int64()),
    ]
)
"""`headers` is a JSON object of the response headers in `reader.KEPT_HEADERS`; null where no server answered."""


@dataclass(frozen=True)
class FetchJob:
    """All that one shard's work depends on."""

    shard: str
    part: Path
    sha256: str
    """Of the part, as rank's manifest names it."""
    target: Path
    settings: FetchSettings
    allow_loopback: bool = False


def fetch(
    source: Path,
    target: Path,
    recipe: Recipe,
    spread: Spread,
    on_outcome: OnOutcome = silent,
    *,
    allow_loopback: bool = False,
) -> Manifest:
    """Download every part of the selection in `source` into `target`; the manifest comes when all had their outcome.

    `allow_loopback` lets the downloader connect to this machine itself, for tests and the demo.

    Raises:
        UsageError: `source` is no finished selection, or `target` holds other work.
    """
    selection = finished(source, "rank")
    parts = {name: record for report in selection.shards for name, record in report.files.items()}
    del parts[f"{RANK_LEDGER}.parquet"]
    if not parts:
        raise UsageError(f"{source}: the selection is empty; nothing to fetch")
    settings = recipe.file.fetch
    share = max(1, settings.num_host_connections // max(1, spread.num_workers))
    shared = settings.model_copy(update={"num_host_connections": share})
    if allow_loopback:
        log.warning("the downloader may connect to this machine itself (--allow-loopback); never with URLs of others")
    work_digest = digest([STAGE, selection.work_digest, _inside(settings), CODE_VERSION])
    claim(target, STAGE, work_digest)
    jobs = [
        FetchJob(Path(name).stem, source / name, record.sha256, target, shared, allow_loopback)
        for name, record in sorted(parts.items())
    ]
    outcomes = list(told(run_shards(jobs, fetch_part, spread), on_outcome))
    return finish(target, STAGE, recipe, work_digest, outcomes)


def fetch_part(job: FetchJob) -> ShardReport:
    """Download and commit one part: `{shard}.tar`, `{shard}.parquet`, and last `{shard}_stats.json`.

    Raises:
        ShardError: the part is not the one that rank's manifest names, or the downloader contradicts itself.
    """
    started = time.time()
    work_id = digest([STAGE, job.shard, job.sha256, _inside(job.settings), CODE_VERSION])
    if (report := committed(job.target, job.shard, work_id)) is not None:
        return report
    rows = _read_part(job)
    folder = job.target / TEMP_FOLDER / f"{job.shard}.{uuid.uuid4().hex}"
    try:
        urls = [row["url"] for row in rows]
        with download(urls, folder, job.settings, allow_loopback=job.allow_loopback) as downloads:
            report = _commit(job, work_id, rows, downloads, started)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    write_report(job.target, report)
    return report


def _read_part(job: FetchJob) -> list[dict[str, Any]]:
    if not job.part.is_file() or sha256_of(job.part) != job.sha256:
        raise ShardError(f"{job.part}: missing, or not the part that rank's manifest names; run rank again")
    table = pq.read_table(job.part, partitioning=None)
    if not table.schema.equals(SELECTION_SCHEMA):
        raise ShardError(f"{job.part}: not a selection of this version: {table.schema.names}")
    return list(table.to_pylist())


def _commit(
    job: FetchJob, work_id: str, rows: list[dict[str, Any]], downloads: Downloads, started: float
) -> ShardReport:
    """Write tar and ledger in the order of the selection, whatever the order in which things arrived."""
    tar, ledger = job.target / f"{job.shard}.tar", job.target / f"{job.shard}.parquet"
    entries = [
        _entry(row, outcome, downloads.num_bytes(number))
        for number, (row, outcome) in enumerate(zip(rows, downloads.outcomes, strict=True))
    ]
    footer = {
        "stage": STAGE,
        "recipe_digest": digest(_inside(job.settings)),
        "measurement_keys": "{}",
        "code_version": CODE_VERSION,
    }
    files = {
        tar.name: publish(tar, lambda temp: _write_members(temp, rows, downloads)),
        ledger.name: publish(ledger, lambda temp: write_ledger(temp, entries, LEDGER_SCHEMA, footer)),
    }
    messages = Counter(outcome.message for outcome in downloads.outcomes if outcome.message is not None)
    return ShardReport(
        shard=job.shard,
        work_id=work_id,
        num_seen=len(entries),
        num_kept=sum(entry["kept"] for entry in entries),
        rejected=count_rejections(entries),
        files=files,
        run={
            "started": started,
            "seconds": time.time() - started,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "asked": downloads.num_asked,
            "messages": dict(messages.most_common(NUM_MESSAGES_SHOWN)),
        },
    )


def _entry(row: Mapping[str, Any], outcome: UrlOutcome, num_bytes: int | None) -> dict[str, Any]:
    """Return the ledger's row of one URL."""
    return {
        **base_row(
            row["uid"],
            row["key"],
            url=row["url"],
            sha256=outcome.sha256,
            width=row["width"],
            height=row["height"],
            rejected_by=None if outcome.reason is None else STAGE,
            reason=outcome.reason,
        ),
        "status": outcome.status,
        "headers": None if outcome.status is None else json.dumps(dict(sorted(outcome.headers.items()))),
        "final_url": None if outcome.final_url is None else outcome.final_url.encode("utf-8", "replace").decode(),
        "num_bytes": num_bytes,
    }


def _write_members(path: Path, rows: list[dict[str, Any]], downloads: Downloads) -> None:
    write_tar(path, _members(rows, downloads))


def _members(rows: list[dict[str, Any]], downloads: Downloads) -> Iterator[tuple[str, bytes]]:
    """Yield the members of every picture that arrived: its bytes, its metadata, its alt text."""
    for number, (row, outcome) in enumerate(zip(rows, downloads.outcomes, strict=True)):
        if outcome.sha256 is None:
            continue
        image_bytes = downloads.image_bytes(number)
        yield f"{row['key']}.{sniff_format(image_bytes) or 'bin'}", image_bytes
        metadata = json.dumps(_metadata(row, outcome.sha256), sort_keys=True, ensure_ascii=False)
        yield f"{row['key']}.json", metadata.encode()
        if row["caption"] is not None:
            yield f"{row['key']}.txt", row["caption"].encode()


def _metadata(row: Mapping[str, Any], sha256: str) -> dict[str, Any]:
    """Return the `.json` of a picture: what the selection knows of it, without nulls, and the sha256 of its bytes."""
    known = {
        "uid": row["uid"],
        "url": row["url"],
        "sha256": sha256,
        "facecaptions": json.loads(row["facecaptions"]),
        "crawled_width": row["width"],
        "crawled_height": row["height"],
        "nsfw": row["nsfw"],
        "similarity": row["similarity"],
        "license": row["license"],
        "sample_id": row["sample_id"],
    }
    return {name: value for name, value in known.items() if value is not None}


def _inside(settings: FetchSettings) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude=OUTSIDE_DIGEST)

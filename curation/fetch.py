"""The stage `fetch`: one part of the selection becomes one shard of original bytes, every row of it accounted for."""

import json
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
from curation.download import Downloads, download
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
from curation.tombstones import Tombstones, consult
from curation.version import CODE_VERSION

STAGE = "fetch"
NUM_MESSAGES_SHOWN = 20
OUTSIDE_DIGEST = {"num_threads"}
LEDGER_SCHEMA = pa.schema(list(BASE_FIELDS))


@dataclass(frozen=True)
class FetchJob:
    """All that one shard's work depends on."""

    shard: str
    part: Path
    sha256: str
    """Of the part, as rank's manifest names it."""
    target: Path
    settings: FetchSettings


def fetch(source: Path, target: Path, recipe: Recipe, spread: Spread, on_outcome: OnOutcome = silent) -> Manifest:
    """Download every part of the selection in `source` into `target`; the manifest comes when all had their outcome.

    Raises:
        UsageError: `source` is no finished selection, or `target` holds other work.
    """
    selection = finished(source, "rank")
    parts = {name: record for report in selection.shards for name, record in report.files.items()}
    del parts[f"{RANK_LEDGER}.parquet"]
    if not parts:
        raise UsageError(f"{source}: the selection is empty; nothing to fetch")
    settings = recipe.file.fetch
    work_digest = fetch_work(selection.work_digest, settings)
    claim(target, STAGE, work_digest)
    jobs = [
        FetchJob(Path(name).stem, source / name, record.sha256, target, settings)
        for name, record in sorted(parts.items())
    ]
    outcomes = list(told(run_shards(jobs, fetch_part, spread), on_outcome))
    return finish(target, STAGE, recipe, work_digest, outcomes)


def fetch_work(selection_digest: str, settings: FetchSettings) -> str:
    """Return the digest of all that a fetched folder depends on."""
    return digest([STAGE, selection_digest, _inside(settings), CODE_VERSION])


def fetch_work_id(shard: str, part_sha256: str, settings: FetchSettings) -> str:
    """Return the identity of one shard's work: its part of the selection, the settings, this code."""
    return digest([STAGE, shard, part_sha256, _inside(settings), CODE_VERSION])


def fetch_part(job: FetchJob) -> ShardReport:
    """Download and commit one part: `{shard}.tar`, `{shard}.parquet`, and last `{shard}_stats.json`.

    Raises:
        ShardError: the part is not the one that rank's manifest names, or the downloader contradicts itself.
    """
    started = time.time()
    work_id = fetch_work_id(job.shard, job.sha256, job.settings)
    if (report := committed(job.target, job.shard, work_id)) is not None:
        return report
    stones = consult(job.target)
    came = _read_part(job)
    rows = [row for row in came if not stones.hold(row["uid"], row["url"])]
    forgotten = [row for row in came if stones.hold(row["uid"], row["url"])]
    folder = job.target / TEMP_FOLDER / f"{job.shard}.{uuid.uuid4().hex}"
    try:
        with download([row["url"] for row in rows], folder, job.settings) as downloads:
            report = _commit(job, work_id, rows, downloads, started, stones, forgotten)
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
    job: FetchJob,
    work_id: str,
    rows: list[dict[str, Any]],
    downloads: Downloads,
    started: float,
    stones: Tombstones,
    forgotten: list[dict[str, Any]],
) -> ShardReport:
    """Write tar and ledger in the order of the selection, whatever the order in which things arrived.

    What was forgotten is not asked for, or not kept where its bytes came from elsewhere; its tombstones come last.
    """
    tar, ledger = job.target / f"{job.shard}.tar", job.target / f"{job.shard}.parquet"
    entries = [
        base_row(
            row["uid"],
            row["key"],
            url=row["url"],
            sha256=outcome.sha256,
            width=row["width"],
            height=row["height"],
            rejected_by=None if outcome.reason is None else STAGE,
            reason=outcome.reason,
        )
        for row, outcome in zip(rows, downloads.outcomes, strict=True)
    ]
    entries += [base_row(row["uid"], row["key"], url=row["url"]) for row in forgotten]
    entries = [stones.row(entry, LEDGER_SCHEMA) for entry in entries]
    footer = {
        "stage": STAGE,
        "recipe_digest": digest(_inside(job.settings)),
        "measurement_keys": "{}",
        "code_version": CODE_VERSION,
    }
    files = {
        tar.name: publish(tar, lambda temp: write_tar(temp, _members(rows, downloads, stones))),
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
            "messages": dict(messages.most_common(NUM_MESSAGES_SHOWN)),
        },
    )


def _members(rows: list[dict[str, Any]], downloads: Downloads, stones: Tombstones) -> Iterator[tuple[str, bytes]]:
    """Yield the members of every picture that arrived: its bytes, its metadata, its alt text."""
    for number, (row, outcome) in enumerate(zip(rows, downloads.outcomes, strict=True)):
        if outcome.sha256 is None or stones.hold(row["uid"], row["url"], outcome.sha256):
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

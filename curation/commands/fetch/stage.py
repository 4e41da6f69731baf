"""The stage `fetch`: one part of the selection becomes one shard of original bytes, every row of it accounted for."""

import logging
import os
import shutil
import socket
import time
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curation.commands.fetch.download import Downloads, download, warm_up
from curation.commands.fetch.hash_lists import HashMatcher, load_matchers
from curation.commands.fetch.placeholders import find, summary
from curation.commands.fetch.rows import (
    LEDGER_SCHEMA,
    STAGE,
    UNSAFE_MINOR,
    WITHHELD,
    WITHHELD_FOLDER,
    examined,
    is_unsafe_minor,
    members,
)
from curation.commands.rank.stage import LEDGER as RANK_LEDGER
from curation.commands.rank.stage import SELECTION_SCHEMA
from curation.dataset.ledger import base_row, count_rejections, write_ledger, write_table
from curation.dataset.manifest import Manifest, ShardReport, committed, write_report
from curation.dataset.tar import write_tar
from curation.dataset.tombstones import Tombstones, consult
from curation.errors import SafetyError, ShardError, UsageError
from curation.recipe.recipe import Recipe
from curation.recipe.settings import CurateSettings, DecodeLimits, FetchSettings
from curation.run.runner import OnOutcome, Spread, run_shards, silent, told
from curation.run.target import claimed, finish, finished
from curation.sandbox.in_flight import intent_path
from curation.sandbox.parent import CELL
from curation.sandbox.quarantine import looking
from curation.storage.lease import Lease
from curation.storage.publish import TEMP_FOLDER, digest, publish, sha256_of
from curation.version import CODE_VERSION

log = logging.getLogger(__name__)

FINDINGS_NAME = "findings.parquet"
INCIDENT = """%d pictures match a hash list and are withheld in %s; do not open, copy, move or send them.
Follow your own policy, and report where the law says so: US: NCMEC CyberTipline (18 USC 2258A); UK: IWF; Canada: C3P;
elsewhere: the hotline of your country (INHOPE). Nothing was reported, and nothing is ever deleted, by this program."""
NUM_MESSAGES_SHOWN = 20
OUTSIDE_DIGEST = {"num_threads", "num_host_connections", "max_unreachable_fraction"}
UNREACHABLE = frozenset({"dns", "connection", "timeout"})
"""Reasons that a broken way to the net would give for every row."""
NUM_ROWS_TO_TELL = 100
"""Fewer rows say nothing about our own way to the net."""


@dataclass(frozen=True)
class FetchJob:
    """All that one shard's work depends on."""

    shard: str
    part: Path
    sha256: str
    """Of the part, as rank's manifest names it."""
    target: Path
    settings: FetchSettings
    limits: DecodeLimits
    guards: CurateSettings
    """What looking at one picture may take, and where: as `curate` measures it."""
    hash_lists: tuple[Path, ...] = ()
    allow_loopback: bool = False
    lease: Lease | None = None


def fetch(
    source: Path,
    target: Path,
    recipe: Recipe,
    spread: Spread,
    on_outcome: OnOutcome = silent,
    *,
    waiver: str | None = None,
    hash_lists: Sequence[Path] = (),
    allow_loopback: bool = False,
) -> Manifest:
    """Download every part of the selection in `source` into `target`; the manifest comes when all had their outcome.

    `waiver` says why a selection may be downloaded that was not held against a cleaned release; it is recorded.
    `hash_lists` are files of hashes of pictures to withhold. `allow_loopback` lets the downloader connect to this
    machine itself, for tests and the demo.

    Raises:
        UsageError: `source` is no finished selection, or `target` holds other work.
        SafetyError: neither release nor waiver, or a hash list cannot be read; nothing is downloaded then.
        LeaseError: another run holds `target`.
    """
    selection = finished(source, "rank")
    parts = {name: record for report in selection.shards for name, record in report.files.items()}
    del parts[f"{RANK_LEDGER}.parquet"]
    if not parts:
        raise UsageError(f"{source}: the selection is empty; nothing to fetch")
    safety = _require_safety(source, selection, waiver, hash_lists)
    settings = recipe.file.fetch
    share = max(1, settings.num_host_connections // max(1, spread.num_workers))
    shared = settings.model_copy(update={"num_host_connections": share})
    if allow_loopback:
        log.warning("the downloader may connect to this machine itself (--allow-loopback); never with URLs of others")
    work_digest = fetch_work(selection.work_digest, settings, recipe.file.decode, safety["hash_lists"])
    with claimed(target, STAGE, work_digest) as lease:
        jobs = [
            FetchJob(
                Path(name).stem,
                source / name,
                record.sha256,
                target,
                shared,
                recipe.file.decode,
                recipe.file.curate,
                tuple(hash_lists),
                allow_loopback,
                lease,
            )
            for name, record in sorted(parts.items())
        ]
        outcomes = list(told(run_shards(jobs, fetch_part, spread), on_outcome))
        lease.require()
        reports = sorted((o for o in outcomes if isinstance(o, ShardReport)), key=lambda report: report.shard)
        findings = find([target / f"{report.shard}.parquet" for report in reports], settings)
        footer = {"stage": STAGE, "recipe_digest": digest(_inside(settings, recipe.file.decode))}
        record = publish(target / FINDINGS_NAME, lambda temp: write_table(temp, findings, footer))
        num_withheld = sum(report.rejected.get(STAGE, {}).get(WITHHELD, 0) for report in reports)
        if num_withheld:
            log.error(INCIDENT, num_withheld, target / WITHHELD_FOLDER)
        return finish(
            target, STAGE, recipe, work_digest, outcomes,
            files={FINDINGS_NAME: record}, extra={"safety": safety, "findings": summary(findings)}, lease=lease,
        )  # fmt: skip


def _require_safety(
    source: Path, selection: Manifest, waiver: str | None, hash_lists: Sequence[Path]
) -> dict[str, Any]:
    """Return what the manifest says of the gates before and after the download."""
    release = selection.extra.get("release")
    if release is None and not (waiver or "").strip():
        raise SafetyError(
            f"{source}: these links were never held against a cleaned release of the metadata, so nothing is "
            f"downloaded; give `rank --release PARQUET` (gated Re-LAION or later), or say why not: --waiver 'REASON'"
        )
    if release is None:
        log.warning("downloading links that no cleaned release was held against; waiver: %s", waiver)
    lists = {matcher.name: matcher.digest for matcher in load_matchers(hash_lists)}
    return {"release": release, "waiver": waiver, "hash_lists": lists}


def fetch_work(
    selection_digest: str, settings: FetchSettings, limits: DecodeLimits, hash_lists: Mapping[str, str]
) -> str:
    """Return the digest of all that a fetched folder depends on."""
    return digest([STAGE, selection_digest, _inside(settings, limits), dict(hash_lists), CODE_VERSION])


def fetch_work_id(
    shard: str, part_sha256: str, settings: FetchSettings, limits: DecodeLimits, hash_lists: Mapping[str, str]
) -> str:
    """Return the identity of one shard's work: its part of the selection, settings, lists of hashes, this code."""
    return digest([STAGE, shard, part_sha256, _inside(settings, limits), dict(hash_lists), CODE_VERSION])


def fetch_part(job: FetchJob) -> ShardReport:
    """Download and commit one part: `{shard}.tar`, `{shard}.parquet`, and last `{shard}_stats.json`.

    Raises:
        ShardError: the part is not the one that rank's manifest names, the downloader contradicts itself, or next to
            nothing could be reached.
    """
    started = time.time()
    matchers = load_matchers(job.hash_lists)
    lists = {matcher.name: matcher.digest for matcher in matchers}
    work_id = fetch_work_id(job.shard, job.sha256, job.settings, job.limits, lists)
    if (report := committed(job.target, job.shard, work_id)) is not None:
        return report
    stones = consult(job.target)
    came = _read_part(job)
    rows = [row for row in came if not stones.hold(row["uid"], row["url"])]
    forgotten = [row for row in came if stones.hold(row["uid"], row["url"])]
    warm_up()
    if job.guards.isolate:
        CELL.look((), job.limits, job.guards)
    started = time.time()  # anew: imports, and the start of a child, are no part's own time
    folder = job.target / TEMP_FOLDER / f"{job.shard}.{uuid.uuid4().hex}"
    try:
        urls = [row["url"] for row in rows]
        refused = {number: UNSAFE_MINOR for number, row in enumerate(rows) if is_unsafe_minor(row)}
        with download(urls, folder, job.settings, refused=refused, allow_loopback=job.allow_loopback) as downloads:
            _require_net(job, [outcome.reason for outcome in downloads.outcomes])
            report = _commit(job, work_id, rows, downloads, matchers, started, stones, forgotten)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if job.lease is not None:
        job.lease.require()
    write_report(job.target, report)
    return report


def _require_net(job: FetchJob, reasons: Sequence[str | None]) -> None:
    num_unreachable = sum(reason in UNREACHABLE for reason in reasons)
    if len(reasons) >= NUM_ROWS_TO_TELL and num_unreachable > job.settings.max_unreachable_fraction * len(reasons):
        raise ShardError(
            f"{job.part}: {num_unreachable} of {len(reasons)} addresses could not be reached, which points to this "
            f"machine's own network; run fetch again once it works (fetch.max_unreachable_fraction)"
        )


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
    matchers: Sequence[HashMatcher],
    started: float,
    stones: Tombstones,
    forgotten: list[dict[str, Any]],
) -> ShardReport:
    """Write tar and ledger in the order of the selection, whatever the order in which things arrived.

    What was forgotten is not asked for, or not kept where its bytes came from elsewhere; its tombstones come last.
    """
    tar, ledger = job.target / f"{job.shard}.tar", job.target / f"{job.shard}.parquet"
    with looking(job.limits, job.guards, job.part, intent_path(job.target, job.shard, work_id)) as looked:
        entries = [
            examined(
                row, outcome, downloads.image_bytes(number) if outcome.sha256 else None, job, matchers, looked.measure
            )
            for number, (row, outcome) in enumerate(zip(rows, downloads.outcomes, strict=True))
        ]
        looked.require(sum(outcome.sha256 is not None for outcome in downloads.outcomes))
    entries += [base_row(row["uid"], row["key"], url=row["url"]) for row in forgotten]
    entries = [stones.row(entry, LEDGER_SCHEMA) for entry in entries]
    footer = {
        "stage": STAGE,
        "recipe_digest": digest(_inside(job.settings, job.limits)),
        "measurement_keys": "{}",
        "code_version": CODE_VERSION,
    }
    files = {
        tar.name: publish(tar, lambda temp: write_tar(temp, members(rows, entries[: len(rows)], downloads))),
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
            "seconds_waiting": downloads.seconds_waiting,
            "quarantined": looked.found,
            "messages": dict(messages.most_common(NUM_MESSAGES_SHOWN)),
        },
    )


def _inside(settings: FetchSettings, limits: DecodeLimits) -> dict[str, Any]:
    return {"fetch": settings.model_dump(mode="json", exclude=OUTSIDE_DIGEST), "decode": limits.model_dump(mode="json")}

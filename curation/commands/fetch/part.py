"""The work of `fetch` on one part of the selection: a shard of original bytes, every row accounted for."""

import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curation.commands.fetch.again import AskedAgain
from curation.commands.fetch.blocked import blocked_by, why_not
from curation.commands.fetch.download import Downloads, UrlOutcome, download, warm_up
from curation.commands.fetch.hash_lists import HashMatcher, load_matchers
from curation.commands.fetch.politeness import HOST_UNREACHABLE
from curation.commands.fetch.rows import LEDGER_SCHEMA, UNSAFE_MINOR, examined, is_unsafe_minor, members, withhold
from curation.commands.fetch.work import fetch_work_id, inside
from curation.commands.rank.stage import is_selection
from curation.dataset.ledger import base_row
from curation.dataset.manifest import ShardReport, committed
from curation.dataset.stages import FETCH
from curation.dataset.tombstones import Tombstones, consult
from curation.errors import ShardError
from curation.measure.cascade import Entry, Measured
from curation.recipe.settings import CurateSettings, DecodeLimits, FetchSettings
from curation.run.costs import whereabouts
from curation.run.shard_writer import shard_writer
from curation.sandbox.in_flight import intent_path
from curation.sandbox.parent import CELL
from curation.sandbox.quarantine import looking
from curation.storage.lease import Lease
from curation.storage.publish import TEMP_FOLDER, FileRecord, digest, sha256_of

NUM_MESSAGES_SHOWN = 20

NUM_LOOKED_AT, MAX_LOOKED_AT_BYTES = 16, 4 << 20
"""Pictures, and bytes of them, that go into the cell at a time; fewer where the next would pass neither."""

UNREACHABLE = frozenset({"dns", "connection", "timeout", HOST_UNREACHABLE})
"""Reasons that a broken way to the net would give for every row."""

NUM_ROWS_TO_TELL = 100
"""Fewer rows say nothing about our own way to the net."""


@dataclass(frozen=True)
class FetchJob:
    """All that one shard's work depends on."""

    shard: str
    source: Path
    """The selection's folder."""
    parts: Mapping[str, FileRecord]
    """The files in it that hold the rows, as rank's manifest names them: one, but where rows are asked for again."""
    target: Path
    settings: FetchSettings
    limits: DecodeLimits
    guards: CurateSettings
    """What looking at one picture may take, and where: as `curate` measures it."""
    blocked: FileRecord | None = None
    """The record of what no redirect may lead to, beside the part."""
    hash_lists: tuple[Path, ...] = ()
    allow_loopback: bool = False
    heeds_robots: bool = True
    asked: AskedAgain | None = None
    """The rows that are asked for again; None takes all of the part."""
    lease: Lease | None = None

    @property
    def part(self) -> Path:
        """What errors name: the first file of rows."""
        return self.source / next(iter(self.parts))

    @property
    def identity(self) -> str:
        """What names the rows in the identity of the work."""
        return next(iter(self.parts.values())).sha256 if self.asked is None else self.asked.identity


def fetch_part(job: FetchJob) -> ShardReport:
    """Download and commit one part: `{shard}.tar`, `{shard}.parquet`, and last `{shard}_stats.json`.

    Raises:
        ShardError: the part is not the one that rank's manifest names, the downloader contradicts itself, or next to
            nothing could be reached.
    """
    matchers = load_matchers(job.hash_lists)
    lists = {matcher.name: matcher.digest for matcher in matchers}
    if (report := fetched(lists, job)) is not None:
        return report
    work_id = _work_id(lists, job)
    part = _read_part(job)
    warm_up(job.settings)
    if job.guards.isolate:
        CELL.look((), job.limits, job.guards)
    started = time.time()  # only now: imports, and the start of a child, are no part's own time
    folder = job.target / TEMP_FOLDER / f"{job.shard}.{uuid.uuid4().hex}"
    try:
        urls = [row["url"] for row in part.rows]
        refused = {number: UNSAFE_MINOR for number, row in enumerate(part.rows) if is_unsafe_minor(row)}
        hops = partial(why_not, part.stones, blocked_by(job.source, job.blocked))
        with download(
            urls, folder, job.settings,
            refused=refused, refused_url=hops, allow_loopback=job.allow_loopback, heeds_robots=job.heeds_robots,
        ) as downloads:  # fmt: skip
            _require_net(job, [outcome.reason for outcome in downloads.outcomes])
            return _write_shard(job, work_id, part, downloads, matchers, started)
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # of this attempt alone: nobody who took over relies on it


def fetched(lists: Mapping[str, str], job: FetchJob) -> ShardReport | None:
    """Return the done record of a part that was fetched already, whole and under these lists."""
    return committed(job.target, job.shard, _work_id(lists, job))


def _work_id(lists: Mapping[str, str], job: FetchJob) -> str:
    return fetch_work_id(job.shard, job.identity, job.settings, job.limits, lists, job.heeds_robots)


def _require_net(job: FetchJob, reasons: Sequence[str | None]) -> None:
    num_unreachable = sum(reason in UNREACHABLE for reason in reasons)
    if len(reasons) >= NUM_ROWS_TO_TELL and num_unreachable > job.settings.max_unreachable_fraction * len(reasons):
        raise ShardError(
            f"{job.part}: {num_unreachable} of {len(reasons)} addresses could not be reached, which points to this "
            f"machine's own network; run fetch again once it works (fetch.max_unreachable_fraction)"
        )


@dataclass(frozen=True)
class _Part:
    """A part of the selection, and what of it must not be asked for any more."""

    rows: tuple[dict[str, Any], ...]
    forgotten: tuple[dict[str, Any], ...]
    stones: Tombstones


def _read_part(job: FetchJob) -> _Part:
    stones = consult(job.target) | consult(job.source)
    rows = [row for name, record in job.parts.items() for row in _rows_of(job.source / name, record)]
    if job.asked is not None:
        there = {row["uid"]: row for row in rows}
        gone = {"key": "", "url": None}
        rows = [there.get(uid, {"uid": uid, **gone}) for _, uid in job.asked.rows]
        if lost := [row["uid"] for row in rows if row["url"] is None and not stones.hold(row["uid"], None)]:
            raise ShardError(f"{job.part}: holds no row {lost[0]}, which is to be asked for again; run rank again")
    is_forgotten = [stones.hold(row["uid"], row["url"]) for row in rows]
    return _Part(
        rows=tuple(row for row, gone in zip(rows, is_forgotten, strict=True) if not gone),
        forgotten=tuple(row for row, gone in zip(rows, is_forgotten, strict=True) if gone),
        stones=stones,
    )


def _rows_of(part: Path, record: FileRecord) -> list[dict[str, Any]]:
    if not part.is_file() or sha256_of(part) != record.sha256:
        raise ShardError(f"{part}: missing, or not the part that rank's manifest names; run rank again")
    table = pq.read_table(part, partitioning=None)
    if not is_selection(table.schema):
        raise ShardError(f"{part}: not a selection of this version: {table.schema.names}")
    return list(table.to_pylist())


def _write_shard(
    job: FetchJob, work_id: str, part: _Part, downloads: Downloads, matchers: Sequence[HashMatcher], started: float
) -> ShardReport:
    """Look, hold against the lists, add: every row in the order of the selection, whatever the order of arrival.

    What was forgotten is not asked for, or not kept where its bytes came from elsewhere; its tombstones come last.
    """
    with shard_writer(job.target, job.lease, job.shard, work_id) as shard:
        intent, lay_aside = intent_path(job.target, job.shard, work_id), partial(withhold, job.target, job.shard)
        with looking(job.limits, job.guards, job.part, intent) as looked:
            for row, outcome, image_bytes, seen in _seen(part.rows, downloads, looked.measure):
                judged = examined(row, outcome, image_bytes, matchers, seen, lay_aside)
                entry = part.stones.row(judged, LEDGER_SCHEMA)
                shard.add(entry, members(row, image_bytes, entry) if entry["kept"] else ())
            looked.require(sum(outcome.sha256 is not None for outcome in downloads.outcomes))
        for row in part.forgotten:
            shard.add(part.stones.row(base_row(row["uid"], row["key"], url=row["url"]), LEDGER_SCHEMA))
        footer = {
            "stage": FETCH.name,
            "recipe_digest": digest(inside(job.settings, job.limits)),
            "measurement_keys": "{}",
            "code_version": FETCH.output_since,
        }
        return shard.commit(LEDGER_SCHEMA, footer, lambda: _run_facts(job, downloads, started, looked.found))


def _seen(
    rows: Sequence[Mapping[str, Any]], downloads: Downloads, look: Callable[[Sequence[Entry]], list[Measured]]
) -> Iterator[tuple[Mapping[str, Any], UrlOutcome, bytes, Measured | None]]:
    """Yield every row with what came of it: outcome, bytes, and look where any arrived; pictures travel in batches."""
    batch: list[tuple[Mapping[str, Any], UrlOutcome, bytes]] = []
    num_pictures = num_bytes = 0
    for number, (row, outcome) in enumerate(zip(rows, downloads.outcomes, strict=True), 1):
        image_bytes = downloads.image_bytes(number - 1) if outcome.sha256 else b""
        batch.append((row, outcome, image_bytes))
        num_pictures, num_bytes = num_pictures + bool(image_bytes), num_bytes + len(image_bytes)
        if num_pictures == NUM_LOOKED_AT or num_bytes >= MAX_LOOKED_AT_BYTES or number == len(rows):
            looks = iter(look([Entry(row["uid"], content) for row, _, content in batch if content]))
            for one in batch:
                yield *one, next(looks) if one[2] else None
            batch, num_pictures, num_bytes = [], 0, 0


def _run_facts(
    job: FetchJob, downloads: Downloads, started: float, quarantined: Sequence[Mapping[str, str]]
) -> dict[str, Any]:
    messages = Counter(outcome.message for outcome in downloads.outcomes if outcome.message is not None)
    return {
        **whereabouts(started),
        "engine": job.settings.engine,
        "asked": downloads.num_asked,
        "seconds_waiting": downloads.seconds_waiting,
        "quarantined": list(quarantined),
        "messages": dict(messages.most_common(NUM_MESSAGES_SHOWN)),
    }

"""The stage `fetch`: one part of the selection becomes one shard of original bytes, every row of it accounted for."""

import logging
import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curation.commands.fetch.again import (
    AGAIN,
    AskedAgain,
    asked_before,
    files_before,
    next_generation,
    publish_generation,
    sources_of,
)
from curation.commands.fetch.blocked import blocked_by, why_not
from curation.commands.fetch.download import Downloads, UrlOutcome, download, warm_up
from curation.commands.fetch.hash_lists import HashMatcher, load_matchers
from curation.commands.fetch.placeholders import SCHEMA as SCHEMA_OF_FINDINGS
from curation.commands.fetch.placeholders import found_in
from curation.commands.fetch.politeness import HOST_UNREACHABLE
from curation.commands.fetch.rows import (
    LEDGER_SCHEMA,
    UNSAFE_MINOR,
    WITHHELD,
    WITHHELD_FOLDER,
    examined,
    is_unsafe_minor,
    members,
    withhold,
)
from curation.commands.rank.stage import is_selection
from curation.dataset.ledger import base_row, write_tables
from curation.dataset.manifest import MANIFEST_NAME, Manifest, ShardReport, committed, read_manifest
from curation.dataset.stages import BLOCKED_NAME, FETCH, FINDINGS_NAME, LEDGER_NAME, RANK
from curation.dataset.tombstones import Tombstones, consult
from curation.errors import SafetyError, ShardError, UsageError
from curation.images.decode import IN_DIGESTS, require_decoders
from curation.measure.cascade import Entry, Measured
from curation.recipe.recipe import Recipe
from curation.recipe.settings import CurateSettings, DecodeLimits, FetchSettings
from curation.run.costs import whereabouts
from curation.run.derived import register
from curation.run.runner import OnOutcome, Outcome, Spread, run_all, silent
from curation.run.shard_writer import shard_writer
from curation.run.target import Facts, claimed, finish, finished
from curation.sandbox.in_flight import intent_path
from curation.sandbox.parent import CELL
from curation.sandbox.quarantine import looking
from curation.storage.lease import Lease
from curation.storage.paths import named
from curation.storage.publish import TEMP_FOLDER, FileRecord, digest, publish, sha256_of

log = logging.getLogger(__name__)

INCIDENT = """%d pictures match a hash list and are withheld in %s; do not open, copy, move or send them.
Follow your own policy, and report where the law says so: US: NCMEC CyberTipline (18 USC 2258A); UK: IWF; Canada: C3P;
elsewhere: the hotline of your country (INHOPE). Nothing was reported, and nothing is ever deleted, by this program."""
NUM_MESSAGES_SHOWN = 20
NUM_LOOKED_AT, MAX_LOOKED_AT_BYTES = 16, 4 << 20
"""Pictures, and bytes of them, that go into the cell at a time; fewer where the next would pass neither."""
ROBOTS_WAIVER = "robots_waiver"
"""Stands among the manifest's facts on safety only where robots.txt was waived."""
OUTSIDE_DIGEST = {"engine", "num_threads", "num_host_connections", "max_unreachable_fraction"}
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


def fetch(  # long: its options, and the order in which its gates and its shards are one line of work
    source: Path,
    target: Path,
    recipe: Recipe,
    spread: Spread,
    on_outcome: OnOutcome = silent,
    *,
    waiver: str | None = None,
    hash_lists: Sequence[Path] = (),
    allow_loopback: bool = False,
    robots_waiver: str | None = None,
    again: frozenset[str] | None = None,
) -> Manifest:
    """Download every part of the selection in `source` into `target`; the manifest comes when all had their outcome.

    `again` names reasons: of a finished fetch, rows that failed for one of them last are asked for once more, as a
    further generation (`curation.commands.fetch.again`).

    `waiver` says why a selection may be downloaded that was not held against a cleaned release, `robots_waiver` why no
    robots.txt is asked; both are recorded. `hash_lists` are files of hashes of pictures to withhold. `allow_loopback`
    lets the downloader connect to this machine itself, for tests and the demo.

    Raises:
        UsageError: `source` is no finished selection, or `target` holds other work.
        SafetyError: neither release nor waiver, or a hash list cannot be read; nothing is downloaded then.
        LeaseError: another run holds `target`.
    """
    source, target = named(source), named(target)
    selection = finished(source, RANK)
    require_decoders(recipe.file.decode)
    parts = _parts(source, selection)
    blocked = selection.files.get(BLOCKED_NAME)
    safety = _require_safety(source, selection, waiver, hash_lists, robots_waiver)
    if allow_loopback:
        log.warning("the downloader may connect to this machine itself (--allow-loopback); never with URLs of others")
    heeds_robots = ROBOTS_WAIVER not in safety
    work_digest = fetch_work(
        selection.work_digest, recipe.file.fetch, recipe.file.decode, safety["hash_lists"], heeds_robots
    )
    if again is not None:
        finished(target, FETCH)
    with claimed(target, FETCH, work_digest, recipe) as lease:
        register(source, target, FETCH.name, selection.state)
        lists = tuple(map(named, hash_lists))
        jobs = _jobs(source, parts, target, recipe, spread, lease, lists, allow_loopback, heeds_robots)
        jobs = [replace(job, blocked=blocked) for job in jobs]
        before = read_manifest(target) if (target / MANIFEST_NAME).is_file() else None
        asked = asked_before(target, before)
        new = () if before is None or again is None else _next(target, before, again)
        jobs += [replace(jobs[0], shard=a.shard, parts=sources_of(parts, a), asked=a) for a in (*asked, *new)]
        outcomes = run_all(jobs, fetch_part, spread, on_outcome, partial(_fetched, safety["hash_lists"]))
        lease.require()
        files, sums = _find_placeholders(target, outcomes, recipe)
        _tell_of_withheld(target, outcomes)
        extra: dict[str, Any] = {"safety": safety, "findings": sums}
        files |= files_before(before)
        if before is not None and AGAIN in before.extra:
            extra[AGAIN] = before.extra[AGAIN]
        if before is not None and again is not None and new:
            told, extra[AGAIN] = publish_generation(target, before, new, again)
            files |= told
        return finish(target, FETCH, recipe, work_digest, outcomes, Facts(files=files, extra=extra), lease)


def _next(target: Path, before: Manifest, reasons: frozenset[str]) -> tuple[AskedAgain, ...]:
    new = next_generation(target, before, reasons, int(before.recipe["rank"]["rows_per_part"]))
    if not new:
        log.warning("%s: no row failed last for any of these reasons: %s", target, ", ".join(sorted(reasons)))
    return new


def _parts(source: Path, selection: Manifest) -> dict[str, FileRecord]:
    parts = {name: record for report in selection.shards for name, record in report.files.items()}
    del parts[LEDGER_NAME]
    if not parts:
        raise UsageError(f"{source}: the selection is empty; nothing to fetch")
    return parts


def _jobs(
    source: Path, parts: Mapping[str, FileRecord], target: Path, recipe: Recipe, spread: Spread, lease: Lease,
    hash_lists: tuple[Path, ...], allow_loopback: bool, heeds_robots: bool,
) -> list[FetchJob]:  # fmt: skip
    """Return one job per part; the connections that a host allows are shared out among the workers."""
    settings = recipe.file.fetch
    share = max(1, settings.num_host_connections // max(1, spread.num_workers))
    return [
        FetchJob(
            shard=Path(name).stem,
            source=source,
            parts={name: record},
            target=target,
            settings=settings.model_copy(update={"num_host_connections": share}),
            limits=recipe.file.decode,
            guards=recipe.file.curate,
            hash_lists=tuple(map(named, hash_lists)),
            allow_loopback=allow_loopback,
            heeds_robots=heeds_robots,
            lease=lease,
        )
        for name, record in sorted(parts.items())
    ]


def _find_placeholders(
    target: Path, outcomes: Sequence[Outcome], recipe: Recipe
) -> tuple[dict[str, FileRecord], dict[str, dict[str, int]]]:
    """Write what only all shards together show, and return the file's record and its sums."""
    shards = sorted(outcome.shard for outcome in outcomes if isinstance(outcome, ShardReport))
    footer = {"stage": FETCH.name, "recipe_digest": digest(_inside(recipe.file.fetch, recipe.file.decode))}
    with found_in([target / f"{shard}.parquet" for shard in shards], recipe.file.fetch) as findings:
        write = partial(write_tables, tables=findings.tables(), schema=SCHEMA_OF_FINDINGS, footer=footer)
        return {FINDINGS_NAME: publish(target / FINDINGS_NAME, write)}, findings.summary()


def _tell_of_withheld(target: Path, outcomes: Sequence[Outcome]) -> None:
    reports = (outcome for outcome in outcomes if isinstance(outcome, ShardReport))
    num_withheld = sum(report.rejected.get(FETCH.name, {}).get(WITHHELD, 0) for report in reports)
    if num_withheld:
        first, *others = INCIDENT.splitlines()
        log.error(first, num_withheld, target / WITHHELD_FOLDER)
        for line in others:
            log.error(line)


def _require_safety(
    source: Path, selection: Manifest, waiver: str | None, hash_lists: Sequence[Path], robots_waiver: str | None
) -> dict[str, Any]:
    """Return what the manifest says of the gates before and after the download."""
    if robots_waiver is not None and not robots_waiver.strip():
        raise SafetyError("the waiver for robots.txt gives no reason: --robots-waiver 'REASON', or leave it out")
    release = selection.extra.get("release")
    if release is None and not (waiver or "").strip():
        raise SafetyError(
            f"{source}: these links were never held against a cleaned release of the metadata, so nothing is "
            f"downloaded; give `rank --release PARQUET` (gated Re-LAION or later), or say why not: --waiver 'REASON'"
        )
    if release is None:
        log.warning("downloading links that no cleaned release was held against; waiver: %s", waiver)
    lists = {matcher.name: matcher.digest for matcher in load_matchers(hash_lists)}
    safety = {"release": release, "waiver": waiver, "hash_lists": lists}
    if robots_waiver is None:
        return safety
    log.warning("no robots.txt is asked; waiver: %s", robots_waiver)
    return safety | {ROBOTS_WAIVER: robots_waiver}


def fetch_work(
    selection_digest: str, settings: FetchSettings, limits: DecodeLimits, hash_lists: Mapping[str, str],
    heeds_robots: bool = True,
) -> str:  # fmt: skip
    """Return the digest of all that a fetched folder depends on."""
    gates = _gates(settings, limits, hash_lists, heeds_robots)
    return digest([FETCH.name, selection_digest, *gates, FETCH.output_since])


def fetch_work_id(
    shard: str, part_sha256: str, settings: FetchSettings, limits: DecodeLimits, hash_lists: Mapping[str, str],
    heeds_robots: bool = True,
) -> str:  # fmt: skip
    """Return the identity of one shard's work: its part of the selection, settings, gates, this stage."""
    gates = _gates(settings, limits, hash_lists, heeds_robots)
    return digest([FETCH.name, shard, part_sha256, *gates, FETCH.output_since])


def _gates(
    settings: FetchSettings, limits: DecodeLimits, hash_lists: Mapping[str, str], heeds_robots: bool
) -> list[Any]:
    return [_inside(settings, limits), dict(hash_lists), *([] if heeds_robots else [ROBOTS_WAIVER])]


def _work_id(lists: Mapping[str, str], job: FetchJob) -> str:
    return fetch_work_id(job.shard, job.identity, job.settings, job.limits, lists, job.heeds_robots)


def _fetched(lists: Mapping[str, str], job: FetchJob) -> ShardReport | None:
    return committed(job.target, job.shard, _work_id(lists, job))


def fetch_part(job: FetchJob) -> ShardReport:
    """Download and commit one part: `{shard}.tar`, `{shard}.parquet`, and last `{shard}_stats.json`.

    Raises:
        ShardError: the part is not the one that rank's manifest names, the downloader contradicts itself, or next to
            nothing could be reached.
    """
    matchers = load_matchers(job.hash_lists)
    lists = {matcher.name: matcher.digest for matcher in matchers}
    if (report := _fetched(lists, job)) is not None:
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
            "recipe_digest": digest(_inside(job.settings, job.limits)),
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


def _inside(settings: FetchSettings, limits: DecodeLimits) -> dict[str, Any]:
    return {
        **IN_DIGESTS,
        "fetch": settings.model_dump(mode="json", exclude=OUTSIDE_DIGEST),
        "decode": limits.model_dump(mode="json"),
    }

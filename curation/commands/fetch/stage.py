"""The stage `fetch`: one part of the selection becomes one shard of original bytes, every row of it accounted for."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from curation.commands.fetch.again import (
    AGAIN,
    AskedAgain,
    asked_before,
    files_before,
    next_generation,
    publish_generation,
    sources_of,
)
from curation.commands.fetch.hash_lists import load_matchers
from curation.commands.fetch.part import FetchJob, fetch_part, fetched
from curation.commands.fetch.placeholders import SCHEMA as SCHEMA_OF_FINDINGS
from curation.commands.fetch.placeholders import found_in
from curation.commands.fetch.rows import WITHHELD, WITHHELD_FOLDER
from curation.commands.fetch.work import ROBOTS_WAIVER, fetch_work, inside
from curation.dataset.ledger import write_tables
from curation.dataset.manifest import MANIFEST_NAME, Manifest, ShardReport, read_manifest
from curation.dataset.stages import BLOCKED_NAME, FETCH, FINDINGS_NAME, LEDGER_NAME, RANK
from curation.errors import SafetyError, UsageError
from curation.images.decode import require_decoders
from curation.recipe.recipe import Recipe
from curation.run.derived import register
from curation.run.runner import OnOutcome, Outcome, Spread, run_all, silent
from curation.run.target import Facts, claimed, finish, finished
from curation.storage.lease import Lease
from curation.storage.paths import named
from curation.storage.publish import FileRecord, digest, publish

log = logging.getLogger(__name__)

INCIDENT = """%d pictures match a hash list and are withheld in %s; do not open, copy, move or send them.
Follow your own policy, and report where the law says so: US: NCMEC CyberTipline (18 USC 2258A); UK: IWF; Canada: C3P;
elsewhere: the hotline of your country (INHOPE). Nothing was reported, and nothing is ever deleted, by this program."""


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
        outcomes = run_all(jobs, fetch_part, spread, on_outcome, partial(fetched, safety["hash_lists"]))
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
    footer = {"stage": FETCH.name, "recipe_digest": digest(inside(recipe.file.fetch, recipe.file.decode))}
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

"""Takes images out of a run for good: out of tars, ledgers, selection, index, manifests and report; hashes stay.

Tombstones come first, so that nothing returns whatever happens next. Then every file that must change is prepared
beside the run, one journal makes all of them count at once, and they are put in their places. Killed anywhere and run
again, it completes.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.commands.forget.copies import Traces, holdings
from curation.commands.forget.packed import bury_packed, seats_of
from curation.commands.forget.prepare import (
    StageBurial,
    Told,
    bury_selection,
    bury_shards,
    find_again,
    open_stage,
    put_records,
    refresh_curated,
    refresh_fetched,
)
from curation.commands.forget.reach import Reach, reach
from curation.commands.forget.scrub import Scrubbed, scrub
from curation.commands.forget.seek import Sought, seek
from curation.commands.forget.takedowns import Request
from curation.commands.gc.collect import collect
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import STATS_SUFFIX
from curation.dataset.stages import CURATE, FETCH, PACK, RANK, STAGES
from curation.dataset.tombstones import tombstones_of, write_tombstones
from curation.dataset.urls import host_of
from curation.errors import FaceCaptionError, UsageError
from curation.run.folders import StageFolder, done_records, names_in, reports_of, stages_of
from curation.run.journal import Preparation, commit, discard_prepared, next_receipt, receipts_of, roll_forward
from curation.storage.lease import Lease, hold
from curation.storage.paths import resolved
from curation.storage.publish import FileRecord, read_sealed, record_of
from curation.version import CODE_VERSION

REPORT_FOLDER = "report"


def forget(run: Path, requests: Sequence[Request], also: Sequence[Path] = ()) -> tuple[Path, dict[str, Any]]:
    """Forget what the requests name, and return the receipt's path and content: no plain address stands in it.

    What was derived from the run is reached by the cards that it left, wherever it lies, and by `also`. What could not
    be reached is named in the receipt's `not_reached`; the same call does it later.

    Raises:
        UsageError: `run` is no folder with stage folders, or one of `also` is no folder.
        LeaseError: a stage is at work in one of them.
        UsageError: a stage began meanwhile, or shards that no manifest names yet hold what must be forgotten.
        ShardError: a file that must change is not what its records say; nothing was changed then.
    """
    started, found = time.time(), reach(run, also)
    left = [*_settle(run, found)]
    with ExitStack() as leases:
        held = [leases.enter_context(hold(place.folder)) for place in found.own]
        held += _hold_derived(found, leases)
        before = tombstones_of(run)
        sought = seek([*found.own, *(place.at for place in found.derived)], requests, before.uids)
        for base in (run, *found.bases()):
            write_tombstones(base, tombstones_of(base) | before | sought.stones)
        _require_settled(run, found.own)
        prepared = _prepare(run, found, sought)
        traces = Traces(
            frozenset(sought.uids) | before.uids, frozenset(sought.urls | sought.led_to), frozenset(sought.contents)
        )
        scrubbed = [scrub(copy, traces) for copy in found.copies]
        for lease in held:
            lease.require()
        path = _commit(run, requests, sought, found, prepared, scrubbed, {"started": started, "left": left})
    return path, read_sealed(path)


def _settle(run: Path, found: Reach) -> Iterator[str]:
    """Complete what an earlier call began, remove what dead runs left, and yield what is not ours to remove."""
    with ExitStack() as leases:
        for place in found.own:
            leases.enter_context(hold(place.folder))
        roll_forward(run)
        discard_prepared(run)
    yield from collect(run).left
    for derived in list(found.derived):
        try:
            with hold(derived.at.folder):
                if derived.base != run:
                    roll_forward(derived.base)
                    discard_prepared(derived.base)
            yield from (f"{derived.base}/{file}" for file in collect(derived.at.folder).left)
        except (FaceCaptionError, OSError) as error:
            found.miss(derived, error)


def _hold_derived(found: Reach, leases: ExitStack) -> Iterator[Lease]:
    for place in list(found.derived):
        try:
            yield leases.enter_context(hold(place.at.folder))
        except (FaceCaptionError, OSError) as error:
            found.miss(place, error)


def foresee(run: Path, requests: Sequence[Request], also: Sequence[Path] = ()) -> dict[str, Any]:
    """Return what `forget` would find now, and write nothing.

    Raises:
        UsageError: `run` is no folder with stage folders, or one of `also` is no folder.
        ShardError: a ledger cannot be read.
    """
    found, known = reach(run, also), _answered(run)
    sought = seek([*found.own, *(place.at for place in found.derived)], requests)
    traces = Traces(frozenset(sought.uids), frozenset(sought.urls | sought.led_to), frozenset(sought.contents))
    copies = {
        str(copy.folder): [holding.file for holding in holdings(copy.folder, traces, whole=copy.kind == "named")]
        for copy in found.copies
    }
    return {
        "requests": [_answer(request, sought, known) for request in requests],
        "num_images": len(sought.uids),
        "uids": sorted(sought.uids),
        "rows_buried": {place.shown: len(sought.rows.get(place.folder, ())) for place in found.own},
        "places": {place.shown: len(sought.rows.get(place.at.folder, ())) for place in found.derived},
        "copies": copies,
        "not_reached": found.not_reached,
    }


def _answered(run: Path) -> frozenset[tuple[str, str]]:
    """Return (kind, sha256) of every request that found something here before."""
    receipts = (read_sealed(path) for path in receipts_of(run))
    answers = (answer for receipt in receipts for answer in receipt["requests"])
    return frozenset((answer["kind"], answer["sha256"]) for answer in answers if answer["num_images"])


def _require_settled(run: Path, places: Sequence[StageFolder]) -> None:
    """Make sure that nothing alive escapes what the manifests name; the tombstones stand already."""
    if begun := {place.shown for place in stages_of(run)} - {place.shown for place in places}:
        raise UsageError(f"{run}: {', '.join(sorted(begun))} began meanwhile; run forget again when it has ended")
    stones = tombstones_of(run)
    for place in places:
        manifest, reports = reports_of(place.folder)
        named = {(report.shard, report.work_id) for report in reports}
        for report in done_records(place.folder) if manifest is not None else ():
            if (report.shard, report.work_id) in named or not any(name.endswith(".parquet") for name in report.files):
                continue
            path = report.file(place.folder, ".parquet")
            if path.is_file() and stones.holds_any(read_ledger(path)):
                raise UsageError(
                    f"{path}: shard {report.shard} is done, but no manifest names it yet, and it holds what must be "
                    f"forgotten; run {place.stage} (or decide) again first, or remove {report.shard}{STATS_SUFFIX}"
                )


@dataclass
class Prepared:
    """What is ready to count: per run, its new files and its stages as they will be."""

    by_base: dict[Path, Preparation]
    stages: dict[Path, list[StageBurial]]


def _prepare(run: Path, found: Reach, sought: Sought) -> Prepared:
    """Prepare every stage, each after the one that it was made from."""
    uids, urls = frozenset(sought.uids), sought.urls | sought.led_to
    names = urls | {host_of(url) for url in urls} - {""}

    def told(message: str) -> bool:
        return any(name in message for name in names)

    prepared = Prepared({run: Preparation(run)}, {run: []})
    burials: dict[Path, StageBurial] = {}
    own = {place.stage: place.folder for place in found.own}
    for place in found.own:
        before = burials.get(resolved(own.get(STAGES[place.stage].before or "", Path())))
        stage = open_stage(place)
        BURIALS.get(place.stage, _bury_shards_alone)(stage, before, prepared.by_base[run], uids, told)
        burials[resolved(place.folder)] = stage
        prepared.stages[run].append(stage)
    for derived in list(found.derived):
        preparation = prepared.by_base.setdefault(derived.base, Preparation(derived.base))
        moves, deletions = list(preparation.moves), list(preparation.deletions)
        try:
            before = None if derived.source is None else burials.get(resolved(derived.source))
            stage = open_stage(derived.at)
            BURIALS.get(derived.at.stage, _bury_shards_alone)(stage, before, preparation, uids, told)
        except (FaceCaptionError, OSError) as error:
            preparation.moves, preparation.deletions = moves, deletions
            found.miss(derived, error)
            continue
        burials[resolved(derived.at.folder)] = stage
        prepared.stages.setdefault(derived.base, []).append(stage)
    for base, preparation in prepared.by_base.items():
        if preparation.moves and (base / REPORT_FOLDER / "report.json").exists():
            preparation.deletions += [f"{REPORT_FOLDER}/{name}" for name in names_in(base / REPORT_FOLDER)]
    return prepared


def _commit(
    run: Path,
    requests: Sequence[Request],
    sought: Sought,
    found: Reach,
    prepared: Prepared,
    scrubbed: Sequence[Scrubbed],
    facts: dict[str, Any],
) -> Path:
    """Let everything count, this run last: what a kill leaves undone is found again by the same call."""
    elsewhere = []
    for base, preparation in prepared.by_base.items():
        if base == run or not (preparation.moves or preparation.deletions):
            continue
        receipt = _receipt(base, requests, sought, prepared.stages.get(base, []), preparation, facts["started"])
        commit(preparation, receipt)
        roll_forward(base)
        elsewhere += [{**one, "folder": str(base)} for one in (*receipt["rewritten"], *receipt["deleted"])]
    receipt = _receipt(run, requests, sought, prepared.stages[run], prepared.by_base[run], facts["started"])
    not_reached = {**found.not_reached}
    for done in scrubbed:
        elsewhere += [{"folder": done.folder, "file": file} for file in (*done.rewritten, *done.deleted)]
        not_reached |= {f"{done.folder}/{file}": why for file, why in done.left.items()}
    searched = [*(place.shown for place in found.own), *(place.shown for place in found.derived)]
    receipt |= {
        "left": facts["left"],
        "searched": [*searched, *(done.folder for done in scrubbed)],
        "elsewhere": elsewhere,
        "not_reached": not_reached,
    }
    commit(prepared.by_base[run], receipt)
    path = roll_forward(run)
    assert path is not None, "the journal was just written"
    return path


def _bury_shards_alone(
    stage: StageBurial, before: StageBurial | None, preparation: Preparation, uids: frozenset[str], told: Told
) -> None:
    """Prepare a stage of which no more is known than the table of stages says."""
    bury_shards(stage, before, preparation, uids)
    put_records(stage, preparation, told)


def _bury_ranked(
    stage: StageBurial, before: StageBurial | None, preparation: Preparation, uids: frozenset[str], told: Told
) -> None:
    bury_selection(stage, preparation, uids)
    put_records(stage, preparation, told)


def _bury_fetched(
    stage: StageBurial, before: StageBurial | None, preparation: Preparation, uids: frozenset[str], told: Told
) -> None:
    bury_shards(stage, before, preparation, uids)
    refresh_fetched(stage, before)
    put_records(stage, preparation, told, **find_again(stage, preparation))


def _bury_curated(
    stage: StageBurial, before: StageBurial | None, preparation: Preparation, uids: frozenset[str], told: Told
) -> None:
    bury_shards(stage, before, preparation, uids, seats_of(stage, uids))
    refresh_curated(stage, before)
    put_records(stage, preparation, told)


BURIALS = {RANK.name: _bury_ranked, FETCH.name: _bury_fetched, CURATE.name: _bury_curated, PACK.name: bury_packed}
"""Stage -> what prepares all its files, where it has more than shards."""


def _receipt(
    run: Path,
    requests: Sequence[Request],
    sought: Sought,
    stages: Sequence[StageBurial],
    preparation: Preparation,
    started: float,
) -> dict[str, Any]:
    """Return what is handed to whoever asked: every request by its hash, what was found where, what was rewritten."""
    removed = {file: record_of(run / file) for file in preparation.deletions if (run / file).exists()}
    return {
        "schema_version": 1,
        "number": next_receipt(run),
        "started": started,
        "seconds": round(time.time() - started, 3),
        "code_version": CODE_VERSION,
        "requests": [_answer(request, sought, _answered(run)) for request in requests],
        "num_images": len(sought.uids),
        "rows_buried": {stage.place.shown: stage.num_rows for stage in stages},
        "samples_removed": {stage.place.shown: stage.num_samples for stage in stages if stage.stage.writes_tars},
        "rewritten": [_rewritten(move.file, move.old, move.new) for move in preparation.moves],
        "deleted": [{"file": file, "sha256": record.sha256} for file, record in removed.items()],
    }


def _answer(request: Request, sought: Sought, known: frozenset[tuple[str, str]]) -> dict[str, Any]:
    uids_by_stage = sought.found[request]
    return {
        "line": request.line,
        "kind": request.kind,
        "sha256": request.hash,
        "forgotten_before": (request.kind, request.hash) in known,
        "num_images": len(set().union(*uids_by_stage.values())),
        "found_in": {stage: len(uids) for stage, uids in uids_by_stage.items()},
    }


def _rewritten(file: str, old: FileRecord, new: FileRecord) -> dict[str, str]:
    return {"file": file, "old_sha256": old.sha256, "new_sha256": new.sha256}

"""Takes images out of a run for good: out of tars, ledgers, selection, index, manifests and report; hashes stay.

Tombstones come first, so that nothing returns whatever happens next. Then every file that must change is prepared
beside the run, one journal makes all of them count at once, and they are put in their places. Killed anywhere and run
again, it completes.
"""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

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
from curation.commands.forget.seek import Sought, seek
from curation.commands.forget.takedowns import Request
from curation.commands.gc.collect import collect
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import STATS_SUFFIX
from curation.dataset.stages import CURATE, FETCH, PACK, RANK, STAGES
from curation.dataset.tombstones import tombstones_of, write_tombstones
from curation.dataset.urls import host_of
from curation.errors import UsageError
from curation.run.folders import StageFolder, done_records, names_in, reports_of, stages_of
from curation.run.journal import Preparation, commit, discard_prepared, next_receipt, receipts_of, roll_forward
from curation.storage.lease import hold
from curation.storage.publish import FileRecord, read_sealed, record_of
from curation.version import CODE_VERSION

REPORT_FOLDER = "report"


def forget(run: Path, requests: Sequence[Request]) -> tuple[Path, dict[str, Any]]:
    """Forget what the requests name, and return the receipt's path and content: no plain address stands in it.

    Raises:
        UsageError: `run` is no folder with stage folders.
        LeaseError: a stage is at work in one of them.
        UsageError: a stage began meanwhile, or shards that no manifest names yet hold what must be forgotten.
        ShardError: a file that must change is not what its records say; nothing was changed then.
    """
    places = _places(run)
    started = time.time()
    with ExitStack() as leases:
        for place in places:
            leases.enter_context(hold(place.folder))
        roll_forward(run)
        discard_prepared(run)
    left = collect(run).left
    with ExitStack() as leases:
        held = [leases.enter_context(hold(place.folder)) for place in places]
        sought = seek(places, requests)
        write_tombstones(run, tombstones_of(run) | sought.stones)
        _require_settled(run, places)
        preparation = Preparation(run)
        stages = _prepare(places, preparation, sought)
        if preparation.moves and (run / REPORT_FOLDER).is_dir():
            preparation.deletions += [f"{REPORT_FOLDER}/{name}" for name in names_in(run / REPORT_FOLDER)]
        receipt = _receipt(run, requests, sought, stages, preparation, started)
        receipt["left"] = list(left)
        for lease in held:
            lease.require()
        commit(preparation, receipt)
        path = roll_forward(run)
    assert path is not None, "the journal was just written"
    return path, read_sealed(path)


def foresee(run: Path, requests: Sequence[Request]) -> dict[str, Any]:
    """Return what `forget` would find now, and write nothing.

    Raises:
        UsageError: `run` is no folder with stage folders.
        ShardError: a ledger cannot be read.
    """
    places = _places(run)
    sought, known = seek(places, requests), _answered(run)
    return {
        "requests": [_answer(request, sought, known) for request in requests],
        "num_images": len(sought.uids),
        "uids": sorted(sought.uids),
        "rows_buried": {place.stage: len(sought.rows.get(place.stage, ())) for place in places},
    }


def _places(run: Path) -> tuple[StageFolder, ...]:
    places = stages_of(run)
    if places[0].folder == run:
        raise UsageError(f"{run}: one stage's own folder; give the run, so that an image goes from all its stages")
    return places


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


def _prepare(places: Sequence[StageFolder], preparation: Preparation, sought: Sought) -> list[StageBurial]:
    """Prepare every stage, each after the one that it was made from."""
    uids, urls = frozenset(sought.uids), sought.urls | sought.led_to
    names = urls | {host_of(url) for url in urls} - {""}
    stages = {place.stage: open_stage(place) for place in places}

    def told(message: str) -> bool:
        return any(name in message for name in names)

    for name, stage in stages.items():
        before = stages.get(STAGES[name].before or "")
        BURIALS.get(name, _bury_shards_alone)(stage, before, preparation, uids, told)
    return list(stages.values())


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
        "rows_buried": {stage.place.stage: stage.num_rows for stage in stages},
        "samples_removed": {stage.place.stage: stage.num_samples for stage in stages if stage.stage.writes_tars},
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

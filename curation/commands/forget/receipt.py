"""What is handed to whoever asked to be forgotten: hashes and counts, and every place that was searched."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curation.commands.forget.prepare import StageBurial
from curation.commands.forget.reach import Reach
from curation.commands.forget.scrub import Scrubbed
from curation.commands.forget.seek import Sought
from curation.commands.forget.takedowns import Request
from curation.run.journal import Preparation, next_receipt, receipts_of
from curation.storage.publish import FileRecord, read_sealed, record_of
from curation.version import CODE_VERSION


def answered(run: Path) -> frozenset[tuple[str, str]]:
    """Return (kind, sha256) of every request that found something here before."""
    receipts = (read_sealed(path) for path in receipts_of(run))
    answers = (answer for receipt in receipts for answer in receipt["requests"])
    return frozenset((answer["kind"], answer["sha256"]) for answer in answers if answer["num_images"])


def receipt_of(
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
        "requests": [answer(request, sought, answered(run)) for request in requests],
        "num_images": len(sought.uids),
        "rows_buried": {stage.place.shown: stage.num_rows for stage in stages},
        "samples_removed": {stage.place.shown: stage.num_samples for stage in stages if stage.stage.writes_tars},
        "rewritten": [_rewritten(move.file, move.old, move.new) for move in preparation.moves],
        "deleted": [{"file": file, "sha256": record.sha256} for file, record in removed.items()],
    }


def answer(request: Request, sought: Sought, known: frozenset[tuple[str, str]]) -> dict[str, Any]:
    """Return what became of one request, by its hash; `known` are those that found something before."""
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


def reached(found: Reach, scrubbed: Sequence[Scrubbed], elsewhere: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return what a receipt says of places beside the run's own stages; `elsewhere` are files of derived stages."""
    changed, not_reached = [*elsewhere], {**found.not_reached}
    for done in scrubbed:
        changed += [{"folder": done.folder, "file": file} for file in (*done.rewritten, *done.deleted)]
        not_reached |= {f"{done.folder}/{file}": why for file, why in done.left.items()}
    places = [*(place.shown for place in found.own), *(place.shown for place in found.derived)]
    searched = [*places, *dict.fromkeys(done.folder for done in scrubbed)]
    return {"searched": searched, "elsewhere": changed, "not_reached": not_reached}

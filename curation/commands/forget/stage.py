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

from curation.commands.forget.burials import PreparedBurials, prepare
from curation.commands.forget.copies import holdings, home_of, links_out
from curation.commands.forget.reach import Reach, reach
from curation.commands.forget.receipt import answer, answered, reached, receipt_of
from curation.commands.forget.scrub import Scrubbed, scrub, unentered
from curation.commands.forget.seek import Sought, seek
from curation.commands.forget.takedowns import Request
from curation.commands.forget.traces import Traces
from curation.commands.gc.collect import collect
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import STATS_SUFFIX
from curation.dataset.tombstones import FORGOTTEN_FOLDER, Tombstones, tombstones_of, write_tombstones
from curation.errors import FaceCaptionError, UsageError
from curation.run.folders import StageFolder, done_records, reports_of, stages_of
from curation.run.journal import commit, discard_prepared, roll_forward
from curation.run.publications import still_published
from curation.storage.fence import fenced
from curation.storage.lease import Lease, common_fence, hold
from curation.storage.publish import read_sealed


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
        leases.enter_context(fenced(common_fence(run, held)))
        _hold_bases(run, found, leases)
        held += _hold_derived(found, leases)
        before = tombstones_of(run)
        sought = seek([*found.own, *(place.at for place in found.derived)], requests, before.uids)
        for base in (run, *found.bases()):
            write_tombstones(base, tombstones_of(base) | before | sought.stones)
        found.not_reached |= _at_the_hub(run, tombstones_of(run).uids)
        _require_settled(run, found.own)
        prepared = prepare(run, found, sought)
        traces = _traces(requests, sought, before)
        scrubbed = [scrub(copy, traces, found.folders) for copy in found.copies]
        for lease in held:
            lease.require()
        path = _commit(run, found, prepared, scrubbed, Occasion(requests, sought, started, left))
    return path, read_sealed(path)


def _settle(run: Path, found: Reach) -> Iterator[str]:
    """Complete what an earlier call began, remove what dead runs left, and yield what is not ours to remove."""
    with ExitStack() as leases:
        held = [leases.enter_context(hold(place.folder)) for place in found.own]
        leases.enter_context(fenced(common_fence(run, held)))
        _hold_base(run, leases)
    yield from collect(run).left
    for derived in list(found.derived):
        try:
            with hold(derived.at.folder), ExitStack() as leases:
                if derived.base != run:
                    _hold_base(derived.base, leases)
            yield from (f"{derived.base}/{file}" for file in collect(derived.at.folder).left)
        except (FaceCaptionError, OSError) as error:
            found.miss(derived, error)


def _hold_bases(run: Path, found: Reach, leases: ExitStack) -> None:
    """Hold the journals of all runs that are reached; where another takedown is at work, its places are missed.

    Raises:
        LeaseError: that is so in this run itself.
    """
    _hold_base(run, leases)
    for base in found.bases():
        try:
            if base != run:
                _hold_base(base, leases)
        except (FaceCaptionError, OSError) as error:
            for place in [place for place in found.derived if place.base == base]:
                found.miss(place, error)


def _hold_base(base: Path, leases: ExitStack) -> None:
    """Hold a run's one journal, complete what it says, and remove what was prepared in vain.

    Packs of several runs may lie in one folder, and then share its journal and its tombstones: who holds a pack alone
    knows nothing of a takedown that is at work on the one beside it.
    """
    leases.enter_context(hold(base / FORGOTTEN_FOLDER))
    roll_forward(base)
    discard_prepared(base)


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
    found, known = reach(run, also), answered(run)
    sought = seek([*found.own, *(place.at for place in found.derived)], requests)
    traces = _traces(requests, sought, tombstones_of(run))
    copies: dict[str, list[str]] = {}
    for copy in found.copies:
        told = [holding.file for holding in holdings(copy.folder, traces, kind=copy.kind, file=copy.file)]
        home = str(home_of(copy.folder, copy.kind))
        copies[home] = list(dict.fromkeys([*copies.get(home, ()), *told]))
    return {
        "requests": [answer(request, sought, known) for request in requests],
        "num_images": len(sought.uids),
        "uids": sorted(sought.uids),
        "rows_buried": {place.shown: len(sought.rows.get(place.folder, ())) for place in found.own},
        "places": {place.shown: len(sought.rows.get(place.at.folder, ())) for place in found.derived},
        "copies": copies,
        "not_reached": found.not_reached | _unentered(found) | _at_the_hub(run, tombstones_of(run).uids | sought.uids),
    }


def _at_the_hub(run: Path, forgotten: frozenset[str]) -> dict[str, str]:
    """Return the publications of a run that hold forgotten images, each with the command that mends it."""
    return {held.place: f"{held.wrong}; {held.mend}" for held in still_published(run, forgotten)}


def _unentered(found: Reach) -> dict[str, str]:
    """Return the links that nobody would enter, and why."""
    links = {copy.folder: links_out(copy.folder, found.folders, copy.kind) for copy in found.copies}
    return {f"{folder}/{name}": why for folder in links for name, why in unentered(folder, links[folder]).items()}


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


def _commit(
    run: Path, found: Reach, prepared: PreparedBurials, scrubbed: Sequence[Scrubbed], facts: "Occasion"
) -> Path:
    """Let everything count, this run last: what a kill leaves undone is found again by the same call."""
    elsewhere: list[dict[str, str]] = []
    for base, preparation in prepared.by_base.items():
        if base == run or not (preparation.moves or preparation.deletions):
            continue
        receipt = facts.receipt(base, prepared)
        commit(preparation, receipt)
        roll_forward(base)
        elsewhere += [{**one, "folder": str(base)} for one in (*receipt["rewritten"], *receipt["deleted"])]
    receipt = facts.receipt(run, prepared) | reached(found, scrubbed, elsewhere) | {"left": facts.left}
    commit(prepared.by_base[run], receipt)
    path = roll_forward(run)
    assert path is not None, "the journal was just written"
    return path


@dataclass(frozen=True)
class Occasion:
    """What every receipt of one call tells."""

    requests: Sequence[Request]
    sought: Sought
    started: float
    left: list[str]

    def receipt(self, base: Path, prepared: PreparedBurials) -> dict[str, Any]:
        """Return the receipt of one run."""
        stages, preparation = prepared.stages.get(base, []), prepared.by_base[base]
        return receipt_of(base, self.requests, self.sought, stages, preparation, self.started)


def _traces(requests: Sequence[Request], sought: Sought, before: Tombstones) -> Traces:
    """Return what may stand nowhere any more, what was forgotten before included."""
    asked = {request.value for request in requests if request.kind == "url"}
    texts = sought.urls | sought.led_to | asked
    return Traces(frozenset(sought.uids) | before.uids, frozenset(texts), frozenset(sought.contents), before.content)

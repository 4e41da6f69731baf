"""Derives everything again from what lies on disk, and names each thing that is not as it should be."""

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.commands.forget.copies import FORGET_AGAIN
from curation.commands.verify.across import check_flow, check_identities, check_report, origin_of
from curation.commands.verify.copies import living_copies, living_publications, living_replies
from curation.commands.verify.faults import Checked, Fault, Note, Verification
from curation.commands.verify.packed import check_packed
from curation.commands.verify.records import StageRecords, read_records, sealed_faults
from curation.commands.verify.selection import check_selection
from curation.commands.verify.shards import CheckJob, check_shard
from curation.commands.verify.views import views_of
from curation.dataset.ledger import require_base
from curation.dataset.stages import PACK, STAGES
from curation.dataset.tombstones import FORGOTTEN_FOLDER, IDENTITY, JOURNAL_NAME, Tombstones, tombstones_of
from curation.errors import ShardError
from curation.run.derived import derived_of
from curation.run.folders import StageFolder, derived_stages, names_in, shown_from, stages_of
from curation.run.lookup import ledgers_of
from curation.run.runner import OnOutcome, Outcome, ShardFailure, Spread, run_all, silent
from curation.storage.paths import is_local, local_copy, named, resolved


def verify(run: Path, spread: Spread, on_outcome: OnOutcome = silent) -> Verification:
    """Verify a run with its stage folders, or one stage's folder; nothing is written.

    Raises:
        UsageError: there is no stage here.
    """
    run = named(run)
    places, derived = stages_of(run), derived_stages(run)
    views = views_of([read_records(place) for place in places], [read_records(place) for place in derived])
    every = [view.records for view in views]
    for view in views:
        check_flow(view.stages, view.records)
    jobs = [job for view in views for job in _jobs(view.stages, view.records)]
    outcomes = run_all(jobs, check, spread, on_outcome)
    shard_faults = [
        fault for outcome in sorted(outcomes, key=lambda outcome: outcome.shard) for fault in _faults_of(outcome)
    ]
    broken = {fault.file for fault in (*shard_faults, *(fault for records in every for fault in records.faults))}
    if not any(isinstance(outcome, ShardFailure) for outcome in outcomes):
        for view in views:
            check_identities(view.stages, view.records, broken)
            check_packed(view.stages, view.records, broken)
    faults = [*(fault for records in every for fault in records.faults), *shard_faults]
    notes = [*(note for records in every for note in records.notes), *_lost_folders(run)]
    if places[0].folder != run:
        faults += [*_forgotten_faults(run), *living_faults(run, (*places, *derived), {fault.file for fault in faults})]
        faults += [*living_copies(run), *living_publications(run)]
        if (run / "report").is_dir() and names_in(run / "report"):
            if (why := "mend the faults first" if faults else _why_not_reported(run)) is not None:
                notes.append(Note("report", f"not derived again: {why}"))
            else:
                faults += check_report(run)
    sizes = [size for records in every for size in records.names.values()]
    unfinished = tuple(records.place.shown for records in every if records.is_unfinished)
    return Verification(str(run), len(jobs), len(sizes), sum(sizes), tuple(faults), tuple(notes), unfinished)


def check(job: CheckJob) -> Checked:
    """Return what is wrong with one shard, or with a selection."""
    return check_selection(job) if STAGES[job.place.stage].is_selection else check_shard(job)


def _why_not_reported(run: Path) -> str | None:
    from curation.commands.report.write import lost_since

    return lost_since(run) if is_local(run) else "it lies in an object store"


def _lost_folders(run: Path) -> Iterator[Note]:
    """Yield what was derived from the run and cannot be looked at from here."""
    for derived in derived_of(run):
        card = shown_from(resolved(run), resolved(derived.card))
        if not derived.is_there:
            where = derived.folder if derived.file is None else derived.folder / derived.file
            gone = f"names a {derived.stage} at {where}, which is {derived.gone}"
            yield Note(card, f"{gone}; if it is gone for good, remove this file")
        elif derived.stage not in STAGES:
            yield Note(card, f"a {derived.stage} lies at {derived.folder}")


def _forgotten_faults(run: Path) -> list[Fault]:
    """Return what is wrong with tombstones and receipts, and whether a `forget` has begun and not ended."""
    folder = run / FORGOTTEN_FOLDER
    if not folder.is_dir():
        return []
    faults = list(sealed_faults(folder, FORGOTTEN_FOLDER))
    if (folder / JOURNAL_NAME).exists():
        right = "a run that is whole again: run `forget` once more"
        faults.append(Fault(f"{FORGOTTEN_FOLDER}/{JOURNAL_NAME}", "a `forget` was interrupted", right))
    return faults


def living_faults(run: Path, places: Sequence[StageFolder], broken: Container[str]) -> Iterator[Fault]:
    """Yield every image that is forgotten and here all the same, and every ledger that nobody could look into."""
    stones = tombstones_of(run)
    for place in places if stones else ():
        for path, _ in ledgers_of(place):
            shown = f"{place.shown}/{path.name}"
            try:
                for uid in _alive(path, stones):
                    yield Fault(
                        shown, f"{uid} was forgotten and is here all the same", f"its tombstone; {FORGET_AGAIN}"
                    )
            except (OSError, ShardError, pa.ArrowException) as error:
                if shown not in broken and path.exists():
                    yield Fault(shown, f"cannot be read: {error}", "a ledger that can be held against the tombstones")
        yield from living_replies(place, stones)


def _alive(path: Path, stones: Tombstones) -> Iterator[str]:
    with local_copy(path) as copy, pq.ParquetFile(copy) as ledger:
        require_base(ledger.schema_arrow, path)
        columns = [name for name in IDENTITY if name in ledger.schema_arrow.names]
        for batch in ledger.iter_batches(columns=columns, use_threads=False):
            yield from stones.alive(batch)


def _faults_of(outcome: Outcome) -> tuple[Fault, ...]:
    if isinstance(outcome, ShardFailure):
        return (Fault(outcome.shard, f"could not be verified: {outcome.error}", "a shard that can be read"),)
    return outcome.faults if isinstance(outcome, Checked) else ()


def _jobs(stages: Mapping[str, StageRecords], records: StageRecords) -> list[CheckJob]:
    place = records.place
    return [
        CheckJob(
            f"{place.shown}/{report.shard}", place, report, records.recipe,
            _footer(records), origin_of(stages, records.stage, report),
        )
        for report in sorted(records.reports, key=lambda report: report.shard)
    ]  # fmt: skip


def _footer(records: StageRecords) -> dict[str, str]:
    """Return what the footer of every ledger of a stage must say, as far as it can be derived here."""
    footer = {"stage": records.stage}
    if records.recipe is not None and records.stage == PACK.name:
        footer["recipe_digest"] = records.recipe.digest
    if records.keys is not None:
        footer["measurement_keys"] = json.dumps(records.keys, sort_keys=True)
    return footer

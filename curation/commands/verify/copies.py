"""What was derived from a run, is no stage's folder and lies elsewhere, held against the run's tombstones."""

from collections.abc import Iterator
from pathlib import Path

from curation.commands.caption.arrived import files_of, replies_in
from curation.commands.forget.copies import FORGET_AGAIN, holdings, home_of, mend_of
from curation.commands.forget.traces import Traces
from curation.commands.verify.faults import Fault
from curation.dataset.stages import CAPTION, STAGES
from curation.dataset.tombstones import Tombstones, tombstones_of
from curation.run.derived import descendants
from curation.run.folders import StageFolder
from curation.run.publications import still_published


def living_copies(run: Path) -> Iterator[Fault]:
    """Yield where a forgotten image lives on in caches and the like; what is not there is no fault."""
    stones = tombstones_of(run)
    for derived in descendants(run) if stones else ():
        if derived.stage in STAGES or not derived.is_there:
            continue
        for holding in holdings(derived.folder, Traces(stones.uids), kind=derived.stage, file=derived.file):
            if holding.is_known:
                yield Fault(
                    f"{home_of(derived.folder, derived.stage)}/{holding.file}",
                    "tells of an image that was forgotten",
                    f"nothing of it; {mend_of(derived.stage)}",
                )


def living_publications(run: Path) -> Iterator[Fault]:
    """Yield where the run's own records say that a publication at the hub holds a forgotten image."""
    for held in still_published(run, tombstones_of(run).uids):
        yield Fault(held.record, f"{held.place}: {held.wrong}", held.mend)


def living_replies(place: StageFolder, stones: Tombstones) -> Iterator[Fault]:
    """Yield where a reply that came before its shard was done is about a forgotten image."""
    for path in files_of(place.folder) if place.stage == CAPTION.name else ():
        for uid in sorted({reply["uid"] for reply in replies_in(path)} & stones.uids):
            wrong = f"{uid} was forgotten, and a reply about it is here all the same"
            yield Fault(f"{place.shown}/{path.parent.name}/{path.name}", wrong, f"nothing of it; {FORGET_AGAIN}")

"""Which stages a stage is held against: the one that it was made from, unless that has gone on since."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from curation.commands.pack.packs import is_superseded
from curation.commands.verify.records import StageRecords
from curation.dataset.manifest import MANIFEST_NAME
from curation.dataset.stages import CURATE, PACK, STAGES

SUPERSEDED = (
    "superseded: packed from a state that curate has no more; it is whole, but pack again into a new folder to have "
    "what curate keeps now"
)


@dataclass(frozen=True)
class StageView:
    """One stage's records, and those that they are held against by the name of their stage."""

    records: StageRecords
    stages: Mapping[str, StageRecords]


def views_of(own: Sequence[StageRecords], derived: Sequence[StageRecords]) -> list[StageView]:
    """Return every stage of a run, and those that were derived from it elsewhere, with what each is held against."""
    stages = {records.stage: records for records in own}
    return [_view(stages, records) for records in (*own, *derived)]


def _view(stages: Mapping[str, StageRecords], records: StageRecords) -> StageView:
    alone = {records.stage: records}
    if _is_superseded(stages, records):
        records.note(MANIFEST_NAME, SUPERSEDED)
        return StageView(records, alone)
    before = stages.get(STAGES[records.stage].before or "")
    return StageView(records, alone if before is None else {before.stage: before} | alone)


def _is_superseded(stages: Mapping[str, StageRecords], records: StageRecords) -> bool:
    curated = stages.get(CURATE.name)
    if records.stage != PACK.name or records.manifest is None or records.recipe is None or curated is None:
        return False
    return curated.manifest is not None and is_superseded(records.manifest, curated.manifest)

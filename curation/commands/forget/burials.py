"""Prepares every stage that a `forget` reaches, each after the one that it was made from."""

from dataclasses import dataclass
from pathlib import Path

from curation.commands.caption.stage import captions_of_folder
from curation.commands.forget.packed import bury_packed
from curation.commands.forget.prepare import (
    StageBurial,
    Told,
    bury_arrived,
    bury_selection,
    bury_shards,
    find_again,
    open_stage,
    put_records,
    refresh_captioned,
    refresh_curated,
    refresh_fetched,
)
from curation.commands.forget.reach import Reach
from curation.commands.forget.seek import Sought
from curation.commands.pack.forgotten_copies import write_copies
from curation.dataset.manifest import BEFORE_FORGET
from curation.dataset.stages import CAPTION, CURATE, FETCH, PACK, RANK, STAGES
from curation.dataset.urls import host_of
from curation.errors import FaceCaptionError
from curation.run.folders import StageFolder, names_in
from curation.run.journal import Preparation
from curation.storage.paths import resolved

REPORT_FOLDER = "report"


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
    if stage.manifest is not None:
        write_copies(stage.place.folder, stage.manifest, uids)
    bury_shards(stage, before, preparation, uids)
    refresh_curated(stage, before)
    changes = {}
    if stage.manifest is not None and stage.new != stage.old:
        states = [*stage.manifest.extra.get(BEFORE_FORGET, ()), stage.manifest.state]
        changes["extra"] = {**stage.manifest.extra, BEFORE_FORGET: states}
    put_records(stage, preparation, told, **changes)


def _bury_captioned(
    stage: StageBurial, before: StageBurial | None, preparation: Preparation, uids: frozenset[str], told: Told
) -> None:
    bury_shards(stage, before, preparation, uids)
    bury_arrived(stage, preparation, uids)
    put_records(stage, preparation, told, **refresh_captioned(stage, before))


BURIALS = {
    RANK.name: _bury_ranked,
    FETCH.name: _bury_fetched,
    CURATE.name: _bury_curated,
    CAPTION.name: _bury_captioned,
    PACK.name: bury_packed,
}
"""Stage -> what prepares all its files, where it has more than shards."""


@dataclass
class PreparedBurials:
    """What is ready to count: per run, its new files and its stages as they will be."""

    by_base: dict[Path, Preparation]
    stages: dict[Path, list[StageBurial]]


def prepare(run: Path, found: Reach, sought: Sought) -> PreparedBurials:
    """Prepare every stage, each after the one that it was made from; a derived one that cannot be is missed."""
    bury = _Burying(run, sought)
    own = {place.stage: place.folder for place in found.own}
    for place in found.own:
        bury.stage(place, run, own.get(STAGES[place.stage].before or ""))
    order = list(STAGES)
    for derived in sorted(found.derived, key=lambda place: order.index(place.at.stage)):
        try:
            bury.stage(derived.at, derived.base, derived.source)
        except (FaceCaptionError, OSError) as error:
            found.miss(derived, error)
    for base, preparation in bury.prepared.by_base.items():
        report = base / REPORT_FOLDER
        if preparation.moves and report.is_dir() and (base == run or (report / "report.json").is_file()):
            preparation.deletions += [f"{REPORT_FOLDER}/{name}" for name in names_in(report)]
    return bury.prepared


class _Burying:
    """Prepares one stage after the other, and knows those that are prepared."""

    def __init__(self, run: Path, sought: Sought) -> None:
        self.prepared = PreparedBurials({run: Preparation(run)}, {run: []})
        self._burials: dict[Path, StageBurial] = {}
        self._uids, urls = frozenset(sought.uids), sought.urls | sought.led_to
        self._names = urls | {host_of(url) for url in urls} - {""}

    def stage(self, place: StageFolder, base: Path, source: Path | None) -> None:
        """Prepare a stage of the run `base`, made from `source`; what fails leaves nothing that would count."""
        preparation = self.prepared.by_base.setdefault(base, Preparation(base))
        moves, deletions = list(preparation.moves), list(preparation.deletions)
        before = None if source is None else self._burials.get(resolved(source))
        try:
            stage = open_stage(place)
            beside = None if source is None else captions_of_folder(source)
            stage.captions = None if beside is None else self._burials.get(resolved(beside))
            bury = BURIALS.get(place.stage, _bury_shards_alone)
            bury(stage, before, preparation, self._uids, self._told)
        except (FaceCaptionError, OSError):
            preparation.moves, preparation.deletions = moves, deletions
            raise
        self._burials[resolved(place.folder)] = stage
        self.prepared.stages.setdefault(base, []).append(stage)

    def _told(self, message: str) -> bool:
        return any(name in message for name in self._names)

"""Everything that may hold an image of a run: its stages, and what was derived from them, wherever that lies."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.dataset.label_file import REVIEW_FOLDER
from curation.dataset.stages import STAGES
from curation.errors import FaceCaptionError, UsageError
from curation.run.derived import Derived, descendants
from curation.run.folders import StageFolder, stages_of
from curation.run.lookup import ledgers_of
from curation.storage.paths import local_copy, named, resolved


@dataclass(frozen=True)
class DerivedPlace:
    """A stage's folder to forget in."""

    at: StageFolder
    base: Path
    """The run that it lies in: there its tombstones lie, and what is prepared for it."""
    source: Path | None
    """The folder that it was made from, where that is known."""

    @property
    def shown(self) -> str:
        """What a receipt calls it."""
        return str(self.at.folder)


@dataclass(frozen=True)
class Copy:
    """A folder of another kind that was made from a stage's: caches of training, or what somebody names."""

    kind: str
    """`cache`, `work`, `review`, `features`, `ledger`, `import`, `card`, or `named`."""
    folder: Path
    """Of a ledger that was exported, or metadata that were imported, the file."""
    file: str | None = None
    """The one file there that is looked at; None: all that the kind writes."""


@dataclass
class Reach:
    """Where a run's images may lie."""

    own: tuple[StageFolder, ...]
    """The run's own stages, in order."""
    derived: list[DerivedPlace] = field(default_factory=list)
    copies: list[Copy] = field(default_factory=list)
    not_reached: dict[str, str] = field(default_factory=dict)
    """Folder -> why nothing could be done there."""

    @property
    def folders(self) -> list[Path]:
        """Every folder that is looked into."""
        stages = [place.folder for place in self.own] + [place.at.folder for place in self.derived]
        return [*stages, *(copy.folder for copy in self.copies)]

    def bases(self) -> list[Path]:
        """Return the runs beside this one that hold a derived stage."""
        return list(dict.fromkeys(place.base for place in self.derived))

    def miss(self, place: DerivedPlace, error: Exception) -> None:
        """Give up a derived place."""
        self.derived.remove(place)
        self.not_reached[place.shown] = str(error)


def reach(run: Path, also: Sequence[Path] = ()) -> Reach:
    """Return every place to forget in; `also` are folders that no card tells of.

    Raises:
        UsageError: `run` is no folder with stage folders, or one of `also` is no folder.
    """
    own = stages_of(run)
    if own[0].folder == run:
        raise UsageError(f"{run}: one stage's own folder; give the run, so that an image goes from all its stages")
    found, seen = Reach(own), {(resolved(place.folder), "") for place in own}
    told = (*descendants(run), *(one for folder in also for one in _named(folder)))
    for derived in sorted(told, key=lambda one: one.now_of is not None):  # a folder is what lies there now
        what = derived.file or (derived.stage if derived.stage == REVIEW_FOLDER else "")
        if (resolved(derived.folder), what) in seen:  # whoever names a folder of labels means all that lies there
            continue
        seen.add((resolved(derived.folder), what))
        _add(found, derived, run)
    return found


def _add(found: Reach, derived: Derived, run: Path) -> None:
    folder = named(derived.folder)
    if not derived.is_there:
        where = folder if derived.file is None else folder / derived.file
        way = "if it was moved, name the folder that it lies in now by --also"
        found.not_reached[str(where)] = f"{derived.gone}; {way}; if it is gone for good, remove {derived.card}"
    elif derived.stage not in STAGES:
        found.copies.append(Copy(derived.stage, folder, derived.file))
    else:
        base = run if resolved(folder.parent) == resolved(run) else folder.parent
        place = DerivedPlace(StageFolder(derived.stage, folder, folder.name), base, derived.source)
        found.derived.append(place)
        try:
            _require_readable(place.at)
        except (FaceCaptionError, OSError, pa.ArrowException) as error:
            found.miss(place, error)


def _named(folder: Path) -> Iterator[Derived]:
    """Yield what a folder is that somebody names: stages and what they led to, or a folder of files."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder (--also)")
    try:
        stages = stages_of(folder)
    except UsageError:
        yield Derived("named", folder, folder, True, "", folder)
        return
    for place in stages:
        yield Derived(place.stage, place.folder, place.folder, True, "", place.folder)
    yield from descendants(folder)


def _require_readable(place: StageFolder) -> None:
    for path, _ in ledgers_of(place):
        if path.exists():
            with local_copy(path) as copy:
                pq.read_schema(copy)

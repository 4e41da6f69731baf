"""What was derived from a stage's folder and lies outside its run: each such folder leaves its card with its source.

`SOURCE/_derived/<id>.json` says which stage (or which cache) was made from it, of which state of it, and where that
lies: seen from the source, which holds where both are moved together, and as a full address. The stages' own places
in one run (`RUN/pack` beside `RUN/curate`) need no card: they are found by name. Whoever must reach everything that
was derived (`forget`, `verify`, `why`) asks `derived_of`.
"""

import os
import posixpath
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from curation.dataset.label_file import REVIEW_FOLDER
from curation.dataset.manifest import MANIFEST_NAME, WORK_NAME, read_manifest
from curation.dataset.stages import STAGES
from curation.errors import VerificationError
from curation.storage.paths import folders_of, in_same_store, is_local, location, resolved
from curation.storage.publish import digest, publish_sealed, read_sealed

DERIVED_FOLDER = "_derived"
FEATURES = "features"
"""What a folder is that `teach` adds to, holding its lease while it does."""
NUM_ID_DIGITS = 16
CACHE, WORK = "cache", "work"
"""What folders of training are: sidecar tars named by uid; scans and copies of tars, which are made anew."""
EXPORTED, IMPORTED, CARD = "ledger", "import", "card"
"""What a ledger's file for other programs, metadata read from a stage's tars, and the folder of a pack's card are."""
OF_ONE_FILE = (EXPORTED, IMPORTED)
"""What is a file, and no folder."""
SIGNS = (WORK_NAME, MANIFEST_NAME)
"""A folder that holds one of these is a stage's, begun or finished."""


@dataclass(frozen=True)
class Derived:
    """One folder that was derived from another."""

    stage: str
    """The stage that wrote it, or what else it is, such as `cache`."""
    source: Path
    """The folder that it was derived from."""
    folder: Path
    """Where it lies; where it was last known to lie, if it is not there."""
    is_there: bool
    """Whether it lies there, or, where only one file was derived, that one does."""
    made_from: str
    """What names the state of the source that it was begun from."""
    card: Path
    """The file that says so; whoever knows that the folder is gone for good removes it."""
    file: str | None = None
    """The one file there that was derived, where whatever else lies in the folder is somebody's own."""
    now_of: str | None = None
    """The stage that wrote what lies there now, where that is another: what the card tells of is there no more."""

    @property
    def gone(self) -> str:
        """In words, why it cannot be reached."""
        return "not there" if self.now_of is None else f"not there any more: {self.now_of} has written there since"


def register(source: Path, target: Path, stage: str, made_from: str, file: str | None = None) -> None:
    """Leave a card at `source`, a folder that a stage wrote, before anything of it comes into `target`.

    `target` is a folder; where `stage` is one of `OF_ONE_FILE`, a file. Where only one `file` of a folder is derived,
    the card names it, and nothing else there is ever touched.

    Raises:
        StorageError: the source cannot be written to: then nobody could find what is derived from it.
        VerificationError: the card that lies there is not as it was written.
    """
    source, target = resolved(source), resolved(target)
    if target == _own_place(source, stage):
        return
    of_file = {} if file is None else {"file": file}
    card = source / DERIVED_FOLDER / f"{digest([stage, str(target), *of_file.values()])[:NUM_ID_DIGITS]}.json"
    values = {
        "stage": stage,
        "made_from": made_from,
        "address": str(target),
        "beside": _from(source, target),
        **of_file,
    }
    if not card.is_file() or read_sealed(card) != values:
        publish_sealed(card, values)


def register_at(homes: Iterable[Path], target: Path, stage: str) -> None:
    """Leave a card at every one of some folders of stages, finished or only begun."""
    for home in homes:
        register(home, target, stage, read_manifest(home).state if (home / MANIFEST_NAME).is_file() else "")


def homes_of(files: Iterable[Path]) -> tuple[Path, ...]:
    """Return the folders of stages that files lie in, by their names or by where links lead, each once, in order."""
    places = dict.fromkeys(resolved(folder) for folder in folders_of(files))
    return tuple(place for place in places if any((place / name).is_file() for name in SIGNS))


def derived_of(source: Path) -> tuple[Derived, ...]:
    """Return what was derived from a stage's folder, or from any stage's folder of a run, and lies elsewhere.

    Raises:
        VerificationError: a card is not as it was written.
    """
    found: dict[tuple[str, Path, str | None], Derived] = {}
    for folder in (source, *(source / name for name in STAGES)):
        for derived in _cards(folder):
            found.setdefault((derived.stage, derived.folder, derived.file), derived)
    return tuple(found.values())


def descendants(source: Path) -> tuple[Derived, ...]:
    """Return what was derived from a folder or run, and from that, and so on, each once, nearer ones first."""
    found: dict[tuple[str, Path, str | None], Derived] = {}
    waiting = [*_review_in(source), *derived_of(source)]
    while waiting:
        derived = waiting.pop(0)
        who = (derived.stage if derived.now_of else "", derived.folder, derived.file)
        if who not in found:
            found[who] = derived
            waiting += _around(derived) if derived.now_of is None else ()
    return tuple(found.values())


def led_to(folder: Path, stage: str) -> tuple[Derived, ...]:
    """Return what a stage's folder led to: what left its card there, and what lies beside it in its run."""
    return _around(Derived(stage, folder, folder, True, "", folder))


def _around(derived: Derived) -> tuple[Derived, ...]:
    """Return what a derived folder led to: what left its card there, and the later stages beside it, as in a run."""
    folder = derived.folder
    if derived.stage == REVIEW_FOLDER:
        return ()
    if derived.stage not in STAGES or folder.name != derived.stage:
        return derived_of(folder)
    later = [name for name in STAGES if list(STAGES).index(name) > list(STAGES).index(derived.stage)]
    beside = [name for name in later if (folder.parent / name).is_dir()]
    places = (Derived(name, folder, folder.parent / name, True, "", derived.card) for name in beside)
    children = (child for name in beside for child in derived_of(folder.parent / name))
    return (*places, *_review_in(folder.parent), *derived_of(folder), *children)


def _review_in(run: Path) -> tuple[Derived, ...]:
    """Return the labels and lists of a run, which lie in it and need no card."""
    folder = run / REVIEW_FOLDER
    return (Derived(REVIEW_FOLDER, run, folder, True, "", folder),) if folder.is_dir() else ()


def _cards(source: Path) -> Iterator[Derived]:
    folder = source / DERIVED_FOLDER
    for card in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        values = read_sealed(card)
        beside = _join(resolved(source), values["beside"])
        places = [*([beside] if beside is not None else []), location(values["address"])]
        file = values.get("file")
        there = next((place for place in places if _lies(place, file)), None)
        folder, stage = there or places[-1], values["stage"]
        now_of = _now_of(folder, stage) if there is not None and stage in STAGES else None
        is_there = there is not None and now_of is None
        yield Derived(stage, source, folder, is_there, values["made_from"], card, file, now_of)


def _lies(place: Path, file: str | None) -> bool:
    return place.is_dir() or place.is_file() if file is None else (place / file).is_file()


def _now_of(folder: Path, stage: str) -> str | None:
    """Return the stage that a stage's folder is of by its own records, where that is another than the card's."""
    for name in SIGNS:
        with suppress(OSError, VerificationError, KeyError):
            now: str = read_sealed(folder / name)["stage"]
            return now if now != stage and now in STAGES else None
    return None


def _own_place(source: Path, stage: str) -> Path | None:
    """Return where a stage's folder lies in the run of its source, found by the names of both; None where it is not."""
    return source.parent / stage if stage in STAGES and source.name == STAGES[stage].before else None


def _from(source: Path, target: Path) -> str | None:
    """Return the way from one folder to another; None where they lie in different stores."""
    if is_local(source) and is_local(target):
        return os.path.relpath(target, source)
    if is_local(source) or is_local(target):
        return None
    here, there = cast("Any", source), cast("Any", target)
    if here.protocol != there.protocol or here.storage_options != there.storage_options:
        return None
    return str(posixpath.relpath(there.path, here.path))


def _join(source: Path, way: str | None) -> Path | None:
    if way is None:
        return None
    return resolved(source / way) if is_local(source) else in_same_store(source, f"{cast('Any', source).path}/{way}")

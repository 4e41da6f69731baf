"""The one commit point of a `forget`: new files are prepared beside the run, then a journal says that they count.

Before the journal lies there, nothing has changed. Once it does, whoever comes next puts every prepared file in its
place, removes what must go, leaves the receipt, and removes the journal last; done twice, it does nothing twice.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from curation.dataset.tombstones import FORGOTTEN_FOLDER, JOURNAL_NAME, PREPARED_FOLDER
from curation.errors import VerificationError
from curation.storage.fence import passing
from curation.storage.paths import filesystem, is_local
from curation.storage.publish import (
    TEMP_FOLDER,
    FileRecord,
    publish,
    publish_sealed,
    read_sealed,
    record_of,
    remove,
    remove_folder,
    sync_folder,
)


@dataclass(frozen=True)
class Move:
    """A file of the run, relative to it, and the bytes that replace it."""

    file: str
    old: FileRecord
    new: FileRecord


@dataclass
class Preparation:
    """New files on their way into a run; nothing of the run is touched."""

    run: Path
    moves: list[Move] = field(default_factory=list)
    deletions: list[str] = field(default_factory=list)

    def put(self, file: str, old: FileRecord, write: Callable[[Path], object]) -> FileRecord:
        """Prepare the bytes that `write` gives a file of the run; the record that is returned is theirs."""
        new = publish(self.path_of(file), write)
        if new == old:
            remove(self.path_of(file))
        else:
            self.moves.append(Move(file, old, new))
        return new

    def path_of(self, file: str) -> Path:
        """Return where a prepared file lies until it is put in its place."""
        return self.run / FORGOTTEN_FOLDER / PREPARED_FOLDER / file


def discard_prepared(run: Path) -> None:
    """Remove what was prepared and never counted, and half-written records."""
    for folder in (run / FORGOTTEN_FOLDER / name for name in (PREPARED_FOLDER, TEMP_FOLDER)):
        if is_local(folder):
            remove_folder(folder)
            continue
        with passing(folder):
            if (files := filesystem(folder)[0]).exists(filesystem(folder)[1]):
                files.rm(filesystem(folder)[1], recursive=True)


def commit(preparation: Preparation, receipt: dict[str, Any]) -> None:
    """Make the prepared files count, from this moment on."""
    values = {
        "moves": [asdict(move) for move in preparation.moves],
        "deletions": preparation.deletions,
        "receipt": receipt,
    }
    publish_sealed(preparation.run / FORGOTTEN_FOLDER / JOURNAL_NAME, values)


def roll_forward(run: Path) -> Path | None:
    """Complete what a journal says, and return the path of its receipt; None where there is no journal.

    Raises:
        VerificationError: a prepared file is not what the journal says.
    """
    journal = run / FORGOTTEN_FOLDER / JOURNAL_NAME
    if not journal.exists():
        return None
    values = read_sealed(journal)
    preparation = Preparation(run)
    folders: set[Path] = set()
    for move in values["moves"]:
        path = run / move["file"]
        _put_in_place(preparation.path_of(move["file"]), path, FileRecord(**move["new"]))
        folders.add(path.parent)
    for file in values["deletions"]:
        remove(run / file)
    for folder in folders if is_local(run) else ():
        sync_folder(folder)
    receipt = run / FORGOTTEN_FOLDER / f"receipt-{values['receipt']['number']:06d}.json"
    publish_sealed(receipt, values["receipt"])
    discard_prepared(run)
    remove(journal)
    return receipt


def _put_in_place(prepared: Path, path: Path, record: FileRecord) -> None:
    if not prepared.exists():
        if not path.exists() or record_of(path) != record:
            raise VerificationError(f"{path}: should have been replaced by {record.sha256}, which lies nowhere")
        return
    if record_of(prepared) != record:
        raise VerificationError(f"{prepared}: not what was prepared; right would be sha256 {record.sha256}")
    with passing(path):
        if is_local(path):
            prepared.replace(path)
            return
        files, name = filesystem(path)
        files.mv(filesystem(prepared)[1], name)
        files.invalidate_cache()


def receipts_of(run: Path) -> list[Path]:
    """Return the receipts of all earlier calls, in no order."""
    folder = run / FORGOTTEN_FOLDER
    return list(folder.glob("receipt-*.json")) if folder.is_dir() else []


def next_receipt(run: Path) -> int:
    """Return the number that the next receipt takes."""
    return 1 + max((int(path.stem.rpartition("-")[2]) for path in receipts_of(run)), default=0)

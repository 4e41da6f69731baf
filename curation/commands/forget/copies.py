"""What was made from a run and is no stage, such as caches: which of its files tell of forgotten images."""

import hashlib
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.commands.forget.traces import Traces, may_tell, rows_that_tell
from curation.dataset.label_file import REVIEW_FOLDER
from curation.dataset.stages import CARD_NAME, CARD_VALUES_NAME, CROISSANT_NAME, SAMPLES_PATH
from curation.dataset.tar import MAX_MEMBER_BYTES, split_name
from curation.errors import ShardError
from curation.run.derived import CARD, EXPORTED, IMPORTED, OF_ONE_FILE
from curation.run.folders import names_in
from curation.storage.paths import is_local, local_copy, resolved
from curation.storage.walk import entries_below

PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".npz", ".7z", ".tgz")
"""Suffixes of files that nothing here looks into."""
PACKED_MAGIC = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd", b"PK\x03\x04", b"7z\xbc\xaf")
"""What such files begin with, whatever they are called."""
TAR, TABLE, ARROW, LOOSE, OTHER = "tar", "table", "arrow", "loose", "other"
"""Forms of files: a tar, Parquet, Arrow's own, a file of an image alone, and whatever else tells of one."""
NAMED = "named"
"""The kind of a folder that somebody names by `--also`."""
MADE_ANEW_BY = {
    EXPORTED: "remove it, and make it anew by `facecaptionhq ledger`",
    IMPORTED: "remove it, and make it anew by `facecaptionhq import`",
    CARD: "make the card anew by `facecaptionhq card` into the same folder",
}
"""Copies that are whole only as they were written, so that they are named rather than changed: what to do."""
FORGET_AGAIN = "run `facecaptionhq forget` with the same list again"
OF_A_CARD = (CARD_NAME, CROISSANT_NAME, CARD_VALUES_NAME, SAMPLES_PATH)
"""Files that `card` writes; whatever else lies in its folder is nobody's business here."""
LINES = (".jsonl", ".txt")
"""Suffixes of what `review` writes a line for each picture in: labels, and lists of uids."""
TEXTS = (".json", ".txt", ".caption")
"""Suffixes of what may lie beside a picture and is about it."""
CHUNK_BYTES = 1 << 24


@dataclass(frozen=True)
class Holding:
    """A file that tells of a forgotten image, or that cannot be looked into."""

    file: str
    """Relative to the folder."""
    why: str
    keys: frozenset[str] = frozenset()
    """Of a tar: the keys of the samples that do."""
    is_known: bool = True
    """Whether something was found; else the file could not be looked into."""
    form: str = OTHER


def holdings(folder: Path, traces: Traces, *, kind: str, file: str | None = None) -> Iterator[Holding]:
    """Yield the files of a folder that hold a trace; `kind` says what the folder is, and `file` which, as `Copy` does.

    Of what somebody names all members of tars are read, else their names count. In a run's folder of labels only what
    `review` writes is looked at, and elsewhere only the file that a card names, whatever else may lie there; so it is
    with a data set's card. Of an exported ledger `folder` is the file, and its holding has the file's name. Where a
    loose picture is one, the texts beside it that are named as it is go with it.
    """
    if kind in OF_ONE_FILE:
        if (holding := look(folder.parent, folder.name, traces, whole=False)) is not None:
            yield holding
        return
    names, loose, told = names_of(folder, kind, file), set[str](), set[str]()
    for name in names:
        holding = look(folder, name, traces, whole=kind == NAMED)
        if holding is not None:
            told.add(name)
            loose |= {split_name(name)[0]} if holding.form == LOOSE else set()
            yield holding
    for name in names:
        if name not in told and name.lower().endswith(TEXTS) and split_name(name)[0] in loose:
            yield Holding(name, "lies beside the picture of an image that was forgotten", form=LOOSE)


def mend_of(kind: str) -> str:
    """Return what takes a forgotten image out of a folder of a kind: the one advice of `forget` and `verify`."""
    return MADE_ANEW_BY.get(kind, FORGET_AGAIN)


def names_of(folder: Path, kind: str, file: str | None = None) -> list[str]:
    """Return the files that are looked at."""
    if file is not None:
        return [file] if (folder / file).is_file() else []
    if kind == CARD:
        return [name for name in OF_A_CARD if (folder / name).is_file()]
    if kind != REVIEW_FOLDER:
        return list(names_in(folder))
    return sorted(path.name for path in folder.iterdir() if path.suffix in LINES and path.is_file())


def home_of(folder: Path, kind: str) -> Path:
    """Return the folder that the names of holdings are relative to."""
    return folder.parent if kind in OF_ONE_FILE else folder


def links_out(folder: Path, reached: Iterable[Path], kind: str = NAMED) -> dict[str, Path]:
    """Return every link below a folder that leads out of all that is looked into, and where it leads."""
    if not is_local(folder) or kind in (REVIEW_FOLDER, *MADE_ANEW_BY):
        return {}
    inside = [resolved(place) for place in (folder, *reached)]
    links = {
        Path(entry.path).relative_to(folder).as_posix(): Path(os.path.realpath(entry.path))  # which bears loops
        for entry in sorted(entries_below(folder, PermissionError), key=lambda entry: entry.path)
        if entry.is_symlink()
    }
    return {name: end for name, end in links.items() if not any(end.is_relative_to(place) for place in inside)}


def look(folder: Path, name: str, traces: Traces, *, whole: bool) -> Holding | None:
    """Return what a file of a folder tells, or None."""
    path = folder / name
    if name.lower().endswith(PACKED) and not traces.are_named_by(name):
        return Holding(name, "compressed, so not looked into", is_known=False)
    try:
        with local_copy(path) as copy:
            return _look(copy, name, traces, whole=whole)
    except (OSError, ValueError, ShardError, pa.ArrowException, tarfile.TarError) as error:
        return Holding(name, f"cannot be looked into: {error}", is_known=False)


def _look(path: Path, name: str, traces: Traces, *, whole: bool) -> Holding | None:
    why = "tells of an image that was forgotten"
    with path.open("rb") as file:
        magic = file.read(8)
    if tarfile.is_tarfile(path):
        keys = frozenset(_keys(path, traces, whole=whole))
        return Holding(name, why, keys, form=TAR) if keys else None
    if magic.startswith(b"PAR1"):
        return Holding(name, why, form=TABLE) if _in_table(path, traces) else None
    if magic.startswith(b"ARROW1") or name.lower().endswith((".arrow", ".arrows")):
        return Holding(name, why, form=ARROW) if _in_arrow(path, traces) else None
    if traces.are_named_by(name) or traces.are_content(_sha256_of(path)):
        return Holding(name, why, form=LOOSE)
    if magic.startswith(PACKED_MAGIC):
        return Holding(name, "compressed, so not looked into", is_known=False)
    return Holding(name, why) if _in_bytes(path, traces) else None


def _keys(path: Path, traces: Traces, *, whole: bool) -> Iterator[str]:
    with tarfile.open(path, "r:") as tar:
        for member in tar:
            is_told = traces.are_named_by(member.name)
            if not is_told and whole and member.isreg() and member.size <= MAX_MEMBER_BYTES:
                file = tar.extractfile(member)
                content = b"" if file is None else file.read()
                is_told = traces.pattern.search(content) is not None or traces.are_picture(content)
            if is_told:
                yield split_name(member.name)[0]


def _in_table(path: Path, traces: Traces) -> bool:
    with pq.ParquetFile(path) as table:
        if _in_footer(table.schema_arrow, traces):
            return True
        names = [column.name for column in table.schema_arrow if may_tell(column.type)]
        batches = table.iter_batches(columns=names, use_threads=False, batch_size=1024) if names else iter(())
        return any(pc.any(rows_that_tell(batch, traces)).as_py() for batch in batches)


def _in_arrow(path: Path, traces: Traces) -> bool:
    with pa.memory_map(str(path)) as source:
        is_file = source.read(6) == b"ARROW1"
        source.seek(0)
        reader = pa.ipc.open_file(source) if is_file else pa.ipc.open_stream(source)
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
        in_footer = _in_footer(reader.schema, traces)
        return in_footer or any(pc.any(rows_that_tell(batch, traces)).as_py() for batch in batches)


def _in_footer(schema: pa.Schema, traces: Traces) -> bool:
    return traces.pattern.search(b" ".join((schema.metadata or {}).values())) is not None


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _in_bytes(path: Path, traces: Traces, overlap: int = 4096) -> bool:
    rest = b""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            if traces.pattern.search(rest + chunk) is not None:
                return True
            rest = chunk[-overlap:]
    return False

"""Both metadata sources arrive in parquet of loose types: here they become streams of columns of one strict type each.

FaceCaption rows carry `_id, caption, url, box`, LAION rows `URL, TEXT, WIDTH, HEIGHT, similarity, LICENSE, SAMPLE_ID`
and whatever says of a picture whether it is safe; names match without case. A stream has one row per source row; what
a column of the wrong type, a text that is no UTF-8, or an id that went through a float has lost is counted; what the
texts themselves hold is `curation.commands.rank.cleaning`'s matter.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from curation.commands.importing.faults import Faults
from curation.commands.importing.files import Listing, listing
from curation.commands.importing.names import folded, is_safety, places_of
from curation.commands.importing.parquet import batches, naming, opened
from curation.commands.importing.safety import judged
from curation.commands.importing.values import (
    LARGEST_EXACT_FLOAT,
    Notes,
    floats,
    is_list,
    is_text,
    plain,
    rights_column,
    text_lists,
    texts,
    whole_numbers,
)
from curation.dataset.rights import is_rights
from curation.errors import FaceCaptionError, UsageError
from curation.storage.publish import sha256_of

BATCH_ROWS = 65_536
LARGEST_SIDE_PX = 2**31 - 1

FACECAPTION_RAW = pa.schema(
    [
        ("raw", pa.string()),
        ("id", pa.string()),
        ("captions", pa.list_(pa.string())),
        ("box_text", pa.string()),
        ("sample_id", pa.string()),
    ]
)
LAION_RAW = pa.schema(
    [
        ("raw", pa.string()),
        ("text", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("area", pa.int64()),
        ("nsfw", pa.string()),
        ("similarity", pa.float64()),
        ("license", pa.string()),
        ("sample_id", pa.string()),
        ("punsafe", pa.float64()),
        ("pwatermark", pa.float64()),
        ("sha256", pa.string()),
        ("md5", pa.string()),
        ("rights", pa.string()),
    ]
)

Batch = Mapping[str, pa.Array]
"""Columns of some rows by our own names; `SAFETY_COLUMNS` stand beside them."""


@dataclass(frozen=True)
class Piece:
    """Some rows of one file."""

    file: str
    first: int
    columns: Batch
    safety: Sequence[tuple[str, pa.Array]] = ()
    """Every column that speaks of safety, whatever it is called."""
    rights: Sequence[tuple[str, pa.Array]] = ()
    """Every column beside LICENSE that says whose a picture is."""

    def notes(self, name: str, faults: Faults) -> Notes:
        """Return who counts what is wrong with one of the columns."""
        return Notes(name, faults, lambda place: f"{self.file} row {self.first + place}")


def _is_number(kind: pa.DataType) -> bool:
    return bool(pt.is_integer(kind) or pt.is_floating(kind) or pt.is_decimal(kind) or pt.is_null(kind))


def _is_texts(kind: pa.DataType) -> bool:
    return pt.is_null(kind) or (is_list(kind) and is_text(_plain_type(kind.value_type)))


def _is_text_or_number(kind: pa.DataType) -> bool:
    return is_text(kind) or _is_number(kind)


def _plain_type(kind: pa.DataType) -> pa.DataType:
    return plain(pa.nulls(0, kind)).type


DETECTIONS_RAW = pa.schema(
    [("SAMPLE_ID", pa.int64()), ("num_faces", pa.int64()), ("face_side", pa.float64()), ("face_area", pa.float64())]
)
Columns = Mapping[str, tuple[Callable[[pa.DataType], bool], str]]
FACECAPTION_COLUMNS: Columns = {
    "_id": (_is_text_or_number, "text or a number"),
    "caption": (_is_texts, "a list of texts"),
    "url": (is_text, "text"),
    "box": (is_text, "text"),
}
LAION_COLUMNS: Columns = {
    "URL": (is_text, "text"),
    "TEXT": (is_text, "text"),
    "WIDTH": (_is_number, "a number"),
    "HEIGHT": (_is_number, "a number"),
    "similarity": (_is_number, "a number"),
    "LICENSE": (is_text, "text"),
    "SAMPLE_ID": (_is_text_or_number, "text or a number"),
}
DETECTION_COLUMNS: Columns = dict.fromkeys(DETECTIONS_RAW.names, (_is_number, "a number"))
FACECAPTION_OPTIONAL: Columns = {"SAMPLE_ID": (_is_text_or_number, "text or a number")}
LAION_OPTIONAL: Columns = {
    "pwatermark": (_is_number, "a number"),
    "sha256": (is_text, "text"),
    "md5": (is_text, "text"),
}


def parquet_files(source: Path) -> list[Path]:
    """Return the parquet files of a file or folder, in the order of their names.

    Raises: UsageError when there is none.
    """
    files = _listing(source).files
    if not files:
        raise UsageError(f"{source}: no parquet file here; give a .parquet file or a folder that holds some")
    return files


def left_out(source: Path) -> dict[str, str]:
    """Return what else lies in a folder of parquet files, and why it is not read."""
    return _listing(source).left_out


def _listing(source: Path) -> Listing:
    if source.is_dir():
        return listing(source, (".parquet",))
    return Listing([source] if source.is_file() else [])


def file_digests(source: Path) -> dict[str, str]:
    """Return the sha256 of each parquet file by its name."""
    return {path.name: sha256_of(path) for path in parquet_files(source)}


def num_rows_of(source: Path) -> int:
    """Return the number of rows of all parquet files of `source`, from their footers."""
    total = 0
    for path in parquet_files(source):
        with opened(path) as parquet:
            total += parquet.metadata.num_rows
    return total


def has_sample_ids(source: Path) -> bool:
    """Return whether any file of `source` has a column SAMPLE_ID."""
    return any("SAMPLE_ID" in _found(path, {}, FACECAPTION_OPTIONAL) for path in parquet_files(source))


@dataclass
class Stream:
    """Rows for DuckDB, which hides what its source raises: the error is kept here."""

    reader: pa.RecordBatchReader
    errors: list[FaceCaptionError]


def facecaption_stream(source: Path, faults: Faults) -> Stream:
    """Stream the rows of `source` in the shape FACECAPTION_RAW; `faults` is complete once the stream is read."""
    return _stream(source, FACECAPTION_COLUMNS, FACECAPTION_OPTIONAL, FACECAPTION_RAW, _facecaption_batch, faults)


def laion_stream(source: Path, faults: Faults) -> Stream:
    """Stream the rows of `source` in the shape LAION_RAW; `faults` is complete once the stream is read."""
    return _stream(source, LAION_COLUMNS, LAION_OPTIONAL, LAION_RAW, _laion_batch, faults)


def detection_stream(source: Path) -> Stream:
    """Stream faces by SAMPLE_ID, as `import` makes them of `sample2detect_*.pth`."""
    return _stream(source, DETECTION_COLUMNS, {}, DETECTIONS_RAW, _detection_batch, Faults())


def url_stream(source: Path) -> Stream:
    """Stream the column `URL` or `url` of the parquet files of `source` as one column `raw`.

    Raises:
        UsageError: a file has neither.
    """
    schema = pa.schema([("raw", pa.string())])
    return _stream(source, {"URL": (is_text, "text")}, {}, schema, _url_batch, Faults())


def _stream(
    source: Path,
    columns: Columns,
    optional: Columns,
    schema: pa.Schema,
    shape: Callable[[Piece, Faults], list[pa.Array]],
    faults: Faults,
) -> Stream:
    files = parquet_files(source)
    for path in files:
        _found(path, columns, optional)
    errors: list[FaceCaptionError] = []

    def shaped() -> Iterator[pa.RecordBatch]:
        try:
            for path in files:
                for piece in _pieces(path, columns, optional):
                    yield pa.RecordBatch.from_arrays(shape(piece, faults), schema=schema)
        except FaceCaptionError as error:
            errors.append(error)
            raise

    return Stream(pa.RecordBatchReader.from_batches(schema, shaped()), errors)


def _found(path: Path, columns: Columns, optional: Columns) -> dict[str, str]:
    """Return column of ours -> column of a file, after a look at their types.

    Raises:
        UsageError: one that is needed is missing, or is of a type that cannot hold what is needed.
    """
    with opened(path) as parquet, naming(path):
        kinds = {field.name: _plain_type(field.type) for field in reversed(parquet.schema_arrow)}
        names = parquet.schema_arrow.names
    found = {ours: _spelling(ours, names) for ours in (*columns, *optional)}
    for ours, (fits, wanted) in {**columns, **optional}.items():
        theirs = found[ours]
        if theirs is None:
            if ours in columns:
                raise UsageError(f"{path}: column {_called(ours)} is missing; the file has {', '.join(names)}")
        elif not fits(kinds[theirs]):
            raise UsageError(
                f"{path}: column {theirs!r} is {kinds[theirs]}, but {wanted} is needed; `import` brings other shapes "
                f"into this one"
            )
        elif names.count(theirs) > 1:
            raise UsageError(f"{path}: two columns are called {theirs!r}; `import` says which counts")
    return {ours: theirs for ours, theirs in found.items() if theirs is not None}


def _called(ours: str) -> str:
    return "'URL' or 'url'" if ours == "URL" else repr(ours)


def _spelling(ours: str, names: Sequence[str]) -> str | None:
    """Return what a file calls a column of ours: by the same name, else by one that differs in case alone.

    A probability of a watermark has as many names as data sets; no gate may miss it.
    """
    if ours == "pwatermark":
        places = places_of(ours, names)
        return names[places[0]] if places else None
    alike = [name for name in names if name == ours] + [name for name in names if folded(name) == folded(ours)]
    return next(iter(alike), None)


def _pieces(path: Path, columns: Columns, optional: Columns) -> Iterator[Piece]:
    """Yield the wanted columns of one file, nulls for an optional one that it lacks."""
    found = _found(path, columns, optional)
    with opened(path) as parquet, naming(path):
        others = [name for name in parquet.schema_arrow.names if columns is LAION_COLUMNS]
    safety = [name for name in others if is_safety(name)]
    rights = [name for name in others if is_rights(name) and name not in found.values()]
    first = 1
    for batch in batches(path, list(dict.fromkeys((*found.values(), *safety, *rights))), BATCH_ROWS):
        names = batch.schema.names
        present = {ours: _plain(path, batch.column(names.index(theirs))) for ours, theirs in found.items()}
        lacking = {ours: pa.nulls(batch.num_rows) for ours in optional if ours not in present}
        judging, owned = (
            [(name, column) for name, column in zip(names, batch.columns, strict=True) if name in wanted]
            for wanted in (safety, rights)
        )
        yield Piece(path.name, first, present | lacking, judging, owned)
        first += batch.num_rows


def _plain(path: Path, column: pa.Array) -> pa.Array:
    with naming(path):
        return plain(column)


def _facecaption_batch(piece: Piece, faults: Faults) -> list[pa.Array]:
    batch = piece.columns
    return [
        texts(batch["url"], piece.notes("url", faults)),
        _as_text(batch["_id"], piece.notes("id", faults)),
        text_lists(batch["caption"], piece.notes("caption", faults)),
        texts(batch["box"], piece.notes("box", faults)),
        _sample_ids(batch["SAMPLE_ID"], piece.notes("sample_id", faults)),
    ]


def _laion_batch(piece: Piece, faults: Faults) -> list[pa.Array]:
    batch = piece.columns
    width, height = _sides(batch["WIDTH"]), _sides(batch["HEIGHT"])
    has_size = pc.and_(pc.is_valid(width), pc.is_valid(height))
    nsfw, punsafe = judged(piece.safety, len(width), piece.notes("nsfw", faults))
    return [
        texts(batch["URL"], piece.notes("url", faults)),
        texts(batch["TEXT"], piece.notes("text", faults)),
        pc.if_else(has_size, width, None).cast(pa.int32()),
        pc.if_else(has_size, height, None).cast(pa.int32()),
        pc.multiply(pc.if_else(has_size, width, None), height),
        nsfw,
        floats(batch["similarity"], piece.notes("similarity", faults)),
        texts(batch["LICENSE"], piece.notes("license", faults)),
        _sample_ids(batch["SAMPLE_ID"], piece.notes("sample_id", faults)),
        punsafe,
        floats(batch["pwatermark"], piece.notes("pwatermark", faults)),
        texts(batch["sha256"], piece.notes("sha256", faults)),
        texts(batch["md5"], piece.notes("md5", faults)),
        rights_column(piece.rights, len(width), piece.notes("rights", faults)),
    ]


def _detection_batch(piece: Piece, faults: Faults) -> list[pa.Array]:
    wholes = [whole_numbers(piece.columns[name], piece.notes(name, faults)) for name in ("SAMPLE_ID", "num_faces")]
    return [*wholes, *(floats(piece.columns[name], piece.notes(name, faults)) for name in ("face_side", "face_area"))]


def _url_batch(piece: Piece, faults: Faults) -> list[pa.Array]:
    return [texts(piece.columns["URL"], piece.notes("url", faults))]


def _as_text(column: pa.Array, notes: Notes) -> pa.Array:
    """Return texts or numbers as text; floats as Python writes them."""
    if pt.is_floating(column.type):
        return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())
    return texts(column, notes)


def _sides(column: pa.Array) -> pa.Array:
    """Return whole pixels as int64, null where the side is missing, not a number, below 1 or absurdly large."""
    side = pc.cast(column, pa.float64(), safe=False)
    fits = pc.and_(pc.greater_equal(side, 1.0), pc.less_equal(side, float(LARGEST_SIDE_PX)))
    return pc.cast(pc.floor(pc.if_else(fits, side, None)), pa.int64())


def _sample_ids(column: pa.Array, notes: Notes) -> pa.Array:
    """Return ids as text; floats are counted, and those that hold no exact whole number are lost, counted too."""
    if not pt.is_floating(column.type):
        return _as_text(column, notes)
    number = pc.cast(column, pa.float64())
    present = pc.fill_null(pc.is_finite(number), False)
    small = pc.less(pc.abs(number), LARGEST_EXACT_FLOAT)
    exact = pc.and_(present, pc.and_(small, pc.equal(pc.floor(number), number)))
    exact = pc.fill_null(exact, False)
    notes.note_all("sample_id_float", present)
    notes.note_all("sample_id_inexact", pc.and_not(present, exact))
    return pc.cast(pc.cast(pc.if_else(exact, number, None), pa.int64()), pa.string())

"""Both metadata sources arrive in parquet of loose types: here they become streams of columns of one strict type each.

FaceCaption rows carry `_id, caption, url, box`, LAION rows `URL, TEXT, WIDTH, HEIGHT, NSFW, similarity, LICENSE,
SAMPLE_ID`. A stream has one row per source row; what a column of the wrong type, a text that is no UTF-8, or an id that
went through a float has lost is counted; what the texts themselves hold is `curation.commands.rank.cleaning`'s matter.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.errors import UsageError
from curation.storage.publish import sha256_of

BATCH_ROWS = 65_536
LARGEST_SIDE_PX = 2**31 - 1
LARGEST_EXACT_FLOAT = 2.0**53
THRIFT_LIMIT_BYTES = 256 * 1024 * 1024

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
    ]
)

Batch = Mapping[str, pa.Array]
"""Columns of some rows by the source's own names."""


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _is_texts(kind: pa.DataType) -> bool:
    return bool((pa.types.is_list(kind) or pa.types.is_large_list(kind)) and _is_text(kind.value_type))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind))


def _is_text_or_number(kind: pa.DataType) -> bool:
    return _is_text(kind) or _is_number(kind)


Columns = Mapping[str, tuple[Callable[[pa.DataType], bool], str]]
FACECAPTION_COLUMNS: Columns = {
    "_id": (_is_text_or_number, "text or a number"),
    "caption": (_is_texts, "a list of texts"),
    "url": (_is_text, "text"),
    "box": (_is_text, "text"),
}
LAION_COLUMNS: Columns = {
    "URL": (_is_text, "text"),
    "TEXT": (_is_text, "text"),
    "WIDTH": (_is_number, "a number"),
    "HEIGHT": (_is_number, "a number"),
    "NSFW": (_is_text, "text"),
    "similarity": (_is_number, "a number"),
    "LICENSE": (_is_text, "text"),
    "SAMPLE_ID": (_is_text_or_number, "text or a number"),
}
FACECAPTION_OPTIONAL: Columns = {"SAMPLE_ID": (_is_text_or_number, "text or a number")}
LAION_OPTIONAL: Columns = {
    "punsafe": (_is_number, "a number"),
    "pwatermark": (_is_number, "a number"),
    "sha256": (_is_text, "text"),
    "md5": (_is_text, "text"),
}


def parquet_files(source: Path) -> list[Path]:
    """Return the parquet files of a file or folder, in the order of their names.

    Raises: UsageError when there is none.
    """
    files = sorted(source.glob("*.parquet")) if source.is_dir() else [source] if source.is_file() else []
    if not files:
        raise UsageError(f"{source}: no parquet file here; give a .parquet file or a folder that holds some")
    return files


def file_digests(source: Path) -> dict[str, str]:
    """Return the sha256 of each parquet file by its name."""
    return {path.name: sha256_of(path) for path in parquet_files(source)}


def num_rows_of(source: Path) -> int:
    """Return the number of rows of all parquet files of `source`, from their footers."""
    total = 0
    for path in parquet_files(source):
        with _open(path, {}, {}) as parquet:
            total += parquet.metadata.num_rows
    return total


def has_sample_ids(source: Path) -> bool:
    """Return whether any file of `source` has a column SAMPLE_ID."""
    for path in parquet_files(source):
        with _open(path, {}, {}) as parquet:
            if "SAMPLE_ID" in parquet.schema_arrow.names:
                return True
    return False


def facecaption_stream(source: Path, faults: Counter[str]) -> pa.RecordBatchReader:
    """Stream the rows of `source` in the shape FACECAPTION_RAW; `faults` is complete once the stream is read."""
    return _stream(source, FACECAPTION_COLUMNS, FACECAPTION_OPTIONAL, FACECAPTION_RAW, _facecaption_batch, faults)


def laion_stream(source: Path, faults: Counter[str]) -> pa.RecordBatchReader:
    """Stream the rows of `source` in the shape LAION_RAW; `faults` is complete once the stream is read."""
    return _stream(source, LAION_COLUMNS, LAION_OPTIONAL, LAION_RAW, _laion_batch, faults)


def url_stream(source: Path) -> pa.RecordBatchReader:
    """Stream the column `URL` or `url` of the parquet files of `source` as one column `raw`.

    Raises:
        UsageError: a file has neither.
    """
    schema = pa.schema([("raw", pa.string())])
    files = parquet_files(source)
    names = {path: _url_column(path) for path in files}

    def batches() -> Iterator[pa.RecordBatch]:
        for path, name in names.items():
            for batch in _batches(path, {name: (_is_text, "text")}, {}):
                yield pa.RecordBatch.from_arrays([_text(batch[name], Counter())], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _url_column(path: Path) -> str:
    with _open(path, {}, {}) as parquet:
        names = parquet.schema_arrow.names
    column = next((name for name in ("URL", "url") if name in names), None)
    if column is None:
        raise UsageError(f"{path}: column 'URL' or 'url' is missing; the file has {', '.join(names)}")
    return column


def _stream(
    source: Path,
    columns: Columns,
    optional: Columns,
    schema: pa.Schema,
    shape: Callable[[Batch, Counter[str]], list[pa.Array]],
    faults: Counter[str],
) -> pa.RecordBatchReader:
    files = parquet_files(source)
    for path in files:
        _open(path, columns, optional).close()

    def batches() -> Iterator[pa.RecordBatch]:
        for path in files:
            for batch in _batches(path, columns, optional):
                yield pa.RecordBatch.from_arrays(shape(batch, faults), schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _open(path: Path, columns: Columns, optional: Columns) -> pq.ParquetFile:
    """Open one file after a look at its types."""
    try:
        parquet = pq.ParquetFile(path, thrift_string_size_limit=THRIFT_LIMIT_BYTES)
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path}: cannot be read as parquet: {error}") from error
    present = {name: wanted for name, wanted in optional.items() if name in parquet.schema_arrow.names}
    _check_columns(path, parquet.schema_arrow, {**columns, **present})
    return parquet


def _batches(path: Path, columns: Columns, optional: Columns) -> Iterator[Batch]:
    """Yield the wanted columns of one file, nulls for an optional one that it lacks."""
    with _open(path, columns, optional) as parquet:
        present = [name for name in (*columns, *optional) if name in parquet.schema_arrow.names]
        try:
            for batch in parquet.iter_batches(batch_size=BATCH_ROWS, columns=present):
                lacking = {name: pa.nulls(batch.num_rows) for name in optional if name not in present}
                yield {name: batch[name] for name in present} | lacking
        except (pa.ArrowException, OSError) as error:
            raise UsageError(f"{path}: cannot be read as parquet: {error}") from error


def _check_columns(path: Path, schema: pa.Schema, columns: Columns) -> None:
    for name, (fits, wanted) in columns.items():
        if name not in schema.names:
            raise UsageError(f"{path}: column {name!r} is missing; the file has {', '.join(schema.names)}")
        if not fits(schema.field(name).type):
            raise UsageError(f"{path}: column {name!r} is {schema.field(name).type}, but {wanted} is needed")


def _facecaption_batch(batch: Batch, faults: Counter[str]) -> list[pa.Array]:
    return [
        _text(batch["url"], faults),
        _as_text(batch["_id"], faults),
        _texts(batch["caption"], faults),
        _text(batch["box"], faults),
        _sample_ids(batch["SAMPLE_ID"], faults),
    ]


def _laion_batch(batch: Batch, faults: Counter[str]) -> list[pa.Array]:
    width, height = _sides(batch["WIDTH"]), _sides(batch["HEIGHT"])
    has_size = pc.and_(pc.is_valid(width), pc.is_valid(height))
    return [
        _text(batch["URL"], faults),
        _text(batch["TEXT"], faults),
        pc.if_else(has_size, width, None).cast(pa.int32()),
        pc.if_else(has_size, height, None).cast(pa.int32()),
        pc.multiply(pc.if_else(has_size, width, None), height),
        _text(batch["NSFW"], faults),
        _finite(batch["similarity"]),
        _text(batch["LICENSE"], faults),
        _sample_ids(batch["SAMPLE_ID"], faults),
        _finite(batch["punsafe"]),
        _finite(batch["pwatermark"]),
        _text(batch["sha256"], faults),
        _text(batch["md5"], faults),
    ]


def _finite(column: pa.Array) -> pa.Array:
    number = pc.cast(column, pa.float64())
    return pc.if_else(pc.is_finite(number), number, None)


def _text(column: pa.Array, faults: Counter[str]) -> pa.Array:
    """Return a text column whose every value is UTF-8; one that is not becomes null and is counted."""
    if _is_sound(column):
        return column.cast(pa.string())
    return pa.array(_values(column, faults), pa.string())


def _texts(column: pa.Array, faults: Counter[str]) -> pa.Array:
    if _is_sound(column):
        return column.cast(pa.list_(pa.string()))
    return pa.array(_values(column, faults), pa.list_(pa.string()))


def _as_text(column: pa.Array, faults: Counter[str]) -> pa.Array:
    """Return texts or numbers as text; floats as Python writes them."""
    if pa.types.is_floating(column.type):
        return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())
    return column.cast(pa.string()) if pa.types.is_integer(column.type) else _text(column, faults)


def _is_sound(column: pa.Array) -> bool:
    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _values(column: pa.Array, faults: Counter[str]) -> list[Any]:
    """Return Python values; a text that is not UTF-8 becomes None and is counted."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        nested = _is_texts(column.type)
        raw = column.cast(pa.list_(pa.binary()) if nested else pa.binary()).to_pylist()
        if nested:
            return [None if texts is None else [_decoded(text, faults) for text in texts] for texts in raw]
        return [_decoded(text, faults) for text in raw]


def _decoded(text: bytes | None, faults: Counter[str]) -> str | None:
    try:
        return None if text is None else text.decode()
    except UnicodeDecodeError:
        faults["not_utf8"] += 1
        return None


def _sides(column: pa.Array) -> pa.Array:
    """Return whole pixels as int64, null where the side is missing, not a number, below 1 or absurdly large."""
    side = pc.cast(column, pa.float64())
    fits = pc.and_(pc.greater_equal(side, 1.0), pc.less_equal(side, float(LARGEST_SIDE_PX)))
    return pc.cast(pc.floor(pc.if_else(fits, side, None)), pa.int64())


def _sample_ids(column: pa.Array, faults: Counter[str]) -> pa.Array:
    """Return ids as text; floats are counted, and those that hold no exact whole number are lost, counted too."""
    if not pa.types.is_floating(column.type):
        return _as_text(column, faults)
    number = pc.cast(column, pa.float64())
    present = pc.fill_null(pc.is_finite(number), False)
    small = pc.less(pc.abs(number), LARGEST_EXACT_FLOAT)
    exact = pc.and_(present, pc.and_(small, pc.equal(pc.floor(number), number)))
    exact = pc.fill_null(exact, False)
    num_present, num_exact = (pc.sum(mask).as_py() or 0 for mask in (present, exact))
    faults["sample_id_float"] += num_present
    faults["sample_id_inexact"] += num_present - num_exact
    return pc.cast(pc.cast(pc.if_else(exact, number, None), pa.int64()), pa.string())

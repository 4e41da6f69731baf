"""Rows of Parquet and Arrow files whose cells hold encoded pictures, such as those of the Hub's `Image` feature."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.dataset.tar.names import CAPTION_SUFFIX, IMAGE_SUFFIXES, METADATA_SUFFIX
from curation.errors import ShardError, UsageError

PICTURE_NAMES = IMAGE_SUFFIXES | {"image", "picture", "photo", "bytes", "image_bytes", "content"}
CAPTION_NAMES = ("caption", "text", "txt", "captions", "prompt")
"""Columns that hold the caption, the first that is there."""
NUM_BATCH_ROWS = 8
BUFFER_BYTES = 1 << 20
FAULTS = (pa.ArrowException, OSError, ValueError, KeyError)
"""What Arrow says of a damaged file."""


def count_rows(local: Path, shown: Path) -> int:
    """Return how many rows a file has; of Parquet by its footer.

    Raises:
        ShardError: it cannot be read.
    """
    try:
        if local.suffix.lower() == ".parquet":
            with pq.ParquetFile(local) as parquet:
                return _stated_rows(parquet.metadata)
        with _arrow(local) as batches:
            return sum(batch.num_rows for batch in batches)
    except FAULTS as error:
        raise ShardError(f"{shown}: cannot be read: {error}") from error


def _stated_rows(metadata: Any) -> int:
    """Return how many rows a footer states, in sum and by group of rows; ValueError where the two differ."""
    parts = sum(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))
    if parts != metadata.num_rows:
        raise ValueError(f"its footer states {metadata.num_rows} rows, and {parts} in its parts")
    return int(parts)


def has_pictures(local: Path, shown: Path) -> bool:
    """Whether a column of the file holds encoded pictures.

    Raises:
        ShardError: it cannot be read.
        UsageError: several columns may hold them, and no name says which.
    """
    try:
        if local.suffix.lower() == ".parquet":
            with pq.ParquetFile(local) as parquet:
                return bool(picture_columns(parquet.schema_arrow, shown))
        with _arrow(local) as batches:
            return bool(picture_columns(batches.schema, shown))
    except FAULTS as error:
        raise ShardError(f"{shown}: cannot be read: {error}") from error


def picture_columns(schema: pa.Schema, shown: Path) -> list[int]:
    """Return the numbers of the columns that hold pictures: by name where some have a usual one, else the only one.

    Raises:
        UsageError: several may, and no name says which.
    """
    binary = [number for number, column in enumerate(schema) if _is_binary(column.type)]
    named = [number for number in binary if schema[number].name.lower() in PICTURE_NAMES]
    if not named and len(binary) > 1:
        names = ", ".join(schema[number].name for number in binary)
        raise UsageError(f"{shown}: the columns {names} may hold pictures; call the one that does `image`")
    return named or binary


def members_of_rows(local: Path, shown: Path, first: int, num_rows: int) -> Iterator[tuple[str, bytes]]:
    """Yield the members of the samples that some rows are, keyed by the row's number in the file.

    Raises:
        ShardError: the file cannot be read, or gives fewer rows.
    """
    count = 0
    try:
        for number, batch, place in _rows(local, first, num_rows):
            yield from _members(f"{number:09d}", batch, place, picture_columns(batch.schema, shown))
            count += 1
    except FAULTS as error:
        raise ShardError(f"{shown}: cannot be read behind row {first + count}: {error}") from error
    if count != num_rows:
        raise ShardError(f"{shown}: gives {count} rows from row {first} on, and {num_rows} should be there")


def _rows(local: Path, first: int, num_rows: int) -> Iterator[tuple[int, pa.RecordBatch, int]]:
    """Yield number, batch and place in it of every wanted row."""
    number = 0
    if local.suffix.lower() == ".parquet":
        with pq.ParquetFile(local, buffer_size=BUFFER_BYTES, pre_buffer=False) as parquet:
            for group in range(parquet.num_row_groups):
                size = parquet.metadata.row_group(group).num_rows
                if number + size > first and number < first + num_rows:
                    yield from _wanted(parquet.iter_batches(NUM_BATCH_ROWS, [group]), number, first, num_rows)
                number += size
    else:
        with _arrow(local) as batches:
            yield from _wanted(batches, 0, first, num_rows)


def _wanted(
    batches: Iterator[pa.RecordBatch], number: int, first: int, num_rows: int
) -> Iterator[tuple[int, pa.RecordBatch, int]]:
    for batch in batches:
        if number >= first + num_rows:
            return
        for place in range(max(first - number, 0), min(first + num_rows - number, batch.num_rows)):
            yield number + place, batch, place
        number += batch.num_rows


@contextmanager
def _arrow(local: Path) -> Iterator[Any]:
    """Yield the batches of an Arrow stream, as `datasets` writes them, or of an Arrow file."""
    with pa.memory_map(str(local)) as file:
        try:
            reader = pa.ipc.open_stream(file)
        except pa.ArrowInvalid:
            file.seek(0)
            whole = pa.ipc.open_file(file)
            batches = (whole.get_batch(number) for number in range(whole.num_record_batches))
            reader = pa.RecordBatchReader.from_batches(whole.schema, batches)
        yield reader


def _is_binary(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(kind[number].name == "bytes" and _is_binary(kind[number].type) for number in range(kind.num_fields))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))


def _members(key: str, batch: pa.RecordBatch, place: int, pictures: list[int]) -> Iterator[tuple[str, bytes]]:
    """Yield picture, metadata and caption of a row; of a row with several pictures, a sample for each."""
    names = batch.schema.names
    found = {number: content for number in pictures if (content := _bytes(batch.column(number)[place]))}
    fields = {
        name: _plain(batch.column(number)[place])
        for number, name in reversed(list(enumerate(names)))
        if not _is_binary(batch.schema.types[number])
    }
    caption, metadata = _caption(fields), json.dumps(_flat(fields), sort_keys=True, default=str).encode()
    for number in found or (-1,):
        own = key if len(found) < 2 else f"{key}_{number}"
        if number in found:
            yield f"{own}.img", found[number]
        yield f"{own}.{METADATA_SUFFIX}", metadata
        if caption is not None:
            yield f"{own}.{CAPTION_SUFFIX}", caption.encode("utf-8", "replace")


def _bytes(cell: Any) -> bytes | None:
    value = cell.as_py()
    return value.get("bytes") if isinstance(value, dict) else value


def _plain(cell: Any) -> Any:
    """Return a cell as what JSON has, or as text where Python has no such value."""
    try:
        return cell.as_py()
    except (ValueError, OverflowError, pa.ArrowException):
        return str(cell)


def _caption(fields: dict[str, Any]) -> str | None:
    """Take the caption out of a row's fields."""
    by_name = {name.lower(): name for name in reversed(list(fields))}
    for name in CAPTION_NAMES:
        value = fields.get(by_name.get(name, ""))
        if isinstance(value, list):
            value = next((text for text in value if isinstance(text, str)), None)
        if isinstance(value, str):
            return value
    return None


def _flat(fields: dict[str, Any]) -> dict[str, Any]:
    """Return a row's fields as the metadata of a sample: those of a column `json` in their own right, `url` by name."""
    own = fields.get(METADATA_SUFFIX)
    flat = {**(own if isinstance(own, dict) else {}), **{n: v for n, v in fields.items() if n != METADATA_SUFFIX}}
    url = next((value for name, value in flat.items() if name.lower() == "url"), None)
    return flat if url is None else {**flat, "url": url}

"""Both metadata sources arrive dirty: here every row becomes clean columns or a counted, named fault, once.

FaceCaption rows carry `_id, caption, url, box`, LAION rows `URL, TEXT, WIDTH, HEIGHT, NSFW, similarity, LICENSE,
SAMPLE_ID`. A cleaned file has one row per source row. Where the URL cannot be used, `uid` is null and `content`
names the row by what it holds, never by its position, so that the order of the input files changes nothing.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.commit import sha256_of
from curation.errors import UsageError
from curation.sample import normalise_url, uid_of_bytes

BATCH_ROWS = 65_536
NUM_BOX_SIDES = 4
LARGEST_SIDE_PX = 2**31 - 1
LARGEST_EXACT_FLOAT = 2.0**53
THRIFT_LIMIT_BYTES = 256 * 1024 * 1024

_ADDRESS = [("uid", pa.string()), ("url", pa.string()), ("content", pa.string())]
FACECAPTION_CLEAN = pa.schema(
    [*_ADDRESS, ("id", pa.string()), ("captions", pa.list_(pa.string())), ("box", pa.list_(pa.int32()))]
)
LAION_CLEAN = pa.schema(
    [
        *_ADDRESS,
        ("caption", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("area", pa.int64()),
        ("nsfw", pa.string()),
        ("similarity", pa.float64()),
        ("license", pa.string()),
        ("sample_id", pa.string()),
    ]
)


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


def parquet_files(source: Path) -> list[Path]:
    """Return the parquet files of a file or folder, in the order of their names.

    Raises: UsageError when there is none.
    """
    found = sorted(source.glob("*.parquet")) if source.is_dir() else [source] if source.is_file() else []
    if not found:
        raise UsageError(f"{source}: no parquet file here; give a .parquet file or a folder that holds some")
    return found


def file_digests(source: Path) -> dict[str, str]:
    """Return the sha256 of each parquet file by its name."""
    return {path.name: sha256_of(path) for path in parquet_files(source)}


def clean_facecaption(source: Path, target: Path) -> dict[str, int]:
    """Write the rows of `source` to the file `target` in the shape FACECAPTION_CLEAN; return faults by name."""
    return _clean(source, target, FACECAPTION_COLUMNS, FACECAPTION_CLEAN, _facecaption_rows)


def clean_laion(source: Path, target: Path) -> dict[str, int]:
    """Write the rows of `source` to the file `target` in the shape LAION_CLEAN; return faults by name."""
    return _clean(source, target, LAION_COLUMNS, LAION_CLEAN, _laion_rows)


def usable_url(raw: str | None) -> str | None:
    """Return the normalised URL, or None where the text is empty, "UNKNOWN" or no http(s) address."""
    if raw is None or raw.strip() in ("", "UNKNOWN"):
        return None
    try:
        url = normalise_url(raw.strip())
    except ValueError:
        return None
    return url if url.startswith(("http://", "https://")) else None


def face_box(raw: str | None) -> list[int] | None:
    """Parse FaceCaption's box, JSON text `[x1, y1, x2, y2]` in pixels; None where it is broken or has no area."""
    try:
        box = json.loads(raw or "")
    except (ValueError, RecursionError):
        return None
    if not isinstance(box, list) or len(box) != NUM_BOX_SIDES:
        return None
    if any(isinstance(side, bool) or not isinstance(side, int | float) for side in box):
        return None
    if any(not math.isfinite(side) or abs(side) > LARGEST_SIDE_PX for side in box):
        return None
    left, top, right, bottom = (round(side) for side in box)
    if right <= max(left, 0) or bottom <= max(top, 0):
        return None
    return [left, top, right, bottom]


def _clean(
    source: Path,
    target: Path,
    columns: Columns,
    schema: pa.Schema,
    rows: Callable[[pa.RecordBatch, Counter[str]], pa.Table],
) -> dict[str, int]:
    """Stream every file of `source` through `rows` into `target`."""
    faults: Counter[str] = Counter()
    with pq.ParquetWriter(target, schema, compression="zstd", compression_level=1) as writer:
        for path in parquet_files(source):
            for batch in _batches(path, columns):
                writer.write_table(rows(batch, faults))
    return dict(sorted(faults.items()))


def _batches(path: Path, columns: Columns) -> Iterator[pa.RecordBatch]:
    """Yield the wanted columns of one file, after a look at their types."""
    try:
        with pq.ParquetFile(path, thrift_string_size_limit=THRIFT_LIMIT_BYTES) as parquet:
            _check_columns(path, parquet.schema_arrow, columns)
            yield from parquet.iter_batches(batch_size=BATCH_ROWS, columns=list(columns))
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path}: cannot be read as parquet: {error}") from error


def _check_columns(path: Path, schema: pa.Schema, columns: Columns) -> None:
    for name, (fits, wanted) in columns.items():
        if name not in schema.names:
            raise UsageError(f"{path}: column {name!r} is missing; the file has {', '.join(schema.names)}")
        if not fits(schema.field(name).type):
            raise UsageError(f"{path}: column {name!r} is {schema.field(name).type}, but {wanted} is needed")


def _facecaption_rows(batch: pa.RecordBatch, faults: Counter[str]) -> pa.Table:
    urls = _values(batch["url"], faults)
    heads = [_without_extra_text(url) for url in urls]
    faults["url_extra_text"] += sum(head != url for head, url in zip(heads, urls, strict=True))
    addresses = _addresses("facecaption", batch, urls, heads, faults)

    captions = [[text for text in texts or [] if text and text.strip()] for texts in _values(batch["caption"], faults)]
    boxes = [face_box(box) for box in _values(batch["box"], faults)]
    faults["caption_missing"] += sum(not texts for texts in captions)
    faults["box_broken"] += sum(box is None for box in boxes)
    identities = [None if value is None else str(value) for value in _values(batch["_id"], faults)]
    return pa.table([*addresses, identities, captions, boxes], schema=FACECAPTION_CLEAN)


def _laion_rows(batch: pa.RecordBatch, faults: Counter[str]) -> pa.Table:
    urls = _values(batch["URL"], faults)
    texts = [text if text and text.strip() else None for text in _values(batch["TEXT"], faults)]
    faults["caption_missing"] += texts.count(None)
    width, height = _sides(batch["WIDTH"]), _sides(batch["HEIGHT"])
    has_size = pc.and_(pc.is_valid(width), pc.is_valid(height))
    faults["no_size"] += batch.num_rows - (pc.sum(has_size).as_py() or 0)
    similarity = pc.cast(batch["similarity"], pa.float64())
    return pa.table(
        [
            *_addresses("laion", batch, urls, urls, faults),
            pa.array(texts, pa.string()),
            pc.if_else(has_size, width, None).cast(pa.int32()),
            pc.if_else(has_size, height, None).cast(pa.int32()),
            pc.multiply(pc.if_else(has_size, width, None), height),
            pa.array(_values(batch["NSFW"], faults), pa.string()),
            pc.if_else(pc.is_finite(similarity), similarity, None),
            pa.array(_values(batch["LICENSE"], faults), pa.string()),
            _sample_ids(batch["SAMPLE_ID"], faults),
        ],
        schema=LAION_CLEAN,
    )


def _without_extra_text(url: str | None) -> str | None:
    return None if url is None else url.split(", ", 1)[0]


def _addresses(
    source: str, batch: pa.RecordBatch, urls: list[str | None], heads: list[str | None], faults: Counter[str]
) -> list[pa.Array]:
    """Return the columns uid, url and content; where uid is null, url is the raw text."""
    usable = [usable_url(head) for head in heads]
    faults["url_unusable"] += usable.count(None)
    content: list[str | None] = [None] * len(usable)
    for row, url in enumerate(usable):
        if url is None:
            content[row] = _content(source, batch.slice(row, 1))
    shown = [raw if url is None else url for raw, url in zip(urls, usable, strict=True)]
    uids = [None if url is None else uid_of_bytes(url.encode()) for url in usable]  # uid_of_url would normalise again
    return [pa.array(column, pa.string()) for column in (uids, shown, content)]


def _content(source: str, row: pa.RecordBatch) -> str:
    """Name a row without address by what it holds: 32 hex digits."""
    held = {name: _values(row[name], Counter())[0] for name in row.schema.names}
    return uid_of_bytes(f"{source} {json.dumps(held, sort_keys=True)}".encode())


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
        return pa.array([None if value is None else str(value) for value in _values(column, faults)], pa.string())
    number = pc.cast(column, pa.float64())
    present = pc.fill_null(pc.is_finite(number), False)
    small = pc.less(pc.abs(number), LARGEST_EXACT_FLOAT)
    exact = pc.and_(present, pc.and_(small, pc.equal(pc.floor(number), number)))
    exact = pc.fill_null(exact, False)
    num_present, num_exact = (pc.sum(mask).as_py() or 0 for mask in (present, exact))
    faults["sample_id_float"] += num_present
    faults["sample_id_inexact"] += num_present - num_exact
    return pc.cast(pc.cast(pc.if_else(exact, number, None), pa.int64()), pa.string())

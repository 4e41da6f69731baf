"""Metadata comes in many shapes: here each becomes LAION-shaped or FaceCaption-shaped parquet that `rank` reads.

Columns are found by name, in any of the spellings that the known sources use. A row that cannot be read, and a value
that is not what its column needs, is a counted, named fault; a row that lacks only some value goes on to `rank`.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.commands.importing.laion_pth import convert_pth
from curation.commands.importing.sources import as_text, tables
from curation.errors import UsageError
from curation.storage.publish import publish

Shape = Literal["laion", "facecaption"]
TARGETS: Mapping[Shape, pa.Schema] = {
    "laion": pa.schema(
        [
            ("URL", pa.string()),
            ("TEXT", pa.string()),
            ("WIDTH", pa.float64()),
            ("HEIGHT", pa.float64()),
            ("NSFW", pa.string()),
            ("similarity", pa.float64()),
            ("LICENSE", pa.string()),
            ("SAMPLE_ID", pa.int64()),
            ("punsafe", pa.float64()),
            ("pwatermark", pa.float64()),
            ("sha256", pa.string()),
            ("md5", pa.string()),
        ]
    ),
    "facecaption": pa.schema(
        [
            ("_id", pa.string()),
            ("caption", pa.list_(pa.string())),
            ("url", pa.string()),
            ("box", pa.string()),
            ("SAMPLE_ID", pa.int64()),
        ]
    ),
}
SPELLINGS: Mapping[str, tuple[str, ...]] = {
    "URL": ("URL", "url", "image_url", "img_url", "link"),
    "url": ("url", "URL", "image_url", "img_url", "link"),
    "TEXT": ("TEXT", "text", "caption", "alt", "alt_text", "title"),
    "WIDTH": ("WIDTH", "original_width", "width"),
    "HEIGHT": ("HEIGHT", "original_height", "height"),
    "NSFW": ("NSFW", "nsfw"),
    "similarity": ("similarity", "SIMILARITY", "clip_similarity_vitb32"),
    "LICENSE": ("LICENSE", "license"),
    "SAMPLE_ID": ("SAMPLE_ID", "sample_id"),
    "punsafe": ("punsafe", "PUNSAFE"),
    "pwatermark": ("pwatermark", "PWATERMARK", "watermark"),
    "sha256": ("sha256",),
    "md5": ("md5",),
    "_id": ("_id", "id", "key"),
    "caption": ("caption", "captions", "text", "TEXT"),
    "box": ("box", "bbox", "face_box"),
}
"""Column of ours -> what sources call it, the likeliest first."""


@dataclass(frozen=True)
class Imported:
    """What an import wrote: rows, and faults by name."""

    num_rows: int
    faults: Mapping[str, int]
    columns: Mapping[str, str]
    """Column of ours -> column of the source's first rows; the others are null."""


def shape_of(name: str) -> Shape:
    """Return the shape of that name.

    Raises:
        UsageError: there is none.
    """
    shape = next((known for known in TARGETS if known == name), None)
    if shape is None:
        raise UsageError(f"--as {name}: no such shape; the choices are {', '.join(TARGETS)}")
    return shape


def import_metadata(source: str, target: Path, shape: Shape = "laion", ids: Path | None = None) -> Imported:
    """Write the metadata of `source` as the parquet file `target`.

    `source` is a parquet, csv, tsv or json-lines file, a folder of any of these or of img2dataset tars, one `.pth` file
    of LAION-Face, a data set saved by Hugging Face `datasets`, or the name of one on the Hub. `ids`, made from
    `laion_face_ids.pth`, keeps only the rows that it names; those of them that `source` lacks are listed in
    `{target}.missing.parquet`.

    Raises:
        UsageError: there is nothing to read, or no column holds URLs.
        SafetyError: a `.pth` file holds more than plain data.
    """
    if source.endswith(".pth"):
        convert_pth(Path(source), target)
        return Imported(pq.ParquetFile(target).metadata.num_rows, {}, {})
    faults: Counter[str] = Counter()
    columns: dict[str, str] = {}
    schema = TARGETS[shape]
    num_rows = 0
    wanted = None if ids is None else _Wanted(ids)

    def write(path: Path) -> None:
        nonlocal num_rows
        with pq.ParquetWriter(path, schema, compression="zstd") as writer:
            for table in tables(source, faults):
                if not columns:
                    columns.update(_columns(table.column_names, schema, source))
                shaped = _shaped(table, schema, faults)
                if wanted is not None:
                    shaped = wanted.among(shaped)
                writer.write_table(shaped)
                num_rows += shaped.num_rows

    publish(target, write)
    if wanted is not None:
        missing = wanted.missing()
        faults["id_not_in_metadata"] += missing.num_rows
        publish(target.with_name(f"{target.stem}.missing.parquet"), lambda temp: pq.write_table(missing, temp))
    return Imported(num_rows, dict(sorted(faults.items())), columns)


class _Wanted:
    """The ids of LAION-Face, and which of them a source has shown.

    A SAMPLE_ID is looked for in all parts: a later release of the metadata need not be cut as LAION-400M was.
    """

    def __init__(self, path: Path) -> None:
        """Read parquet with columns `part` and `SAMPLE_ID`."""
        try:
            self._ids = pq.read_table(path, columns=["part", "SAMPLE_ID"])
        except (OSError, pa.ArrowException) as error:
            raise UsageError(f"{path}: not the parquet that `import laion_face_ids.pth` writes: {error}") from error
        self._known = np.unique(self._ids["SAMPLE_ID"].to_numpy())
        self._is_seen = np.zeros(len(self._known), bool)

    def among(self, table: pa.Table) -> pa.Table:
        """Return the rows of a table that are wanted."""
        ids = pc.fill_null(table["SAMPLE_ID"], -1).to_numpy()
        places = np.searchsorted(self._known, ids).clip(0, max(0, len(self._known) - 1))
        is_wanted = self._known[places] == ids if len(self._known) else np.zeros(len(ids), bool)
        self._is_seen[places[is_wanted]] = True
        return table.filter(pa.array(is_wanted))

    def missing(self) -> pa.Table:
        """Return the ids that no row had."""
        return self._ids.filter(pc.is_in(self._ids["SAMPLE_ID"], pa.array(self._known[~self._is_seen], pa.int64())))


def _columns(names: list[str], schema: pa.Schema, source: str) -> dict[str, str]:
    columns = {
        ours: theirs for ours in schema.names if (theirs := next((n for n in SPELLINGS[ours] if n in names), None))
    }
    if not {"URL", "url"} & columns.keys():
        raise UsageError(
            f"{source}: no column of URLs; it has {', '.join(names)}, and one of {SPELLINGS['URL']} is needed"
        )
    return columns


def _shaped(table: pa.Table, schema: pa.Schema, faults: Counter[str]) -> pa.Table:
    """Return a table in the wanted shape; a value that its column cannot hold becomes null and is counted."""
    columns = []
    for field in schema:
        theirs = next((name for name in SPELLINGS[field.name] if name in table.column_names), None)
        if theirs is None:
            columns.append(pa.nulls(table.num_rows, field.type))
        else:
            columns.append(_fitted(table[theirs], field, faults))
    return pa.table(columns, schema=schema)


def _fitted(column: pa.ChunkedArray, field: pa.Field, faults: Counter[str]) -> pa.Array | pa.ChunkedArray:
    kind = field.type
    if pa.types.is_list(kind):
        return pa.array([_texts(value, faults) for value in column.to_pylist()], kind)
    if pa.types.is_string(kind):
        if pa.types.is_list(column.type) or pa.types.is_struct(column.type):
            return pa.array([as_text(value) for value in column.to_pylist()], kind)
        return pc.cast(column, kind)
    if pa.types.is_integer(column.type) or column.type == kind or pa.types.is_null(column.type):
        return pc.cast(column, kind)
    return pa.array([_number(value, kind, field.name, faults) for value in column.to_pylist()], kind)


def _texts(value: Any, faults: Counter[str]) -> list[str | None] | None:
    """Return a caption as FaceCaption writes it, a list of texts; a list that came as JSON text is read."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return [value]
    if value is None or isinstance(value, str):
        return None if value is None else [value]
    if isinstance(value, list) and all(text is None or isinstance(text, str) for text in value):
        return value
    faults["caption_broken"] += 1
    return None


def _number(value: Any, kind: pa.DataType, name: str, faults: Counter[str]) -> float | int | None:
    if value is None or value == "":
        return None
    try:
        number = float(value) if pa.types.is_floating(kind) else _exact(value)
    except (ValueError, TypeError, OverflowError):
        faults[f"{name.lower()}_not_a_number"] += 1
        return None
    return number


def _exact(value: Any) -> int:
    """Return a whole number that lost nothing on its way: a float beyond 2 to the 53rd did."""
    if isinstance(value, str):
        return int(value) if "." not in value else _exact(float(value))
    if int(value) != value or (isinstance(value, float) and abs(value) >= 2.0**53):
        raise ValueError(f"{value!r} is no exact whole number")
    return int(value)

"""Metadata comes in many shapes: here each becomes LAION-shaped or FaceCaption-shaped parquet that `rank` reads.

Columns are found by name, in any of the spellings that the known sources use. A row that cannot be read, and a value
that is not what its column needs, is a counted, named fault; a row that lacks only some value goes on to `rank`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.commands.importing.faults import Faults
from curation.commands.importing.laion_pth import convert_pth
from curation.commands.importing.parquet import DAMAGE
from curation.commands.importing.shaping import OwnersNamedError, Shaper
from curation.commands.importing.sources import source_of
from curation.dataset.manifest import MANIFEST_NAME
from curation.dataset.rights import RIGHTS_COLUMN
from curation.errors import UsageError
from curation.run.derived import IMPORTED, homes_of, register_at
from curation.storage.publish import publish

FOOTER_KEY = "facecaptionhq_import"
"""Key of the footer under which an import says, in JSON, what became of every row."""
ID_MISSING, NOT_WANTED = "id_not_in_metadata", "not_in_ids"
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


@dataclass(frozen=True)
class Imported:
    """What an import wrote: rows, and faults by name. `num_rows_in` is `num_rows` and the sum of `lost_rows`."""

    num_rows: int
    faults: Mapping[str, int]
    columns: Mapping[str, str]
    """Column of ours -> column of the source; the others are null."""
    num_rows_in: int = 0
    """Rows that the source holds, as its lines or its footers have it."""
    lost_rows: Mapping[str, int] = field(default_factory=dict)
    """Why rows are not in what was written; the other faults are of values whose rows went on without them."""
    examples: Mapping[str, str] = field(default_factory=dict)
    """Fault -> where the first one stands."""
    lacking: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """File -> columns of ours that it lacks and another file has."""
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Name in the folder -> why it was not read."""
    no_safety: bool = False
    """Whether no row says whether its picture is safe, so that `rank` will want a waiver."""


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
    """Write the metadata of `source` as the parquet file `target`, whose footer says what became of every row.

    `source` is a parquet, csv, tsv, json-lines or txt file, a folder of any of these or of img2dataset tars, one `.pth`
    file of LAION-Face, a data set saved by Hugging Face `datasets`, or `hf://NAME/DATASET` on its Hub. Columns are
    found file by file. `ids`, made from `laion_face_ids.pth`, keeps only the rows that it names; those of them that
    `source` lacks are listed in `{target}.missing.parquet`. Where the source says more than a licence of whose a
    picture is, all its columns of that kind stand in one more column, `rights_json`. Where the source is of a stage,
    the file leaves its card there, by which `forget` finds it.

    Raises:
        UsageError: there is nothing to read, a file is damaged, or no column holds URLs.
        SafetyError: a `.pth` file holds more than plain data.
    """
    register_at(homes_of(_files_of(Path(source))), target, IMPORTED)
    if source.lower().endswith(".pth"):
        convert_pth(Path(source), target)
        return Imported(num_rows := pq.ParquetFile(target).metadata.num_rows, {}, {}, num_rows)
    try:
        return _imported(source, target, TARGETS[shape], ids)
    except OwnersNamedError:  # known by the names of the first file that has such a column
        return _imported(source, target, TARGETS[shape].append(pa.field(RIGHTS_COLUMN, pa.string())), ids)


def _files_of(source: Path) -> Sequence[Path]:
    return (source, source / MANIFEST_NAME, *(sorted(source.iterdir()) if source.is_dir() else ()))


def _imported(source: str, target: Path, schema: pa.Schema, ids: Path | None) -> Imported:
    """Import into one schema, with one writer that counts what it writes.

    Raises:
        OwnersNamedError: the source needs one more column.
    """
    faults = Faults()
    shaper = Shaper(schema, faults)
    wanted = None if ids is None else _Wanted(ids)
    found = source_of(source, shaper.is_wanted, faults, target)
    num_rows = 0
    imported: Imported | None = None

    def write(path: Path) -> None:
        nonlocal num_rows, imported
        with pq.ParquetWriter(path, schema, compression="zstd", write_page_checksum=True) as writer:
            for rows in found.rows:
                shaped = shaper.shape(rows)
                if wanted is not None:
                    shaped = wanted.among(shaped, faults)
                writer.write_table(shaped)
                num_rows += shaped.num_rows
            shaper.require_urls(source)
            imported = _account(num_rows, shaper, found.left_out)
            writer.add_key_value_metadata({FOOTER_KEY: json.dumps(asdict(imported), sort_keys=True)})

    publish(target, write)
    if imported is None:
        raise UsageError(f"{target}: was not written")
    if wanted is None:
        return imported
    missing = wanted.missing()
    publish(target.with_name(f"{target.stem}.missing.parquet"), lambda temp: pq.write_table(missing, temp))
    return replace(imported, faults=dict(sorted({**imported.faults, ID_MISSING: missing.num_rows}.items())))


def _account(num_rows: int, shaper: Shaper, left_out: Mapping[str, str]) -> Imported:
    """Return what became of every row, as it is known once all were read."""
    faults = shaper.faults
    return Imported(
        num_rows,
        faults.named,
        shaper.columns,
        num_rows + faults.lost_rows.total(),
        dict(sorted(faults.lost_rows.items())),
        dict(sorted(faults.examples.items())),
        shaper.lacking,
        left_out,
        shaper.lacks_safety,
    )


class _Wanted:
    """The ids of LAION-Face, and which of them a source has shown.

    A SAMPLE_ID is looked for in all parts: a later release of the metadata need not be cut as LAION-400M was.
    """

    def __init__(self, path: Path) -> None:
        """Read parquet with columns `part` and `SAMPLE_ID`."""
        try:
            self._ids = pq.read_table(path, columns=["part", "SAMPLE_ID"], partitioning=None)
        except DAMAGE as error:
            raise UsageError(f"{path}: not the parquet that `import laion_face_ids.pth` writes: {error}") from error
        self._known = np.unique(self._ids["SAMPLE_ID"].to_numpy())
        self._is_seen = np.zeros(len(self._known), bool)

    def among(self, table: pa.Table, faults: Faults) -> pa.Table:
        """Return the rows of a table that are wanted; the others are counted."""
        ids = pc.fill_null(table["SAMPLE_ID"], -1).to_numpy()
        places = np.searchsorted(self._known, ids).clip(0, max(0, len(self._known) - 1))
        is_wanted = self._known[places] == ids if len(self._known) else np.zeros(len(ids), bool)
        self._is_seen[places[is_wanted]] = True
        faults.lost_rows[NOT_WANTED] += int(len(ids) - is_wanted.sum())
        return table.filter(pa.array(is_wanted))

    def missing(self) -> pa.Table:
        """Return the ids that no row had."""
        return self._ids.filter(pc.is_in(self._ids["SAMPLE_ID"], pa.array(self._known[~self._is_seen], pa.int64())))

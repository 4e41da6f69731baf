"""Whom a pack leaves out by its recipe, by place: recorded beside the index, since it depends on who else was there.

Places in the curated ledgers say nothing of what is pictured, and stay what they are when somebody is forgotten. So a
pack stays as it was cut although the better one of two near duplicates is forgotten; another pack takes the next best.
The table is there before any shard is, so that this holds for a pack that was stopped, too.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from curation.dataset.ledger import NUM_ROW_GROUP_ROWS, ledger_batches
from curation.dataset.manifest import MANIFEST_NAME, STATS_SUFFIX, Manifest, read_manifest
from curation.dataset.stages import LEFT_OUT_NAME, PACK
from curation.recipe.recipe import Recipe
from curation.storage.paths import local_copy
from curation.storage.scratch import insert

if TYPE_CHECKING:
    import duckdb

SCHEMA = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("of_shard", pa.string()),
        pa.field("of_row", pa.int64()),
    ]
)
"""Columns of `left_out.parquet`: who is out, why, and for whom."""
CAPTIONS = pa.field("captions", pa.list_(pa.int32()), nullable=False)
"""A column besides, where somebody is packed without some captions: their places; empty where the sample is out."""
CREATE_SQL = """
CREATE TABLE left_out (
    shard INTEGER, number INTEGER, reason VARCHAR, of_shard INTEGER, of_number INTEGER, captions INTEGER[]
)
"""
"""The same in a database, shards by the number that the table `shards` gives to a name."""
READ_SQL = """
INSERT INTO left_out SELECT own.shard, came.row, came.reason, other.shard, came.of_row, {captions}
FROM came JOIN shards AS own ON own.name = came.shard LEFT JOIN shards AS other ON other.name = came.of_shard
"""
WRITE_SQL = """
SELECT own.name, number, reason, other.name, of_number, captions
FROM left_out JOIN shards AS own USING (shard) LEFT JOIN shards AS other ON other.shard = left_out.of_shard
ORDER BY own.name, number
"""


def leaves_out(recipe: Recipe) -> bool:
    """Whether a recipe leaves anybody out for what they are beside others, or for their captions."""
    return recipe.file.pack.near_duplicate_bits is not None or recipe.file.captions is not None


def tables_of(database: "duckdb.DuckDBPyConnection", schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield who is out as it is written, in order of place, a group of rows at a time."""
    names = [*SCHEMA.names, CAPTIONS.name]
    rows = database.execute(WRITE_SQL)
    while group := rows.fetchmany(NUM_ROW_GROUP_ROWS):
        yield pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in group], schema=schema)


def schema_in(database: "duckdb.DuckDBPyConnection") -> pa.Schema:
    """Return the columns of what is written."""
    ((is_packed_without,),) = database.execute(
        "SELECT coalesce(bool_or(len(captions) > 0), false) FROM left_out"
    ).fetchall()
    return SCHEMA.append(CAPTIONS) if is_packed_without else SCHEMA


def recorded(database: "duckdb.DuckDBPyConnection", folder: Path, manifest: Manifest | None = None) -> bool:
    """Read whom a pack leaves out; return False where no shard is committed yet. `manifest` is the pack's, if known."""
    if manifest is None and (folder / MANIFEST_NAME).is_file():
        manifest = read_manifest(folder, PACK.name)
    if not (_began(folder) if manifest is None else LEFT_OUT_NAME in manifest.files):
        return False
    path = folder / LEFT_OUT_NAME
    with local_copy(path) as copy:
        for batch in ledger_batches(copy, shown=path):
            captions = CAPTIONS.name if CAPTIONS.name in batch.schema.names else "[]"
            insert(database, READ_SQL.format(captions=captions), [pa.Table.from_batches([batch])])
    return True


def _began(folder: Path) -> bool:
    """Whether an unfinished pack has committed a shard, and so has said before whom it leaves out."""
    return any(folder.glob(f"*{STATS_SUFFIX}")) and (folder / LEFT_OUT_NAME).is_file()

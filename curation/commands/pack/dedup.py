"""One picture is kept once in a dataset, whatever the number of addresses and source shards that it came by."""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from curation.dataset.ledger import read_ledger
from curation.storage.scratch import scratch_database

if TYPE_CHECKING:
    from curation.dataset.manifest import Manifest

MEMORY_LIMIT = "1GB"
FACES, FACE_SIDE = "faces", "largest_face_side_px"
"""The filter and the score of it that say how large a picture's native face is."""
SAME = {"uid": "duplicate_uid", "sha256": "duplicate_bytes"}
"""What two samples may share -> the reason for which the lesser one stays out, in this order."""
LESSER_SQL = """
CREATE OR REPLACE TEMP TABLE lesser AS
SELECT shard, number FROM (
    SELECT shard, number, row_number() OVER (
        PARTITION BY {same} ORDER BY face_side DESC, num_captions DESC, uid, shard, number
    ) AS place
    FROM pictures WHERE {same} IN (SELECT {same} FROM pictures GROUP BY {same} HAVING count(*) > 1)
)
WHERE place > 1
"""
DELETE_SQL = """
DELETE FROM pictures USING lesser WHERE pictures.shard = lesser.shard AND pictures.number = lesser.number
"""


def duplicates_among(source: Path, curated: "Manifest") -> dict[tuple[str, int], str]:
    """Return (shard, row) -> reason of every kept sample with a caption that a better one stands for.

    First of each uid, then of equal bytes, the sample with the largest native face is the best, then the one with the
    most captions, then the smaller uid, then the one that came first. Equal bytes have equal faces, so that the face
    decides between samples of one uid alone. Where the recipe has no faces, all are alike.
    """
    names = [report.shard for report in curated.shards]
    has_faces = any(stanza["name"] == FACES for stanza in curated.recipe["filters"])
    reasons: dict[tuple[str, int], str] = {}
    with scratch_database(MEMORY_LIMIT) as database:
        database.execute(
            "CREATE TABLE pictures (uid VARCHAR, sha256 VARCHAR, num_captions INTEGER, face_side DOUBLE, "
            "shard INTEGER, number INTEGER)"
        )
        for shard, report in enumerate(curated.shards):
            database.register("rows", _rows(report.file(source, ".parquet"), has_faces))
            database.execute(f"INSERT INTO pictures BY NAME SELECT *, {shard} AS shard FROM rows")
            database.unregister("rows")
        for same, reason in SAME.items():
            database.execute(LESSER_SQL.format(same=same))
            lesser = database.sql("SELECT shard, number FROM lesser").fetchall()
            reasons |= {(names[shard], number): reason for shard, number in lesser}
            database.execute(DELETE_SQL)
    return reasons


def _rows(ledger: Path, has_faces: bool) -> pa.Table:
    """Return what is compared of the samples of one shard that may be packed."""
    columns = ["uid", "sha256", "num_captions", "kept"]
    table = read_ledger(ledger, [*columns, f"{FACES}_scores.{FACE_SIDE}"] if has_faces else columns)
    sides = pc.struct_field(table[f"{FACES}_scores"], FACE_SIDE) if has_faces else pa.nulls(len(table), pa.float64())
    table = table.append_column("face_side", pc.fill_null(sides, 0.0))
    table = table.append_column("number", pa.array(range(len(table)), pa.int32()))
    table = table.filter(pc.and_(table["kept"], pc.greater(table["num_captions"], 0)))
    return table.select(["uid", "sha256", "num_captions", "face_side", "number"])

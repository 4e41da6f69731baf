"""Ranking happens before anything is downloaded: join both metadata sources by URL, keep the largest images.

The unit of this stage is the image (uid), not the metadata row: rows of one image on either side are counted in
`num_facecaption_rows` and `num_laion_rows`, whose sums over the ledger equal the input rows.
DuckDB sorts and joins on disk, so memory does not grow with the input.
"""

import json
import logging
import shutil
import uuid
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.commit import TEMP_FOLDER, FileRecord, digest, publish
from curation.ledger import BASE_FIELDS, LEDGER_SCHEMA_VERSION, NUM_ROW_GROUP_ROWS, count_rejections, read_ledger
from curation.manifest import MANIFEST_NAME, Manifest, ShardReport, committed, read_manifest, write_report
from curation.metadata import clean_facecaption, clean_laion, file_digests
from curation.selection import COUNTS_SQL, FACTS_SQL, LEDGER_SQL, RANK_KEYS, SELECTION_SQL, chunks, joined
from curation.settings import RankSettings
from curation.stage import claim, finish
from curation.tombstones import Tombstones, consult
from curation.version import CODE_VERSION

if TYPE_CHECKING:
    import duckdb

    from curation.recipe import Recipe

log = logging.getLogger(__name__)

STAGE = "rank"
LEDGER = "ledger"

LEDGER_SCHEMA = pa.schema(
    [*BASE_FIELDS, pa.field("num_facecaption_rows", pa.int32()), pa.field("num_laion_rows", pa.int32())]
)
SELECTION_SCHEMA = pa.schema(
    [
        pa.field("uid", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("caption", pa.string()),
        pa.field("facecaptions", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("nsfw", pa.string()),
        pa.field("similarity", pa.float64()),
        pa.field("license", pa.string()),
        pa.field("sample_id", pa.string()),
    ]
)


def rank(facecaption: Path, laion: Path, target: Path, recipe: "Recipe") -> Manifest:
    """Select images from FaceCaption-shaped and LAION-shaped parquet and write the selection to `target`.

    `facecaption` and `laion` are parquet files or folders of them. Ledger and selection depend on the rows alone,
    never on their order. A finished target of the same inputs and settings is left as it is.

    Raises:
        UsageError: an input is missing, is no parquet or lacks a column, or `target` holds other work.
    """
    settings = recipe.file.rank
    inputs = {"facecaption": file_digests(facecaption), "laion": file_digests(laion)}
    work_id = rank_work(settings, inputs)
    claim(target, STAGE, work_id)
    if committed(target, LEDGER, work_id) is not None and (target / MANIFEST_NAME).is_file():
        log.info("%s already holds this selection", target)
        return read_manifest(target, STAGE)
    temp = target / TEMP_FOLDER / uuid.uuid4().hex
    temp.mkdir(parents=True)
    try:
        faults = {
            "facecaption": clean_facecaption(facecaption, temp / "facecaption.parquet"),
            "laion": clean_laion(laion, temp / "laion.parquet"),
        }
        with joined(temp, settings) as database:
            report = _write(database, target, settings, work_id)
            facts = _facts(database, settings, faults)
    finally:
        shutil.rmtree(temp)
    write_report(target, report)
    return finish(target, STAGE, recipe, work_id, [report], extra={"inputs": inputs, **facts})


def rank_work(settings: RankSettings, inputs: Mapping[str, Mapping[str, str]]) -> str:
    """Return the digest of all that a selection depends on: the settings, the sha256s of the inputs, this code."""
    return digest([STAGE, settings.model_dump(mode="json"), inputs, CODE_VERSION])


def _write(database: "duckdb.DuckDBPyConnection", target: Path, settings: RankSettings, work_id: str) -> ShardReport:
    """Write the parts and the ledger."""
    files: dict[str, FileRecord] = {}
    stones = consult(target)
    for part, table in enumerate(chunks(database, SELECTION_SQL, settings.rows_per_part)):
        selection = stones.without(_with_json_facecaptions(table))
        name = f"{part:05d}.parquet"
        files[name] = publish(target / name, partial(pq.write_table, selection, compression="zstd", version="2.6"))
    ledger = target / f"{LEDGER}.parquet"
    files[ledger.name] = publish(ledger, partial(_write_ledger, database, settings, stones))
    counts = dict(database.sql(COUNTS_SQL).fetchall())
    num_kept = counts.pop(None, 0)
    rejected = {STAGE: counts} if counts else {}
    if stones:
        num_kept, rejected = _count(ledger)
    num_rejected = sum(sum(reasons.values()) for reasons in rejected.values())
    return ShardReport(LEDGER, work_id, num_kept + num_rejected, num_kept, rejected, files)


def _count(ledger: Path) -> tuple[int, dict[str, dict[str, int]]]:
    rows = read_ledger(ledger, ["kept", "rejected_by", "reason"]).to_pylist()
    return sum(row["kept"] for row in rows), count_rejections(rows)


def _write_ledger(
    database: "duckdb.DuckDBPyConnection", settings: RankSettings, stones: Tombstones, path: Path
) -> None:
    footer = {
        "schema_version": LEDGER_SCHEMA_VERSION,
        "stage": STAGE,
        "recipe_digest": digest(settings.model_dump(mode="json")),
        "measurement_keys": "{}",
        "code_version": CODE_VERSION,
    }
    schema = LEDGER_SCHEMA.with_metadata(footer)
    with pq.ParquetWriter(path, schema, compression="zstd", version="2.6") as writer:
        for table in chunks(database, LEDGER_SQL, NUM_ROW_GROUP_ROWS):
            writer.write_table(stones.bury(table.cast(schema)))


def _with_json_facecaptions(table: pa.Table) -> pa.Table:
    """Turn the rows of FaceCaption of each image into JSON: one {id, caption, box} per caption, equal ones once."""
    column = table.schema.get_field_index("facecaptions")
    texts = [json.dumps(_facecaptions(rows), ensure_ascii=False) for rows in table["facecaptions"].to_pylist()]
    return table.set_column(column, "facecaptions", pa.array(texts, pa.string())).cast(SELECTION_SCHEMA)


def _facecaptions(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    captions = {
        (row["id"], text, tuple(row["box"] or ())): {"id": row["id"], "caption": text, "box": row["box"]}
        for row in rows
        for text in row["captions"]
    }
    return list(captions.values())


def _facts(
    database: "duckdb.DuckDBPyConnection", settings: RankSettings, faults: dict[str, dict[str, int]]
) -> dict[str, Any]:
    """Return what only this stage knows: input rows, faults by source, and the cut, so that it can be reproduced."""
    (facts,) = database.sql(FACTS_SQL).fetchall()
    num_facecaption, num_laion, duplicate_facecaption, duplicate_laion = (int(fact) for fact in facts)
    last = database.sql(f"SELECT {RANK_KEYS[settings.key]}, uid FROM selected ORDER BY place DESC LIMIT 1").fetchall()
    return {
        "num_facecaption_rows": num_facecaption,
        "num_laion_rows": num_laion,
        "faults": {
            "facecaption": faults["facecaption"] | {"duplicate_row": duplicate_facecaption},
            "laion": faults["laion"] | {"duplicate_row": duplicate_laion},
        },
        "cut": {"key": settings.key, "value": last[0][0], "uid": last[0][1]} if last else {},
    }

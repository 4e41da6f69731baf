"""What holds between the tables of a pack, its shards and what `curate` kept; a shard's rows in memory at a time."""

from collections import Counter
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.commands.verify.faults import Fault
from curation.commands.verify.records import StageRecords
from curation.dataset.ledger import ledger_batches, numbered, read_ledger, rejections_of, require_base
from curation.dataset.manifest import MANIFEST_NAME
from curation.dataset.stages import CURATE, FORGET, INDEX_NAME, LEDGER_NAME, PACK
from curation.errors import ShardError
from curation.storage.paths import local_copy
from curation.storage.scratch import fetched, insert, scratch_database

if TYPE_CHECKING:
    import duckdb

ORIGIN = ("source_shard", "source_sha256")
"""What every row of a pack says of where it came from."""
DOUBLED_SQL = "SELECT uid FROM indexed GROUP BY uid HAVING count(*) > 1 ORDER BY min(place)"
STRANGE_SQL = """
WITH twice AS (SELECT shard, uid, min(place) AS first FROM went GROUP BY shard, uid HAVING count(*) > 1)
SELECT went.shard, went.uid, went.sha256, CASE WHEN twice.first < went.place THEN NULL ELSE kept.sha256 END AS was
FROM went LEFT JOIN kept USING (shard, uid) LEFT JOIN twice USING (shard, uid)
WHERE was IS NULL OR was IS DISTINCT FROM went.sha256 ORDER BY went.place
"""
"""Rows of the pack that `curate` did not keep, or not once more, or with other bytes."""
LOST_SQL = "SELECT shard, uid FROM kept ANTI JOIN went USING (shard, uid) ORDER BY kept.place"


def check_packed(stages: Mapping[str, StageRecords], records: StageRecords, broken: Container[str]) -> None:
    """Hold index and ledger of a `pack` against the shards' own rows, and those against what `curate` kept.

    `broken` names the files that have a fault already; none of them is read.
    """
    if records.stage != PACK.name or records.manifest is None:
        return
    names = (INDEX_NAME, LEDGER_NAME)
    if any(f"{records.place.shown}/{name}" in broken or name not in records.manifest.files for name in names):
        return
    index, ledger = (records.place.folder / name for name in names)
    try:
        for path in (index, ledger):
            with local_copy(path) as copy:
                _require_packed(_schema(copy, path), path)
    except ShardError as error:
        records.fault(LEDGER_NAME if LEDGER_NAME in str(error) else INDEX_NAME, str(error), "what pack wrote")
        return
    with local_copy(index) as index_copy, local_copy(ledger) as ledger_copy:
        if records.are_ledgers_whole(broken):
            _check_tables(records, index_copy, ledger_copy)
        _check_counts(records, ledger_copy)
        curated = stages.get(CURATE.name)
        is_known = curated is not None and curated.are_ledgers_whole(broken)
        records.faults += _strange(records, curated if is_known else None, index_copy, ledger_copy)


def _schema(copy: Path, path: Path) -> pa.Schema:
    try:
        return pq.read_schema(copy)
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{path}: not a readable ledger: {error}") from error


def _require_packed(schema: pa.Schema, path: Path) -> None:
    require_base(schema, path)
    if lacking := [name for name in ORIGIN if name not in schema.names]:
        raise ShardError(f"{path}: not a ledger of pack: {', '.join(lacking)} missing")


class _Rows:
    """The rows of a ledger, so many at a time."""

    def __init__(self, path: Path) -> None:
        self._tables = (pa.table(batch).replace_schema_metadata() for batch in ledger_batches(path))
        self._waiting: list[pa.Table] = []

    def are_next(self, table: pa.Table) -> bool:
        """Whether the next rows are those of a table; goes on behind as many."""
        num = table.num_rows
        while sum(one.num_rows for one in self._waiting) < num and (more := next(self._tables, None)) is not None:
            self._waiting.append(more)
        if not self._waiting or not num:
            return not num
        here = pa.concat_tables(self._waiting)
        self._waiting = [here.slice(num)]
        return bool(here.slice(0, num).equals(table))

    def are_over(self) -> bool:
        """Whether none is left."""
        return not any(table.num_rows for table in (*self._waiting, *self._tables))


def _check_tables(records: StageRecords, index_copy: Path, ledger_copy: Path) -> None:
    index, ledger = _Rows(index_copy), _Rows(ledger_copy)
    is_index_right = is_ledger_right = True
    for table in _packed_tables(records):
        is_index_right = index.are_next(table.filter(table["kept"])) and is_index_right
        is_ledger_right = ledger.are_next(table) and is_ledger_right
    if not (is_index_right and index.are_over()):
        wrong = f"{pq.read_metadata(index_copy).num_rows} rows, not those of the shards"
        records.fault(INDEX_NAME, wrong, "every packed sample, in order")
    if not is_ledger_right:
        records.fault(LEDGER_NAME, "its first rows are not those of the shards", "the shards' rows, then the rest")


def _packed_tables(records: StageRecords) -> Iterator[pa.Table]:
    for report in sorted(records.reports, key=lambda report: report.shard):
        path = report.file(records.place.folder, ".parquet")
        with local_copy(path) as copy:
            table = read_ledger(copy).replace_schema_metadata()
        _require_packed(table.schema, path)
        yield table


def _check_counts(records: StageRecords, ledger: Path) -> None:
    manifest = records.manifest
    assert manifest is not None
    counts, num_kept = Counter[tuple[str, str]](), 0
    for batch in ledger_batches(ledger, ["kept", "rejected_by", "reason"]):
        groups = pa.table(batch).group_by(batch.schema.names, use_threads=False).aggregate([([], "count_all")])
        for row in groups.to_pylist():
            if row["kept"]:
                num_kept += row["count_all"]
            else:
                counts[row["rejected_by"], row["reason"]] += row["count_all"]
    num_seen, rejected = num_kept + counts.total(), rejections_of(counts)
    if (manifest.num_seen, manifest.num_kept) != (num_seen, num_kept):
        right = f"{num_seen} and {num_kept}, as {LEDGER_NAME} has them"
        records.fault(MANIFEST_NAME, f"{manifest.num_seen} seen, {manifest.num_kept} kept", right)
    if dict(manifest.rejected) != rejected:
        records.fault(MANIFEST_NAME, f"rejects {manifest.rejected}", f"{rejected}, as {LEDGER_NAME} does")


def _strange(records: StageRecords, curated: StageRecords | None, index: Path, ledger: Path) -> Iterator[Fault]:
    """Yield what is packed twice; what `curate` kept and `pack` does not know, the other way round, and other bytes."""
    with scratch_database() as database:
        indexed = (pa.table(batch) for batch in ledger_batches(index, ["uid"]))
        _put(database, "indexed", numbered(indexed), "uid VARCHAR")
        for uid in (uid for (uid,) in fetched(database, DOUBLED_SQL)):
            shown = f"{records.place.shown}/{INDEX_NAME}"
            yield Fault(shown, "packed twice", "every uid in one packed shard", None, uid)
        if curated is None:
            return
        database.execute("DROP TABLE indexed")
        columns = "uid VARCHAR, shard VARCHAR, sha256 VARCHAR"
        _put(database, "kept", numbered(_kept(curated)), columns)
        _put(database, "went", numbered(_went(ledger)), columns)
        shown = f"{records.place.shown}/{LEDGER_NAME}"
        for shard, uid, sha256, was in fetched(database, STRANGE_SQL):
            if was is None:
                yield Fault(shown, f"not kept in {shard}", "only what curate kept", None, uid)
            else:
                yield Fault(shown, f"source_sha256 {sha256}", f"{was}, of curate", None, uid)
        for shard, uid in fetched(database, LOST_SQL):
            yield Fault(shown, f"kept by curate in {shard}, but has no row", "a row for everything kept", shard, uid)


def _put(database: "duckdb.DuckDBPyConnection", name: str, tables: Iterator[pa.Table], columns: str) -> None:
    database.execute(f"CREATE TABLE {name} ({columns}, place BIGINT)")
    insert(database, f"INSERT INTO {name} BY NAME FROM came", tables)


def _kept(curated: StageRecords) -> Iterator[pa.Table]:
    for report in curated.reports:
        with local_copy(report.file(curated.place.folder, ".parquet")) as path:
            table = read_ledger(path, ["uid", "sha256", "kept"])
        table = table.filter(table["kept"]).drop_columns(["kept"])
        yield table.append_column("shard", pa.array([report.shard] * table.num_rows, pa.string()))


def _went(ledger: Path) -> Iterator[pa.Table]:
    for batch in ledger_batches(ledger, ["uid", *ORIGIN, "rejected_by"]):
        table = pa.table(batch)
        living = pc.fill_null(pc.not_equal(table["rejected_by"], FORGET), True)
        named = table.select(["uid", *ORIGIN]).rename_columns(["uid", "shard", "sha256"])
        yield named.filter(living)

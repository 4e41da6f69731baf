"""A selection, re-derived from what lies on disk: one ledger with all rows, so no more than some are in memory."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.commands.verify.faults import Checked, Fault
from curation.commands.verify.rows import Finding, kept_twice, key_twice, row_findings
from curation.commands.verify.shards import CheckJob, count_findings, fault_in, footer_findings, open_files, shown_as
from curation.dataset.ledger import BASE_FIELDS, ledger_batches, numbered, rejections_of, require_base
from curation.dataset.stages import FORGET, LEDGER_NAME
from curation.errors import ShardError
from curation.storage.scratch import fetched, insert, scratch_database

if TYPE_CHECKING:
    import duckdb

CREATE_SQL = """
CREATE TABLE entries (place BIGINT, uid VARCHAR, key VARCHAR, kept BOOLEAN);
CREATE TABLE parts (place BIGINT, file VARCHAR, uid VARCHAR, key VARCHAR)
"""
AGAIN_SQL = """
SELECT uid, key FROM entries JOIN (
    SELECT {same}, min(place) AS first FROM entries WHERE {which} GROUP BY {same} HAVING count(*) > 1
) USING ({same}) WHERE {which} AND place > first ORDER BY place
"""
"""All but the first row of those that share a column."""
PARTS_SQL = """
WITH twice AS (SELECT uid, min(place) AS first FROM parts GROUP BY uid HAVING count(*) > 1),
again AS (SELECT uid, max(place) AS last FROM entries WHERE kept GROUP BY uid HAVING count(*) > 1),
once AS (SELECT uid, key FROM entries LEFT JOIN again USING (uid) WHERE kept AND coalesce(place = again.last, true))
SELECT file, uid, parts.key, once.key, coalesce(parts.place > twice.first, false) AS is_again
FROM parts LEFT JOIN once USING (uid) LEFT JOIN twice USING (uid)
WHERE is_again OR once.key IS DISTINCT FROM parts.key ORDER BY parts.place
"""
MISSING_SQL = "SELECT DISTINCT uid FROM (SELECT uid FROM entries WHERE kept) ANTI JOIN parts USING (uid) ORDER BY uid"


def check_selection(job: CheckJob) -> Checked:
    """Return the ledger's own counts and everything that is wrong with it and its parts, as `check_shard` does."""
    counts, num_kept = Counter[tuple[str, str]](), 0
    with ExitStack() as stack:
        copies, faults = open_files(job, stack)
        rotten = {one.file for one in faults}
        ledger = copies.get(LEDGER_NAME)
        if ledger is not None and shown_as(job, LEDGER_NAME) not in rotten:
            try:
                require_base(pq.read_schema(ledger), ledger)
                next(ledger_batches(ledger), None)
            except (ShardError, OSError, pa.ArrowException) as error:
                faults.append(fault_in(job, LEDGER_NAME, ("", str(error), "a ledger of this version")))
            else:
                database = stack.enter_context(scratch_database())
                database.execute(CREATE_SQL)
                num_kept = _read(database, ledger, counts)
                faults += [
                    fault_in(job, LEDGER_NAME, one) for one in _findings(job, database, ledger, counts, num_kept)
                ]
                if not any(shown_as(job, name) in rotten or name not in copies for name in job.report.files):
                    faults += _part_faults(job, database, copies)
    rejected = rejections_of(counts)
    num_seen = num_kept + counts.total()
    return Checked(job.shard, job.report.work_id, num_seen, num_kept, rejected, {}, faults=tuple(faults))


def _read(database: "duckdb.DuckDBPyConnection", ledger: Path, counts: Counter[tuple[str, str]]) -> int:
    """Read who is where; add up rejections, and return the number that is kept."""
    num_kept = 0

    def tables() -> Iterator[pa.Table]:
        nonlocal num_kept
        for batch in ledger_batches(ledger, ["uid", "key", "kept", "rejected_by", "reason"]):
            table = pa.table(batch)
            why = ["kept", "rejected_by", "reason"]
            for row in table.group_by(why, use_threads=False).aggregate([([], "count_all")]).to_pylist():
                if row["kept"]:
                    num_kept += row["count_all"]
                else:
                    counts[row["rejected_by"] or "(none)", row["reason"] or "(none)"] += row["count_all"]
            yield table.select(["uid", "key", "kept"])

    insert(database, "INSERT INTO entries BY NAME FROM came", numbered(tables()))
    return num_kept


def _findings(
    job: CheckJob, database: "duckdb.DuckDBPyConnection", ledger: Path, counts: Counter[tuple[str, str]], num_kept: int
) -> Iterator[Finding]:
    yield from count_findings(job.report, num_kept + counts.total(), num_kept, rejections_of(counts))
    for batch in ledger_batches(ledger, BASE_COLUMNS):
        for row in batch.filter(_may_be_wrong(batch)).to_pylist():
            yield from row_findings(row)
    for uid, _ in fetched(database, AGAIN_SQL.format(same="uid", which="kept")):
        yield kept_twice(uid)
    for uid, key in fetched(database, AGAIN_SQL.format(same="key", which="key <> '' AND NOT contains(key, '?')")):
        yield key_twice(uid, key)
    footer = {key.decode(): value.decode() for key, value in (pq.read_schema(ledger).metadata or {}).items()}
    yield from footer_findings(job, footer)


BASE_COLUMNS: Sequence[str] = [column.name for column in BASE_FIELDS]


def _may_be_wrong(batch: pa.RecordBatch) -> pa.Array:
    """Return which rows have to be looked at one by one."""
    kept, by = batch.column("kept"), batch.column("rejected_by")
    is_odd = pc.not_equal(kept, pc.is_null(by))
    is_odd = pc.or_(is_odd, pc.not_equal(pc.is_null(by), pc.is_null(batch.column("reason"))))
    return pc.or_(is_odd, pc.fill_null(pc.equal(by, FORGET), False))


def _part_faults(job: CheckJob, database: "duckdb.DuckDBPyConnection", copies: Mapping[str, Path]) -> Iterator[Fault]:
    """Yield where the parts of a selection are not exactly what the ranking's ledger keeps."""

    def tables() -> Iterator[pa.Table]:
        for name in (name for name in job.report.files if name != LEDGER_NAME):
            table = pq.read_table(copies[name], columns=["uid", "key"], partitioning=None)
            yield table.append_column("file", pa.array([name] * table.num_rows, pa.string()))

    insert(database, "INSERT INTO parts BY NAME FROM came", numbered(tables()))
    for name, uid, key, right, is_again in fetched(database, PARTS_SQL):
        if is_again:
            yield fault_in(job, name, (uid, "selected twice", "every uid in one part, once"))
        if key != right:
            yield fault_in(job, name, (uid, f"selected as {key!r}", f"key {right!r}, as the ledger keeps it"))
    for (uid,) in fetched(database, MISSING_SQL):
        yield fault_in(job, LEDGER_NAME, (uid, "kept, but in no part", "in the part that its key names"))

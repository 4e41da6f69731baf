"""What only the whole dataset shows: one picture at many addresses, by its bytes or by its look.

Dead links serve placeholders that a downloader takes for success. Every picture that was fetched more than once is
named here: as a `placeholder` where many addresses serve it and most of them promised another size, else as a `copy`.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from curation.dataset.ledger import NUM_ROW_GROUP_ROWS
from curation.storage.scratch import insert, scratch_database

if TYPE_CHECKING:
    import duckdb

    from curation.recipe.settings import FetchSettings

SCHEMA = pa.schema(
    [
        pa.field("uid", pa.string(), nullable=False),
        pa.field("finding", pa.string(), nullable=False),
        pa.field("same", pa.string(), nullable=False),
        pa.field("hash", pa.string(), nullable=False),
        pa.field("num_urls", pa.int64(), nullable=False),
        pa.field("num_hosts", pa.int64(), nullable=False),
        pa.field("num_contradicting", pa.int64(), nullable=False),
        pa.field("best_uid", pa.string(), nullable=False),
    ]
)
"""`same` is `sha256` or `phash`; `best_uid` has the largest native face among its equals, ties by uid."""

FINDINGS_SQL = r"""
WITH arrived AS (
    SELECT uid, sha256, phash, coalesce(contradicts_size, FALSE) AS contradicts, coalesce(face_side, 0.0) AS face_side,
        regexp_extract(url, '^https?://(?:[^/?#]*@)?(\[[^\]]*\]|[^/?#:]*)', 1) AS host
    FROM ledger WHERE kept
), members AS (
    SELECT 'sha256' AS same, sha256 AS hash, * FROM arrived
    UNION ALL SELECT 'phash', phash, * FROM arrived WHERE phash IS NOT NULL
), groups AS (
    SELECT same, hash, count(*) AS num_urls, count(DISTINCT host) AS num_hosts, count(DISTINCT sha256) AS num_files,
        count(*) FILTER (contradicts) AS num_contradicting, arg_min(uid, {'side': -face_side, 'uid': uid}) AS best_uid
    FROM members GROUP BY same, hash HAVING count(*) > 1
), judged AS (
    SELECT *, CASE WHEN (num_hosts >= $hosts OR num_urls >= $urls) AND num_contradicting * 2 > num_urls
                   THEN 'placeholder' ELSE 'copy' END AS finding
    FROM groups
)
-- A look that belongs to one file only says nothing that the file's own bytes do not say.
SELECT uid, finding, same, hash, num_urls, num_hosts, num_contradicting, best_uid
FROM members JOIN judged USING (same, hash) WHERE same = 'sha256' OR num_files > 1
"""
ORDER = "finding DESC, same DESC, hash, uid"
SUMMARY_SQL = """
SELECT finding, count(DISTINCT uid), count(DISTINCT hash) FILTER (same = 'sha256') FROM findings GROUP BY finding
"""
COLUMNS = {
    "uid": "VARCHAR", "url": "VARCHAR", "sha256": "VARCHAR", "phash": "VARCHAR", "kept": "BOOLEAN",
    "contradicts_size": "BOOLEAN", "face_side": "DOUBLE",
}  # fmt: skip
CREATE_SQL = f"CREATE TABLE ledger ({', '.join(f'{name} {kind}' for name, kind in COLUMNS.items())})"


@dataclass(frozen=True)
class Findings:
    """What was found, in a database that ends with the block that opened it."""

    database: "duckdb.DuckDBPyConnection"

    def tables(self) -> Iterator[pa.Table]:
        """Yield all rows in an order of their own, some at a time."""
        rows = self.database.execute(f"SELECT * FROM findings ORDER BY {ORDER}")
        while group := rows.fetchmany(NUM_ROW_GROUP_ROWS):
            yield pa.Table.from_pylist([dict(zip(SCHEMA.names, row, strict=True)) for row in group], SCHEMA)

    def summary(self) -> dict[str, dict[str, int]]:
        """Return for each finding how many pictures it names, and how many different ones they are."""
        counts = {finding: (num_urls, num) for finding, num_urls, num in self.database.execute(SUMMARY_SQL).fetchall()}
        names = ("num_urls", "num_pictures")
        return {name: dict(zip(names, counts.get(name, (0, 0)), strict=True)) for name in ("copy", "placeholder")}


@contextmanager
def found_in(ledgers: Sequence[Path], settings: "FetchSettings") -> Iterator[Findings]:
    """Find out what only the ledgers of all shards tell."""
    query = FINDINGS_SQL.replace("$hosts", str(settings.placeholder_hosts)).replace(
        "$urls", str(settings.placeholder_urls)
    )
    with scratch_database() as database:
        database.execute(CREATE_SQL)
        insert(database, "INSERT INTO ledger BY NAME FROM came", (_read(path) for path in ledgers))
        database.execute(f"CREATE TABLE findings AS {query}")
        yield Findings(database)


def _read(path: Path) -> pa.Table:
    with path.open("rb") as file:
        return pq.read_table(file, columns=list(COLUMNS)).replace_schema_metadata()

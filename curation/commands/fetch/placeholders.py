"""What only the whole dataset shows: one picture at many addresses, by its bytes or by its look.

Dead links serve placeholders that a downloader takes for success. Every picture that was fetched more than once is
named here: as a `placeholder` where many addresses serve it and most of them promised another size, else as a `copy`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.storage.scratch import scratch_database

if TYPE_CHECKING:
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

MEMORY_LIMIT = "1GB"
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
ORDER BY finding DESC, same DESC, hash, uid
"""


def find(ledgers: Sequence[Path], settings: "FetchSettings") -> pa.Table:
    """Return the findings over the ledgers of all shards, in an order of their own."""
    if not ledgers:
        return SCHEMA.empty_table()
    query = FINDINGS_SQL.replace("$hosts", str(settings.placeholder_hosts)).replace(
        "$urls", str(settings.placeholder_urls)
    )
    columns = ["uid", "url", "sha256", "phash", "kept", "contradicts_size", "face_side"]
    with scratch_database(MEMORY_LIMIT) as database:
        for number, path in enumerate(ledgers):
            with path.open("rb") as file:
                database.register("one", pq.read_table(file, columns=columns))
            database.execute("INSERT INTO ledger FROM one" if number else "CREATE TABLE ledger AS FROM one")
            database.unregister("one")
        return database.sql(query).to_arrow_table().cast(SCHEMA)


def summary(findings: pa.Table) -> dict[str, dict[str, int]]:
    """Return for each finding how many pictures it names, and how many different ones they are."""
    counts: dict[str, dict[str, int]] = {}
    for name in ("copy", "placeholder"):
        rows = findings.filter(pc.equal(findings["finding"], name))
        counts[name] = {
            "num_urls": len(rows["uid"].unique()),
            "num_pictures": len(rows.filter(pc.equal(rows["same"], "sha256"))["hash"].unique()),
        }
    return counts

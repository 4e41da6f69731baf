"""One picture is kept once in a dataset, whatever the number of addresses that serve the same bytes."""

from pathlib import Path
from typing import TYPE_CHECKING

from curation.ledger import read_ledger

if TYPE_CHECKING:
    from curation.manifest import Manifest

MEMORY_LIMIT = "1GB"
COLUMNS = ["uid", "sha256", "kept", "num_captions"]
COPIES_SQL = """
SELECT uid FROM (
    SELECT uid, row_number() OVER (PARTITION BY sha256 ORDER BY num_captions DESC, uid) AS place
    FROM pictures WHERE sha256 IN (SELECT sha256 FROM pictures GROUP BY sha256 HAVING count(DISTINCT uid) > 1)
)
WHERE place > 1
"""


def copies_among(source: Path, curated: "Manifest") -> set[str]:
    """Return the uids of the kept samples whose bytes a better one has.

    Equal bytes show one and the same face, so the native face cannot tell them apart: the sample with more captions is
    the better one, then the smaller uid.
    """
    import duckdb

    with duckdb.connect(config={"memory_limit": MEMORY_LIMIT}) as database:
        database.execute("CREATE TABLE pictures (uid VARCHAR, sha256 VARCHAR, num_captions INTEGER)")
        for report in curated.shards:
            (name,) = (name for name in report.files if name.endswith(".parquet"))
            database.register("shard", read_ledger(source / name, COLUMNS))
            database.execute("INSERT INTO pictures SELECT uid, sha256, num_captions FROM shard WHERE kept")
            database.unregister("shard")
        return {uid for (uid,) in database.sql(COPIES_SQL).fetchall()}

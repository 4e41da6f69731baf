"""Walks through the ledgers of a curated folder: who was rejected by what, how scores lie, what is nearest to a limit.

    python examples/walk_a_ledger.py RUN/curate

The limits are those of the manifest's recipe. A score is there as far as it was measured: a picture that one filter
rejects is spared the next, and what a screen has proven is not measured at all (the screen's own scores are in
`text_screen_scores` and the like). DuckDB asks all in SQL: change a query, or take it elsewhere.
"""

import math
import sys
from collections.abc import Iterator

import duckdb
import pyarrow as pa

from curation import Manifest, location, read_ledger, read_manifest

VERDICTS = """
SELECT coalesce(rejected_by, 'kept') AS verdict, reason, count(*) AS pictures,
       round(100 * count(*) / sum(count(*)) OVER (), 1) AS percent
FROM ledger GROUP BY ALL ORDER BY pictures DESC, verdict, reason
"""
HISTOGRAM = """
WITH ends AS (SELECT min({score}) AS low, (max({score}) - min({score})) / 10 AS step FROM measured),
     bins AS (SELECT low + step * least(9, coalesce(floor(({score} - low) / nullif(step, 0)), 0)) AS "from", kept
              FROM measured, ends)
SELECT round("from", 3) AS "from", count(*) AS pictures, count_if(kept)::BIGINT AS kept,
       bar(count(*), 0, max(count(*)) OVER (), 30) AS shape
FROM bins GROUP BY "from" ORDER BY "from"
"""
NEAREST = """
WITH judged AS (SELECT *, {score} BETWEEN '{low}'::DOUBLE AND '{high}'::DOUBLE AS stays,
                       least(abs({score} - '{low}'::DOUBLE), abs({score} - '{high}'::DOUBLE)) AS distance
                FROM measured)
SELECT stays, key, round({score}, 4) AS score, round(distance, 4) AS distance, coalesce(reason, 'kept') AS verdict
FROM judged QUALIFY row_number() OVER (PARTITION BY stays ORDER BY distance, key) <= 3
ORDER BY stays, distance, key
"""


def main(folder: str) -> None:
    """Print the answers, one table each."""
    curated = location(folder)
    manifest = read_manifest(curated, "curate")
    limits = list(limits_of(manifest))
    columns = ["key", "kept", "rejected_by", "reason", *dict.fromkeys(column for column, *_ in limits)]
    paths = [shard.file(curated, ".parquet") for shard in manifest.shards]
    database = duckdb.connect()
    database.register("ledger", pa.concat_tables([read_ledger(path, columns) for path in paths]))
    database.sql(VERDICTS).show()
    for column, name, low, high in limits:
        score = f'{column}."{name}"'
        measured = database.sql(f"SELECT * FROM ledger WHERE isfinite({score})").create_view("measured")
        print(
            f"{column}.{name}: {low:g} to {high:g} stays; measured on {len(measured)} of {manifest.num_seen} pictures"
        )
        if len(measured):
            database.sql(HISTOGRAM.format(score=score)).show()
            database.sql(NEAREST.format(score=score, low=low, high=high)).show()


def limits_of(manifest: Manifest) -> Iterator[tuple[str, str, float, float]]:
    """Yield every keep range: the column and name of its score, the least and the greatest value that stays."""
    for stanza in manifest.recipe["filters"]:
        for name, keep in stanza["keep"].items():
            column = "joint_scores" if name in stanza["joint"] else f"{stanza['name']}_scores"
            yield column, name, keep.get("min", -math.inf), keep.get("max", math.inf)


if __name__ == "__main__":
    main(*sys.argv[1:])

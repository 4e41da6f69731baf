"""The queries that join both metadata sources, rank the images and describe those selected; DuckDB does it on disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    import duckdb

    from curation.settings import RankSettings

MEMORY_LIMIT = "2GB"

RANK_KEYS = {"image_area": "area"}
"""The recipe's key -> an expression over joined images; the larger ranks first, null cannot be ranked."""

JOIN_SQL = """
-- Of several LAION rows of a URL, the largest counts, then the smallest SAMPLE_ID (as a number: shorter is smaller).
CREATE TABLE laion_images AS
SELECT uid, url, width, height, area, num_rows FROM (
    SELECT *, count(*) OVER (PARTITION BY uid, url) AS num_rows, row_number() OVER (
        PARTITION BY uid, url
        ORDER BY area DESC NULLS LAST, length(sample_id) NULLS LAST, sample_id NULLS LAST, width
    ) AS place FROM laion WHERE uid IS NOT NULL
) WHERE place = 1;

-- The URL is compared, not only its hash.
CREATE TABLE images AS
SELECT uid, url, width, height, area,
    coalesce(faces.num_rows, 0) AS num_facecaption_rows, coalesce(laion_images.num_rows, 0) AS num_laion_rows,
    CASE WHEN faces.num_rows IS NULL THEN 'not_in_facecaption'
         WHEN laion_images.num_rows IS NULL THEN 'not_in_laion'
         WHEN {key} IS NULL THEN 'no_size' END AS reason
FROM (SELECT uid, url, count(*) AS num_rows FROM facecaption WHERE uid IS NOT NULL GROUP BY ALL) AS faces
FULL OUTER JOIN laion_images USING (uid, url);

CREATE TABLE ranked AS
SELECT *,
    CASE WHEN reason IS NULL THEN row_number() OVER (PARTITION BY reason ORDER BY {key} DESC, uid) - 1 END AS place
FROM images;

CREATE VIEW decided AS
SELECT * EXCLUDE (reason), CASE WHEN reason IS NULL AND NOT {is_kept} THEN 'below_cut' ELSE reason END AS reason
FROM ranked;

CREATE TABLE selected AS
SELECT *, format('{{:05d}}{{:0{num_digits}d}}', place // {rows_per_part}, place % {rows_per_part}) AS key
FROM decided WHERE reason IS NULL;

-- A row without usable URL is named by what it holds and how often the same was seen: sha256 as in uid_of_bytes.
CREATE VIEW nameless AS
SELECT substr(sha256(concat_ws(' ', content, row_number() OVER (PARTITION BY content))), 1, 32) AS uid, *
FROM (
    SELECT content, url, 1 AS num_facecaption_rows, 0 AS num_laion_rows FROM facecaption WHERE uid IS NULL
    UNION ALL SELECT content, url, 0, 1 FROM laion WHERE uid IS NULL
);
"""

LEDGER_SQL = """
SELECT uid, coalesce(key, '') AS key, url, NULL::VARCHAR AS sha256, width, height, reason IS NULL AS kept,
    CASE WHEN reason IS NOT NULL THEN 'rank' END AS rejected_by, reason,
    num_facecaption_rows::INTEGER AS num_facecaption_rows, num_laion_rows::INTEGER AS num_laion_rows
FROM (
    SELECT uid, key, url, width, height, area, place, reason, num_facecaption_rows, num_laion_rows
    FROM decided LEFT JOIN (SELECT uid, url, key FROM selected) USING (uid, url)
    UNION ALL
    SELECT uid, NULL, url, NULL, NULL, NULL, NULL, 'url_unusable', num_facecaption_rows, num_laion_rows FROM nameless
)
ORDER BY place NULLS LAST, area DESC NULLS LAST, uid
"""

SELECTION_SQL = """
WITH described AS (
    SELECT uid, laion.* EXCLUDE (uid) FROM laion SEMI JOIN selected USING (uid, url)
    QUALIFY row_number() OVER (
        PARTITION BY uid, url
        ORDER BY area DESC NULLS LAST, length(sample_id) NULLS LAST, sample_id NULLS LAST, width,
            caption, nsfw, similarity, license
    ) = 1
), captioned AS (
    SELECT uid, list({'id': id, 'captions': captions, 'box': box} ORDER BY id, captions, box) AS facecaptions
    FROM facecaption SEMI JOIN selected USING (uid, url) GROUP BY uid
)
SELECT uid, key, selected.url, caption, facecaptions, selected.width, selected.height, nsfw, similarity, license,
    sample_id
FROM selected JOIN described USING (uid) JOIN captioned USING (uid)
ORDER BY place
"""

FACTS_SQL = """
SELECT (SELECT count(*) FROM facecaption), (SELECT count(*) FROM laion),
    (SELECT coalesce(sum(num_facecaption_rows - 1), 0) FROM images WHERE num_facecaption_rows > 0),
    (SELECT coalesce(sum(num_laion_rows - 1), 0) FROM images WHERE num_laion_rows > 0)
"""

COUNTS_SQL = """
SELECT reason, count(*) FROM (SELECT reason FROM decided UNION ALL SELECT 'url_unusable' FROM nameless)
GROUP BY reason ORDER BY reason
"""


@contextmanager
def joined(folder: Path, settings: "RankSettings") -> Iterator["duckdb.DuckDBPyConnection"]:
    """Join and rank `folder`/facecaption.parquet and `folder`/laion.parquet in a database inside `folder`."""
    import duckdb

    database = duckdb.connect(
        folder / "join.duckdb", config={"memory_limit": MEMORY_LIMIT, "temp_directory": str(folder / "spill")}
    )
    try:
        for name in ("facecaption", "laion"):
            database.read_parquet(str(folder / f"{name}.parquet")).create_view(name)
        database.execute(
            JOIN_SQL.format(
                key=RANK_KEYS[settings.key],
                is_kept="TRUE" if settings.top is None else f"place < {settings.top}",
                rows_per_part=settings.rows_per_part,
                num_digits=len(str(settings.rows_per_part - 1)),
            )
        )
        yield database
    finally:
        database.close()


def chunks(database: "duckdb.DuckDBPyConnection", query: str, num_rows: int) -> Iterator[pa.Table]:
    """Yield the result of an ordered query in tables of exactly `num_rows`, the last one shorter, none empty."""
    waiting: list[pa.RecordBatch] = []
    for batch in database.sql(query).to_arrow_reader(num_rows):
        waiting.append(batch)
        while sum(part.num_rows for part in waiting) >= num_rows:
            table = pa.Table.from_batches(waiting)
            yield table.slice(0, num_rows)
            waiting = table.slice(num_rows).to_batches()
    if any(part.num_rows for part in waiting):
        yield pa.Table.from_batches(waiting)

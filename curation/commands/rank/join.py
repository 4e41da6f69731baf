"""The queries that join both metadata sources bucket by bucket, pass the gates, and cut; DuckDB does it on disk."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.commands.rank.cleaning import (
    MAX_BUCKETS,
    NAMELESS_BUCKET,
    ROWS_PER_FLUSH,
    bucket_files,
    list_released,
    pattern,
    quoted,
    register,
    sql_list,
)
from curation.commands.rank.gates import RANK_KEYS, Blocklist, conditions, register_blocklist
from curation.commands.rank.own_gates import OwnRule, require_sound, told_of
from curation.storage.scratch import database_in

if TYPE_CHECKING:
    import duckdb

    from curation.recipe.settings import RankSettings

MEMORY_LIMIT = "2GB"

LAION_SQL = """
-- Of several LAION rows of a URL, the largest counts, then the smallest SAMPLE_ID (as a number: shorter is smaller).
CREATE OR REPLACE TEMP TABLE laion_counts AS SELECT uid, count(*)::INTEGER AS num_laion_rows FROM {laion} GROUP BY uid;
CREATE OR REPLACE TEMP TABLE laion_images AS
SELECT * EXCLUDE (content) FROM {laion} JOIN laion_counts USING (uid) WHERE num_laion_rows = 1
UNION ALL BY NAME
SELECT * EXCLUDE (content) FROM {laion} JOIN laion_counts USING (uid) WHERE num_laion_rows > 1
QUALIFY row_number() OVER (
    PARTITION BY uid
    ORDER BY area DESC NULLS LAST, length(sample_id) NULLS LAST, sample_id NULLS LAST, width,
        caption, nsfw, similarity, license, rights
) = 1
"""

FACES_SQL = """
CREATE OR REPLACE TEMP TABLE faces AS
SELECT uid, min(url) AS url, count(*)::INTEGER AS num_facecaption_rows, count(DISTINCT box)::INTEGER AS num_boxes,
    max(least(box[3] - box[1], box[4] - box[2])) AS box_side,
    max((box[3] - box[1])::BIGINT * (box[4] - box[2])) AS box_area
FROM {facecaption} GROUP BY uid
"""

CAPTIONS_SQL = """
-- One {id, caption, box} per caption, equal ones once, in the order of id, captions, box; most images have just one.
CREATE OR REPLACE TEMP TABLE captioned AS
SELECT uid, to_json([{'id': id, 'caption': captions[1], 'box': box}])::VARCHAR AS facecaptions
FROM $facecaption JOIN faces USING (uid) WHERE num_facecaption_rows = 1 AND len(captions) = 1
UNION ALL
SELECT uid, to_json(list({'id': id, 'caption': caption, 'box': box} ORDER BY id, place.captions, box, place.number))
        ::VARCHAR
FROM (
    SELECT uid, id, caption, box, min({'captions': captions, 'number': number}) AS place
    FROM (
        SELECT uid, id, box, captions, unnest(captions) AS caption, generate_subscripts(captions, 1) AS number
        FROM $facecaption JOIN faces USING (uid) WHERE num_facecaption_rows > 1 OR len(captions) > 1
    )
    GROUP BY uid, id, caption, box
)
GROUP BY uid
"""

JOINED_SQL = """
CREATE OR REPLACE TEMP TABLE joined AS
SELECT uid, coalesce(laion_images.url, faces.url) AS url, laion_images.* EXCLUDE (uid, url, num_laion_rows),
    coalesce(num_facecaption_rows, 0)::INTEGER AS num_facecaption_rows,
    coalesce(num_laion_rows, 0)::INTEGER AS num_laion_rows,
    coalesce(facecaptions, '[]') AS facecaptions,
    {num_faces} AS num_faces, {face_side} AS face_side, {face_area} AS face_area,
    {in_release} AS in_release,
    {host} AS host, {address} AS address
FROM faces FULL OUTER JOIN laion_images USING (uid) LEFT JOIN captioned USING (uid)
"""

HOST_SQL = "regexp_extract(coalesce(laion_images.url, faces.url), '^https?://([^/?#]*)', 1)"
"""The host with user and port, for Python to take apart: what a URL names as its host is no matter of a pattern."""

DECIDED_SQL = """
CREATE OR REPLACE TEMP TABLE decided AS
SELECT *, CASE WHEN num_laion_rows = 0 THEN 'not_in_laion' WHEN num_facecaption_rows = 0 THEN 'not_in_facecaption'
    {gates} END AS reason, {key} AS rank_key
FROM joined
"""

IMAGES_SQL = """
COPY (SELECT uid, url, width, height, num_facecaption_rows, num_laion_rows, reason, rank_key FROM decided ORDER BY uid)
TO '{target}' (FORMAT parquet, COMPRESSION lz4)
"""
CANDIDATES_SQL = """
COPY (
    SELECT uid, url, caption, facecaptions, width, height, nsfw, punsafe, similarity, license, sample_id,
        rights AS rights_json, num_facecaption_rows, num_laion_rows, rank_key
    FROM decided WHERE reason IS NULL ORDER BY uid
) TO '{target}' (FORMAT parquet, COMPRESSION lz4)
"""

CUT_SQL = """
-- The last key that is kept, from how often each occurs; then the last uid among its equals. No sort of all rows.
WITH counted AS (SELECT rank_key, count(*) AS num FROM candidates GROUP BY rank_key),
summed AS (SELECT rank_key, num, sum(num) OVER (ORDER BY rank_key DESC) AS num_until FROM counted),
last AS (SELECT rank_key, {top} - (num_until - num) AS num_wanted FROM summed WHERE num_until >= {top}
         ORDER BY rank_key DESC LIMIT 1)
SELECT last.rank_key, uid FROM last JOIN candidates USING (rank_key)
QUALIFY row_number() OVER (ORDER BY uid) = any_value(num_wanted) OVER ()
"""

LAST_SQL = "SELECT rank_key, uid FROM candidates ORDER BY rank_key, uid DESC LIMIT 1"

SELECTION_SQL = """
SELECT * REPLACE (replace(uid::VARCHAR, '-', '') AS uid) FROM candidates
WHERE {is_kept} ORDER BY candidates.rank_key DESC, candidates.uid
"""

REST_SQL = """
SELECT replace(uid::VARCHAR, '-', '') AS uid, '' AS key, url, NULL::VARCHAR AS sha256, width, height, FALSE AS kept,
    'rank' AS rejected_by, coalesce(reason, 'below_cut') AS reason, num_facecaption_rows, num_laion_rows
FROM {images} WHERE reason IS NOT NULL OR NOT ({is_kept}) ORDER BY images.uid
"""

NAMELESS_SQL = """
-- A row without usable URL is named by what it holds and how often the same was seen: sha256 as in uid_of_bytes.
SELECT substr(sha256(concat_ws(' ', content, row_number() OVER (PARTITION BY content))), 1, 32) AS uid, '' AS key, url,
    NULL::VARCHAR AS sha256, NULL::INTEGER AS width, NULL::INTEGER AS height, FALSE AS kept, 'rank' AS rejected_by,
    'url_unusable' AS reason, num_facecaption_rows::INTEGER AS num_facecaption_rows,
    num_laion_rows::INTEGER AS num_laion_rows
FROM (SELECT content, url, 1 AS num_facecaption_rows, 0 AS num_laion_rows FROM {facecaption}
      UNION ALL SELECT content, url, 0, 1 FROM {laion})
ORDER BY uid
"""


@dataclass(frozen=True)
class Cut:
    """Where the selection ends: images of a larger key are in, and of those with this very key all up to this uid."""

    value: Any
    uid: str

    @property
    def condition(self) -> str:
        """SQL over images or candidates that says who is kept."""
        key = f"'{self.value!r}'::DOUBLE" if isinstance(self.value, float) else str(self.value)
        return f"rank_key > {key} OR (rank_key = {key} AND uid <= '{self.uid}'::UUID)"


@contextmanager
def opened(folder: Path) -> Iterator["duckdb.DuckDBPyConnection"]:
    """Open a database inside `folder` that stays within `MEMORY_LIMIT`."""
    config = {"partitioned_write_flush_threshold": ROWS_PER_FLUSH, "partitioned_write_max_open_files": MAX_BUCKETS + 2}
    with database_in(folder, MEMORY_LIMIT, **config) as database:
        register(database)
        yield database


def join(  # long: its arguments, and the statements of one bucket in order
    database: "duckdb.DuckDBPyConnection",
    folder: Path,
    settings: "RankSettings",
    blocklist: Blocklist,
    num_buckets: int,
    has_release: bool,
    blind: Collection[str] = (),
    own: Sequence[OwnRule] = (),
) -> None:
    """Join `folder`/facecaption and `folder`/laion bucket by bucket, and decide who may be ranked.

    `blind` names gates that are waived; `own` are conditions that other distributions bring.
    Leaves the views `images` (every image, narrow) and `candidates` (those that may be ranked, with all that is known).
    """
    has_blocklist = blocklist != Blocklist()
    if has_blocklist:
        register_blocklist(database, blocklist)
    gates = conditions(settings, has_release=has_release, has_blocklist=has_blocklist, blind=blind)
    gates += [(f"({rule.condition})::BOOLEAN", rule.reason) for rule in own]
    decided = DECIDED_SQL.format(
        gates="\n    ".join(f"WHEN {condition} THEN '{reason}'" for condition, reason in gates),
        key=RANK_KEYS[settings.key],
    )
    for name in ("images", "candidates"):
        (folder / name).mkdir()
    if has_release:
        list_released(database, folder, num_buckets)
    for bucket in range(num_buckets):
        sources = {name: source(folder, name, bucket) for name in ("facecaption", "laion", "listed")}
        _join_bucket(database, sources, has_release, has_blocklist)
        if has_blocklist:
            database.execute(
                "CREATE OR REPLACE TEMP TABLE blocked_hosts AS SELECT host FROM (SELECT DISTINCT host FROM joined) "
                "WHERE is_blocked_host(host)"
            )
        with told_of(own):
            database.execute(decided)
        database.execute(IMAGES_SQL.format(target=quoted(folder / "images" / f"{bucket:03d}.parquet")))
        database.execute(CANDIDATES_SQL.format(target=quoted(folder / "candidates" / f"{bucket:03d}.parquet")))
    for name in ("images", "candidates"):
        database.read_parquet(pattern(folder / name, "*.parquet"), hive_partitioning=False).create_view(name)


def hold_own(database: "duckdb.DuckDBPyConnection", own: Sequence[OwnRule]) -> None:
    """Hold conditions that other distributions bring against the columns of joined images, without any.

    Raises:
        PluginError: one is no condition over these.
    """
    if own:
        _join_bucket(database, EMPTY, has_release=False, has_blocklist=False)
        require_sound(database, own, "joined")


def _join_bucket(
    database: "duckdb.DuckDBPyConnection", sources: Mapping[str, str], has_release: bool, has_blocklist: bool
) -> None:
    database.execute(LAION_SQL.format(**sources))
    database.execute(FACES_SQL.format(**sources))
    database.execute(CAPTIONS_SQL.replace("$facecaption", sources["facecaption"]))
    database.execute(_joined_sql(sources, has_release, has_blocklist))


def _joined_sql(sources: Mapping[str, str], has_release: bool, has_blocklist: bool) -> str:
    return JOINED_SQL.format(
        host=HOST_SQL if has_blocklist else "NULL",
        address="address_of(coalesce(laion_images.url, faces.url))" if has_blocklist else "NULL",
        num_faces="coalesce(found_faces, num_boxes)",
        face_side="coalesce(found_side, box_side)",
        face_area="coalesce(found_area, box_area)",
        in_release=f"uid IN (SELECT uid FROM {sources['listed']})" if has_release else "TRUE",
    )


def source(folder: Path, name: str, bucket: int) -> str:
    """Return SQL that reads one bucket of a cleaned source, or no row of the same columns."""
    if files := bucket_files(folder / name, bucket):
        return f"read_parquet({sql_list(files)}, hive_partitioning = false)"
    others = sorted(str(path) for path in (folder / name).glob("*/*.parquet"))
    if others:
        return f"(SELECT * FROM read_parquet({sql_list(others[:1])}, hive_partitioning = false) LIMIT 0)"
    return EMPTY[name]


EMPTY = {
    "facecaption": "(SELECT NULL::UUID AS uid, NULL::VARCHAR AS url, NULL::VARCHAR AS content, NULL::VARCHAR AS id, "
    "NULL::VARCHAR[] AS captions, NULL::VARCHAR AS sample_id, NULL::INTEGER[] AS box LIMIT 0)",
    "laion": "(SELECT NULL::UUID AS uid, NULL::VARCHAR AS url, NULL::VARCHAR AS content, NULL::VARCHAR AS caption, "
    "NULL::INTEGER AS width, NULL::INTEGER AS height, NULL::BIGINT AS area, NULL::VARCHAR AS nsfw, "
    "NULL::DOUBLE AS similarity, NULL::VARCHAR AS license, NULL::VARCHAR AS sample_id, NULL::DOUBLE AS punsafe, "
    "NULL::DOUBLE AS pwatermark, NULL::INTEGER AS found_faces, NULL::DOUBLE AS found_side, "
    "NULL::DOUBLE AS found_area, NULL::VARCHAR AS sha256, NULL::VARCHAR AS md5, NULL::VARCHAR AS rights LIMIT 0)",
    "listed": "(SELECT NULL::UUID AS uid LIMIT 0)",
}
"""A source without rows."""


def find_cut(database: "duckdb.DuckDBPyConnection", top: int | None) -> Cut | None:
    """Return where the selection of the `top` best ends; None where nothing can be ranked."""
    rows = database.sql(CUT_SQL.format(top=top)).fetchall() if top is not None else []
    rows = rows or database.sql(LAST_SQL).fetchall()
    return Cut(rows[0][0], str(rows[0][1]).replace("-", "")) if rows else None


def names_owners(database: "duckdb.DuckDBPyConnection") -> bool:
    """Return whether a source says of any candidate, beside its licence, whose it is."""
    return bool(database.sql("SELECT count(rights_json) > 0 FROM candidates").fetchall()[0][0])


def selected(database: "duckdb.DuckDBPyConnection", condition: str, rows_per_part: int) -> Iterator[pa.Table]:
    """Yield the parts of a selection, best first; `condition` is SQL over candidates that says who is selected."""
    yield from chunks(database, SELECTION_SQL.format(is_kept=condition), rows_per_part)


def rest(database: "duckdb.DuckDBPyConnection", folder: Path, cut: Cut | None, num_rows: int) -> Iterator[pa.Table]:
    """Yield the ledger rows of all images that were left out, in order of uid, and last those without an address."""
    is_kept = "FALSE" if cut is None else cut.condition
    for file in sorted((folder / "images").glob("*.parquet")):
        images = f"read_parquet({sql_list([str(file)])}, hive_partitioning = false) AS images"
        yield from chunks(database, REST_SQL.format(is_kept=is_kept, images=images), num_rows)
    sources = {name: source(folder, name, NAMELESS_BUCKET) for name in ("facecaption", "laion")}
    yield from chunks(database, NAMELESS_SQL.format(**sources), num_rows)


def chunks(database: "duckdb.DuckDBPyConnection", query: str, num_rows: int) -> Iterator[pa.Table]:
    """Yield the result of an ordered query in tables of exactly `num_rows`, the last one shorter, none empty."""
    waiting: list[pa.RecordBatch] = []
    num_waiting = 0
    for batch in database.sql(query).to_arrow_reader(num_rows):
        waiting.append(batch)
        num_waiting += batch.num_rows
        while num_waiting >= num_rows:
            table = pa.Table.from_batches(waiting)
            yield table.slice(0, num_rows)
            waiting = table.slice(num_rows).to_batches()
            num_waiting -= num_rows
    if num_waiting:
        yield pa.Table.from_batches(waiting)

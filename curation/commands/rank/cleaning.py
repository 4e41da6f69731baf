"""What metadata texts hold is dirty: here every row becomes clean columns or a counted, named fault.

DuckDB cleans what has the usual form (almost everything) and asks Python about the rest, so that both give what
`usable_url` and `face_box` say. Rows go to one file per bucket of uids, so that later work fits into memory bucket by
bucket. Where the URL cannot be used, `uid` is null and `content` names the row by what it holds, never by its position,
so that the order of the input files changes nothing.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.commands.importing.faults import Faults
from curation.commands.rank.streams import (
    LARGEST_SIDE_PX,
    Stream,
    detection_stream,
    facecaption_stream,
    has_sample_ids,
    laion_stream,
    url_stream,
)
from curation.dataset.sample import normalise_url
from curation.dataset.urls import addresses_of

if TYPE_CHECKING:
    import duckdb

MAX_BUCKETS = 128
ROWS_PER_BUCKET = 1_000_000
NAMELESS_BUCKET = MAX_BUCKETS
"""Where the rows without usable URL go."""
NUM_BOX_SIDES = 4
ROWS_PER_FLUSH = 8192
WHITESPACE = "".join(chr(n) for n in range(0x3001) if chr(n).isspace())

USUAL_URL = r"https?://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(/([\x21\x22\x24-\x7E]*[\x21\x22\x24-\x3E\x40-\x7E])?)?"
"""A URL that is its own normal form: lower-case host, no port, user, fragment, space or empty query."""
WHOLE = r"-?(0|[1-9][0-9]{0,8})"
USUAL_BOX = rf"\[{WHOLE}, ?{WHOLE}, ?{WHOLE}, ?{WHOLE}\]"

FACECAPTION_SQL = """
SELECT *, CASE WHEN regexp_full_match(head, $usual_url) THEN head ELSE usable_url(head) END AS normal
FROM (
    SELECT id, raw, split_part(raw, ', ', 1) AS head, sample_id, captions AS all_captions, box_text,
        list_filter(coalesce(captions, []), lambda text: trim(text, $whitespace) <> '') AS captions,
        CASE WHEN regexp_full_match(box_text, $usual_box) THEN TRY_CAST(box_text AS INTEGER[])
             ELSE face_box(box_text) END AS sides
    FROM arriving
)
"""
BY_SAMPLE_ID_SQL = """
-- A row of FaceCaption that names a SAMPLE_ID is about that image, whatever became of its own URL.
SELECT named.* REPLACE (coalesce(known.url, named.normal) AS normal)
FROM ({rows}) AS named
LEFT JOIN (
    SELECT sample_id, min(url) AS url FROM read_parquet('{laion}', hive_partitioning = false)
    WHERE uid IS NOT NULL AND sample_id IS NOT NULL GROUP BY sample_id
) AS known ON known.sample_id = named.sample_id
"""
FACECAPTION_COLUMNS_SQL = """
    id, captions, sample_id,
    CASE WHEN sides[3] > greatest(sides[1], 0) AND sides[4] > greatest(sides[2], 0) THEN sides END AS box,
    head IS DISTINCT FROM raw AS has_extra_text
"""
FACECAPTION_CONTENT = "{'id': id, 'captions': all_captions, 'url': raw, 'box': box_text}"

LAION_SQL = """
SELECT *, CASE WHEN regexp_full_match(raw, $usual_url) THEN raw ELSE usable_url(raw) END AS normal FROM arriving
"""
UNDETECTED_SQL = (
    "SELECT *, NULL::INTEGER AS found_faces, NULL::DOUBLE AS found_side, NULL::DOUBLE AS found_area FROM ({rows})"
)
DETECTED_SQL = """
SELECT named.*, num_faces AS found_faces, face_side AS found_side, face_area AS found_area
FROM ({rows}) AS named
LEFT JOIN (
    SELECT "SAMPLE_ID", max(num_faces) AS num_faces, max(face_side) AS face_side, max(face_area) AS face_area
    FROM detections GROUP BY "SAMPLE_ID"
) AS detected ON detected."SAMPLE_ID" = TRY_CAST(named.sample_id AS BIGINT)
"""
LAION_COLUMNS_SQL = """
    CASE WHEN trim(text, $whitespace) <> '' THEN text END AS caption,
    width, height, area, nsfw, similarity, license, sample_id, punsafe, pwatermark,
    found_faces, found_side, found_area, lower(sha256) AS sha256, lower(md5) AS md5, rights
"""
LAION_CONTENT = (
    "{'url': raw, 'text': text, 'width': width, 'height': height, 'nsfw': nsfw, 'similarity': similarity, "
    "'license': license, 'sample_id': sample_id}"
)

RELEASE_SQL = "SELECT raw, address_of(raw) AS normal FROM arriving"
ADDRESSED_SQL = """
COPY (
    SELECT uid, address, ('0x' || substr(address::VARCHAR, 1, 2))::INTEGER // {width} AS bucket
    FROM (
        SELECT uid, substr(sha256(address_of(url)), 1, 32)::UUID AS address
        FROM (SELECT uid, any_value(url) AS url FROM read_parquet({files}, hive_partitioning = false) GROUP BY uid)
    )
    WHERE address IS NOT NULL
) TO '{target}' (FORMAT parquet, PARTITION_BY (bucket), COMPRESSION lz4)
"""
LISTED_SQL = """
COPY (
    SELECT uid, ('0x' || substr(uid::VARCHAR, 1, 2))::INTEGER // {width} AS bucket
    FROM read_parquet({asked}, hive_partitioning = false)
    WHERE address IN (SELECT uid FROM read_parquet({released}, hive_partitioning = false))
) TO '{target}' (
    FORMAT parquet, PARTITION_BY (bucket), COMPRESSION lz4, FILENAME_PATTERN 'of-{number}-{{i}}', OVERWRITE_OR_IGNORE
)
"""

CLEAN_SQL = """
COPY (
    SELECT uid, url, content, {columns},
        CASE WHEN uid IS NULL THEN {nameless}
             ELSE ('0x' || substr(uid::VARCHAR, 1, 2))::INTEGER // {width} END AS bucket
    FROM (
        SELECT *, substr(sha256(normal), 1, 32)::UUID AS uid, coalesce(normal, raw) AS url,
            CASE WHEN normal IS NULL
                 THEN substr(sha256('{source} ' || to_json({content})::VARCHAR), 1, 32) END AS content
        FROM ({rows})
    )
) TO '{target}' (FORMAT parquet, PARTITION_BY (bucket), COMPRESSION lz4)
"""

FACECAPTION_FAULTS = """
SELECT count(*) AS num_rows, count(*) FILTER (uid IS NULL) AS url_unusable,
    count(*) FILTER (has_extra_text) AS url_extra_text, count(*) FILTER (len(captions) = 0) AS caption_missing,
    count(*) FILTER (box IS NULL) AS box_broken
FROM cleaned
"""
LAION_FAULTS = """
SELECT count(*) AS num_rows, count(*) FILTER (uid IS NULL) AS url_unusable,
    count(*) FILTER (caption IS NULL) AS caption_missing, count(*) FILTER (area IS NULL) AS no_size
FROM cleaned
"""


@dataclass(frozen=True)
class Counts:
    """What cleaning one source counted."""

    num_rows: int
    faults: Mapping[str, int]
    examples: Mapping[str, str]
    """Fault -> file and row of the first one, where a value could not be read at all."""


def clean_facecaption(
    database: "duckdb.DuckDBPyConnection", source: Path, target: Path, laion: Path, num_buckets: int
) -> Counts:
    """Write the rows of `source` to buckets in the folder `target`; return their number and the faults by name.

    `laion` is the cleaned other side: where `source` has a column SAMPLE_ID, that decides before the URL.
    """
    faults = Faults()
    rows = FACECAPTION_SQL
    if has_sample_ids(source) and any(laion.glob("*/*.parquet")):
        rows = BY_SAMPLE_ID_SQL.format(rows=FACECAPTION_SQL, laion=quoted(pattern(laion, "*/*.parquet")))
    _clean(
        database,
        target,
        facecaption_stream(source, faults),
        {"rows": rows, "columns": FACECAPTION_COLUMNS_SQL, "content": FACECAPTION_CONTENT},
        num_buckets,
    )
    return _counted(database, target, FACECAPTION_FAULTS, faults)


def clean_laion(
    database: "duckdb.DuckDBPyConnection", source: Path, target: Path, num_buckets: int, detections: Path | None = None
) -> Counts:
    """Write the rows of `source` to buckets in the folder `target`; return their number and the faults by name.

    `detections` is parquet that `import` made of `sample2detect_*.pth`: faces by SAMPLE_ID.
    """
    faults = Faults()
    faults.update({"sample_id_float": 0, "sample_id_inexact": 0})
    rows = UNDETECTED_SQL.format(rows=LAION_SQL)
    if detections is not None:
        rows = DETECTED_SQL.format(rows=LAION_SQL)
        with streaming(database, "arriving", detection_stream(detections)):
            database.execute("CREATE OR REPLACE TEMP TABLE detections AS SELECT * FROM arriving")
    _clean(
        database,
        target,
        laion_stream(source, faults),
        {"rows": rows, "columns": LAION_COLUMNS_SQL, "content": LAION_CONTENT},
        num_buckets,
    )
    return _counted(database, target, LAION_FAULTS, faults)


def clean_release(database: "duckdb.DuckDBPyConnection", source: Path, target: Path, num_buckets: int) -> None:
    """Write what the URLs of a cleaned release ask for, as a UUID like a uid, to buckets in the folder `target`.

    `source` is parquet with a column URL or url.
    """
    parts = {"rows": RELEASE_SQL, "columns": "TRUE AS in_release", "content": "{'url': raw}"}
    _clean(database, target, url_stream(source), parts, num_buckets)


def list_released(database: "duckdb.DuckDBPyConnection", folder: Path, num_buckets: int) -> None:
    """Write the uids of all images that a release holds, by what their URLs ask for, to buckets in `folder`/listed.

    Which uids those are is no matter of a uid's own bucket: rows go to buckets of addresses first.
    """
    sources = [path for name in ("facecaption", "laion") for path in sorted((folder / name).glob("bucket=*/*.parquet"))]
    named = [str(path) for path in sources if path.parent.name != f"bucket={NAMELESS_BUCKET}"]
    (folder / "listed").mkdir()
    if not named:
        return
    parts = {"files": sql_list(named), "width": 256 // num_buckets}
    database.execute(ADDRESSED_SQL.format(**parts, target=quoted(folder / "addressed")))
    for bucket in range(num_buckets):
        asked, released = bucket_files(folder / "addressed", bucket), bucket_files(folder / "release", bucket)
        if asked and released:
            parts = {"asked": sql_list(asked), "released": sql_list(released), "width": 256 // num_buckets}
            database.execute(LISTED_SQL.format(**parts, target=quoted(folder / "listed"), number=bucket))


def num_buckets_for(num_rows: int) -> int:
    """Return how many buckets of equal uid ranges keep each near `ROWS_PER_BUCKET` rows; a power of two."""
    wanted = 1
    while wanted < MAX_BUCKETS and wanted * ROWS_PER_BUCKET < num_rows:
        wanted *= 2
    return wanted


def bucket_files(folder: Path, bucket: int) -> list[str]:
    """Return the files of one bucket of a cleaned source."""
    return sorted(str(path) for path in (folder / f"bucket={bucket}").glob("*.parquet"))


def register(database: "duckdb.DuckDBPyConnection") -> None:
    """Teach DuckDB the functions in Python that unusual texts need."""
    import duckdb

    text, whole = duckdb.sqltypes.VARCHAR, duckdb.sqltypes.INTEGER
    for name, function, result, arrow in (
        ("usable_url", usable_url, text, pa.string()),
        ("face_box", face_box, duckdb.list_type(whole), pa.list_(pa.int32())),
    ):
        database.create_function(
            name, _on_arrow(function, arrow), [text], result, type="arrow", null_handling="special"
        )
    database.create_function("address_of", _addresses_of, [text], text, type="arrow", null_handling="special")


def usable_url(raw: str | None) -> str | None:
    """Return the normalised URL, or None where the text is empty, "UNKNOWN" or no http(s) address."""
    if raw is None or raw.strip() in ("", "UNKNOWN"):
        return None
    try:
        url = normalise_url(raw.strip())
        url.encode()
    except ValueError:
        return None
    return url if url.startswith(("http://", "https://")) else None


def face_box(raw: str | None) -> list[int] | None:
    """Parse FaceCaption's box, JSON text `[x1, y1, x2, y2]` in pixels; None where it is broken or has no area."""
    try:
        box = json.loads(raw or "")
    except (ValueError, RecursionError):
        return None
    if not isinstance(box, list) or len(box) != NUM_BOX_SIDES:
        return None
    if any(isinstance(side, bool) or not isinstance(side, int | float) for side in box):
        return None
    if any(not math.isfinite(side) or abs(side) > LARGEST_SIDE_PX for side in box):
        return None
    left, top, right, bottom = (round(side) for side in box)
    if right <= max(left, 0) or bottom <= max(top, 0):
        return None
    return [left, top, right, bottom]


def _addresses_of(column: Any) -> Any:
    """Return `addresses_of`, under annotations that DuckDB can evaluate."""
    return addresses_of(column)


def _on_arrow(function: Any, kind: pa.DataType) -> Any:
    def apply(column: pa.ChunkedArray) -> pa.Array:
        return pa.array([function(value) for value in column.to_pylist()], kind)

    return apply


def _clean(
    database: "duckdb.DuckDBPyConnection",
    target: Path,
    arriving: Stream,
    parts: dict[str, str],
    num_buckets: int,
) -> None:
    """Write a stream of rows to buckets."""
    sql = CLEAN_SQL.format(
        **{name: _with_constants(part) for name, part in parts.items()},
        source=target.name,
        target=quoted(target),
        nameless=NAMELESS_BUCKET,
        width=256 // num_buckets,
    )
    with streaming(database, "arriving", arriving):
        database.execute(sql)


@contextmanager
def streaming(database: "duckdb.DuckDBPyConnection", name: str, stream: Stream) -> Iterator[None]:
    """Let DuckDB read a stream by that name; an error of the stream is raised as it was, not as DuckDB retells it."""
    import duckdb

    database.register(name, stream.reader)
    try:
        yield
    except duckdb.Error:
        if stream.errors:
            raise stream.errors[0] from None
        raise
    finally:
        database.unregister(name)


def _counted(database: "duckdb.DuckDBPyConnection", folder: Path, query: str, faults: Faults) -> Counts:
    if not any(folder.glob("*/*.parquet")):
        return Counts(0, faults.named, faults.examples)
    database.read_parquet(pattern(folder, "*/*.parquet"), hive_partitioning=False).create_view("cleaned", replace=True)
    result = database.sql(query)
    counts = {name: int(count) for name, count in zip(result.columns, result.fetchall()[0], strict=True)}
    num_rows = counts.pop("num_rows")
    return Counts(num_rows, dict(sorted((counts | faults).items())), faults.examples)


def _with_constants(sql: str) -> str:
    """Fill in constants, since COPY takes no parameters."""
    constants = {"$usual_url": USUAL_URL, "$usual_box": USUAL_BOX, "$whitespace": WHITESPACE}
    for name, value in constants.items():
        sql = sql.replace(name, "'" + value.replace("'", "''") + "'")
    return sql


def sql_list(files: list[str]) -> str:
    """Return file names as a list in SQL."""
    paths = [Path(file) for file in files]
    return "[" + ", ".join(f"'{quoted(pattern(path.parent, path.name))}'" for path in paths) + "]"


def pattern(folder: Path, tail: str) -> str:
    """Return a pattern for DuckDB in which only `tail` matches anything, whatever the folder is called."""
    return re.sub(r"([*?\[])", r"[\1]", str(folder)) + "/" + tail


def quoted(path: Path | str) -> str:
    """Return a path as it stands between single quotes in SQL."""
    return str(path).replace("'", "''")

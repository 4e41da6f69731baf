"""Every number of a card: its name, and the query that gives it. No number comes into a card any other way.

Tables: `rank_ledger` and so on are the ledgers of the stages, `packed` is the pack's index, `samples` the published
Parquet file; `forgotten` has a row for every ledger's row that is a tombstone, `tombstones` and `requests` are
what the run says of them, and `limits` are the recipe's keep ranges.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

NUM_LISTED = 20
"""Rows of a table in the card that could be as long as the data set."""
MAX_DOMAINS = 1000

Value = int | float | str | Sequence[Sequence[Any]] | None
"""A number, a word, or rows; None where a table that it asks is not there."""
Values = Mapping[str, Value]


@dataclass(frozen=True)
class Number:
    """One number of a card, or a table of them."""

    query: str
    needs: tuple[str, ...]
    """Tables, and columns (`fetch_ledger.opt_out`) that not every release wrote, without which it is not known."""
    is_table: bool = False


def _spread(value: str, source: str) -> Number:
    """Return least, a tenth, median, nine tenths and largest of a value, in whole units."""
    places = ", ".join(f"quantile_disc(value, {place})" for place in (0.1, 0.5, 0.9))
    query = f"SELECT min(value), {places}, max(value) FROM (SELECT {value} AS value FROM {source})"
    return Number(query, (source,), is_table=True)


def _count(source: str, condition: str = "true", *columns: str) -> Number:
    return Number(f"SELECT count(*) FROM {source} WHERE {condition}", (source, *columns))


def _most(column: str, source: str, limit: int | None = NUM_LISTED, needs: tuple[str, ...] = ()) -> Number:
    text = f"SELECT {column} AS value, count(*) AS num FROM {source} GROUP BY value ORDER BY num DESC, value"
    return Number(text if limit is None else f"{text} LIMIT {limit}", needs or (source,), is_table=True)


def _of_stage(stage: str) -> dict[str, Number]:
    ledger = f"{stage}_ledger"
    reasons = (
        f"SELECT rejected_by, reason, count(*) AS num FROM {ledger} WHERE NOT kept AND rejected_by <> 'forget' "
        "GROUP BY rejected_by, reason ORDER BY num DESC, rejected_by, reason"
    )
    return {
        f"{stage}_seen": _count(ledger),
        f"{stage}_kept": _count(ledger, "kept"),
        f"{stage}_forgotten": _count(ledger, "rejected_by = 'forget'"),
        f"{stage}_reasons": Number(reasons, (ledger,), is_table=True),
    }


FLOW = ("rank", "fetch", "curate", "pack")
DOMAIN = r"lower(regexp_extract(url, '^https?://(?:[^/?#@]*@)?([^/:?#]+)', 1, 'i'))"
DOMAINS = f"(SELECT {DOMAIN} AS domain, num_bytes FROM packed WHERE url IS NOT NULL)"
LICENSED = ("packed", "packed.license")
LICENCE = "coalesce(license, 'unknown')"
IS_KNOWN = "NOT IN ('unknown', '?', '')"
SHORTER_SIDE = "least(width, height)"
FACE_SIDE = "round(least(face_x2 - face_x1, face_y2 - face_y1))::BIGINT"
FACE_SHARE = "round(100 * (face_x2 - face_x1) * (face_y2 - face_y1) / (width * height))::BIGINT"
WORDS = r"len(string_split_regex(trim(caption), '\s+'))"
SIZE_CATEGORY = """
SELECT CASE WHEN num < 1000 THEN 'n<1K' WHEN num < 10000 THEN '1K<n<10K' WHEN num < 100000 THEN '10K<n<100K'
    WHEN num < 1000000 THEN '100K<n<1M' WHEN num < 10000000 THEN '1M<n<10M' WHEN num < 100000000 THEN '10M<n<100M'
    ELSE '100M<n<1B' END
FROM (SELECT count(*) AS num FROM packed)
"""
TOP_DOMAINS = f"""
SELECT domain, num, size FROM (
    SELECT domain, count(*) AS num, sum(num_bytes)::BIGINT AS size,
        row_number() OVER (ORDER BY sum(num_bytes) DESC, domain) AS place, count(*) OVER () AS num_domains
    FROM {DOMAINS} GROUP BY domain
) WHERE place <= least({MAX_DOMAINS}, ceil(num_domains / 10)) ORDER BY place
"""
OPT_OUTS = """
SELECT regexp_extract(opt_out, '"where": "([^"]*)"', 1) AS place, count(*) AS num FROM fetch_ledger
WHERE reason = 'opted_out' GROUP BY place ORDER BY num DESC, place
"""
KINDS = "SELECT kind, count(*) AS num FROM tombstones GROUP BY kind ORDER BY kind"
LIMITS = "SELECT filter, score, least, most FROM limits"

_TABLE = {
    "num_samples": _count("packed"),
    "num_bytes": Number("SELECT coalesce(sum(num_bytes), 0)::BIGINT FROM packed", ("packed",)),
    "num_shards": Number("SELECT count(DISTINCT shard) FROM packed", ("packed",)),
    "size_category": Number(SIZE_CATEGORY, ("packed",)),
    "formats": _most("format", "packed", None),
    "shorter_side_px": _spread(SHORTER_SIDE, "packed"),
    "face_side_px": Number(
        _spread(FACE_SIDE, "samples").query, ("samples", "samples.face_x1", "samples.face_x2"), is_table=True
    ),
    "face_share_percent": Number(
        _spread(FACE_SHARE, "samples").query, ("samples", "samples.face_x1", "samples.face_x2"), is_table=True
    ),
    "caption_words": _spread(WORDS, "samples"),
    "num_captions": Number("SELECT coalesce(sum(len(captions)), 0)::BIGINT FROM samples", ("samples",)),
    "num_distinct_captions": Number("SELECT count(DISTINCT caption) FROM samples", ("samples",)),
    "caption_sources": _most("caption_source", "packed", None),
    "caption_bindings": _most("caption_binding", "packed", None),
    "num_licences": Number(f"SELECT count(DISTINCT license) FROM packed WHERE {LICENCE} {IS_KNOWN}", LICENSED),
    "licences": _most(LICENCE, "packed", needs=LICENSED),
    "num_without_licence": _count("packed", f"NOT {LICENCE} {IS_KNOWN}", "packed.license"),
    "num_with_author": _count("packed", "author IS NOT NULL", "packed.author"),
    "num_without_url": _count("packed", "url IS NULL"),
    "num_domains": Number(f"SELECT count(DISTINCT domain) FROM {DOMAINS}", ("packed",)),
    "domains": _most("domain", DOMAINS, needs=("packed",)),
    "top_domains": Number(TOP_DOMAINS, ("packed",), is_table=True),
    **{name: number for stage in FLOW for name, number in _of_stage(stage).items()},
    "fetch_opted_out": _count("fetch_ledger", "reason = 'opted_out'"),
    "fetch_opted_out_by": Number(OPT_OUTS, ("fetch_ledger", "fetch_ledger.opt_out"), is_table=True),
    "curate_opted_out": _count("curate_ledger", "reason = 'opted_out'"),
    "num_withheld": _count("fetch_ledger", "reason = 'withheld'"),
    "num_unsafe_minor": _count("fetch_ledger", "reason = 'unsafe_and_possible_minor'"),
    "num_requests": Number("SELECT count(DISTINCT (kind, hash)) FROM requests", ("requests",)),
    "num_requests_found": Number(
        "SELECT count(DISTINCT (kind, hash)) FROM requests WHERE num_images > 0", ("requests",)
    ),
    "num_forgotten": Number("SELECT count(DISTINCT uid) FROM forgotten", ("forgotten",)),
    "tombstones": Number(KINDS, ("tombstones",), is_table=True),
    "limits": Number(LIMITS, ("limits",), is_table=True),
}
NUMBERS: Mapping[str, Number] = MappingProxyType(_TABLE)
"""Every number by its name in the template and in `card.json`."""

"""Which captions a recipe finds fit to train on, by what can be said of each without the picture."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.dataset.caption_facts import CaptionFacts, facts_of_all
from curation.dataset.captions import Caption
from curation.errors import ShardError
from curation.measure.arrow import from_struct
from curation.recipe.settings import CaptionSettings

if TYPE_CHECKING:
    import duckdb

REPEATED = "caption_repeated"
SCHEMA = pa.schema([("number", pa.int32()), ("place", pa.int32()), ("digest", pa.string()), ("fault", pa.string())])
OUT_SQL = """
CREATE TEMP TABLE unfit AS
WITH told AS (SELECT captions.* FROM captions JOIN pictures USING (shard, number)),
often AS (SELECT digest FROM told GROUP BY digest HAVING count(DISTINCT (shard, number)) > {most})
SELECT shard, number, CASE WHEN bool_or(fault IS NULL) THEN '{repeated}' ELSE first(fault ORDER BY place) END AS reason
FROM told GROUP BY shard, number HAVING NOT bool_or(fault IS NULL AND digest NOT IN (SELECT digest FROM often));
DELETE FROM pictures USING unfit WHERE pictures.shard = unfit.shard AND pictures.number = unfit.number
"""
MOST = 2**62


def fault_of(facts: CaptionFacts, settings: CaptionSettings) -> str | None:
    """Return the first thing for which a caption is not fit to train on, as a reason, or None."""
    checks = {
        "caption_short": facts.num_words < settings.min_words,
        "caption_long": settings.max_words is not None and facts.num_words > settings.max_words,
        "caption_language": bool(settings.languages) and facts.language not in settings.languages,
        "caption_boilerplate": settings.refuse_boilerplate and facts.is_boilerplate,
        "caption_personal_data": settings.refuse_personal_data and (facts.has_email or facts.has_phone),
    }
    return next((reason for reason, is_so in checks.items() if is_so), None)


def by_quality(captions: Sequence[Caption], settings: CaptionSettings, max_characters: int) -> tuple[Caption, ...]:
    """Return the captions that are fit, or all where none is, best first.

    The better of two is of the source that the recipe prefers, then says more (up to `enough_words`), then came first.
    """
    facts = facts_of_all(captions, max_characters)
    fit = [i for i, one in enumerate(facts) if fault_of(one, settings) is None] or range(len(captions))
    order: dict[str, int] = {source: place for place, source in enumerate(settings.prefer)}

    def worse(i: int) -> tuple[int, int, int]:
        return order[captions[i].source], -min(facts[i].num_words, settings.enough_words), i

    return tuple(captions[i] for i in sorted(fit, key=worse))


def told_captions(rows: Sequence[Mapping[str, Any]], settings: CaptionSettings, where: object) -> pa.Table:
    """Return what is to be known of the captions of one shard's ledger, one row for each of those who are kept.

    Raises:
        ShardError: the ledger says nothing of a kept sample's captions.
    """
    return pa.Table.from_pylist(list(_told(rows, settings, where)), schema=SCHEMA)


def _told(rows: Sequence[Mapping[str, Any]], settings: CaptionSettings, where: object) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows):
        if not row["kept"]:
            continue
        if row["captions"] is None:
            raise ShardError(f"{where}: says nothing of the captions of sample {number}, which is kept")
        for place, told in enumerate(row["captions"]):
            facts = from_struct(CaptionFacts, told)
            yield {"number": number, "place": place, "digest": facts.digest, "fault": fault_of(facts, settings)}


def without_fit_caption(database: "duckdb.DuckDBPyConnection", settings: CaptionSettings) -> list[tuple[int, int, str]]:
    """Take everyone out of `pictures` of whom `captions` has none that is fit; return (shard, number, reason).

    What more pictures than `max_repeats` share is not fit; of whom all fit ones are shared so is `caption_repeated`,
    everyone else bears the fault of the first caption.
    """
    most = MOST if settings.max_repeats is None else settings.max_repeats
    database.execute(OUT_SQL.format(most=most, repeated=REPEATED))
    rows: list[tuple[int, int, str]] = database.execute("SELECT * FROM unfit ORDER BY shard, number").fetchall()
    return rows

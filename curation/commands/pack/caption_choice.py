"""Which captions a recipe finds fit to train on, by what can be said of each without the picture."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.dataset.caption_facts import CaptionFacts, facts_of_all
from curation.dataset.captions import Binding, Caption
from curation.errors import ShardError
from curation.measure.arrow import from_struct
from curation.recipe.recipe import Recipe
from curation.recipe.settings import CaptionSettings

if TYPE_CHECKING:
    import duckdb

REPEATED = "caption_repeated"
SCHEMA = pa.schema([("number", pa.int32()), ("place", pa.int32()), ("digest", pa.string()), ("fault", pa.string())])
OUT_SQL = f"""
CREATE OR REPLACE TEMP TABLE unfit AS
WITH told AS (SELECT captions.* FROM captions JOIN pictures USING (shard, number))
SELECT shard, number, CASE WHEN bool_or(fault IS NULL) THEN '{REPEATED}' ELSE first(fault ORDER BY place) END AS reason
FROM told GROUP BY shard, number HAVING NOT bool_or(fault IS NULL AND digest NOT IN (SELECT digest FROM often));
DELETE FROM pictures USING unfit WHERE pictures.shard = unfit.shard AND pictures.number = unfit.number
"""
OFTEN_SQL = """
INSERT INTO often SELECT digest FROM captions JOIN pictures USING (shard, number)
WHERE digest NOT IN (SELECT digest FROM often) GROUP BY digest HAVING count(DISTINCT (shard, number)) > {most}
"""
SPARED_SQL = """
SELECT shard, number, list(place ORDER BY place) AS places FROM captions JOIN pictures USING (shard, number)
WHERE digest IN (SELECT digest FROM often) GROUP BY shard, number
"""
"""Those in `pictures` some of whose captions are in `often`, and the places of these."""


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


def by_quality(
    captions: Sequence[Caption], settings: CaptionSettings, max_characters: int, repeated: Collection[int] = ()
) -> tuple[Caption, ...]:
    """Return the captions that are fit, or all where none is, best first.

    `repeated` are the places of those that too many pictures share; they are not fit.

    The better of two is of the source that the recipe prefers, then says more (up to `enough_words`), then came first.
    """
    facts = facts_of_all(captions, max_characters)
    fit = [i for i, one in enumerate(facts) if fault_of(one, settings) is None and i not in repeated]
    order: dict[str, int] = {source: place for place, source in enumerate(settings.prefer)}

    def worse(i: int) -> tuple[int, int, int]:
        return order[captions[i].source], -min(facts[i].num_words, settings.enough_words), i

    return tuple(captions[i] for i in sorted(fit or range(len(captions)), key=worse))


def preferred(
    old: Binding | None, captions: Sequence[Caption], told: Caption | None, recipe: Recipe, repeated: Collection[int]
) -> Binding | None:
    """Return the old caption that would be taken, or the new one, by the rule `caption.prefer`.

    `captions` are the old ones, the new one stands behind them. Where no old one is fit, the new one is taken, and the
    other way round: a reply that is not fit never comes here, one that too many pictures share is no better.
    """
    if told is None or recipe.file.caption is None:
        return old
    settings, most = recipe.file.captions, recipe.file.pack.max_caption_characters
    facts = facts_of_all(captions, most)
    is_fit = [settings is None or fault_of(f, settings) is None for f in facts]
    has_fit = any(fit and place not in repeated for place, fit in enumerate(is_fit))
    new = Binding(told, "no_box")
    if old is None or not has_fit:
        return new
    if recipe.file.caption.prefer == "old" or len(captions) in repeated:
        return old
    enough = (settings or CaptionSettings()).enough_words
    num_old, num_new = (min(f.num_words, enough) for f in facts_of_all((old.caption, told), most))
    return new if recipe.file.caption.prefer == "new" or num_new > num_old else old


def told_captions(
    rows: Sequence[Mapping[str, Any]],
    settings: CaptionSettings,
    where: object,
    new: Mapping[str, str] = MappingProxyType({}),
) -> pa.Table:
    """Return what is to be known of the captions of one shard's ledger, one row for each of those who are kept.

    `new` are the digests of new captions by uid: such a one is fit, and stands behind those that came.

    Raises:
        ShardError: the ledger says nothing of a kept sample's captions.
    """
    return pa.Table.from_pylist(list(_told(rows, settings, where, new)), schema=SCHEMA)


def _told(
    rows: Sequence[Mapping[str, Any]], settings: CaptionSettings, where: object, new: Mapping[str, str]
) -> Iterator[dict[str, Any]]:
    for number, row in enumerate(rows):
        if not row["kept"]:
            continue
        if row["captions"] is None:
            raise ShardError(f"{where}: says nothing of the captions of sample {number}, which is kept")
        for place, told in enumerate(row["captions"]):
            facts = from_struct(CaptionFacts, told)
            yield {"number": number, "place": place, "digest": facts.digest, "fault": fault_of(facts, settings)}
        if new and row["uid"] in new:
            yield {"number": number, "place": len(row["captions"]), "digest": new[row["uid"]], "fault": None}


def take_out_unfit(database: "duckdb.DuckDBPyConnection") -> None:
    """Take everyone out of `pictures` of whom `captions` has none that is fit, and name them in `unfit` with a reason.

    What `often` names is not fit; of whom all fit ones are among these so is `caption_repeated`, everyone else bears
    the fault of the first caption.
    """
    database.execute(OUT_SQL)


def finds_repeats(database: "duckdb.DuckDBPyConnection", settings: CaptionSettings) -> bool:
    """Name in `often` what more than `max_repeats` of `pictures` share; return whether any of it is new."""
    if settings.max_repeats is None:
        return False
    ((num_new,),) = database.execute(OFTEN_SQL.format(most=settings.max_repeats)).fetchall()
    return bool(num_new)

"""What a gallery asks of the table: which pictures, in which order, how many there are."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from curation.commands.review.columns import Score
from curation.commands.review.detail import plain
from curation.commands.review.table import RowTable
from curation.commands.review.whatif import WAITS, mask, quoted
from curation.errors import UsageError
from curation.recipe.judge import KeepRange
from curation.recipe.recipe import Recipe
from curation.recipe.validation import choices
from filters.base import Settings

MAX_PAGE = 200
MAX_UIDS = 100_000
FAILS = (1 << WAITS) - 1
SIDES = {
    "enter": "mask = 0 AND NOT kept",
    "leave": f"mask & {FAILS} <> 0 AND kept",
    "undecided": f"mask & {FAILS} = 0 AND mask <> 0",
    "stay": "mask = 0 AND kept",
}
"""Who changes sides by other limits, who stays, and who would have to be measured first."""


class Query(Settings):
    """Which pictures; all conditions must hold."""

    verdict: Literal["all", "kept", "rejected"] = "all"
    rejected_by: str | None = None
    reason: str | None = None
    side: Literal["enter", "leave", "undecided", "stay"] | None = None
    """By the limits below, against the verdict in the ledger."""
    limits: dict[str, dict[str, float | None] | None] = Field(default_factory=dict)
    ranges: dict[str, KeepRange] = Field(default_factory=dict)
    """`filter.score` -> the scores that are shown, both ends included."""
    caption: str = Field(default="", max_length=200)
    """Found in any case, anywhere in a caption."""
    label: str | None = None
    """Labelled so by somebody; `*` is any label, `-` none."""
    uids: tuple[str, ...] | None = Field(default=None, max_length=MAX_UIDS)
    sort: str | None = None
    """A score; without one, as the ledgers have them."""
    descending: bool = False
    first: int = Field(default=0, ge=0)
    num: int = Field(default=60, ge=1, le=MAX_PAGE)


def page(table: RowTable, query: Query, recipe: Recipe, labelled: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """Return how many pictures a query finds, and those of one page.

    `recipe` is the run's with the query's limits; `labelled` are uid and label of all that count.

    Raises:
        UsageError: a score is not one of the recipe's.
    """
    where, values = _where(table, query, recipe, labelled)
    shown, order = _column(table, query.sort) if query.sort else "NULL", _order(table, query)
    columns = f"uid, kept, rejected_by, reason, width, height, num_bytes, {shown}"
    ((total,),) = table.ask(f"SELECT count(*) FROM {where}", values)
    rows = table.ask(f"SELECT {columns} FROM {where} ORDER BY {order} LIMIT {query.num} OFFSET {query.first}", values)
    names = ("uid", "kept", "rejected_by", "reason", "width", "height", "num_bytes", "score")
    items = [dict(zip(names, (*row[:-1], None if row[-1] is None else plain(row[-1])), strict=True)) for row in rows]
    return {"total": total, "first": query.first, "items": items}


def uids_of(table: RowTable, query: Query, recipe: Recipe, labelled: Sequence[tuple[str, str]]) -> list[str]:
    """Return the uids of all that a query finds, in its order."""
    where, values = _where(table, query, recipe, labelled)
    return [uid for (uid,) in table.ask(f"SELECT uid FROM {where} ORDER BY {_order(table, query)}", values)]


def _order(table: RowTable, query: Query) -> str:
    way = "DESC" if query.descending else "ASC"
    return f"{_column(table, query.sort)} {way} NULLS LAST, id" if query.sort else "id"


def _where(table: RowTable, query: Query, recipe: Recipe, labelled: Sequence[tuple[str, str]]) -> tuple[str, list[Any]]:
    """Return the rows of a query as what follows FROM, with the values of its marks."""
    tests, values = ["is_first"], list[Any]()
    if query.verdict != "all":
        tests.append("kept" if query.verdict == "kept" else "NOT kept")
    for column, wanted in (("rejected_by", query.rejected_by), ("reason", query.reason)):
        if wanted is not None:
            tests.append(f"{column} = ?")
            values.append(wanted)
    for name, keep in query.ranges.items():
        tests.append(f"{_column(table, name)} BETWEEN ? AND ?")
        values += [keep.bounds.low, keep.bounds.high]
    if query.caption:
        tests.append("id IN (SELECT id FROM captions WHERE contains(lower(text), lower(?)))")
        values.append(query.caption)
    if query.label is not None:
        uids = [uid for uid, label in labelled if query.label in ("*", "-", label)]
        tests.append(f"uid {'NOT ' if query.label == '-' else ''}IN (SELECT unnest(?::VARCHAR[]))")
        values.append(uids)
    if query.uids is not None:
        tests.append("uid IN (SELECT unnest(?::VARCHAR[]))")
        values.append(list(query.uids))
    source = "rows"
    if query.side is not None:
        source = f"(SELECT *, {mask(recipe)} AS mask FROM rows WHERE judged)"
        tests.append(SIDES[query.side])
    return f"{source} WHERE {' AND '.join(tests)}", values


def _column(table: RowTable, name: str) -> str:
    names = [score.column for score in table.scores]
    if name not in names:
        raise UsageError(f"score {name!r}: {choices(name, names)}")
    return quoted(name)


def spread(table: RowTable, score: Score, num_bins: int = 48) -> dict[str, Any] | None:
    """Return how a score lies over the judged rows: counts per bin, with thin tails in the outermost ones."""
    column = quoted(score.column)
    finite = f"judged AND isfinite({column})"
    ((low, high, num),) = table.ask(
        f"SELECT quantile_cont({column}, 0.005), quantile_cont({column}, 0.995), count(*) FROM rows WHERE {finite}"
    )
    if not num:
        return None
    if score.is_whole:
        low, high = int(low), max(int(high), int(low) + 1)
        num_bins = min(num_bins, int(high - low) + 1)
        step = (high - low + 1) / num_bins
    else:
        high = high if high > low else low + (abs(low) or 1.0)
        step = (high - low) / num_bins
    rows = table.ask(
        f"SELECT least(greatest(floor(({column} - ?) / ?), 0), ?)::INTEGER AS bin, kept, count(*) FROM rows "
        f"WHERE {finite} GROUP BY ALL",
        [low, step, num_bins - 1],
    )
    counts = {True: [0] * num_bins, False: [0] * num_bins}
    for place, kept, size in rows:
        counts[kept][place] += size
    return {"low": low, "high": high, "step": step, "num": num, "kept": counts[True], "rejected": counts[False]}

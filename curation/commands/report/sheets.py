"""Contact sheets: the chosen samples, each with its verdict, the score that decided and the limit it met."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.commands.report.choice import SCORES_ENDING, Choice, RowPlace, read_rows
from curation.commands.report.criteria import ScoreColumn
from curation.commands.report.origins import Origin
from curation.commands.report.proofs import NO_PROOFS, RunProofs
from curation.commands.report.scores import ScoreSpread
from curation.commands.report.thumbnails import MAX_SIDE_PX, Mark, Thumbnail, load_thumbnails, marks_of
from curation.dataset.manifest import ShardReport
from curation.measure.meanings import meaning_of
from curation.recipe.judge import KeepRange
from curation.recipe.settings import DecodeLimits

MAX_DIGITS = 17


@dataclass(frozen=True)
class Decision:
    """The score that a tile names, and the keep range it is held against."""

    criterion: ScoreColumn
    score: float | None
    """The filter's own."""
    proven_by: str | None
    """The screen by whose proof it counts instead."""


@dataclass(frozen=True)
class ShownScore:
    """One score of a sample, and the keep range that asks for it, if any."""

    name: str
    score: float | None
    criterion: ScoreColumn | None
    proven_by: str | None
    is_deciding: bool


@dataclass(frozen=True)
class Tile:
    """One sample on a sheet."""

    uid: str
    shard: str
    key: str
    url: str
    kept: bool
    rejected_by: str
    reason: str
    width: int | None
    height: int | None
    decision: Decision | None
    """What decided; for a kept one, the score that came closest to its limit."""
    near: Decision | None
    """On a sheet of near samples: what is near its limit there, whatever decided."""
    scores: tuple[ShownScore, ...]
    """Every score that anything measured, in the order of the ledger."""
    meaning: str
    """What the reason means; empty for a kept one."""
    thumbnail: Thumbnail
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Sheet:
    """Tiles under one heading."""

    choice: Choice
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class ShownRun:
    """What it takes to show samples: where they lie, and what they were judged by."""

    curate: Path
    reports: Sequence[ShardReport]
    origin: Origin
    spreads: Sequence[ScoreSpread]
    recipe: Mapping[str, Any]
    proofs: RunProofs = NO_PROOFS
    max_side_px: int = MAX_SIDE_PX


def read_sheets(shown: ShownRun, choices: Sequence[Choice]) -> tuple[Sheet, ...]:
    """Fetch what the chosen samples need: their ledger rows, then their pictures.

    A place names a shard by the stem of its ledger. Where what was curated is not to be found, only kept samples are
    shown; sheets left empty are left out.
    """
    criteria = [spread.criterion for spread in shown.spreads]
    ledgers = {report.file(shown.curate, ".parquet").stem: report for report in shown.reports}
    rows = _rows_of(shown, ledgers, choices, criteria)
    tars = {stem: report.file(shown.curate, ".tar") for stem, report in ledgers.items()}
    limits = DecodeLimits.model_validate(shown.recipe["decode"])
    thumbnails = load_thumbnails(tars, shown.origin, rows, limits, shown.max_side_px)
    counts = _face_settings(shown.recipe)

    def tile_at(place: RowPlace, near: ScoreColumn | None) -> Tile:
        row = rows[place]
        return _tile(row, thumbnails[place], deciding(row, shown.spreads), near, counts, criteria)

    sheets = []
    for choice in choices:
        near = next((c for c in criteria if choice.kind == "near" and c.name == choice.name), None)
        if tiles := tuple(tile_at(place, near) for place in choice.places if place in rows):
            sheets.append(Sheet(choice, tiles))
    return tuple(sheets)


def _rows_of(
    shown: ShownRun, ledgers: Mapping[str, ShardReport], choices: Sequence[Choice], criteria: Sequence[ScoreColumn]
) -> dict[RowPlace, dict[str, Any]]:
    """Return the ledger rows of all chosen samples, or of the kept ones alone where no other can be shown."""
    rows: dict[RowPlace, dict[str, Any]] = {}
    places = {place for choice in choices for place in choice.places}
    for stem in sorted({place.shard for place in places}):
        here = [place.row for place in places if place.shard == stem]
        found = read_rows(shown.curate / f"{stem}.parquet", here, criteria, shown.proofs)
        rows |= {place: {**row, "shard": ledgers[stem].shard} for place, row in found.items()}
    return {place: row for place, row in rows.items() if row["kept"] or shown.origin.folder is not None}


def deciding(row: Mapping[str, Any], spreads: Sequence[ScoreSpread]) -> ScoreColumn | None:
    """Return the criterion that rejected a sample; for a kept one, the one whose limit it came closest to.

    Closeness is the share of all samples that lie between a score and its limit, so a score that is the same for most
    of them, such as a count, is never the closest. What a screen has proven is not close to any.
    """
    if not row["kept"]:
        criteria = (spread.criterion for spread in spreads)
        return next((c for c in criteria if c.filter == row["rejected_by"] and row["reason"] in c.reasons), None)
    margins = []
    for number, spread in enumerate(spreads):
        score = row["scores"][spread.criterion.name]
        if score is not None and not row["proven"][spread.criterion.name] and len(spread.quantiles):
            margins.append((spread.closeness(score), number))
    return spreads[min(margins)[1]].criterion if margins else None


def format_score(score: float | None, limits: Sequence[float] = ()) -> str:
    """Return a score in few digits, but enough that it reads on the right side of every limit."""
    if score is None:
        return "not measured"
    for digits in range(4, MAX_DIGITS + 1):
        text = f"{score:.{digits}g}"
        if all((float(text) > limit) - (float(text) < limit) == (score > limit) - (score < limit) for limit in limits):
            return text
    return repr(score)


def format_range(criterion: ScoreColumn | KeepRange) -> str:
    """Return a keep range in words: `at least 2`, `at most 0.1`, `exactly 1` or `2 to 5`."""
    low, high = (None if limit is None else f"{limit:g}" for limit in (criterion.min, criterion.max))
    if low is None:
        return f"at most {high}"
    if high is None:
        return f"at least {low}"
    return f"exactly {low}" if low == high else f"{low} to {high}"


def format_limits(criterion: ScoreColumn | KeepRange) -> str:
    """Return a keep range in signs: `≥ 2`, `≤ 0.1`, `= 1` or `2 … 5`."""
    words = format_range(criterion)
    for word, sign in (("at least", "≥"), ("at most", "≤"), ("exactly", "="), ("to", "…")):
        words = words.replace(word, sign)
    return words


def _tile(
    row: Mapping[str, Any],
    thumbnail: Thumbnail,
    deciding: ScoreColumn | None,
    near: ScoreColumn | None,
    counts: Mapping[str, Any],
    criteria: Sequence[ScoreColumn],
) -> Tile:
    by, reason = row["rejected_by"] or "", row["reason"] or ""
    return Tile(
        uid=row["uid"],
        shard=row["shard"],
        key=row["key"],
        url=row["url"] or "",
        kept=row["kept"],
        rejected_by=by,
        reason=reason,
        width=row["width"],
        height=row["height"],
        decision=_decision(row, deciding),
        near=_decision(row, near),
        scores=tuple(_scores(row, criteria, deciding)),
        meaning=meaning_of(by, reason) if reason else "",
        thumbnail=thumbnail,
        marks=marks_of(row, counts),
    )


def _scores(
    row: Mapping[str, Any], criteria: Sequence[ScoreColumn], deciding: ScoreColumn | None
) -> Iterator[ShownScore]:
    """Yield the scores that keep ranges ask for, first the one that decided, and then all others that are there."""
    first = [] if deciding is None else [deciding]
    for asked in (*first, *(c for c in criteria if c != deciding)):
        score, proven_by = row["scores"][asked.name], row["proven"][asked.name]
        yield ShownScore(asked.name, score, asked, proven_by, asked == deciding)
    told = {criterion.column for criterion in criteria}
    for column, scores in row.items():
        for name, score in (scores or {}).items() if column.endswith(SCORES_ENDING) else ():
            if score is not None and f"{column}.{name}" not in told:
                yield ShownScore(f"{column.removesuffix(SCORES_ENDING)}.{name}", score, None, None, False)


def _decision(row: Mapping[str, Any], criterion: ScoreColumn | None) -> Decision | None:
    if criterion is None:
        return None
    return Decision(criterion, row["scores"][criterion.name], row["proven"][criterion.name])


def _face_settings(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return which faces count, as the recipe says it; the defaults where it has no faces filter."""
    return next((stanza["score"] for stanza in recipe["filters"] if stanza["name"] == "faces"), {})

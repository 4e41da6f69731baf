"""Contact sheets: the chosen samples, each with its verdict, the score that decided and the limit it met."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.commands.report.choice import Choice, RowPlace, read_rows
from curation.commands.report.criteria import ScoreColumn
from curation.commands.report.proofs import NO_PROOFS, RunProofs
from curation.commands.report.scores import ScoreSpread
from curation.commands.report.thumbnails import Mark, Thumbnail, load_thumbnails, marks_of
from curation.dataset.manifest import ShardReport
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
    thumbnail: Thumbnail
    marks: tuple[Mark, ...]


@dataclass(frozen=True)
class Sheet:
    """Tiles under one heading."""

    choice: Choice
    tiles: tuple[Tile, ...]


def read_sheets(
    curate: Path,
    reports: Sequence[ShardReport],
    source: Path,
    choices: Sequence[Choice],
    spreads: Sequence[ScoreSpread],
    recipe: Mapping[str, Any],
    proofs: RunProofs = NO_PROOFS,
) -> tuple[Sheet, ...]:
    """Fetch what the chosen samples need: their ledger rows, then their pictures.

    `reports` are the curated shards; a place names a shard by the stem of its ledger. Without `source`, the folder
    that was curated, only kept samples can be shown; sheets left empty are left out.
    """
    criteria = [spread.criterion for spread in spreads]
    ledgers = {report.file(curate, ".parquet").stem: report for report in reports}
    rows = _rows_of(curate, choices, criteria, proofs, kept_alone=not source.is_dir())
    tars = {
        place: ledgers[place.shard].file(curate, ".tar")
        if row["kept"]
        else source / f"{ledgers[place.shard].shard}.tar"
        for place, row in rows.items()
    }
    thumbnails = load_thumbnails(tars, rows, DecodeLimits.model_validate(recipe["decode"]))
    counts = _face_settings(recipe)

    def tile_at(place: RowPlace, near: ScoreColumn | None) -> Tile:
        row = rows[place]
        return _tile(ledgers[place.shard].shard, row, thumbnails[place], deciding(row, spreads), near, counts)

    sheets = []
    for choice in choices:
        near = next((c for c in criteria if choice.kind == "near" and c.name == choice.name), None)
        if tiles := tuple(tile_at(place, near) for place in choice.places if place in rows):
            sheets.append(Sheet(choice, tiles))
    return tuple(sheets)


def _rows_of(
    curate: Path, choices: Sequence[Choice], criteria: Sequence[ScoreColumn], proofs: RunProofs, *, kept_alone: bool
) -> dict[RowPlace, dict[str, Any]]:
    """Return the ledger rows of all chosen samples, or of the kept ones alone."""
    rows: dict[RowPlace, dict[str, Any]] = {}
    places = {place for choice in choices for place in choice.places}
    for stem in sorted({place.shard for place in places}):
        here = [place.row for place in places if place.shard == stem]
        rows |= read_rows(curate / f"{stem}.parquet", here, criteria, proofs)
    return {place: row for place, row in rows.items() if row["kept"] or not kept_alone}


def deciding(row: Mapping[str, Any], spreads: Sequence[ScoreSpread]) -> ScoreColumn | None:
    """Return the criterion that rejected a sample; for a kept one, the one whose limit it came closest to.

    Closeness is the distance to the limit over the range of the score in this run; counts come last, since most
    of them sit on their limit. What a screen has proven is not close to any.
    """
    if not row["kept"]:
        criteria = (spread.criterion for spread in spreads)
        return next((c for c in criteria if c.filter == row["rejected_by"] and row["reason"] in c.reasons), None)
    margins = []
    for number, spread in enumerate(spreads):
        score = row["scores"][spread.criterion.name]
        if score is None or row["proven"][spread.criterion.name] or spread.lowest is None or spread.highest is None:
            continue
        span = (spread.highest - spread.lowest) or 1.0
        margin = min(abs(score - limit) for limit in spread.criterion.limits) / span
        margins.append((spread.criterion.is_whole, margin, number))
    return spreads[min(margins)[2]].criterion if margins else None


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
    shard: str,
    row: Mapping[str, Any],
    thumbnail: Thumbnail,
    deciding: ScoreColumn | None,
    near: ScoreColumn | None,
    counts: Mapping[str, Any],
) -> Tile:
    return Tile(
        uid=row["uid"],
        shard=shard,
        key=row["key"],
        url=row["url"] or "",
        kept=row["kept"],
        rejected_by=row["rejected_by"] or "",
        reason=row["reason"] or "",
        width=row["width"],
        height=row["height"],
        decision=_decision(row, deciding),
        near=_decision(row, near),
        thumbnail=thumbnail,
        marks=marks_of(row, counts),
    )


def _decision(row: Mapping[str, Any], criterion: ScoreColumn | None) -> Decision | None:
    if criterion is None:
        return None
    return Decision(criterion, row["scores"][criterion.name], row["proven"][criterion.name])


def _face_settings(recipe: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return which faces count, as the recipe says it; the defaults where it has no faces filter."""
    return next((stanza["score"] for stanza in recipe["filters"] if stanza["name"] == "faces"), {})

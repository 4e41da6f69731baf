"""The table of an evaluation, as JSON and as Markdown: ours with intervals, the published rows, and what is missing."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from facemakeup.evaluation.columns import ScoreCell
from facemakeup.evaluation.estimate import Score, paired_difference
from facemakeup.evaluation.face_similarity import Calibration
from facemakeup.evaluation.leakage import Leakage
from facemakeup.evaluation.panel import Panel
from facemakeup.evaluation.protocol import ABOUT, ProtocolName
from facemakeup.evaluation.published import UNNAMED_VERSIONS, PublishedSet

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Row:
    """One line: a method, or an anchor that says what is high and what is low."""

    name: str
    is_anchor: bool
    facts: Mapping[str, Any]
    cells: Sequence[ScoreCell]


@dataclass(frozen=True)
class Table:
    """Everything that is told of an evaluation."""

    set_name: str
    note: str
    """Said above everything; may be empty."""
    protocol: ProtocolName
    num_references: int
    num_identities: int
    identities: Sequence[str]
    """Whose each picture of a row is, in the order of the scores' values."""
    rows: Sequence[Row]
    panel: Panel
    calibrations: Mapping[str, Calibration]
    published: PublishedSet | None
    leakage: Leakage | None

    @property
    def columns(self) -> list[str]:
        """Every column that a row has, in the order of the judges."""
        return list(dict.fromkeys(cell.column for row in self.rows for cell in row.cells))


def as_json(table: Table) -> dict[str, Any]:
    """Return the table as it is published in `evaluation.json`."""
    first = next(row for row in table.rows if not row.is_anchor)
    ranked = ranks(table)
    return {
        "format_version": FORMAT_VERSION,
        "set": table.set_name,
        "note": table.note,
        "protocol": {"name": table.protocol, "about": ABOUT[table.protocol]},
        "num_references": table.num_references,
        "num_identities": table.num_identities,
        "rows": [_row_json(row, first, table.identities, ranked) for row in table.rows],
        "judges": [
            {"name": judge.name, "kind": judge.kind, "columns": list(judge.columns), **judge.facts}
            for judge in table.panel.judges
        ],
        "absent": [asdict(absent) for absent in table.panel.absent],
        "calibrations": {name: asdict(own) for name, own in table.calibrations.items()},
        "published": _published_json(table.published),
        "leakage": None if table.leakage is None else asdict(table.leakage),
        "notes": notes(table),
    }


def ranks(table: Table) -> dict[tuple[str, str], tuple[int, int]]:
    """Return (row, column) -> first and last place that the intervals leave open; methods alone are ranked."""
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for column in table.columns:
        scores = {row.name: cell.score for row in table.rows if not row.is_anchor for cell in row.cells
                  if cell.column == column and cell.score.interval is not None}  # fmt: skip
        for name, score in scores.items():
            if score.metric.better != "neither":
                others = [other for rival, other in scores.items() if rival != name]
                num_better = sum(_surely_better(other, score) for other in others)
                num_worse = sum(_surely_better(score, other) for other in others)
                found[name, column] = (1 + num_better, len(scores) - num_worse)
    return found


def notes(table: Table) -> list[str]:
    """Return what a reader has to know before the numbers."""
    said = [f"{row.name}: {row.facts['weights']}." for row in table.rows if "NOT" in str(row.facts.get("weights"))]
    said += [f"{cell.column}, {row.name}: {warning}" for row in table.rows for cell in row.cells
            for warning in cell.score.warnings]  # fmt: skip
    said += [
        f"{judge.name}: {judge.facts['size']}, NOT the size of the published rows' judge: "
        f"{', '.join(judge.columns)} are of another network."
        for judge in table.panel.judges
        if "size" in judge.facts
    ]
    if table.published is not None:
        said.append(UNNAMED_VERSIONS)
        if table.num_references != table.published.num:
            said.append(
                f"The published {table.published.name} has {table.published.num} references, this set "
                f"{table.num_references}: FID is not comparable, and the rest is of other photos."
            )
    if table.leakage is not None and table.leakage.leaked_keys:
        said.append(f"Trained on: {', '.join(sorted(table.leakage.leaked_keys))}.")
    if table.leakage is None:
        said.append("No training index was given: whether references were trained on was not looked for.")
    return said


def as_markdown(table: Table) -> str:
    """Return the table as it is published in `evaluation.md`."""
    parts = [
        f"# {table.set_name}, {table.protocol}",
        *([f"**{table.note}**"] if table.note else []),
        f"{ABOUT[table.protocol]}; {table.num_references} references of {table.num_identities} people. "
        "In brackets 95 % over people, N pictures, and what failed; anchors are in italics.",
        _scores_markdown(table),
        *_places_markdown(table),
        *_methods_markdown(table),
        *_calibrations_markdown(table),
        *_published_markdown(table.published),
        "## Judges",
        _lines(
            [["judge", "kind", "columns", "sha256"], *(
                [judge.name, judge.kind, ", ".join(judge.columns), judge.facts.get("sha256", "")[:12]]
                for judge in table.panel.judges
            )]
        ),
        *(f"- {absent.name} ({', '.join(absent.columns)}): not here. {absent.how}" for absent in table.panel.absent),
        "## Notes",
        *(f"- {note}" for note in notes(table)),
    ]  # fmt: skip
    return "\n\n".join(part.replace("\n- ", "\n- ") for part in parts) + "\n"


def tell_score(score: Score) -> str:
    """Return a score as a cell of Markdown."""
    failed = ", ".join(f"{count} {reason}" for reason, count in score.failures.items())
    counted = f"N {score.num}" + (f"; {failed}" if failed else "")
    if score.value is None:
        return f"- ({counted})"
    interval = "" if score.interval is None else f" [{_short(score.interval[0])}, {_short(score.interval[1])}]"
    zeroed = score.details.get("mean_failures_as_zero")
    rate = score.details.get("detection_rate")
    seen = "" if rate is None or zeroed is None else f"; faces {rate:.0%}, none as 0: {_short(zeroed)}"
    return f"{_short(score.value)}{interval} ({counted}{seen})"


def _row_json(
    row: Row, first: Row, identities: Sequence[str], ranked: Mapping[tuple[str, str], tuple[int, int]]
) -> dict[str, Any]:
    gaps = {} if row is first else differences(first, row, identities)
    cells = {}
    for cell in row.cells:
        told = {
            **cell.score.as_json(),
            "judge": cell.judge,
            "kind": cell.kind,
            "ranks": ranked.get((row.name, cell.column)),
        }
        if row is not first and cell.score.values:
            pair = gaps.get(cell.column)
            told["first_minus_this"] = pair and {"value": pair[0], "interval": pair[1], "num": pair[2]}
        cells[cell.column] = told
    return {"name": row.name, "anchor": row.is_anchor, "facts": dict(row.facts), "cells": cells}


def _surely_better(one: Score, other: Score) -> bool:
    assert one.interval is not None and other.interval is not None
    if one.metric.better == "higher":
        return one.interval[0] > other.interval[1]
    return one.interval[1] < other.interval[0]


def _scores_markdown(table: Table) -> str:
    """Return a line per column and a row of the table per column: there are more columns than a page is wide."""
    head = ["column", "judge", *(f"*{row.name}*" if row.is_anchor else row.name for row in table.rows)]
    lines = [head]
    for column in table.columns:
        cells = [next((cell for cell in row.cells if cell.column == column), None) for row in table.rows]
        (judge,) = {f"{cell.judge}, {cell.kind}" for cell in cells if cell is not None}
        lines.append([column, judge, *("" if cell is None else tell_score(cell.score) for cell in cells)])
    return _lines(lines)


def places(table: Table) -> dict[tuple[str, str], str]:
    """Return (row, column) -> the places that intervals leave open, and what the first method scores more."""
    ranked, (first, *rivals) = ranks(table), [row for row in table.rows if not row.is_anchor]
    told = {(row.name, column): f"{low}" if low == high else f"{low} to {high}"
            for row in (first, *rivals) for column in table.columns
            for low, high in [ranked.get((row.name, column), (0, 0))] if low}  # fmt: skip
    for row in rivals:
        for column, (value, interval, num) in differences(first, row, table.identities).items():
            spread = "" if interval is None else f" [{_short(interval[0])}, {_short(interval[1])}]"
            place = told.get((row.name, column), "-")
            told[row.name, column] = f"{place}; {value:+.4g}{spread} over {num}"
    return told


def differences(
    first: Row, row: Row, identities: Sequence[str]
) -> dict[str, tuple[float, tuple[float, float] | None, int]]:
    """Return column -> what the first method scores more, picture by picture, with interval and number of pairs."""
    against = {cell.column: cell.score for cell in first.cells}
    found = {}
    for cell in row.cells:
        base = against.get(cell.column)
        if base is not None and base.values and cell.score.values:
            pair = paired_difference(base.values, cell.score.values, identities)
            if pair is not None:
                found[cell.column] = pair
    return found


def _places_markdown(table: Table) -> list[str]:
    """Return the methods' places; ties are within intervals."""
    methods = [row.name for row in table.rows if not row.is_anchor]
    told = places(table)
    if len(methods) < 2 or not told:
        return []
    lines = [[column, *(told.get((name, column), "") for name in methods)] for column in table.columns]
    about = f"Places that the intervals leave open; then what {methods[0]} scores more on the same pictures, with 95 %."
    return [f"## Places, and the difference to {methods[0]}", about, _lines([["column", *methods], *lines])]


def _methods_markdown(table: Table) -> list[str]:
    rows = [row for row in table.rows if row.facts]
    names = list(dict.fromkeys(name for row in rows for name in row.facts))
    lines = [[name, *(_fact(row.facts.get(name)) for row in rows)] for name in names]
    return ["## Methods", _lines([["", *(row.name for row in rows)], *lines])] if rows else []


def _fact(value: Any) -> str:
    return "" if value is None else str(value)


def _calibrations_markdown(table: Table) -> list[str]:
    if not table.calibrations:
        return []
    head = ["recogniser", "same person", "pairs", "strangers", "pairs", "separation"]
    lines = [
        [name, _short(own.same), str(own.num_same), _short(own.different), str(own.num_different),
         "-" if own.separation is None else f"{own.separation:.4f}"]
        for name, own in table.calibrations.items()
    ]  # fmt: skip
    return ["## What the recognisers give for real photos (cosine x 100)", _lines([head, *lines])]


def _published_markdown(entry: PublishedSet | None) -> list[str]:
    if entry is None:
        return []
    rows = [[name, *map(str, row)] for name, row in entry.rows.items()]
    rows += [[f"{name}, scored again by its authors", *map(str, row)] for name, row in entry.rerun.items()]
    rows.append(["difference of these two", *(str(entry.tolerance[column]) for column in entry.columns)])
    return [f"## Published for {entry.name}", _lines([["method", *entry.columns], *rows])]


def _published_json(entry: PublishedSet | None) -> dict[str, Any] | None:
    return None if entry is None else {**asdict(entry), "tolerance": entry.tolerance}


def _lines(rows: Sequence[Sequence[str]]) -> str:
    told = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in (told[0], ["---"] * len(told[0]), *told[1:]))


def _short(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"

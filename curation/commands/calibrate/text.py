"""What limits labels give, for a terminal and as plain values."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from curation.commands.calibrate.calibrate import CalibratedLimit, ChosenLimits, evidence_of
from curation.learning.limits import HALF_WIDTH, LimitFigures
from curation.printable import counted, joined
from curation.recipe.differences import recipe_options

RECALLS = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0)
"""At which the curve is told."""


def tell(calibration: ChosenLimits) -> str:
    """Return the limits as text: the labels, the run's own limit, the chosen one, sources left out, the curve."""
    return joined(line for part in (*map(_limit, calibration.limits), _rest(calibration)) for line in part)


def values(calibration: ChosenLimits) -> dict[str, Any]:
    """Return the same as plain values, with the whole curve."""
    return {
        "target": str(calibration.target),
        "num_disputed": calibration.num_disputed,
        "num_unknown": calibration.num_unknown,
        "skipped": dict(calibration.skipped),
        "limits": [
            {
                "filter": limit.question.filter,
                "score": limit.question.score,
                limit.side: limit.limit,
                **evidence_of(limit, calibration.target),
                "curve": [
                    [float(limit_), round(float(precision), 4), round(float(recall), 4)]
                    for limit_, precision, recall in zip(
                        limit.curve.limits, limit.curve.precision, limit.curve.recall, strict=True
                    )
                ],
            }
            for limit in calibration.limits
        ],
    }


def way_on(calibration: ChosenLimits, run: str, lock: Path) -> str:
    """Return the command that says what the limits in a lock would change."""
    options = recipe_options(calibration.recipe, but=("limits",))
    call = f"facecaptionhq decide {shlex.quote(run)} {options} --set {shlex.quote(f'limits={lock}')} --dry-run"
    return joined((f"{lock} holds what was chosen; what that would change:", f"  {call}"))


def warnings(calibration: ChosenLimits) -> str:
    """Return in words what is not certain: labels that are too few; empty where there are enough."""
    return joined(line for limit in calibration.limits for line in _shortage(limit))


def _shortage(limit: CalibratedLimit) -> Iterator[str]:
    name = limit.question.name
    whom = {"precision": "among those that the limit rejects", "recall": f"of {' or '.join(limit.question.reject)}"}
    for measure, number in limit.short_of.items():
        share = getattr(limit.figures, measure)
        yield (
            f"{name}: too few labels: {measure} is known to +-{share.half_width:.2f}; for +-{HALF_WIDTH:g} label about "
            f"{number} more pictures {whom[measure]} (now {share.num})"
        )
    if limit.left_out is None:
        sources = "one source" if limit.num_sources == 1 else counted(limit.num_sources, "source")
        yield (
            f"WARNING: {name}: NO FIGURES WITH SOURCES LEFT OUT: all labels are of {sources}, so precision and recall "
            f"are of the very pictures that chose the limit, and how it fares elsewhere is not known; label pictures "
            f"of other sources (the column `source` of a manifest, else the host of the URL)"
        )


def _limit(limit: CalibratedLimit) -> Iterator[str]:
    question, sign = limit.question, "<=" if limit.side == "max" else ">="
    yield f"{question.name}: reject {_counts(limit, question.reject)}; keep {_counts(limit, question.keep)}"
    unmeasured = (
        f", {counted(limit.num_unmeasured, 'labelled picture')} without this score" if limit.num_unmeasured else ""
    )
    yield f"  {counted(limit.num_sources, 'source')}{unmeasured}"
    yield f"  {'':<28}{'right of the rejected':<24}{'rejected of those to go':<26}lost of those to stay"
    if limit.own is not None and question.limit is not None:
        yield _row(f"the run's own {sign} {question.limit:g}", limit.own)
    yield _row(f"chosen {sign} {limit.limit:g}", limit.figures)
    if limit.left_out is not None:
        low, high = min(limit.left_out.limits), max(limit.left_out.limits)
        yield _row(f"left out {low:g}..{high:g}", limit.left_out.figures)
    else:
        yield f"  {'left out: none':<28}too few sources to leave one out: the figures above are of what chose the limit"
    yield "  the curve (limit: right of the rejected, rejected of those to go)"
    yield "    " + "  ".join(_points(limit))
    yield ""


def _points(limit: CalibratedLimit) -> Iterator[str]:
    curve, last = limit.curve, -1
    for recall in RECALLS:
        reached = np.flatnonzero(curve.recall >= recall - 1e-9)
        if len(reached) and reached[0] != last:
            last = int(reached[0])
            yield f"{curve.limits[last]:.4g}: {curve.precision[last]:.2f}, {curve.recall[last]:.2f}"


def _row(name: str, figures: LimitFigures) -> str:
    return f"  {name:<28}{figures.precision!s:<24}{figures.recall!s:<26}{figures.lost!s}"


def _counts(limit: CalibratedLimit, labels: tuple[str, ...]) -> str:
    return ", ".join(f"{label} {limit.num_labels[label]}" for label in labels)


def _rest(calibration: ChosenLimits) -> Iterator[str]:
    yield from (f"{name}: no limit: {reason}" for name, reason in calibration.skipped.items())
    if calibration.num_unknown:
        yield f"not among the run's samples: {counted(calibration.num_unknown, 'labelled picture')}"
    if calibration.num_disputed:
        disputed = counted(calibration.num_disputed, "labelled picture")
        yield f"left out: {disputed}, of which as many reviewers say one thing as another"

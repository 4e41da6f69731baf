"""An audit, for a terminal and as plain values."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from curation.commands.fairness.audit import MIN_SLICE, Audit, Ratio, SliceFigures
from curation.printable import joined


def tell(audit: Audit) -> str:
    """Return the audit as text: a table per attribute, then what is shown, and what nothing is known of."""
    return joined((*_tables(audit), *_findings(audit), *_unjudged(audit), *_lacking(audit)))


def values(audit: Audit) -> dict[str, Any]:
    """Return the same as plain values."""
    slices = [
        {**asdict(figures), "amplified_by": [name for name, one in figures.filters.items() if one.is_shown]}
        for figures in audit.slices
    ]
    return {**asdict(audit), "slices": [{**one, "impact": _finite(one["impact"])} for one in map(_plain, slices)]}


def _plain(figures: dict[str, Any]) -> dict[str, Any]:
    filters = {
        name: {"rejected": one["rejected"], "ratio": _finite(one["ratio"])} for name, one in figures["filters"].items()
    }
    return {**figures, "filters": filters}


def _finite(ratio: dict[str, float] | None) -> dict[str, float | None] | None:
    """Return a ratio with null where its interval has no end: JSON knows no infinity."""
    if ratio is None:
        return None
    return {name: value if value < float("inf") else None for name, value in ratio.items()}


def _tables(audit: Audit) -> Iterator[str]:
    yield f"pictures that the filters judged: {audit.num_judged:,}, kept of these: {audit.num_kept:,}"
    for name, slices in _by_attribute(audit).items():
        if not _is_judged(slices):
            continue
        yield ""
        yield f"{name} ({audit.basis[name]})"
        yield f"  {'':<14}{'pictures':>9}  {'before':>6} {'after':>6}  {'kept':<20}{'to the most kept':<22}"
        yield from map(_row, slices)


def _by_attribute(audit: Audit) -> dict[str, list[SliceFigures]]:
    found: dict[str, list[SliceFigures]] = {}
    for figures in audit.slices:
        found.setdefault(figures.attribute, []).append(figures)
    return found


def _is_judged(slices: Sequence[SliceFigures]) -> bool:
    """Whether two slices are large enough to be held against one another."""
    return any(figures.impact is not None for figures in slices)


def _unjudged(audit: Audit) -> Iterator[str]:
    """Yield the attributes of which no two slices are large enough, with their sizes."""
    for name, slices in _by_attribute(audit).items():
        if not _is_judged(slices):
            sizes = ", ".join(f"{figures.value} {figures.kept.num:,}" for figures in slices)
            yield f"not judged: {name} ({sizes}): two slices of {MIN_SLICE} pictures are needed"


def _row(figures: SliceFigures) -> str:
    impact = "" if figures.impact is None else _ratio(figures.impact)
    shares = f"{figures.before:6.1%} {figures.after:6.1%}"
    line = f"  {figures.value:<14}{figures.kept.num:>9,}  {shares}  {figures.kept!s:<20}{impact:<22}{figures.finding}"
    amplified = [f"{name} x{one.ratio.value:.1f}" for name, one in figures.filters.items() if one.is_shown]
    return line + (f"; more often rejected by {', '.join(amplified)}" if amplified else "")


def _ratio(ratio: Ratio) -> str:
    return f"{ratio.value:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"


def _findings(audit: Audit) -> Iterator[str]:
    yield ""
    for figures in audit.adverse:
        assert figures.impact is not None
        ratio = _ratio(figures.impact)
        yield f"ADVERSE: {figures.attribute} {figures.value} is kept {ratio} times as often as the most kept"
    if not audit.adverse:
        yield "no slice is shown to be kept at less than four fifths of the rate of the most kept"


def _lacking(audit: Audit) -> Iterator[str]:
    reasons: dict[str, list[str]] = {}
    for name, reason in audit.lacking.items():
        reasons.setdefault(reason, []).append(name)
    yield from (f"nothing is said of {', '.join(names)}: {reason}" for reason, names in reasons.items())

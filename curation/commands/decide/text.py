"""What another recipe would decide, for a terminal and as plain values."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from curation.commands.decide.preview import Change, Preview
from curation.printable import joined
from curation.recipe.judge import Verdict

NUM_CHANGES_SHOWN = 20
SHADOW = (
    "(a shadow sample is a rejected picture that was measured in full all the same, a fixed few by uid "
    "(curate.shadow_fraction): what becomes of the undecided ones is estimated from these)"
)


def tell(preview: Preview) -> str:
    """Return the preview as text: what is certain, what must be measured, and who changes sides."""
    return joined((*_certain(preview), *_undecided(preview), *_changes(preview)))


def values(preview: Preview) -> dict[str, Any]:
    """Return the same as plain values, for JSON, with every change and the bounds of what stays."""
    low, high = preview.kept_interval
    return {**asdict(preview), "kept_low": low, "kept_expected": preview.kept_expected, "kept_high": high}


def _certain(preview: Preview) -> Iterator[str]:
    yield f"{preview.num_seen} seen, {preview.num_kept_before} kept now"
    for by, reasons in preview.rejected.items():
        yield f"would be rejected: {sum(reasons.values())} by {by} ({_listed(reasons)})"
    yield f"would be kept: {preview.num_kept} for certain"


def _undecided(preview: Preview) -> Iterator[str]:
    calls = _listed(preview.calls)
    if preview.num_undecided:
        num = preview.num_undecided_kept
        kept = f", {num} of them kept now, for which no shadow sample stands" if num else ""
        yield f"undecided: {preview.num_undecided}{kept}; measuring them takes these calls: {calls}"
    elif calls:
        yield f"calls: {calls}"
    if preview.calls_at_most:
        yield f"and, once those have measured, at most these: {_listed(preview.calls_at_most)}"
    if preview.num_undecided:
        low, high = preview.kept_interval
        expected = preview.kept_expected
        guess = "no shadow sample stands for all of them" if expected is None else f"about {expected}"
        yield f"kept in the end: {low} to {high} (95 %), {guess}"
        yield SHADOW


def _changes(preview: Preview) -> Iterator[str]:
    num = len(preview.changes)
    if not (num or preview.num_undecided or preview.num_shards or preview.calls):
        yield "nothing would change: every picture keeps its verdict, and no file is written anew"
        return
    yield f"shards to write anew: {preview.num_shards}; certain to change sides: {num}"
    for change in preview.changes[:NUM_CHANGES_SHOWN]:
        yield f"  {_change(change)}"
    if num > NUM_CHANGES_SHOWN:
        yield f"  ... and {num - NUM_CHANGES_SHOWN} more (--json lists all)"


def _change(change: Change) -> str:
    return f"{change.uid} (shard {change.shard}): {_verdict(change.before)} -> {_verdict(change.after)}"


def _verdict(verdict: Verdict) -> str:
    return f"{verdict.rejected_by}.{verdict.reason}" if verdict.rejected_by else "kept"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())

"""The limits that were found, for a terminal and as plain values."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from curation.commands.solve.stage import LimitStep, Solution, SolvedLimit
from curation.printable import joined


def tell(solution: Solution) -> str:
    """Return what is kept, then a line per limit with what a step of it either way would change."""
    return joined(_lines(solution))


def values(solution: Solution) -> dict[str, Any]:
    """Return the same as plain values, for JSON."""
    low, high = solution.kept.kept_interval
    return {
        "want": solution.want,
        "num_seen": solution.num_seen,
        "num_kept_before": solution.num_kept_before,
        "kept_low": low,
        "kept_expected": solution.num_expected,
        "kept_high": high,
        "num_undecided": solution.kept.num_undecided,
        "num_shadow_samples": solution.kept.shadow_trials,
        "level": solution.level,
        "limits": [
            {
                "name": solved.limit.name,
                "before": solved.limit.value,
                "value": solved.value,
                "stays": solved.stays,
                "tighter": None if solved.tighter is None else asdict(solved.tighter),
                "looser": None if solved.looser is None else asdict(solved.looser),
            }
            for solved in solution.limits
        ],
        "shares": dict(solution.leaks),
        "recipe": solution.recipe.name,
    }


def _lines(solution: Solution) -> Iterator[str]:
    low, high = solution.kept.kept_interval
    sure = "exactly" if low == high else f"95 %: {low:,} to {high:,}; {solution.kept.num_undecided:,} undecided,"
    told = "" if low == high else f" {solution.kept.shadow_trials:,} shadow samples stand for them"
    yield (
        f"{solution.want:,} wanted of {solution.num_seen:,} seen, {solution.num_kept_before:,} kept now: "
        f"{solution.num_expected:,} ({sure}{told})"
    )
    for solved in solution.limits:
        yield _limit(solved)
    for name, share in solution.leaks.items():
        yield f"of those kept, {share:.4f} are out by {name}"


def _limit(solved: SolvedLimit) -> str:
    head = f"{solved.limit.name:<36} {solved.limit.value:>12.6g} -> {solved.value:<12.6g}"
    if solved.stays is not None:
        head = f"{solved.limit.name:<36} {solved.value:>12.6g} stays ({solved.stays})"
    steps = [("tighter", solved.tighter), ("looser", solved.looser)]
    told = [f"{word} {_step(step)}" for word, step in steps if step is not None]
    return f"{head} {'; '.join(told)}".rstrip()


def _step(step: LimitStep) -> str:
    return f"{step.value:.6g}: {step.num_more:+,}"

"""Finds the limits that keep a wanted number of rows, from ledgers alone; no model is called and nothing is decided."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as File

import numpy as np

from curation.commands.decide.preview import Preview
from curation.commands.decide.stage import curated, places_of, recipes_of
from curation.commands.solve.count import Path
from curation.commands.solve.evidence import RunEvidence, movable, read_evidence
from curation.commands.solve.leaks import KeptShare, leaks_of
from curation.commands.solve.limits import End, Key, Limit, aimed, key_of, limits_of, moved, with_limits
from curation.commands.solve.path import RECIPE_LEVEL, Floats, Scale, fixed, middle_of, scale_of, values_at
from curation.dataset.labels import read_labels
from curation.dataset.stages import CURATE
from curation.dataset.tombstones import consult
from curation.errors import UsageError
from curation.measure.filter_set import weights_of
from curation.recipe.recipe import Recipe, recipe_of
from curation.run.target import finished

STEP_FRACTION = 0.01
"""A step of a limit passes this share of the scores that are known more, or fewer; a step of a count is one."""
COUNT, SCREENED, OTHERS = "a count", "screened", "not the one that moves"
"""Why a limit stays."""


@dataclass(frozen=True)
class LimitStep:
    """What one step of one limit alone would change."""

    value: float
    num_more: int
    """Best guess of how many rows more are kept (fewer, where below 0)."""
    low: int
    high: int
    """How many would be kept then: bounds as those of the solution."""


@dataclass(frozen=True)
class SolvedLimit:
    """One limit of the solution."""

    limit: Limit
    """As the recipe had it."""
    value: float
    stays: str | None
    """Why it does not move; None where it does."""
    tighter: LimitStep | None = None
    looser: LimitStep | None = None


@dataclass(frozen=True)
class Solution:
    """Limits that keep a wanted number, and how sure that is."""

    recipe: Recipe
    want: int
    num_seen: int
    num_kept_before: int
    level: float
    """Where on the path it lies: 0 tightest, 1 the recipe as it was, 2 open."""
    kept: Preview
    """`kept.kept_interval` and `kept.kept_expected` are what `decide --dry-run` would say of it."""
    limits: tuple[SolvedLimit, ...]
    leaks: Mapping[str, float] = field(default_factory=dict)
    """Of what was to be at most a share of those kept: its share."""

    @property
    def num_expected(self) -> int:
        """The best guess of the number kept."""
        return self.kept.num_kept if self.kept.kept_expected is None else self.kept.kept_expected


def solve(
    run: File, want: int, recipe: Recipe | None = None, *, aim: tuple[str, End] | None = None,
    at_most: Mapping[str, float] | None = None, labels: File | None = None,
) -> Solution:  # fmt: skip
    """Return the limits along the path (`curation.commands.solve.path`) that keep the wanted number of rows.

    `recipe` is that of the folder by default. With `aim`, a score and one end of its range, that limit moves alone, so
    that what is kept is the best by that score of what all others leave. `at_most` bounds shares of what is kept: of
    rows that a score, or any of a filter's scores, of the recipe as it is would reject, or that bear a label.

    Raises:
        UsageError: the number, or a share, cannot be had; the message says what can. Or evidence is wanting.
    """
    target, _ = places_of(run)
    consult(target)
    manifest = finished(target, CURATE)
    recipes = [recipe_of(values, f"{target}: a recipe in its manifest") for values in recipes_of(manifest)]
    base = recipes[-1] if recipe is None else recipe
    curated(target, base)
    key = key_of(base, aim[0]) if aim else None
    base, only = aimed(base, key, aim[1]) if key and aim else (base, None)
    given = read_labels(labels) if labels else []
    uids = frozenset(label.uid for label in given)
    evidence = read_evidence(target, manifest, base, recipes, weights_of(base), uids)
    stays = _why_limits_stay(base, evidence, only)
    scales = _scales(base, evidence, stays)
    path = Path.of(evidence, scales)
    _require_evidence(path, evidence, base)
    leaks = leaks_of(at_most or {}, evidence, scales, given)
    level = _level_of(path, want, evidence, leaks)
    return _solution(base, want, manifest.num_seen, evidence, scales, stays, path, level, leaks)


def _why_limits_stay(recipe: Recipe, evidence: RunEvidence, only: Limit | None) -> dict[str, str]:
    """Return, by name, why limits stay: scores that are whole numbers throughout are counts, and mean what they say."""
    free = {(criterion.filter, criterion.score) for criterion in movable(recipe)}
    if only is not None:
        if only.key not in free:
            raise UsageError(f"{'.'.join(only.key)}: screens may prove it, so nobody knows how near a limit it lies")
        return {limit.name: OTHERS for limit in limits_of(recipe) if limit.name != only.name}
    stays = {limit.name: SCREENED for limit in limits_of(recipe) if limit.key not in free}
    counts = {key for key in free if _is_count(_known(evidence, key))}
    return stays | {limit.name: COUNT for limit in limits_of(recipe) if limit.key in counts}


def _is_count(known: Floats) -> bool:
    return bool(np.all(known == np.round(known)))


def _known(evidence: RunEvidence, key: Key) -> Floats:
    """Return every finite score, and every finite bound of one, that the rows have."""
    both = np.concatenate([evidence.rows.low[key], evidence.rows.high[key]])
    return np.asarray(both[np.isfinite(both)])


def _scales(recipe: Recipe, evidence: RunEvidence, stays: Mapping[str, str]) -> tuple[Scale, ...]:
    limits = [limit for limit in limits_of(recipe) if limit.key in evidence.rows.low]
    ends = {(limit.key, limit.end): limit.value for limit in limits}
    scales = []
    for limit in limits:
        low, high = ends.get((limit.key, "min")), ends.get((limit.key, "max"))
        if limit.name in stays:
            scales.append(fixed(limit))
        else:
            known = _known(evidence, limit.key)
            inside = None if low is None or high is None else middle_of(known, low, high)
            scales.append(scale_of(limit, known, inside))
    return tuple(scales)


def _require_evidence(path: Path, evidence: RunEvidence, recipe: Recipe) -> None:
    """Make sure that the path is known of everything that is kept: no shadow sample stands for that."""
    is_open = evidence.is_kept & ~path.rows.is_exact
    if is_open.any():
        raise UsageError(
            f"{int(is_open.sum())} of {int(evidence.is_kept.sum())} rows that are kept now were not measured by all "
            f"that recipe {recipe.name!r} asks; `decide` by it first, or name another"
        )


def _level_of(path: Path, want: int, evidence: RunEvidence, leaks: Sequence[KeptShare]) -> float:
    """Return the lowest level at which the wanted number is expected to be kept.

    Raises:
        UsageError: there is none, or not within the shares that were asked for.
    """
    steps = path.steps
    numbers = path.numbers(steps)
    expected = np.maximum.accumulate(numbers.expected)
    fewest, most = round(float(expected[0])), round(float(expected[-1]))
    if want > most:
        reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(evidence.turned_away.items()))
        unknown = int(numbers.undecided[-1])
        raise UsageError(
            f"--want {want}: {most} are kept where all limits that move are open; limits that stay turn away the rest"
            f"{f', and no limit these: {reasons}' if reasons else ''}"
            f"{f'; {unknown} more were not measured far enough to tell' if unknown else ''}"
        )
    if want < fewest:
        raise UsageError(f"--want {want}: {fewest} are kept where all limits that move are tightest")
    is_as_it_is = round(float(expected[np.searchsorted(steps, RECIPE_LEVEL)])) == want
    level = RECIPE_LEVEL if is_as_it_is else float(steps[np.argmax(expected >= min(float(want), expected[-1]))])
    for leak in leaks:
        if level > (reached := leak.reach(path, steps)):
            number = int(expected[np.searchsorted(steps, reached)]) if np.isfinite(reached) else 0
            raise UsageError(
                f"--want {want}: more than {leak.share:g} of those kept would be out by {leak.name}; "
                f"{number} can be kept along this path"
            )
    return level


def _solution(
    recipe: Recipe, want: int, num_seen: int, evidence: RunEvidence, scales: Sequence[Scale], stays: Mapping[str, str],
    path: Path, level: float, leaks: Sequence[KeptShare],
) -> Solution:  # fmt: skip
    here = np.array([level])
    values = values_at({scale.limit.name: scale for scale in scales}, level)
    kept = path.numbers(here).preview(0)
    named = {
        "name": f"{recipe.name[: 63 - len(str(want))]}-{want}",
        "description": f"{recipe.name} with limits that keep {want:,} of {num_seen:,}.",
    }
    chosen = [limit for limit in moved(limits_of(recipe), values) if limit.name not in stays]
    solution = Solution(
        recipe=with_limits(recipe, chosen, named),
        want=want,
        num_seen=num_seen,
        num_kept_before=int(evidence.is_kept.sum()),
        level=level,
        kept=kept,
        limits=(),
        leaks={leak.name: float(leak.shares(path, here)[0]) for leak in leaks},
    )
    solved = [_solved(limit, values, stays, evidence, scales, level, solution) for limit in limits_of(recipe)]
    return replace(solution, limits=tuple(solved))


def _solved(
    limit: Limit, values: Mapping[str, float], stays: Mapping[str, str], evidence: RunEvidence,
    scales: Sequence[Scale], level: float, solution: Solution,
) -> SolvedLimit:  # fmt: skip
    """Return one limit with what a step of it alone would change; screened ones have no steps."""
    why, value = stays.get(limit.name), values.get(limit.name, limit.value)
    scale = next((scale for scale in scales if scale.limit.name == limit.name), None)
    if scale is None or why == OTHERS:
        return SolvedLimit(limit, value, why)
    num_rows = max(1.0, STEP_FRACTION * float(scale.ranks[-1]))
    beside = [value + way if why == COUNT else scale.beside(level, way * num_rows) for way in (-1, 1)]
    if why == COUNT and limit.end == "min":
        beside.reverse()
    other = values.get(f"{limit.filter}.{limit.score}.{'min' if limit.end == 'max' else 'max'}")
    if beside[0] is not None and other is not None and (beside[0] - other) * limit.sign < 0:
        beside[0] = None  # beyond the range's other end nothing is left
    tighter, looser = (None if v is None else _step(limit, v, values, evidence, scales, solution) for v in beside)
    return SolvedLimit(limit, value, why, tighter, looser)


def _step(
    limit: Limit, value: float, values: Mapping[str, float], evidence: RunEvidence, scales: Sequence[Scale],
    solution: Solution,
) -> LimitStep:  # fmt: skip
    """Return what is kept where one limit has another value and all others that of the solution."""
    others = {**values, limit.name: value}
    still = [fixed(replace(scale.limit, value=others[scale.limit.name])) for scale in scales]
    kept = Path.of(evidence, still).numbers(np.zeros(1)).preview(0)
    expected = kept.num_kept if kept.kept_expected is None else kept.kept_expected
    return LimitStep(value, expected - solution.num_expected, *kept.kept_interval)

"""The path of limits as mathematics, on scores that are drawn."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.commands.solve.count import Path
from curation.commands.solve.evidence import HOLDS, Bounded, RunEvidence
from curation.commands.solve.limits import Limit
from curation.commands.solve.path import Scale, fixed, middle_of, scale_of

Rows = tuple[list[float], list[float], list[float]]
SCORES = st.floats(-50, 50, width=32) | st.sampled_from([0.0, 1.0, float("nan"), float("inf")])


@st.composite
def drawn(draw: st.DrawFn) -> tuple[Rows, tuple[float, float, float, float], float]:
    """Three scores of some rows, four limits over them, and a share of rows of which the third is not known."""
    num = draw(st.integers(1, 40))
    columns = tuple(draw(st.lists(SCORES, min_size=num, max_size=num)) for _ in range(3))
    low, high = sorted(draw(st.lists(st.floats(-40, 40), min_size=2, max_size=2)))
    limits = low, high, draw(st.floats(-40, 40)), draw(st.floats(-40, 40))
    return columns, limits, draw(st.sampled_from([0.0, 0.5]))  # type: ignore[return-value]


def path_of(rows: Rows, limits: Sequence[float], unknown: float = 0.0) -> tuple[Path, tuple[Scale, ...], RunEvidence]:
    """Return the path over three scores: one with both ends, one with a `max`, one with a `min`."""
    arrays = {("f", name): np.array(column) for name, column in zip("abc", rows, strict=True)}
    high = {key: values.copy() for key, values in arrays.items()}
    hidden = np.arange(len(rows[0])) < unknown * len(rows[0])
    arrays["f", "c"][hidden], high["f", "c"][hidden] = -np.inf, np.inf
    none = Bounded(dict.fromkeys(arrays, np.zeros(0)), dict.fromkeys(arrays, np.zeros(0)), np.zeros(0, dtype=np.int64))
    everything = Bounded(arrays, high, np.full(len(rows[0]), HOLDS))
    evidence = RunEvidence(everything, np.zeros(len(rows[0]), dtype=bool), np.zeros(0, dtype=np.int64), none, {})
    known = {key: np.concatenate([values, high[key]]) for key, values in arrays.items()}
    inside = middle_of(known["f", "a"], limits[0], limits[1])
    scales = (
        scale_of(Limit("f", "a", "min", limits[0]), known["f", "a"], inside),
        scale_of(Limit("f", "a", "max", limits[1]), known["f", "a"], inside),
        scale_of(Limit("f", "b", "max", limits[2]), known["f", "b"]),
        scale_of(Limit("f", "c", "min", limits[3]), known["f", "c"]),
    )
    return Path.of(evidence, scales), scales, evidence


def passes(scale: Scale, level: float, score: float) -> bool:
    """Say by the number itself whether a score passes a limit where it stands at a level."""
    value = scale.at(level)
    return score <= value if scale.limit.end == "max" else score >= value


@settings(max_examples=40)
@given(drawn())
def test_what_a_level_keeps_is_what_its_limits_let_pass(case: tuple[Rows, tuple[float, ...], float]) -> None:
    rows, limits, _ = case
    path, scales, _ = path_of(rows, limits)
    columns = dict(zip("abc", rows, strict=True))
    for level, number in zip(path.steps, path.numbers(path.steps).certain, strict=True):
        passed = [
            all(passes(scale, level, columns[scale.limit.score][row]) for scale in scales)
            for row in range(len(rows[0]))
        ]
        assert sum(passed) == number


@settings(max_examples=40)
@given(drawn())
def test_a_higher_level_never_has_a_tighter_limit_and_the_recipe_lies_on_the_path(
    case: tuple[Rows, tuple[float, ...], float],
) -> None:
    rows, limits, unknown = case
    path, scales, _ = path_of(rows, limits, unknown)
    for scale in scales:
        signed = [scale.limit.sign * scale.at(level) for level in (0.0, *path.steps, 2.0)]
        assert signed == sorted(signed)
        best = scale.limit.sign * scale.values[0]
        assert scale.at(1.0) == scale.limit.value or scale.limit.sign * (scale.limit.value - best) <= 0
    numbers = path.numbers(path.steps)
    assert list(numbers.certain) == sorted(numbers.certain) and (numbers.undecided >= 0).all()


@settings(max_examples=40)
@given(drawn())
def test_the_two_ends_of_a_range_never_cross(case: tuple[Rows, tuple[float, ...], float]) -> None:
    path, (low, high, *_), _ = path_of(case[0], case[1])
    assert all(low.at(level) <= high.at(level) for level in (0.0, *path.steps))


def test_a_limit_that_stays_turns_away_at_every_level_what_it_does_not_pass() -> None:
    levels = fixed(Limit("f", "a", "max", 1.0)).levels_of(np.array([0.0, 1.0, 1.5, np.nan, -np.inf, np.inf]))
    assert levels.tolist() == [0.0, 0.0, np.inf, np.inf, 0.0, np.inf]

"""A score as it is told: value, interval over identities, how many pictures, and every failure by its reason.

Pictures of one person are alike, so the interval comes from drawing people anew, never pictures (cluster bootstrap,
Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

NUM_RESAMPLES = 2000
SEED = 0
"""Of the resampling, so that the same pictures give the same interval."""
CONFIDENCE = 0.95

Floats = npt.NDArray[np.floating]
Groups = npt.NDArray[np.intp]
Variant = Literal["std", "compat"]
"""`std` is the field's definition; `compat` repeats the arithmetic of the reference repository, its faults included."""
Direction = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Failure:
    """A picture that could not be scored, and why: `no_face`, `unparsed`, `missing`, `unreadable`, ..."""

    reason: str


Value = float | Failure
"""What became of one picture."""


@dataclass(frozen=True)
class Metric:
    """What a number means."""

    name: str
    low: float
    high: float
    """The range that it can take; infinite where there is no end."""
    better: Direction


@dataclass(frozen=True)
class Score:
    """A metric of a set of pictures."""

    metric: Metric
    variant: Variant
    value: float | None
    """None where not one picture could be scored."""
    interval: tuple[float, float] | None
    """95 % over identities; None where there are fewer than two."""
    num: int
    """Pictures that the value stands on."""
    num_identities: int
    failures: Mapping[str, int] = field(default_factory=dict)
    """Pictures that it does not stand on, by reason."""
    details: Mapping[str, float | None] = field(default_factory=dict)
    """What has to be read beside the value."""
    warnings: tuple[str, ...] = ()
    values: tuple[Value, ...] = field(default=(), repr=False)
    """What became of each picture, in the order in which they came; none for a distance between sets."""

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON holds it, without its pictures; an endless range is null."""
        told = asdict(self)
        del told["values"]
        ends = (self.metric.low, self.metric.high)
        told["metric"] = self.metric.name
        told["range"] = [end if np.isfinite(end) else None for end in ends]
        told["better"] = self.metric.better
        return told


def mean_score(
    metric: Metric,
    variant: Variant,
    identities: Sequence[str],
    values: Sequence[Value],
    details: Mapping[str, float | None] | None = None,
    warnings: Sequence[str] = (),
) -> Score:
    """Return the mean over the pictures that could be scored; `identities` says whose each picture is.

    Raises:
        ValueError: there is not one identity per value, or a value is not finite.
    """
    people, scored = scored_only(identities, values)
    return Score(
        metric=metric,
        variant=variant,
        value=float(np.mean(scored)) if len(scored) else None,
        interval=mean_interval(people, scored),
        num=len(scored),
        num_identities=len(set(people)),
        failures=count_failures(values),
        details=details or {},
        warnings=tuple(warnings),
        values=tuple(values),
    )


def scored_only(identities: Sequence[str], values: Sequence[Value]) -> tuple[list[str], Floats]:
    """Return identities and values of the pictures that did not fail.

    Raises:
        ValueError: there is not one identity per value, or a value is not finite.
    """
    pairs = [(who, value) for who, value in zip(identities, values, strict=True) if not isinstance(value, Failure)]
    scored = np.array([value for _, value in pairs], dtype=np.float64)
    if not np.isfinite(scored).all():
        raise ValueError(f"a score is not finite: {scored[~np.isfinite(scored)][:5].tolist()}")
    return [who for who, _ in pairs], scored


def count_failures(values: Sequence[Value]) -> dict[str, int]:
    """Return reason -> number of failures."""
    return dict(sorted(Counter(value.reason for value in values if isinstance(value, Failure)).items()))


def mean_interval(identities: Sequence[str], values_N: Floats) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of the mean, people drawn anew; None with fewer than two people."""
    groups_N = number_people(identities)
    num_people = int(groups_N.max()) + 1 if len(groups_N) else 0
    if num_people < 2:
        return None
    sums_G = np.bincount(groups_N, weights=values_N, minlength=num_people)
    sizes_G = np.bincount(groups_N, minlength=num_people).astype(np.float64)
    drawn_RG = np.random.default_rng(SEED).integers(num_people, size=(NUM_RESAMPLES, num_people))
    means_R = sums_G[drawn_RG].sum(axis=1) / sizes_G[drawn_RG].sum(axis=1)
    low, high = np.quantile(means_R, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def paired_difference(
    ours: Sequence[Value], theirs: Sequence[Value], identities: Sequence[str]
) -> tuple[float, tuple[float, float] | None, int] | None:
    """Return the mean of ours minus theirs over the pictures that both could score, its interval, and their number."""
    gaps: list[Value] = [
        Failure("unpaired") if isinstance(a, Failure) or isinstance(b, Failure) else a - b
        for a, b in zip(ours, theirs, strict=True)
    ]
    people, both = scored_only(identities, gaps)
    return (float(both.mean()), mean_interval(people, both), len(both)) if len(both) else None


def spread_interval(
    metric: Metric, value: float, groups_N: Groups, statistic: Callable[[Groups], float], num_resamples: int
) -> tuple[float, float] | None:
    """Return value -+ 1.96 deviations of a statistic of drawn pictures, people drawn anew, within the metric's range.

    For statistics that repeated pictures bias, such as distances between distributions: their percentiles would miss
    the value itself, their spread does not. `groups_N` numbers everybody (`number_people`); `statistic` takes how often
    each of them was drawn.
    """
    num_people = int(groups_N.max()) + 1 if len(groups_N) else 0
    if num_people < 2:
        return None
    draw = np.random.default_rng(SEED)
    times_RG = [
        np.bincount(draw.integers(num_people, size=num_people), minlength=num_people) for _ in range(num_resamples)
    ]
    drawn = [statistic(times_G) for times_G in times_RG]
    half = 1.959963984540054 * float(np.std(drawn, ddof=1))
    return max(metric.low, value - half), min(metric.high, value + half)


def number_people(identities: Sequence[str]) -> Groups:
    """Return for every picture the number of its person, from 0."""
    return np.unique(np.asarray(identities, dtype=object).astype(str), return_inverse=True)[1].reshape(-1)

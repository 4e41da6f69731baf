"""FID: the Frechet distance between two sets of features, each taken for a Gaussian (Heusel et al., arXiv 1706.08500).

|m - m'|^2 + tr C + tr C' - 2 tr (C C')^(1/2). The last trace is the sum of the singular values of X X'^T, where X holds
the centred features over sqrt(N - 1): no root of a matrix without full rank is taken, which is where the usual
arithmetic loses digits when there are fewer pictures than features. Triangular factors stand for X, so that the work
never grows with N beyond the width.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facemakeup.evaluation.estimate import Floats, Groups, Metric, Score, Variant, number_people, spread_interval

FID = Metric("FID", 0.0, float("inf"), "lower")
MIN_NUM = 2048
"""Below it the covariance of the published 2,048 features has not full rank, and bias outweighs what is measured."""
NUM_RESAMPLES = 40


@dataclass(frozen=True, eq=False)
class _Moments:
    """A Gaussian: its mean, and R, at most D rows, with R^T R its covariance."""

    mean_D: Floats
    root_KD: Floats


def frechet_distance(one_ND: Floats, other_MD: Floats) -> float:
    """Return the distance; symmetric, 0 for the same set.

    Raises:
        ValueError: a set has fewer than two rows, widths differ, or a feature is not finite.
    """
    return _between(_moments(one_ND), _moments(other_MD))


def fid(
    variant: Variant, identities: Sequence[str], one_ND: Floats, other_MD: Floats, num_failed: int, metric: Metric = FID
) -> Score:
    """Return the distance of generated features (N, D), whose people are `identities`, to those of the references.

    `num_failed` generated pictures have no features.
    """
    references, people_N = _moments(other_MD), number_people(identities)
    value = _between(_moments(one_ND), references)

    def redrawn(times_G: Groups) -> float:
        return _between(_moments(np.repeat(one_ND, times_G[people_N], axis=0)), references)

    interval = spread_interval(metric, value, people_N, redrawn, NUM_RESAMPLES)
    num, width = one_ND.shape
    details = {"num_references": float(len(other_MD)), "feature_width": float(width)}
    failures = {"no_features": num_failed} if num_failed else {}
    return Score(
        metric, variant, value, interval, num, len(set(identities)), failures, details, few(num, len(other_MD), width)
    )


def few(num: int, num_references: int, width: int) -> tuple[str, ...]:
    """Return what has to be said where there are few pictures."""
    least = min(num, num_references)
    if least >= max(MIN_NUM, width):
        return ()
    return (f"N = {num} against {num_references}, features {width} wide: mostly bias, to be compared at this N alone",)


def _between(one: _Moments, other: _Moments) -> float:
    if one.mean_D.shape != other.mean_D.shape:
        raise ValueError(f"features are {len(one.mean_D)} and {len(other.mean_D)} wide")
    overlap = np.linalg.svd(one.root_KD @ other.root_KD.T, compute_uv=False).sum()
    means = ((one.mean_D - other.mean_D) ** 2).sum()
    return max(0.0, float(means + (one.root_KD**2).sum() + (other.root_KD**2).sum() - 2 * overlap))


def _moments(features_ND: Floats) -> _Moments:
    features = np.asarray(features_ND, dtype=np.float64)
    if features.ndim != 2 or len(features) < 2 or not np.isfinite(features).all():
        raise ValueError(f"a distance needs two or more rows of finite features, not an array {features.shape}")
    mean_D = features.mean(axis=0)
    return _Moments(mean_D, np.asarray(np.linalg.qr((features - mean_D) / np.sqrt(len(features) - 1), mode="r")))

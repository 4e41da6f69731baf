"""FID: the Frechet distance between two sets of features, each taken for a Gaussian (Heusel et al., arXiv 1706.08500).

|m - m'|^2 + tr C + tr C' - 2 tr (C C')^(1/2). The last trace is the sum of the singular values of X X'^T, where X holds
the centred features over sqrt(N - 1): no root of a matrix without full rank is taken, which is where the usual
arithmetic loses digits when there are fewer pictures than features. Triangular factors stand for X, so that the work
never grows with N beyond the width.
"""

from collections.abc import Sequence

import numpy as np

from facemakeup.evaluation.estimate import Floats, Metric, Score, Variant, spread_interval

FID = Metric("FID", 0.0, float("inf"), "lower")
MIN_NUM = 2048
"""Below it the covariance of the published 2,048 features has not full rank, and bias outweighs what is measured."""
NUM_RESAMPLES = 40


def frechet_distance(one_ND: Floats, other_MD: Floats) -> float:
    """Return the distance; symmetric, 0 for the same set.

    Raises:
        ValueError: a set has fewer than two rows, widths differ, or a feature is not finite.
    """
    one, other = _checked(one_ND), _checked(other_MD)
    if one.shape[1] != other.shape[1]:
        raise ValueError(f"features are {one.shape[1]} and {other.shape[1]} wide")
    root, other_root = _root(one), _root(other)
    overlap = np.linalg.svd(root @ other_root.T, compute_uv=False).sum()
    means = ((one.mean(axis=0) - other.mean(axis=0)) ** 2).sum()
    return max(0.0, float(means + (root**2).sum() + (other_root**2).sum() - 2 * overlap))


def fid(
    variant: Variant, identities: Sequence[str], one_ND: Floats, other_MD: Floats, num_failed: int, metric: Metric = FID
) -> Score:
    """Return the distance of generated features (N, D), whose people are `identities`, to those of the references.

    `num_failed` generated pictures have no features.
    """
    value = frechet_distance(one_ND, other_MD)
    interval = spread_interval(value, identities, lambda rows: frechet_distance(one_ND[rows], other_MD), NUM_RESAMPLES)
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


def _checked(features_ND: Floats) -> Floats:
    features = np.asarray(features_ND, dtype=np.float64)
    if features.ndim != 2 or len(features) < 2 or not np.isfinite(features).all():
        raise ValueError(f"a distance needs two or more rows of finite features, not an array {features.shape}")
    return features


def _root(features_ND: Floats) -> Floats:
    """Return R, at most D rows, with R^T R the covariance (divided by N - 1)."""
    centred = (features_ND - features_ND.mean(axis=0)) / np.sqrt(len(features_ND) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r"))

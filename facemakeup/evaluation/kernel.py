"""KID: the squared maximum mean discrepancy of features under a cubic kernel (Binkowski et al., arXiv 1801.01401).

Unbiased, so unlike FID its expectation does not depend on how many pictures there are; it may be negative.
"""

from collections.abc import Callable, Sequence

import numpy as np

from facemakeup.evaluation.estimate import (
    SEED,
    Floats,
    Groups,
    Metric,
    Score,
    Variant,
    number_people,
    spread_interval,
)
from facemakeup.evaluation.frechet import few

KID = Metric("KID", float("-inf"), float("inf"), "lower")
NUM_SUBSETS = 100
MAX_SUBSET = 1000
NUM_RESAMPLES = 40


def squared_discrepancy(one_ND: Floats, other_MD: Floats) -> float:
    """Return the unbiased estimate under the kernel (x . y / D + 1)^3.

    Raises:
        ValueError: a set has fewer than two rows, or widths differ.
    """
    one, other = np.asarray(one_ND, dtype=np.float64), np.asarray(other_MD, dtype=np.float64)
    if min(len(one), len(other)) < 2 or one.shape[1:] != other.shape[1:]:
        raise ValueError(f"features of shapes {one.shape} and {other.shape}: two or more rows of one width are needed")
    within = [_mean_of_others(_kernel(rows, rows)) for rows in (one, other)]
    return float(within[0] + within[1] - 2 * _kernel(one, other).mean())


def kid(
    variant: Variant, identities: Sequence[str], one_ND: Floats, other_MD: Floats, num_failed: int, metric: Metric = KID
) -> Score:
    """Return the mean over random subsets of at most half of the pictures, with their deviation beside it."""
    size = min(MAX_SUBSET, len(one_ND) // 2, len(other_MD) // 2)
    draw = np.random.default_rng(SEED)
    subsets = [
        squared_discrepancy(
            one_ND[draw.choice(len(one_ND), size, replace=False)],
            other_MD[draw.choice(len(other_MD), size, replace=False)],
        )
        for _ in range(NUM_SUBSETS)
    ]
    value = float(np.mean(subsets))
    people_N = number_people(identities)
    interval = spread_interval(
        metric, value, people_N, discrepancy_of_people(people_N, one_ND, other_MD), NUM_RESAMPLES
    )
    details = {
        "num_references": float(len(other_MD)),
        "subset_size": float(size),
        "num_subsets": float(NUM_SUBSETS),
        "subset_deviation": float(np.std(subsets, ddof=1)),
    }
    failures = {"no_features": num_failed} if num_failed else {}
    warnings = few(len(one_ND), len(other_MD), 0)
    return Score(metric, variant, value, interval, len(one_ND), len(set(identities)), failures, details, warnings)


def discrepancy_of_people(people_N: Groups, one_ND: Floats, other_MD: Floats) -> Callable[[Groups], float]:
    """Return what gives the estimate with every person's pictures repeated as often as it is told.

    Sums over people are taken once, so that drawing them again costs no kernel, and no matrix of N x N is held.
    """
    one, other = np.asarray(one_ND, dtype=np.float64), np.asarray(other_MD, dtype=np.float64)
    rows = [one[people_N == group] for group in range(int(people_N.max()) + 1)]
    starts = np.cumsum([0, *(len(mine) for mine in rows[:-1])])
    ordered = np.concatenate(rows)
    between_GG = np.stack([np.add.reduceat(_kernel(mine, ordered).sum(axis=0), starts) for mine in rows])
    own_G = np.array([(((mine**2).sum(axis=1) / one.shape[1] + 1) ** 3).sum() for mine in rows])
    across_G = np.array([_kernel(mine, other).sum() for mine in rows])
    sizes_G, fixed = np.array([len(mine) for mine in rows]), _mean_of_others(_kernel(other, other))

    def discrepancy(times_G: Groups) -> float:
        num = int(times_G @ sizes_G)
        within = (times_G @ between_GG @ times_G - times_G @ own_G) / (num * (num - 1))
        return float(within + fixed - 2 * (times_G @ across_G) / (num * len(other)))

    return discrepancy


def _kernel(one_ND: Floats, other_MD: Floats) -> Floats:
    return np.asarray((one_ND @ other_MD.T / one_ND.shape[1] + 1) ** 3)


def _mean_of_others(products_NN: Floats) -> float:
    num = len(products_NN)
    return float((products_NN.sum() - np.trace(products_NN)) / (num * (num - 1)))

"""How sure a share is that was counted on few."""

from math import exp, inf, sqrt

Z_95 = 1.959963984540054


def wilson(num_hits: float, num_trials: float, z: float = Z_95, num_all: int | None = None) -> tuple[float, float]:
    """Return the Wilson score interval of a share (E. B. Wilson, JASA 22, 1927); (0, 1) where nothing was tried.

    Where the trials are a sample out of `num_all`, it weighs as one of an infinite population that is larger by
    1 / (1 - num_trials / num_all): once all are seen, nothing is unsure.
    """
    if num_trials == 0:
        return 0.0, 1.0
    share = num_hits / num_trials
    unseen = 1.0 if num_all is None else 1 - num_trials / num_all
    if unseen <= 0:
        return share, share
    weight = num_trials / unseen
    centre = share + z * z / (2 * weight)
    spread = z * sqrt(share * (1 - share) / weight + z * z / (4 * weight * weight))
    scale = 1 + z * z / weight
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def katz(hits: tuple[float, float], trials: tuple[float, float], z: float = Z_95) -> tuple[float, float, float]:
    """Return the ratio of a first share to a second, and its interval on the scale of logarithms.

    Katz, Baptista, Azen and Pike, Biometrics 34, 1978; half a hit and half a trial are added to each share, so that no
    hits have a ratio too (Walter, Biometrika 62, 1975). (1, 0, inf) where either was not tried.
    """
    if 0 in trials:
        return 1.0, 0.0, inf
    (first, second), (num_first, num_second) = ((count + 0.5 for count in pair) for pair in (hits, trials))
    ratio = (first / num_first) / (second / num_second)
    spread = z * sqrt(1 / first - 1 / num_first + 1 / second - 1 / num_second)
    return ratio, ratio * exp(-spread), ratio * exp(spread)

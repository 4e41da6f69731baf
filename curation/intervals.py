"""How sure a share is that was counted on few."""

from math import sqrt

Z_95 = 1.959963984540054


def wilson(num_hits: int, num_trials: int, z: float = Z_95) -> tuple[float, float]:
    """Return the Wilson score interval of a share (E. B. Wilson, JASA 22, 1927); (0, 1) where nothing was tried."""
    if num_trials == 0:
        return 0.0, 1.0
    share = num_hits / num_trials
    centre = share + z * z / (2 * num_trials)
    spread = z * sqrt(share * (1 - share) / num_trials + z * z / (4 * num_trials * num_trials))
    scale = 1 + z * z / num_trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)

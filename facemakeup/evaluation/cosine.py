"""Cosines between rows of features, in float64; shared by every metric that compares vectors."""

import numpy as np

from facemakeup.evaluation.estimate import Floats

MIN_LENGTH = 1e-12


def unit_rows(vectors_ND: Floats) -> Floats:
    """Return every row at length 1.

    Raises:
        ValueError: a row has no direction or is not finite.
    """
    rows = np.asarray(vectors_ND, dtype=np.float64)
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    if not np.isfinite(lengths).all() or (lengths < MIN_LENGTH).any():
        raise ValueError("a feature vector has no direction, or is not finite")
    return np.asarray(rows / lengths)


def cosines(one_ND: Floats, other_ND: Floats) -> Floats:
    """Return the cosine of each row of one with the same row of the other, -1..1.

    Raises:
        ValueError: the shapes differ, or a row has no direction.
    """
    if one_ND.shape != other_ND.shape:
        raise ValueError(f"features of shapes {one_ND.shape} and {other_ND.shape} do not pair up")
    return np.asarray(np.clip((unit_rows(one_ND) * unit_rows(other_ND)).sum(axis=-1), -1.0, 1.0))

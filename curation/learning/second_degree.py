"""Ridge regression on features and all their products, of which squares along a few directions are kept."""

import numpy as np
import numpy.typing as npt

from filters.heads import Doubles, Floats

Mask = npt.NDArray[np.bool_]

RIDGE = 0.03
"""Beside errors of both sides that weigh the same."""
_NUM_SPARE, _NUM_ROUNDS = 20, 4


def products(one_VF: Floats, other_VF: Floats) -> Doubles:
    """Return the products' kernel: the same for each pair of rows as if all features and products were multiplied."""
    return np.asarray((1.0 + one_VF @ other_VF.T / one_VF.shape[1]) ** 2, dtype=np.float64)


def shares_of(kernel: Doubles, is_positive: Mask, weights: Doubles, ridge: float) -> tuple[Doubles, Doubles]:
    """Return each row's share in the regression of -1 and 1, and the inverse that it came from.

    Rows of more weight are held to less error.
    """
    slack = 10 * ridge / weights / len(weights)
    inverse: Doubles = np.linalg.inv(kernel + np.diag(slack)).astype(np.float64)
    return np.asarray(inverse @ np.where(is_positive, 1.0, -1.0)), inverse


def left_out(shares: Doubles, inverse: Doubles, is_positive: Mask, folds: npt.NDArray[np.int64]) -> Doubles:
    """Return each row's score by the regression without its fold, in closed form (Rasmussen and Williams, 5.4.2)."""
    scores = np.where(is_positive, 1.0, -1.0)
    for number in np.unique(folds):
        mine = np.flatnonzero(folds == number)
        scores[mine] -= np.linalg.solve(inverse[np.ix_(mine, mine)], shares[mine])
    return scores


def along(rows_VF: Floats, shares: Doubles, num_directions: int) -> tuple[Doubles, Doubles]:
    """Return directions, (directions, F), and what the square along each counts for.

    The products' weights are a matrix; these are its eigenvectors and eigenvalues, those of the largest.
    """
    num_features = rows_VF.shape[1]

    def turned(vectors: Doubles) -> Doubles:
        return np.asarray(rows_VF.T @ (shares[:, None] * (rows_VF @ vectors)) / num_features**2)

    width = min(num_features, num_directions + _NUM_SPARE)
    basis = np.random.default_rng(0).standard_normal((num_features, width))
    for _ in range(_NUM_ROUNDS):
        basis = np.linalg.qr(turned(basis))[0]
    values, vectors = np.linalg.eigh(basis.T @ turned(basis))
    chosen = np.argsort(-np.abs(values))[:num_directions]
    return np.asarray((basis @ vectors[:, chosen]).T), values[chosen]

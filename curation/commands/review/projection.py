"""A map of the pictures: their scores, two numbers each, so that what was measured alike lies together."""

from typing import Any

import numpy as np

from curation.commands.review.strata import CANDIDATES
from curation.commands.review.table import RowTable
from curation.commands.review.whatif import quoted

MAX_POINTS = 100_000
MAX_SPREADS = 4.0
"""Scores further from their median than this many spreads are drawn at that distance."""


def points(table: RowTable) -> dict[str, Any]:
    """Return for up to 100,000 pictures, by token of chance, uid, whether it was kept, and x, y within [-1, 1].

    The two first principal components of all scores that vary, each in spreads around its median; what was not measured
    lies at the median. Pictures that share what was measured share what was not, so cascades show as islands.
    """
    columns = [quoted(score.column) for score in table.scores]
    chosen = f"SELECT * FROM rows WHERE {CANDIDATES} ORDER BY md5(uid) LIMIT {MAX_POINTS}"
    found = table.ask_columns(f"SELECT uid, kept, {', '.join(columns)} FROM ({chosen})")
    values = np.stack([_scaled(np.ma.filled(found[score.column], np.nan)) for score in table.scores], axis=1)
    values = values[:, values.std(axis=0) > 0]
    return {
        "uids": found["uid"].tolist(),
        "kept": np.ma.filled(found["kept"], False).astype(int).tolist(),
        "places": np.round(components(values), 4).tolist(),
    }


def components(values: np.ndarray) -> np.ndarray:
    """Return the first two principal components of rows of values, float64 (N, K), as (N, 2) within [-1, 1]."""
    if not values.size:
        return np.zeros((len(values), 2))
    centred = values - values.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    places = centred @ axes[:, ::-1][:, :2]
    places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))
    within: np.ndarray = places / (np.abs(places).max(axis=0) + 1e-12)
    return within


def _scaled(scores: np.ndarray) -> np.ndarray:
    finite = scores[np.isfinite(scores)]
    if not len(finite):
        return np.zeros(len(scores))
    low, middle, high = np.quantile(finite, (0.16, 0.5, 0.84))
    spread = (high - low) / 2 or finite.std() or 1.0
    scaled: np.ndarray = np.nan_to_num(np.clip((scores - middle) / spread, -MAX_SPREADS, MAX_SPREADS), nan=0.0)
    return scaled

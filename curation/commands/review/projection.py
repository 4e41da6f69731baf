"""A map of the pictures: two numbers each, so that what looks, or was measured, alike lies together.

By the features of the heads' network, as far as `teach` has kept them beside the run; else by the scores.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from curation.commands.review.folder import Reviewed
from curation.commands.review.strata import CANDIDATES
from curation.commands.review.table import RowTable
from curation.commands.review.whatif import quoted
from curation.errors import WeightsError
from curation.measure.features import stored_features

Basis = Literal["features", "scores"]
MAX_POINTS = 100_000
MAX_SPREADS = 4.0
"""Scores further from their median than this many spreads are drawn at that distance."""
MIN_WITH_FEATURES = 3
"""Pictures of which a map by features can be drawn at all."""
LEAST_SHARE = 0.5
"""Share of the pictures that have features, from which the map is by them unless somebody asks otherwise."""


def points(table: RowTable, reviewed: Reviewed, basis: Basis | None = None) -> dict[str, Any]:
    """Return for up to 100,000 pictures, by token of chance, uid, whether it was kept, and x, y within [-1, 1].

    `by` says of what they are the two first principal components: of the network's features, for the pictures that have
    some, or of all scores that vary, each in spreads around its median, where what was not measured lies at the median.
    `num` says of how many pictures there are either.
    """
    uids = _with_features(reviewed)
    ((total, known),) = table.ask(
        f"SELECT count(*), count(*) FILTER (uid IN (SELECT unnest(?))) FROM rows WHERE {CANDIDATES}", [uids]
    )
    if basis is None:
        basis = "features" if known >= max(MIN_WITH_FEATURES, LEAST_SHARE * total) else "scores"
    found = _by_features(table, reviewed) if basis == "features" and known else _by_scores(table)
    return {
        "uids": found["uid"].tolist(),
        "kept": np.ma.filled(found["kept"], False).astype(int).tolist(),
        "places": np.round(found["places"], 4).tolist(),
        "by": basis if known else "scores",
        "num": {"features": known, "scores": total},
    }


def _with_features(reviewed: Reviewed) -> list[str]:
    try:
        return [uid for uids, _ in stored_features(reviewed.folder, reviewed.manifest) for uid in uids]
    except WeightsError:
        return []


def _by_features(table: RowTable, reviewed: Reviewed) -> Mapping[str, Any]:
    """Return uid, kept and places of the pictures with features; these are read twice, some at a time."""
    axes, mean = _axes(array for _, array in stored_features(reviewed.folder, reviewed.manifest))
    places = {
        uid: place
        for uids, array in stored_features(reviewed.folder, reviewed.manifest)
        for uid, place in zip(uids, (array - mean) @ axes, strict=True)
    }
    chosen = f"{CANDIDATES} AND uid IN (SELECT unnest(?)) ORDER BY md5(uid) LIMIT {MAX_POINTS}"
    found = table.ask_columns(f"SELECT uid, kept FROM rows WHERE {chosen}", [list(places)])
    return {**found, "places": _within(np.array([places[uid] for uid in found["uid"]]).reshape(-1, 2))}


def _by_scores(table: RowTable) -> Mapping[str, Any]:
    columns = [quoted(score.column) for score in table.scores]
    chosen = f"SELECT * FROM rows WHERE {CANDIDATES} ORDER BY md5(uid) LIMIT {MAX_POINTS}"
    found = table.ask_columns(f"SELECT uid, kept, {', '.join(columns)} FROM ({chosen})")
    values = np.stack([_scaled(np.ma.filled(found[score.column], np.nan)) for score in table.scores], axis=1)
    return {**found, "places": components(values[:, values.std(axis=0) > 0])}


def components(values: np.ndarray) -> np.ndarray:
    """Return the first two principal components of rows of values, float64 (N, K), as (N, 2) within [-1, 1]."""
    if not values.size:
        return np.zeros((len(values), 2))
    axes, mean = _axes([values])
    return _within((values - mean) @ axes)


def _axes(parts: Iterable[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return the two axes along which rows vary most, (K, 2), and their mean, (K,)."""
    num, total, squares = 0, np.zeros(1), np.zeros((1, 1))
    for part in parts:
        rows = part.astype(np.float64)
        num, total, squares = num + len(rows), total + rows.sum(axis=0), squares + rows.T @ rows
    mean = total / num
    _, axes = np.linalg.eigh(squares - num * np.outer(mean, mean))
    axes = axes[:, ::-1][:, :2]
    return np.pad(axes, ((0, 0), (0, 2 - axes.shape[1]))), mean


def _within(places: np.ndarray) -> np.ndarray:
    largest = np.abs(places).max(axis=0, initial=0.0)
    within: np.ndarray = places / (largest + 1e-12)
    return within


def _scaled(scores: np.ndarray) -> np.ndarray:
    finite = scores[np.isfinite(scores)]
    if not len(finite):
        return np.zeros(len(scores))
    low, middle, high = np.quantile(finite, (0.16, 0.5, 0.84))
    spread = (high - low) / 2 or finite.std() or 1.0
    scaled: np.ndarray = np.nan_to_num(np.clip((scores - middle) / spread, -MAX_SPREADS, MAX_SPREADS), nan=0.0)
    return scaled

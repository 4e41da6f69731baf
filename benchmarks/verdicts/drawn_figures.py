"""What heads do on sources that were left out, by kind of drawing and by tag of portrait, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from benchmarks.provenance import wilson
from benchmarks.verdicts.labelled import Labelled
from benchmarks.verdicts.learning import LESSONS, POSITIVE
from curation.learning.heads import Mask, Views, auc, cross_validated, limit_losing, out_of_fold
from filters.heads import Doubles

LOST = (0.003, 0.005, 0.01, 0.015, 0.02)
"""Shares of portraits without lettering that a limit may lose."""
KINDS = {
    "drawn": ("anime", "cartoon", "sketch", "painting", "render"),
    "nonhuman": ("animal", "statue", "toy", "mannequin"),
}
SLICES = (
    *("headcovering", "mask", "skin_light", "skin_medium", "skin_dark", "child", "adult", "older", "glasses"),
    *("letters", "graded", "makeup", "low_light", "small", "profile"),
)
CURVE = (15, 30, 60, 120, 240)
CASCADE_LIMIT = 2.2
"""The recipe's, on the cascade's `max_line_to_nose`."""


def figures(
    photos: Sequence[Labelled],
    views: Views,
    logits: Mapping[str, Doubles],
    masked: Mapping[str, Doubles],
    line_to_nose: Doubles,
    seed: int,
) -> dict[str, Any]:
    """Return the figures of both heads; `logits` and `masked` (by synthetic masks) are of sources left out."""
    found = {name: _head(photos, views, name, logits[name], masked[name]) for name in POSITIVE}
    drawn, single = views.labels == "anime", views.labels == "single"
    found["drawn"]["learning_curve"] = _curve(photos, views, seed)
    found["cascade_alone"] = {
        "auc": round(auc(line_to_nose[drawn], line_to_nose[single]), 4),
        "told": _share(line_to_nose[drawn] > CASCADE_LIMIT),
        "lost": _share(line_to_nose[single] > CASCADE_LIMIT),
    }
    return found


def _head(photos: Sequence[Labelled], views: Views, name: str, logits: Doubles, masked: Doubles) -> dict[str, Any]:
    single, positive = views.labels == "single", views.labels == POSITIVE[name]
    plain = single & ~_tagged(photos, "letters")
    limits = {share: limit_losing(logits[plain], share) for share in LOST}
    return {
        "auc": round(auc(logits[positive], logits[single]), 4),
        "at": {str(share): _at(photos, views, name, logits, masked, limit) for share, limit in limits.items()},
        "limits_from_other_folds": {str(share): _nested(views, logits, plain, positive, share) for share in LOST},
    }


def _at(
    photos: Sequence[Labelled], views: Views, name: str, logits: Doubles, masked: Doubles, limit: float
) -> dict[str, Any]:
    single, positive, above = views.labels == "single", views.labels == POSITIVE[name], logits > limit
    plain = single & ~_tagged(photos, "letters")
    known = {kind: positive & _tagged(photos, kind) for kind in KINDS[name]}
    other = positive & ~np.logical_or.reduce(list(known.values()))
    mask_views = masked[np.isfinite(masked) & single]
    return {
        "limit": round(limit, 3),
        "told": _share(above[positive]),
        "lost": _share(above[single]),
        "lost_group": _share(above[views.labels == "group"]),
        "lost_synthetic_mask": _share(mask_views > limit),
        "told_by_kind": {kind: _share(above[mask]) for kind, mask in {**known, "other": other}.items()},
        "lost_by_tag": {tag: _share(above[single & _tagged(photos, tag)]) for tag in SLICES},
        "lost_skin_dark_without_letters": _share(above[plain & _tagged(photos, "skin_dark")]),
    }


def _nested(views: Views, logits: Doubles, plain: Mask, positive: Mask, share: float) -> dict[str, Any]:
    """Return told and lost where each fold is judged by the limit that the other folds' portraits give."""
    above = np.zeros(len(logits), dtype=bool)
    for number in np.unique(views.folds):
        mine = views.folds == number
        above[mine] = logits[mine] > limit_losing(logits[plain & ~mine], share)
    return {"told": _share(above[positive]), "lost": _share(above[plain])}


def _curve(photos: Sequence[Labelled], views: Views, seed: int) -> list[dict[str, Any]]:
    """Return AUC and share told at 1 % against the number of drawings that heads are taught on, by chance.

    The photos alone teach these, no variations and no masks.
    """
    originals = np.searchsorted(views.photo_of_V, np.arange(len(views.labels)))
    rows = views.features_VF[originals]
    alone = replace(views, features_VF=rows, photo_of_V=np.arange(len(rows)), weights_V=None)
    drawn, single = views.labels == "anime", views.labels == "single"
    order = np.random.default_rng(seed).permutation(np.flatnonzero(drawn))
    curve = []
    for count in (*CURVE, len(order)):
        usable = ~drawn
        usable[order[:count]] = True
        logits = cross_validated(out_of_fold(alone, {"drawn": LESSONS["drawn"]}, usable), rows)["drawn"]
        limit = limit_losing(logits[single & ~_tagged(photos, "letters")], 0.01)
        found = {"auc": round(auc(logits[drawn], logits[single]), 4), "told_at_0.01": _share(logits[drawn] > limit)}
        curve.append({"num_drawings": count, **found})
    return curve


def _tagged(photos: Sequence[Labelled], tag: str) -> Mask:
    return np.array([tag in photo.tags for photo in photos])


def _share(hits: Mask) -> dict[str, Any]:
    return {"hits": int(hits.sum()), "of": len(hits), "wilson_95": wilson(int(hits.sum()), len(hits))}

"""Says how near photos come to the thresholds of `faces` and `anime`, and how far boxes of two sizes lie apart."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.verdicts.looks import Look
from filters import anime, faces
from filters.boxes import iou
from filters.detectors.lbp_cascade import EVERY_PIXEL_FROM_PX

RELATIVE_AREA, LINE_TO_NOSE = 0.1, 2.2
"""The recipe's; the other thresholds of each filter are what moves with the size."""


def nearest_faces(labelled: Sequence[Look]) -> dict[str, list[float]]:
    """Return the five confidences nearest to the threshold from each side, originals and derivatives together."""
    first = {
        label: sorted(_nth_face(look, 1) for look in labelled if look.label == label) for label in ("single", "noface")
    }
    second = {
        label: sorted(_nth_face(look, 2) for look in labelled if look.label == label) for label in ("single", "group")
    }
    return {
        "single_first": first["single"][:5],
        "group_second": second["group"][:5],
        "single_second": second["single"][:-6:-1],
        "noface_first": first["noface"][:-11:-1],
    }


def _nth_face(look: Look, count: int) -> float:
    """Return the greatest confidence at which this many faces count; 0 where they never do."""
    for confidence in sorted({face.confidence for face in look.evidence.faces}, reverse=True):
        score = faces.Score(confidence=confidence, relative_area=RELATIVE_AREA)
        if faces.scores(look.evidence, score)["num_faces"] >= count:
            return float(round(confidence, 2))
    return 0.0


def nearest_anime(looks: Sequence[Look], thresholds: Mapping[str, float]) -> dict[str, Any]:
    """Return the windows behind hits that look drawn, nearest to each threshold first, and the ratios that count.

    `photo_windows` holds the five most of each label that is not drawn. `anime_windows` holds the five fewest of the
    drawings that hits of this size alone tell: those that the other size tells as well do not need them.
    """
    score = anime.Score.model_validate(thresholds)
    drawings = [look for look in looks if look.label == "anime"]
    labels = sorted({look.label for look in looks} - {"anime"})
    least = {False: score.min_neighbours, True: score.min_neighbours_small}
    return {
        "photo_windows": {
            size: {
                label: sorted((_windows(look, small) for look in looks if look.label == label), reverse=True)[:5]
                for label in labels
            }
            for size, small in (("large", False), ("small", True))
        },
        "anime_windows": {
            size: sorted(
                _windows(look, small)
                for look in drawings
                if _windows(look, not small) < least[not small] and _windows(look, small) > 0
            )[:5]
            for size, small in (("large", False), ("small", True))
        },
        "single_ratios": sorted((_ratio(look, score) for look in looks if look.label == "single"), reverse=True)[:5],
        "anime_ratios": sorted(ratio for look in drawings if (ratio := _ratio(look, score)) > 0)[:5],
    }


def _windows(look: Look, small: bool) -> int:
    """Return the windows behind the surest hit of one size that looks drawn; 0 without any."""
    return max(
        (
            hit.num_neighbours
            for hit in look.evidence.hits
            if (hit.view_side_px < EVERY_PIXEL_FROM_PX) == small and hit.line_to_nose > LINE_TO_NOSE
        ),
        default=0,
    )


def _ratio(look: Look, score: anime.Score) -> float:
    return round(anime.scores(look.evidence, score)["max_line_to_nose"], 2)


def boxes(own: Sequence[Look], reference: Sequence[Look]) -> dict[str, Any]:
    """Return how far the face of each portrait lies from where the first size sees it; landmarks in face sides."""
    overlaps, errors = [], []
    for mine, theirs in zip(own, reference, strict=True):
        if mine.label == "single" and mine.evidence.faces and theirs.evidence.faces:
            face, other = mine.evidence.faces[0], theirs.evidence.faces[0]
            overlaps.append(iou(face.box, other.box))
            apart = np.reshape(np.subtract(face.landmarks, other.landmarks), (5, 2))
            errors.append(float(np.hypot(*apart.T).mean()) / other.side_px)
    return {
        "iou_median_p5_min": [round(float(np.percentile(overlaps, at)), 3) for at in (50, 5, 0)],
        "landmark_error_median_p95_max": [round(float(np.percentile(errors, at)), 3) for at in (50, 95, 100)],
    }

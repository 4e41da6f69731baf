"""FaceSim: the cosine of a recogniser's vectors of two faces, times 100, and what it means with this recogniser.

A bare cosine says nothing: one recogniser gives strangers .02, another .83. So its own means for two photos of one
person and for strangers stand beside every score. `compat` is what the reference reports: the mean over the pictures
where a face was found, whatever became of the others. `std` is told as three numbers: that mean, how often a face is
found, and the mean with nobody found counted as 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facemakeup.evaluation.cosine import unit_rows
from facemakeup.evaluation.estimate import Failure, Floats, Metric, Score, Value, Variant, mean_score
from facemakeup.evaluation.image_similarity import similarities

FACESIM = Metric("FaceSim", -100.0, 100.0, "higher")
NO_FACE = "no_face"
SHARED = "this recogniser also conditions the method that it judges: read a held-out one"


@dataclass(frozen=True)
class Calibration:
    """What a recogniser gives for real photos, cosines times 100."""

    same: float | None
    """Mean over pairs of photos of one person; None where nobody has two."""
    num_same: int
    different: float | None
    """Mean over pairs of photos of two people."""
    num_different: int
    separation: float | None
    """Share of (same, different) pairs in which the same person is nearer (area under the ROC curve), 0.5..1."""


def calibrate(vectors_ND: Floats, identities: Sequence[str]) -> Calibration:
    """Return what a recogniser gives for every pair of real photos; `identities` says whose each is."""
    if len(vectors_ND) < 2:
        return Calibration(None, 0, None, 0, None)
    rows = unit_rows(vectors_ND)
    upper = np.triu_indices(len(rows), 1)
    names = np.asarray(identities, dtype=object)
    is_same = (names[:, None] == names[None, :])[upper].astype(bool)
    cosines = 100.0 * (rows @ rows.T)[upper]
    same, different = cosines[is_same], cosines[~is_same]
    return Calibration(_mean(same), len(same), _mean(different), len(different), _separation(same, different))


def face_similarity(
    variant: Variant,
    identities: Sequence[str],
    vectors: Sequence[Floats | Failure],
    references: Sequence[Floats | Failure],
    calibration: Calibration,
    shares_conditioning: bool,
) -> Score:
    """Return the mean over the pictures where a face is found, with all that is needed to read it."""
    values = similarities(vectors, references)
    details = {
        **rates(values),
        "same_person_mean": calibration.same,
        "different_person_mean": calibration.different,
        "separation": calibration.separation,
    }
    warnings = [SHARED] if shares_conditioning else []
    return mean_score(FACESIM, variant, identities, values, details, warnings)


def rates(values: Sequence[Value]) -> dict[str, float | None]:
    """Return how often a face was found and the mean with nobody found as 0, over pictures that are there.

    A picture that is missing or cannot be read says nothing of faces, and is counted as a failure alone.
    """
    found = [value for value in values if not isinstance(value, Failure)]
    num_without = sum(isinstance(value, Failure) and value.reason == NO_FACE for value in values)
    num_seen = len(found) + num_without
    if not num_seen:
        return {"detection_rate": None, "mean_failures_as_zero": None}
    return {"detection_rate": len(found) / num_seen, "mean_failures_as_zero": float(sum(found)) / num_seen}


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None


def _separation(same: Floats, different: Floats) -> float | None:
    """Return the Mann-Whitney statistic over its largest value; ties count half."""
    if not len(same) or not len(different):
        return None
    ordered = np.sort(different)
    below = np.searchsorted(ordered, same, side="left")
    up_to = np.searchsorted(ordered, same, side="right")
    return float((below + up_to).sum() / 2 / len(same) / len(different))

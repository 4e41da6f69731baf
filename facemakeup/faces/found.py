"""Which of the faces that a detector records is the one that is meant: one rule for references and for pictures."""

from filters import faces
from filters.detectors.base import Face, largest_face
from filters.faces import FacesEvidence

LEAST_CONFIDENCE = faces.Score().confidence
"""Of a face that counts; a detector records many that are none below it."""


def main_face(evidence: FacesEvidence) -> Face | None:
    """Return the largest face that counts; None where no face does."""
    return largest_face(evidence.faces, LEAST_CONFIDENCE)

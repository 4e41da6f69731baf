from facemakeup.faces.found import main_face
from filters.detectors.base import Face
from filters.faces import FacesEvidence

POINTS = (0.0,) * 10


def seen(*faces: tuple[float, float]) -> FacesEvidence:
    """Evidence of faces by side and confidence."""
    return FacesEvidence(500, 500, tuple(Face(0, 0, side, side, sure, POINTS) for side, sure in faces))


def test_a_face_is_the_largest_of_those_that_are_sure_whatever_else_is_recorded() -> None:
    largest = main_face(seen((300, 0.4), (50, 0.9), (80, 0.5)))
    assert largest is not None and largest.side_px == 80
    assert main_face(seen((300, 0.49))) is None and main_face(seen()) is None

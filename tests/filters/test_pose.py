"""The pose of a face, held against heads that are turned, seen and marked on paper."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.recipe.joint_scores import JOINT_SCORES
from filters.detectors.base import Face
from filters.faces import FacesEvidence
from filters.pose import HEAD, UNKNOWN_POSE, Pose, eyes_distance_px, pose_of

Floats = npt.NDArray[np.float64]
TURNS = st.tuples(st.floats(-80, 80), st.floats(-60, 60), st.floats(-170, 170))


def rotation(yaw: float, pitch: float, roll: float) -> Floats:
    """The head nods (up above 0), turns (to the viewer's right), then leans (clockwise); x right, y down, z front."""
    (cy, sy), (cp, sp), (cr, sr) = ((math.cos(math.radians(a)), math.sin(math.radians(a))) for a in (yaw, pitch, roll))
    nod = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    turn = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    lean = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    return np.asarray(lean @ turn @ nod)


def seen(head: Floats, turned: Floats, distance: float = math.inf, scale: float = 80.0) -> tuple[float, ...]:
    """Landmarks of a head before a pinhole at a distance in distances between the eyes, in pixels."""
    points = head @ turned.T
    nearer = 1.0 if math.isinf(distance) else distance / (distance - points[:, 2:])
    return tuple((points[:, :2] * nearer * scale + 300).ravel().tolist())


@given(TURNS, st.floats(5, 500))
def test_under_the_camera_model_the_pose_is_exact_at_any_size(turns: tuple[float, ...], scale: float) -> None:
    found = pose_of(seen(HEAD, rotation(*turns), scale=scale))
    assert (found.yaw_deg, found.pitch_deg, found.roll_deg) == pytest.approx(turns, abs=1e-5)


@pytest.mark.parametrize(("most_yaw", "errors"), [(30, (5.0, 5.5, 3.0)), (60, (5.0, 6.0, 4.0))])
def test_real_distances_other_heads_and_unsure_landmarks_err_by_no_more_than_is_told(
    most_yaw: float, errors: tuple[float, ...]
) -> None:
    """Half a metre away (eight distances between the eyes), a tenth off the mean head, landmarks off by 3 %."""
    chance = np.random.default_rng(0)
    found = []
    for _ in range(400):
        turns = chance.uniform((-most_yaw, -30, -40), (most_yaw, 30, 40))
        head = HEAD * (1 + 0.1 * chance.standard_normal(HEAD.shape))
        landmarks = np.array(seen(head, rotation(*turns), 8.0)) + 0.03 * 80 * chance.standard_normal(10)
        pose = pose_of(tuple(landmarks.tolist()))
        found.append(np.abs(np.array([pose.yaw_deg, pose.pitch_deg, pose.roll_deg]) - turns))
    assert (np.mean(found, axis=0) < errors).all(), np.mean(found, axis=0)


def test_a_mirrored_face_looks_the_other_way() -> None:
    landmarks = seen(HEAD, rotation(25, 10, -8))
    mirrored = [600 - value if i % 2 == 0 else value for i, value in enumerate(landmarks)]
    swapped = [mirrored[i] for i in (2, 3, 0, 1, 4, 5, 8, 9, 6, 7)]
    pose = pose_of(tuple(swapped))
    assert (pose.yaw_deg, pose.pitch_deg, pose.roll_deg) == pytest.approx((-25, 10, 8), abs=1e-6)


@pytest.mark.parametrize("landmarks", [(5.0,) * 10, tuple(float(i // 2) for i in range(10)), (math.nan,) * 10])
def test_landmarks_that_span_no_plane_show_no_head(landmarks: tuple[float, ...]) -> None:
    assert pose_of(landmarks) == UNKNOWN_POSE == Pose(90.0, 90.0, 90.0)


def test_a_recipe_asks_the_largest_confident_face_and_without_one_hears_the_worst() -> None:
    near, far = seen(HEAD, rotation(30, 0, 0), scale=80), seen(HEAD, rotation(0, 0, 0), scale=20)
    faces = (Face(0, 0, 20, 20, 0.9, far), Face(0, 0, 200, 200, 0.8, near), Face(0, 0, 300, 300, 0.2, far))
    names = ("yaw_deg", "pitch_deg", "roll_deg", "eyes_distance_px")

    def ask(evidence: FacesEvidence | None) -> list[tuple[float, float]]:
        found = (JOINT_SCORES[name]().bounds({"faces": evidence}) for name in names)
        return [(bounds.low, bounds.high) for bounds in found]

    whole = [low for low, high in ask(FacesEvidence(400, 400, faces)) if low == high]
    assert whole == pytest.approx([30, 0, 0, 80 * math.cos(math.radians(30))])
    assert whole[3] == eyes_distance_px(near)
    assert ask(FacesEvidence(400, 400, faces[2:])) == [(90.0, 90.0)] * 3 + [(0.0, 0.0)]
    assert ask(None) == [(-math.inf, math.inf)] * 4

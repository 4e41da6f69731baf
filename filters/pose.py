"""How a head is turned, from five landmarks alone: a mean head under a scaled orthographic camera.

The camera looks along the head's depth and sees it from far away, so that perspective inside the face vanishes: a point
(x, y, z) of the head lies at s R (x, y, z) + t in the picture, of which two rows are seen. These eight numbers follow
from five points by least squares (DeMenthon and Davis, IJCV 1995, the first step of POSIT), and the rotation is the
nearest one to them. `docs/quality.md` says how far it errs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NUM_COORDINATES = 10
HEAD: Floats = np.array(
    [
        [-0.500, -0.574, -0.312],
        [0.500, -0.574, -0.312],
        [0.000, 0.000, 0.000],
        [-0.415, 0.427, -0.485],
        [0.415, 0.427, -0.485],
    ]
)
"""Left eye, right eye, nose tip, left and right mouth corner of a mean head, in distances between the eyes; x to the
viewer's right, y down, z towards the camera. Fitted to the landmarks of 379 portraits by all their poses at once
(`benchmarks.verdicts.pose`), and turned so that as many of them look up as down."""
WORST_DEG = 90.0
"""What is told of a face that is none, and of landmarks in which no head can be seen: turned as far as can be."""


@dataclass(frozen=True)
class Pose:
    """Angles in degrees; all are 0 for a head that looks into the camera, upright."""

    yaw_deg: float
    """-180..180: above 0 where the face looks to the viewer's right; beyond 90 where the landmarks of a profile lie as
    if it were seen from behind."""
    pitch_deg: float
    """-90..90: above 0 where it looks up."""
    roll_deg: float
    """-180..180: above 0 where the head leans to the viewer's right, clockwise."""


UNKNOWN_POSE = Pose(WORST_DEG, WORST_DEG, WORST_DEG)


@lru_cache(maxsize=256)
def pose_of(landmarks: tuple[float, ...]) -> Pose:
    """Return the pose of a face by its landmarks x, y of left eye, right eye, nose, left and right mouth corner.

    Left and right are the viewer's. Where they span no plane (all on one line, or not finite) it is `UNKNOWN_POSE`.
    """
    seen = np.asarray(landmarks, np.float64).reshape(-1, 2)
    if not np.isfinite(seen).all():
        return UNKNOWN_POSE
    affine = (_SOLVE @ (seen - seen.mean(axis=0))).T
    left, scales, right = np.linalg.svd(affine, full_matrices=False)
    if scales[1] <= 1e-6 * scales[0]:
        return UNKNOWN_POSE
    x_axis, y_axis = left @ right
    return angles_of(np.stack([x_axis, y_axis, np.cross(x_axis, y_axis)]))


def eyes_distance_px(landmarks: Sequence[float]) -> float:
    """Return the distance between the eyes in pixels of the picture (ISO/IEC 29794-5 calls it inter-eye distance)."""
    return math.hypot(landmarks[2] - landmarks[0], landmarks[3] - landmarks[1])


def angles_of(rotation: Floats) -> Pose:
    """Take R = R_z(roll) R_y(yaw) R_x(pitch) apart: the head nods, then turns, then leans in the picture's plane."""
    front = math.copysign(1.0, rotation[2, 2])
    yaw = math.atan2(-rotation[2, 0], front * math.hypot(rotation[2, 1], rotation[2, 2]))
    pitch = math.atan2(front * rotation[2, 1], front * rotation[2, 2])
    roll = math.atan2(front * rotation[1, 0], front * rotation[0, 0])
    return Pose(math.degrees(yaw), math.degrees(pitch), math.degrees(roll))


_SOLVE: Floats = np.linalg.pinv(HEAD - HEAD.mean(axis=0))

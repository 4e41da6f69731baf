"""The mean head of `filters.pose`, fitted to the landmarks of labelled portraits, and how far its poses err.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_GOLD2=... python -m benchmarks.verdicts.pose

Five numbers say what the head is like (eyes and mouth above and below the nose, width of the mouth, depths); they are
those that leave the least of all faces' landmarks, each face in its own best pose. They leave open how far up a head
looks that looks straight ahead: so that as many portraits look up as down.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.provenance import RESULTS, commit, machine
from benchmarks.verdicts.labelled import folders_named, labelled
from curation.recipe.recipe import load_recipe
from filters import pose
from filters.detectors.base import largest_face
from filters.faces import build

Floats = npt.NDArray[np.float64]
START = (0.5, 0.4, 0.4, 0.5, 0.0)
MOST_RESIDUAL = 0.15
"""Landmarks that lie further off, in distances between the eyes, pull no harder: detectors err grossly now and then."""
TRIALS = 1500


def main() -> None:
    """Fit, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=RESULTS / "pose.json")
    options = parser.parse_args()
    landmarks = _landmarks()
    head = fitted(landmarks)
    left = residuals(pose.HEAD, landmarks)
    result = {
        "num_faces": len(landmarks),
        "fitted": head.round(3).tolist(),
        "in_use": pose.HEAD.tolist(),
        "residual_of_the_one_in_use": {
            "mean": round(float(left.mean()), 3),
            "median": round(float(np.median(left)), 3),
        },
        "errors_deg": {f"yaw up to {yaw}": _errors(yaw) for yaw in (30, 60, 85)},
        "machine": machine(),
        "commit": commit(),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _landmarks() -> list[Floats]:
    plan = next(plan for plan in load_recipe("facecaptionhq-strict").filters if plan.name == "faces")
    faces, found = build(plan.measure, "cpu"), []  # type: ignore[arg-type]
    for photo in labelled(folders_named()):
        if photo.label == "single":
            (evidence,) = faces.measure([photo.picture])
            if (face := largest_face(evidence.faces, 0.57)) is not None:
                found.append(np.reshape(face.landmarks, (-1, 2)))
    return found


def head_of(numbers: Sequence[float]) -> Floats:
    """Return a head by how high its eyes lie, how far out its nose, how wide, low and far out its mouth."""
    eyes, nose, width, low, out = numbers
    return np.array([[-0.5, -eyes, 0], [0.5, -eyes, 0], [0, 0, nose], [-width, low, out], [width, low, out]])


def fitted(landmarks: Sequence[Floats]) -> Floats:
    """Return the head that leaves the least, turned so that the median pitch is none."""
    from scipy.optimize import minimize

    def loss(numbers: Sequence[float]) -> float:
        return float((np.minimum(residuals(head_of(numbers), landmarks), MOST_RESIDUAL) ** 2).mean())

    head = head_of(minimize(loss, START, method="Nelder-Mead", options={"maxiter": 300}).x)
    tilt = np.median([_angles(head, face)[1] for face in landmarks])
    turned = head @ rotation(0, float(tilt), 0).T
    return np.asarray(turned - turned[2])


def residuals(head: Floats, landmarks: Sequence[Floats]) -> Floats:
    """Return what each face's best pose leaves of its landmarks, in distances between the eyes."""
    return np.array([_pose(head, face)[1] for face in landmarks])


def _pose(head: Floats, face: Floats) -> tuple[Floats, float]:
    centred, seen = head - head.mean(axis=0), face - face.mean(axis=0)
    left, scales, right = np.linalg.svd((np.linalg.pinv(centred) @ seen).T, full_matrices=False)
    axes, scale = left @ right, scales.mean()
    apart = seen - scale * centred @ axes.T
    return axes, float(np.sqrt((apart**2).sum(axis=1).mean()) / scale)


def _angles(head: Floats, face: Floats) -> tuple[float, float, float]:
    axes, _ = _pose(head, face)
    found = pose.angles_of(np.stack([*axes, np.cross(*axes)]))
    return found.yaw_deg, found.pitch_deg, found.roll_deg


def rotation(yaw: float, pitch: float, roll: float) -> Floats:
    """Return the turn of a head that nods, turns and leans by these degrees."""
    (cy, sy), (cp, sp), (cr, sr) = ((np.cos(np.radians(a)), np.sin(np.radians(a))) for a in (yaw, pitch, roll))
    nod, turn = [[1, 0, 0], [0, cp, -sp], [0, sp, cp]], [[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]]
    return np.asarray(np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]]) @ turn @ nod)


def _errors(most_yaw: int) -> dict[str, Any]:
    """Return how far poses err on heads off the mean by a tenth, at eight distances between the eyes, 3 % noise."""
    chance, errors = np.random.default_rng(0), []
    for _ in range(TRIALS):
        turns = chance.uniform((-most_yaw, -30, -40), (most_yaw, 30, 40))
        points = pose.HEAD * (1 + 0.1 * chance.standard_normal(pose.HEAD.shape)) @ rotation(*turns).T
        seen = points[:, :2] * 8 / (8 - points[:, 2:]) + 0.03 * chance.standard_normal((5, 2))
        errors.append(np.abs(np.array(_angles(pose.HEAD, seen)) - turns))
    names = ("yaw", "pitch", "roll")
    return {
        "mean": dict(zip(names, np.mean(errors, axis=0).round(1).tolist(), strict=True)),
        "95 %": dict(zip(names, np.percentile(errors, 95, axis=0).round(1).tolist(), strict=True)),
    }


if __name__ == "__main__":
    main()

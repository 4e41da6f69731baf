"""Says which residual tells a colour portrait from a toned picture, and where its limit lies: `colour` on wider photos.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_GOLD2=... FACECAPTIONHQ_MODELS=... python -m benchmarks.verdicts.toning

Each way to take the residual is measured over both folders of labelled photos, and over derivatives of the portraits
at no more than 640 px, where compression shows most. A limit is chosen as that which errs least, and judged on sources
that were left out of the choice. What was measured is kept in `build/toning`, photo by photo.
"""

import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.provenance import RESULTS, commit, machine, wilson
from benchmarks.verdicts import derivatives
from benchmarks.verdicts.labelled import BUSINESS, Labelled, folders_named, labelled
from curation.learning.heads import NUM_FOLDS, auc, folds_of
from curation.recipe.recipe import load_recipe
from curation.storage.publish import digest
from filters import colour, faces
from filters.base import Filter, RgbImage
from filters.colour import Measure, toning_residual

CACHE = Path("build/toning")
VERSION = 1
"""Raised whenever a way would give another residual."""
TONED = BUSINESS["colour"]
SIDE = 640
CHANGES = {
    name: change
    for name, change in {**derivatives.COLOUR_KEPT, **derivatives.COLOUR_REJECTED}.items()
    if name != "grey"
}
"""A grey copy has no residual at all, whichever way."""
LIMITS = np.geomspace(1.5, 6.0, 200)
Doubles = npt.NDArray[np.float64]


class Ways:
    """Every way to take the residual of a picture."""

    def __init__(self) -> None:
        """Load the face detector, which one way needs."""
        plans = {plan.name: plan for plan in load_recipe("facecaptionhq-4m").filters}
        self._faces: Filter = faces.build(plans["faces"].measure, "cpu")  # type: ignore[arg-type]
        self._score: Any = plans["faces"].score
        self.key = digest([VERSION, colour.VERSION, faces.VERSION, SIDE, inspect.getsource(derivatives)])

    def residuals(self, photo: Labelled) -> dict[str, dict[str, float]]:
        """Return derivative (empty for the photo itself) -> way -> residual."""
        kept = CACHE / self.key[:16] / f"{photo.sha256}.json"
        if not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(self._measured(photo)), encoding="ascii")
        found: dict[str, dict[str, float]] = json.loads(kept.read_text(encoding="ascii"))
        return found

    def _measured(self, photo: Labelled) -> dict[str, dict[str, float]]:
        picture = photo.picture
        small = derivatives.shrunk(picture, SIDE)
        changed = {name: change(small) for name, change in CHANGES.items()} if photo.label == "single" else {}
        found = faces.counted(self._faces.measure([small])[0], self._score)
        largest = max(found, key=lambda face: face.area_px, default=None)
        box = None if largest is None else np.array(largest.box) / np.tile(small.shape[1::-1], 2)
        return {name: _ways(image, box) for name, image in {"": picture, **changed}.items()}


def _ways(image: RgbImage, face: Doubles | None) -> dict[str, float]:
    """`face` is in shares of the picture's sides: left, top, right, bottom."""
    whole = toning_residual(image, Measure())
    return {
        "picture": whole,
        "picture or shoulders": max(
            whole, 0.0 if face is None else toning_residual(_shoulders(image, face), Measure())
        ),
        "portrait": toning_residual(image, Measure(toning_of="portrait")),
    }


def _shoulders(image: RgbImage, face: Doubles) -> RgbImage:
    """Return the face with three quarters of its size around it, and once its height below."""
    width, height = face[2] - face[0], face[3] - face[1]
    grown = face + np.array([-0.75 * width, -0.75 * height, 0.75 * width, height])
    left, top, right, bottom = (grown.clip(0, 1) * np.tile(image.shape[1::-1], 2)).astype(int)
    return np.ascontiguousarray(image[top : max(bottom, top + 1), left : max(right, left + 1)])


def main() -> int:
    """Measure what is not measured yet, choose limits, write figures."""
    photos = [photo for photo in labelled(folders_named()) if photo.label in ("single", *TONED)]
    ways = Ways()
    seen = []
    for number, photo in enumerate(photos, 1):
        seen.append(ways.residuals(photo))
        if number % 50 == 0:
            print(f"{number} of {len(photos)} photos", flush=True)
    stanza = next(plan for plan in load_recipe("facecaptionhq-4m").filters if plan.name == "colour")
    in_recipe = stanza.keep["toning_residual"].min or 0.0
    result = {
        "num_photos": len(photos),
        "num_sources": len({photo.source for photo in photos}),
        "ways": {way: figures(photos, seen, way) for way in seen[0][""]},
        "recipe": {"limit": in_recipe, **_at(photos, seen, "portrait", np.full(len(photos), in_recipe))},
        "before": {"limit": 4.2, **_at(photos, seen, "picture", np.full(len(photos), 4.2))},
        "machine": machine(),
        "commit": commit(),
    }
    (RESULTS / "toning.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return 0


def figures(photos: Sequence[Labelled], seen: Sequence[Mapping[str, Any]], way: str) -> dict[str, Any]:
    """Return the limit that errs least on all photos, and what such a limit does on sources left out of its choice."""
    is_single = np.array([photo.label == "single" for photo in photos])
    folds = folds_of([photo.source for photo in photos], 0)
    limits = np.zeros(len(photos))
    for number in range(NUM_FOLDS):
        limits[folds == number] = _limit([s for s, fold in zip(seen, folds, strict=True) if fold != number], way)
    values = np.array([one[""][way] for one in seen])
    return {
        "auc": round(auc(values[is_single], values[~is_single]), 4),
        "limit": round(_limit(seen, way), 2),
        "limits_of_folds": sorted({round(float(limit), 2) for limit in limits}),
        **_at(photos, seen, way, limits),
    }


def _limit(seen: Sequence[Mapping[str, Any]], way: str) -> float:
    """Return the limit at which the sum of each group's share of wrong photos is least; the middle of several.

    Photos and each of their derivatives are groups of equal weight: those with derivatives are the portraits.
    """
    stay = [[one[name][way] for one in seen if len(one) > 1] for name in ("", *derivatives.COLOUR_KEPT)]
    go = [[one[name][way] for one in seen if len(one) > 1] for name in CHANGES if name not in derivatives.COLOUR_KEPT]
    go.append([one[""][way] for one in seen if len(one) == 1])
    wrong: Doubles = sum(
        (np.mean(np.array(group)[:, None] < LIMITS, axis=0) for group in stay),
        sum((np.mean(np.array(group)[:, None] >= LIMITS, axis=0) for group in go), np.zeros(len(LIMITS))),
    )
    best = LIMITS[wrong <= wrong.min() + 1e-9]
    return float(np.sqrt(best[0] * best[-1]))


def _at(photos: Sequence[Labelled], seen: Sequence[Mapping[str, Any]], way: str, limits: Doubles) -> dict[str, Any]:
    """Return how many of each group are judged right, the nearest residuals, and which photos are judged wrong."""
    groups: dict[str, list[tuple[float, bool]]] = {}
    wrong = []
    for photo, one, limit in zip(photos, seen, limits, strict=True):
        for change, residuals in one.items():
            stays = photo.label == "single" and change not in derivatives.COLOUR_REJECTED
            right = bool((residuals[way] >= limit) == stays)
            groups.setdefault(f"{photo.label} {change}".strip(), []).append(
                (residuals[way] * (1 if stays else -1), right)
            )
            if not right and not change:
                wrong.append(f"{photo.path.name}: {photo.label} {' '.join(photo.tags)}: {residuals[way]:.2f}")
    return {
        "right": {name: _share([right for _, right in found]) for name, found in sorted(groups.items())},
        "nearest": {name: [abs(round(v, 2)) for v, _ in sorted(found)[:5]] for name, found in sorted(groups.items())},
        "wrong": sorted(wrong),
    }


def _share(right: Sequence[bool]) -> dict[str, Any]:
    return {"hits": sum(right), "of": len(right), "wilson_95": wilson(sum(right), len(right))}


if __name__ == "__main__":
    sys.exit(main())

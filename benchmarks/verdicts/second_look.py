"""Says what a second look inside a border finds, and what another detector adds where the only face is unsure.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_GOLD2=... FACECAPTIONHQ_MODELS=... python -m benchmarks.verdicts.second_look

Photos labelled `single`, `group` or `noface`, from both folders, and tight crops of every third portrait's face, bare
and in a painted mask. Where the first look's surest face is unsure, CenterFace looks too, and the logits of `drawn`'s
heads that saw nothing of its source stand beside (`build/teach/out_of_fold.json`, as `benchmarks.verdicts.teach`
leaves it). What was measured is kept in `build/second_look`, photo by photo.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.provenance import RESULTS, commit, machine, wilson
from benchmarks.verdicts.labelled import Labelled, folders_named, labelled
from benchmarks.verdicts.teach import CACHE as TAUGHT
from benchmarks.verdicts.views import masked
from curation.recipe.recipe import load_recipe
from curation.storage.publish import digest
from filters import drawn, faces
from filters.base import Filter, RgbImage
from filters.detectors.base import Face

CACHE = Path("build/second_look")
VERSION = 1
"""Raised whenever a photo would give other figures."""
LABELS = ("single", "group", "noface")
UNSURE = (0.57, 0.8)
"""Confidences of the surest face that another detector is asked about; the lower one is the recipe's."""
OTHER = {"detector": "centerface", "weights": "centerface", "side": 384}
OTHER_SURE = 0.5
CROPS_OF_EVERY = 3
GROWN = 0.05
"""How much of the face's box a tight crop shows around it, on every side."""


class Looks:
    """Looks at photos with the recipe's detector, with and without a second look, and with another detector."""

    def __init__(self) -> None:
        """Load them."""
        plan = next(plan for plan in load_recipe("facecaptionhq-4m").filters if plan.name == "faces")
        self._score: Any = plan.score
        once = plan.measure.model_copy(update={"second_look": 0.0})
        self._first: Filter = faces.build(once, "cpu")  # type: ignore[arg-type]
        self._both: Filter = faces.build(plan.measure, "cpu")  # type: ignore[arg-type]
        self._other: Filter = faces.build(faces.Measure.model_validate(OTHER), "cpu")
        measures = [plan.measure.model_dump(mode="json"), plan.score.model_dump(mode="json"), OTHER]
        self._folder = CACHE / digest([VERSION, faces.VERSION, UNSURE, measures])[:16]
        self._folder.mkdir(parents=True, exist_ok=True)

    def of(self, photo: Labelled, number: int) -> dict[str, Any]:
        """Return what was seen of a photo, and of crops of its face."""
        kept = self._folder / f"{photo.sha256}.json"
        if not kept.is_file():
            kept.write_text(json.dumps(self._measured(photo, number)), encoding="ascii")
        found: dict[str, Any] = json.loads(kept.read_text(encoding="ascii"))
        return found

    def _measured(self, photo: Labelled, number: int) -> dict[str, Any]:
        picture = photo.picture
        seen, found = self._seen(picture)
        if UNSURE[0] <= seen["first"] < UNSURE[1]:
            other = self._other.measure([picture])[0].faces
            seen["other"] = other[0].confidence if other else 0.0
        if photo.label != "single" or number % CROPS_OF_EVERY or not found:
            return {"": seen}
        mask = masked(picture, found[0], np.random.default_rng(int(photo.sha256[:8], 16)))
        crops = {"crop": _crop(picture, found[0]), "masked crop": _crop(mask, found[0])}
        return {"": seen} | {name: self._seen(crop)[0] for name, crop in crops.items()}

    def _seen(self, picture: RgbImage) -> tuple[dict[str, float], Sequence[Face]]:
        """Return the first look's surest confidence, how many faces count without and with a second, and its cost."""
        (evidence,) = self._first.measure([picture])
        first = evidence.faces[0].confidence if evidence.faces else 0.0
        seen = {"first": first, "num_first": self._num_faces(evidence), "num_both": self._num_faces(evidence)}
        if first < UNSURE[0]:
            started = time.process_time()
            (both,) = self._both.measure([picture])
            seen |= {"num_both": self._num_faces(both), "both_ms": 1000 * (time.process_time() - started)}
        return seen, evidence.faces

    def _num_faces(self, evidence: Any) -> float:
        return faces.scores(evidence, self._score)["num_faces"]


def _crop(picture: RgbImage, face: Face) -> RgbImage:
    grow_x, grow_y = GROWN * (face.x2 - face.x1), GROWN * (face.y2 - face.y1)
    top, bottom = max(0, int(face.y1 - grow_y)), int(face.y2 + grow_y) + 1
    left, right = max(0, int(face.x1 - grow_x)), int(face.x2 + grow_x) + 1
    return np.ascontiguousarray(picture[top:bottom, left:right])


def main() -> int:
    """Look at every photo, write figures."""
    photos = [photo for photo in labelled(folders_named()) if photo.label in LABELS]
    looks = Looks()
    seen = []
    for number, photo in enumerate(photos):
        seen.append(looks.of(photo, number))
        if number % 100 == 99:
            print(f"{number + 1} of {len(photos)} photos", flush=True)
    groups: dict[str, list[dict[str, float]]] = {}
    for photo, views in zip(photos, seen, strict=True):
        for name, view in views.items():
            groups.setdefault(f"{photo.label} {name}".strip(), []).append(view)
    spent_ms = [view["both_ms"] for views in groups.values() for view in views if "both_ms" in view]
    rejected = _rejected_by_heads()
    result = {
        "one_face": {name: _one_face(views) for name, views in sorted(groups.items())},
        "found_by_the_second_look": {
            f"{photo.path.name}: {photo.label} {' '.join(photo.tags)}": "rejected" if rejected[photo.sha256] else "kept"
            for photo, views in zip(photos, seen, strict=True)
            if views[""]["num_first"] != 1 and views[""]["num_both"] == 1
        },
        "two_looks_ms": round(float(np.median(spent_ms)), 1),
        "unsure": _unsure(photos, seen, rejected),
        "machine": machine(),
        "commit": commit(),
    }
    (RESULTS / "second_look.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return 0


def _rejected_by_heads() -> dict[str, bool]:
    """Return sha256 -> whether heads that saw nothing of the photo's source reject it at the recipe's limits."""
    keep = next(plan for plan in load_recipe("facecaptionhq-4m").filters if plan.name == "drawn").keep
    limits = {head: keep[f"{head}_logit"].max for head in drawn.HEADS}
    logits = json.loads((TAUGHT / "out_of_fold.json").read_text(encoding="ascii"))
    return {sha256: any(own[head] > limit for head, limit in limits.items()) for sha256, own in logits.items()}


def _one_face(views: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return in how many exactly one face counts, by the first look and with the second."""
    once = {name: sum(view[f"num_{name}"] == 1 for view in views) for name in ("first", "both")}
    return {
        name: {"hits": hits, "of": len(views), "wilson_95": wilson(hits, len(views))} for name, hits in once.items()
    }


def _unsure(
    photos: Sequence[Labelled], seen: Sequence[dict[str, Any]], rejected: Mapping[str, bool]
) -> dict[str, dict[str, int]]:
    """Return of how many photos with one unsure face the heads reject it, and another detector does not see it."""
    counts: dict[str, dict[str, int]] = {}
    for photo, views in zip(photos, seen, strict=True):
        if "other" in views[""] and views[""]["num_first"] == 1:
            heads, unseen = rejected[photo.sha256], views[""]["other"] < OTHER_SURE
            counted = counts.setdefault(photo.label, dict.fromkeys(("photos", "heads", "other", "either"), 0))
            for name, is_so in zip(counted, (True, heads, unseen, heads or unseen), strict=True):
                counted[name] += is_so
    return counts


if __name__ == "__main__":
    sys.exit(main())

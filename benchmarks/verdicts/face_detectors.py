"""Which face detector does the recipe's question best: is there exactly one face that counts?

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_GOLD2=... python -m benchmarks.verdicts.face_detectors

Each candidate measures every photo labelled `single`, `group` or `noface` once. The confidence that a face needs is
then swept; the one that errs least on the first folder of photos is judged on the second, which it has not seen.
Photos are never copied: only figures leave.
"""

import csv
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.provenance import RESULTS, commit, machine, wilson
from curation.images.decode import UnreadableError, decode
from curation.recipe.settings import DecodeLimits
from filters import faces
from filters.faces import FacesEvidence

CANDIDATES: dict[str, dict[str, Any]] = {
    "yolov5n-0.5-face at 384": {"detector": "yolov5-face", "weights": "yolov5n-0.5-face", "side": 384},
    "yolov5n-face at 640": {"detector": "yolov5-face", "weights": "yolov5n-face", "side": 640},
    "centerface at 384": {"detector": "centerface", "weights": "centerface", "side": 384},
    "centerface at 640": {"detector": "centerface", "weights": "centerface", "side": 640},
}
LABELS = ("single", "group", "noface")
CONFIDENCES = tuple(round(0.2 + 0.01 * step, 2) for step in range(75))
RELATIVE_AREA, RECIPE_CONFIDENCE = 0.1, 0.57
"""What `facecaptionhq-4m` asks of a face."""


@dataclass(frozen=True)
class Seen:
    """What a candidate saw on one photo."""

    label: str
    evidence: FacesEvidence


def main() -> int:
    """Measure every candidate on both folders, and write the figures."""
    folders = [Path(os.environ[name]) for name in ("FACECAPTIONHQ_GOLD", "FACECAPTIONHQ_GOLD2")]
    candidates = {name: _figures(measure, folders) for name, measure in CANDIDATES.items()}
    result = {"candidates": candidates, "machine": machine(), "commit": commit()}
    (RESULTS / "face_detectors.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    for name, figures in candidates.items():
        print(name, json.dumps(figures))
    return 0


def _figures(measure: dict[str, Any], folders: Sequence[Path]) -> dict[str, Any]:
    network = faces.build(faces.Measure(**measure), "cpu")
    began, (first, second) = time.process_time(), [_seen(network, folder) for folder in folders]
    spent = time.process_time() - began
    best = min(CONFIDENCES, key=lambda confidence: (_num_wrong(first, confidence), abs(confidence - 0.5)))
    return {
        "ms_per_photo": round(1000 * spent / (len(first) + len(second)), 1),
        "confidence": best,
        "calibration": _right(first, best),
        "unseen": _right(second, best),
        "unseen_at_the_recipe_s_confidence": _right(second, RECIPE_CONFIDENCE),
    }


def _seen(network: Any, folder: Path) -> list[Seen]:
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        photos = [photo for photo in csv.DictReader(file) if photo["label"] in LABELS]
    seen = []
    for photo in photos:
        try:
            picture = decode((folder / "images" / photo["file"]).read_bytes(), DecodeLimits())
        except UnreadableError:
            continue
        (evidence,) = network.measure([picture.rgb])
        seen.append(Seen(photo["label"], evidence))
    return seen


def _is_right(seen: Seen, confidence: float) -> bool:
    score = faces.Score(confidence=confidence, relative_area=RELATIVE_AREA)
    return (faces.scores(seen.evidence, score)["num_faces"] == 1) == (seen.label == "single")


def _num_wrong(photos: Sequence[Seen], confidence: float) -> int:
    return sum(not _is_right(seen, confidence) for seen in photos)


def _right(photos: Sequence[Seen], confidence: float) -> dict[str, Any]:
    """Return by label how many photos were told right, with a 95 % interval."""
    answers = {label: [_is_right(seen, confidence) for seen in photos if seen.label == label] for label in LABELS}
    return {
        label: {"hits": sum(right), "of": len(right), "wilson_95": wilson(sum(right), len(right))}
        for label, right in answers.items()
    }


if __name__ == "__main__":
    sys.exit(main())

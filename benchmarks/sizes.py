"""Shows at what size of network or view `faces` and `anime` still give the same verdicts, and what each size costs.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_MODELS=... python -m benchmarks.sizes [--filters faces anime]

Every size looks at all labelled photos and at honest derivatives of them. `wrong` counts pictures against their label,
`agree` against the first size of the list; costs are CPU milliseconds of one core over the photos as they are. The
thresholds that do best are given as ranges, so that a threshold can be put in the middle of one.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.calibrate import Photos
from benchmarks.looks import Look, Variant, looks
from benchmarks.provenance import commit, machine, wilson
from filters import anime, faces
from filters.boxes import iou

FACES = (
    *(
        Variant("faces", {"weights": weights, "side": side})
        for weights in ("yolov5n-face", "yolov5n-0.5-face")
        for side in (640, 512, 480, 416, 384, 320, 256)
    ),
    Variant("faces", {"detector": "centerface", "weights": "centerface", "side": 640}),
)
ANIME = tuple(
    Variant("anime", {"view_side": side, "scale_factor": factor, "min_neighbours": 3, "min_side_px": least})
    for side, factor, least in (
        (512, 1.05, 24),
        (384, 1.1, 24),
        (320, 1.05, 24),
        (320, 1.1, 24),
        (320, 1.1, 28),
        (320, 1.1, 32),
        (320, 1.15, 24),
        (256, 1.1, 24),
    )
)
MUST_STAY = {"faces": {"single": True, "group": False, "noface": False}, "anime": {"single": True, "anime": False}}
RELATIVE_AREA, LINE_TO_NOSE = 0.1, 2.2
"""The recipe's; the other threshold of each filter is what moves with the size."""
CONFIDENCES = tuple(round(0.3 + 0.01 * i, 2) for i in range(61))
NEIGHBOURS = tuple(range(3, 61))
CHOSEN = {"faces": 0.6, "anime": 22}
"""Thresholds of the first size of each list, which the agreement is held against."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, print a table for each filter, write the figures."""
    options = _options(arguments)
    photos = Photos(Path(os.environ["FACECAPTIONHQ_GOLD"]))
    earlier = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    tables = earlier.get("tables", {})
    for name in options.filters:
        variants = FACES if name == "faces" else ANIME
        found = looks(photos, variants)
        tables[name] = [row(variant, one, found[0]) for variant, one in zip(variants, found, strict=True)]
        show(tables[name])
    result = {"tables": tables, "machine": machine(), "commit": commit()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def row(variant: Variant, found: Sequence[Look], reference: Sequence[Look]) -> dict[str, Any]:
    """Return what one size gets right, where its threshold may stand, how it agrees and what it costs."""
    name = variant.filter
    thresholds: Sequence[float] = CONFIDENCES if name == "faces" else NEIGHBOURS
    labelled = [look for look in found if look.label in MUST_STAY[name]]
    num_wrong = {at: len(_wrong(name, labelled, at)) for at in thresholds}
    best = [at for at in thresholds if num_wrong[at] == min(num_wrong.values())]
    middle = min(best, key=lambda at: abs(at - (best[0] * best[-1]) ** 0.5))
    theirs = {(look.file, look.derivative): _stays(name, look, CHOSEN[name]) for look in reference}
    differing = [look for look in found if _stays(name, look, middle) != theirs[look.file, look.derivative]]
    groups = {(look.label, look.derivative): None for look in labelled}
    return {
        "parameters": dict(variant.parameters),
        "cpu_ms": round(float(np.mean([look.cpu_ms for look in found if not look.derivative])), 1),
        "best_thresholds": [best[0], best[-1]],
        "middle": middle,
        "right": {
            f"{label} {derivative}".strip(): _right(name, labelled, middle, label, derivative)
            for label, derivative in groups
        },
        "wrong": sorted(f"{look.file} {look.derivative}".strip() for look in _wrong(name, labelled, middle)),
        "agree": [len(found) - len(differing), len(found), wilson(len(found) - len(differing), len(found))],
        "agree_on_originals": _agreement_on_originals(found, differing),
        "nearest": _nearest_faces(labelled) if name == "faces" else _nearest_anime(labelled, middle),
    } | ({"boxes": _boxes(found, reference)} if name == "faces" else {})


def _stays(name: str, look: Look, threshold: float) -> bool:
    if name == "faces":
        score = faces.Score(confidence=threshold, relative_area=RELATIVE_AREA)
        return faces.scores(look.evidence, score)["num_faces"] == 1
    score_of_hits = anime.scores(look.evidence, anime.Score(min_neighbours=int(threshold)))
    return score_of_hits["max_line_to_nose"] <= LINE_TO_NOSE


def _wrong(name: str, labelled: Sequence[Look], threshold: float) -> list[Look]:
    return [look for look in labelled if _stays(name, look, threshold) != MUST_STAY[name][look.label]]


def _right(name: str, labelled: Sequence[Look], threshold: float, label: str, derivative: str) -> list[Any]:
    mine = [look for look in labelled if (look.label, look.derivative) == (label, derivative)]
    num_right = len(mine) - len(_wrong(name, mine, threshold))
    return [num_right, len(mine), wilson(num_right, len(mine))]


def _agreement_on_originals(found: Sequence[Look], differing: Sequence[Look]) -> list[Any]:
    num_photos = sum(not look.derivative for look in found)
    other = sorted(look.file for look in differing if not look.derivative)
    return [num_photos - len(other), num_photos, other]


def _nearest_faces(labelled: Sequence[Look]) -> dict[str, list[float]]:
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
            return round(confidence, 2)
    return 0.0


def _nearest_anime(labelled: Sequence[Look], threshold: float) -> dict[str, list[float]]:
    """Return the windows behind the surest hit that looks drawn, and the ratios of the hits that count."""
    windows = {
        label: sorted(
            max((hit.num_neighbours for hit in look.evidence.hits if hit.line_to_nose > LINE_TO_NOSE), default=0)
            for look in labelled
            if look.label == label
        )
        for label in ("single", "anime")
    }
    score = anime.Score(min_neighbours=int(threshold))
    ratios = {
        label: sorted(
            round(anime.scores(look.evidence, score)["max_line_to_nose"], 2) for look in labelled if look.label == label
        )
        for label in ("single", "anime")
    }
    return {
        "single_windows": windows["single"][:-6:-1],
        "anime_windows": [count for count in windows["anime"] if count > 0][:5],
        "single_ratios": ratios["single"][:-6:-1],
        "anime_ratios": [ratio for ratio in ratios["anime"] if ratio > 0][:5],
    }


def _boxes(found: Sequence[Look], reference: Sequence[Look]) -> dict[str, Any]:
    """Return how far the face of each portrait lies from where the first size sees it; landmarks in face sides."""
    overlaps, errors = [], []
    for mine, theirs in zip(found, reference, strict=True):
        if mine.label == "single" and mine.evidence.faces and theirs.evidence.faces:
            face, other = mine.evidence.faces[0], theirs.evidence.faces[0]
            overlaps.append(iou(face.box, other.box))
            apart = np.reshape(np.subtract(face.landmarks, other.landmarks), (5, 2))
            errors.append(float(np.hypot(*apart.T).mean()) / other.side_px)
    return {
        "iou_median_p5_min": [round(float(np.percentile(overlaps, at)), 3) for at in (50, 5, 0)],
        "landmark_error_median_p95_max": [round(float(np.percentile(errors, at)), 3) for at in (50, 95, 100)],
    }


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print one filter's table."""
    for one in rows:
        lost = [f"{group} {right}/{of}" for group, (right, of, _) in one["right"].items() if right < of]
        print(f"\n{one['parameters']}: {one['cpu_ms']} ms, threshold {one['middle']} in {one['best_thresholds']}")
        print(
            f"  agree {one['agree']}, photos {one['agree_on_originals']}\n  short of all: {', '.join(lost) or 'none'}"
        )
        print(f"  nearest {one['nearest']}\n  boxes {one.get('boxes')}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizes", description=__doc__)
    parser.add_argument("--filters", nargs="*", default=["faces", "anime"], choices=["faces", "anime"])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/sizes.json"))
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

"""Shows at what size of network or view `faces` and `anime` still give the same verdicts, and what each size costs.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_MODELS=... python -m benchmarks.speed.sizes [--filters faces anime]

Every size looks at all labelled photos and at honest derivatives of them. `wrong` counts pictures against their label,
`agree` against the first size of the list; costs are CPU milliseconds of one core over the photos as they are. The
thresholds that do best are given as ranges, so that a threshold can be put in the middle of one. `anime` has two, tried
with one another: the range of each is the one with the other in its middle.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from math import log
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.provenance import RESULTS, commit, machine, wilson
from benchmarks.verdicts.calibrate import Photos
from benchmarks.verdicts.looks import Look, Variant, looks
from benchmarks.verdicts.margins import LINE_TO_NOSE, RELATIVE_AREA, boxes, nearest_anime, nearest_faces
from filters import anime, faces

Thresholds = Mapping[str, float]
"""Score parameters of a filter that move with the size."""

FACES = (
    *(
        Variant("faces", {"weights": weights, "side": side})
        for weights in ("yolov5n-face", "yolov5n-0.5-face")
        for side in (640, 512, 480, 416, 384, 320, 256)
    ),
    Variant("faces", {"detector": "centerface", "weights": "centerface", "side": 640}),
)
ANIME = tuple(
    Variant("anime", {"view_side": side, "scale_factor": factor, "min_neighbours": 2, "min_side_px": least})
    for side, factor, least in (
        (512, 1.05, 24),
        (384, 1.1, 24),
        (320, 1.05, 24),
        (320, 1.1, 24),
        (320, 1.12, 24),
        (320, 1.12, 28),
        (320, 1.12, 32),
        (320, 1.15, 24),
        (320, 1.2, 24),
        (256, 1.1, 24),
        (240, 1.1, 24),
    )
)
MUST_STAY = {"faces": {"single": True, "group": False, "noface": False}, "anime": {"single": True, "anime": False}}
TRIED: Mapping[str, Mapping[str, Sequence[float]]] = {
    "faces": {"confidence": tuple(round(0.3 + 0.01 * i, 2) for i in range(61))},
    "anime": {"min_neighbours": tuple(range(3, 61)), "min_neighbours_small": tuple(range(3, 31))},
}
CHOSEN: Mapping[str, Thresholds] = {
    "faces": {"confidence": 0.6},
    "anime": {"min_neighbours": 22, "min_neighbours_small": 22},
}
"""Thresholds of the first size of each list, which the agreement is held against."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is missing, print a table for each filter, write the figures."""
    options = _options(arguments)
    photos = Photos(Path(os.environ["FACECAPTIONHQ_GOLD"]))
    earlier = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    tables, commits = earlier.get("tables", {}), earlier.get("commits", {})
    for name in options.filters:
        variants = FACES if name == "faces" else ANIME
        measured = looks(photos, variants)
        tables[name] = [row(variant, own, measured[0]) for variant, own in zip(variants, measured, strict=True)]
        commits[name] = commit()
        show(tables[name])
    result = {"tables": tables, "commits": commits, "machine": machine()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0


def row(variant: Variant, own: Sequence[Look], reference: Sequence[Look]) -> dict[str, Any]:
    """Return what one size gets right, where its threshold may stand, how it agrees and what it costs."""
    name = variant.filter
    labelled = [look for look in own if look.label in MUST_STAY[name]]
    best = _best(name, labelled)
    middle = _middle(best)
    theirs = {(look.file, look.derivative): _stays(name, look, CHOSEN[name]) for look in reference}
    differing = [look for look in own if _stays(name, look, middle) != theirs[look.file, look.derivative]]
    groups = {(look.label, look.derivative): None for look in labelled}
    return {
        "parameters": dict(variant.parameters),
        "cpu_ms": round(float(np.mean([look.cpu_ms for look in own if not look.derivative])), 1),
        "best_thresholds": {key: _range(TRIED[name][key], key, best, middle) for key in middle},
        "middle": middle,
        "right": {
            f"{label} {derivative}".strip(): _right(name, labelled, middle, label, derivative)
            for label, derivative in groups
        },
        "wrong": sorted(f"{look.file} {look.derivative}".strip() for look in _wrong(name, labelled, middle)),
        "agree": [len(own) - len(differing), len(own), wilson(len(own) - len(differing), len(own))],
        "agree_on_originals": _agreement_on_originals(own, differing),
        "nearest": nearest_faces(labelled) if name == "faces" else nearest_anime(own, middle),
    } | ({"boxes": boxes(own, reference)} if name == "faces" else {})


def _best(name: str, labelled: Sequence[Look]) -> list[Thresholds]:
    """Return all thresholds that get the fewest wrong; with two, every pair."""
    pairs = [dict(zip(TRIED[name], values, strict=True)) for values in product(*TRIED[name].values())]
    num_wrong = [len(_wrong(name, labelled, at)) for at in pairs]
    return [at for at, count in zip(pairs, num_wrong, strict=True) if count == min(num_wrong)]


def _middle(best: Sequence[Thresholds]) -> Thresholds:
    """Return those of the best thresholds that lie nearest to the middle of all, on a scale of ratios."""
    centre = {key: (log(min(at[key] for at in best)) + log(max(at[key] for at in best))) / 2 for key in best[0]}
    return min(best, key=lambda at: sum((log(at[key]) - centre[key]) ** 2 for key in centre))


def _range(tried: Sequence[float], key: str, best: Sequence[Thresholds], middle: Thresholds) -> list[float]:
    """Return how far one threshold may move from the middle while the others stay."""
    good = {at[key] for at in best if {**at, key: 0} == {**middle, key: 0}}
    first = last = tried.index(middle[key])
    while first > 0 and tried[first - 1] in good:
        first -= 1
    while last + 1 < len(tried) and tried[last + 1] in good:
        last += 1
    return [tried[first], tried[last]]


def _stays(name: str, look: Look, at: Thresholds) -> bool:
    if name == "faces":
        return faces.scores(look.evidence, faces.Score(**at, relative_area=RELATIVE_AREA))["num_faces"] == 1
    score = anime.Score.model_validate(at)
    return anime.scores(look.evidence, score)["max_line_to_nose"] <= LINE_TO_NOSE


def _wrong(name: str, labelled: Sequence[Look], at: Thresholds) -> list[Look]:
    return [look for look in labelled if _stays(name, look, at) != MUST_STAY[name][look.label]]


def _right(name: str, labelled: Sequence[Look], at: Thresholds, label: str, derivative: str) -> list[Any]:
    mine = [look for look in labelled if (look.label, look.derivative) == (label, derivative)]
    num_right = len(mine) - len(_wrong(name, mine, at))
    return [num_right, len(mine), wilson(num_right, len(mine))]


def _agreement_on_originals(own: Sequence[Look], differing: Sequence[Look]) -> list[Any]:
    num_photos = sum(not look.derivative for look in own)
    other = sorted(look.file for look in differing if not look.derivative)
    return [num_photos - len(other), num_photos, other]


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Print one filter's table."""
    for size in rows:
        lost = [f"{group} {right}/{of}" for group, (right, of, _) in size["right"].items() if right < of]
        print(f"\n{size['parameters']}: {size['cpu_ms']} ms, {size['middle']} in {size['best_thresholds']}")
        print(
            f"  agree {size['agree']}, photos {size['agree_on_originals']}\n  short of all: {', '.join(lost) or 'none'}"
        )
        print(f"  nearest {size['nearest']}\n  boxes {size.get('boxes')}")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.sizes", description=__doc__)
    parser.add_argument("--filters", nargs="*", default=["faces", "anime"], choices=["faces", "anime"])
    parser.add_argument("--out", type=Path, default=RESULTS / "sizes.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

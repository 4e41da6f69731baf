"""What other heads on the same features tell of drawings, on sources that were left out, beside the heads as they are.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_GOLD2=... FACECAPTIONHQ_MODELS=... python -m benchmarks.verdicts.heads_tried

Takes the features that `benchmarks.verdicts.teach` left, and what `benchmarks.verdicts.wider` kept of faces. Every way
is judged where as many of the portraits are lost, over `--divisions` of the sources into ten folds; the difference from
a weighted sum, as heads were before, carries an interval of resampled sources. Of all this one way is in the product.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.provenance import RESULTS, commit, machine
from benchmarks.verdicts import other_heads as ways
from benchmarks.verdicts.drawn_figures import KINDS
from benchmarks.verdicts.kept_evidence import Judge
from benchmarks.verdicts.labelled import Labelled, folders_named, labelled
from benchmarks.verdicts.learning import PEOPLE, POSITIVE
from benchmarks.verdicts.teach import CACHE, LABELS, shares_of_views
from curation.learning.heads import Mask, folds_of
from curation.recipe.recipe import load_recipe
from filters.heads import Doubles, Floats
from filters.loading import single_thread_torch

LOST = (4, 9)
"""Of 381 portraits: the limit lies where so many score above."""
NUM_RESAMPLED = 500
BESIDE = "a weighted sum of all views"
AS_THEY_ARE = "as they are: second degree in eight directions, views weighed"
WAYS: dict[str, Callable[[ways.Lessons, Floats], Doubles]] = {
    BESIDE: lambda lessons, rows: ways.logistic(lessons.views, rows, 0.01),
    "no variations taught": lambda lessons, rows: ways.logistic(lessons.photos, rows, 0.01),
    "ten times the ridge": lambda lessons, rows: ways.logistic(lessons.photos, rows, 0.1),
    "the same, square roots of the last layer": lambda lessons, rows: ways.logistic(
        lessons.photos.rooted, ways.rooted(rows), 0.1
    ),
    "every source the same weight": lambda lessons, rows: ways.logistic(lessons.by_source, rows, 0.01),
    "paintings twice, renders four times": lambda lessons, rows: ways.logistic(lessons.by_kind, rows, 0.01),
    "fifteen nearest photos": lambda lessons, rows: ways.nearest(lessons.photos, rows, 15),
    "a hidden layer of 32": lambda lessons, rows: ways.hidden(lessons.photos.rooted, ways.rooted(rows), 32),
    "radial kernel, roots": lambda lessons, rows: ways.radial(lessons.photos.rooted, ways.rooted(rows), 0.003),
    "second degree, roots": lambda lessons, rows: ways.second_degree(lessons.photos.rooted, ways.rooted(rows), 0.03),
    "second degree in eight directions, roots": lambda lessons, rows: ways.second_degree(
        lessons.photos.rooted, ways.rooted(rows), 0.03, 8
    ),
    "the same, a variation of each photo": lambda lessons, rows: ways.second_degree(
        lessons.two_views.rooted, ways.rooted(rows), 0.03, 8
    ),
    AS_THEY_ARE: lambda lessons, rows: ways.second_degree(lessons.weighed.rooted, ways.rooted(rows), 0.03, 8),
}


@dataclass(frozen=True)
class Gathered:
    """The photos with their features, and what tells them apart."""

    photos: Sequence[Labelled]
    views: Sequence[Floats]
    """Of each photo, the photo itself first."""
    shares: Sequence[Sequence[float]]
    """What each of a photo's views counts for."""
    weights: Doubles
    """Of each photo, before both sides are made equal."""

    @property
    def is_drawn(self) -> Mask:
        """Which photos are drawings."""
        return np.array([photo.label == POSITIVE["drawn"] for photo in self.photos])

    @property
    def is_single(self) -> Mask:
        """Which photos are portraits."""
        return np.array([photo.label == "single" for photo in self.photos])

    @property
    def sources(self) -> list[str]:
        """Where they come from."""
        return [photo.source for photo in self.photos]

    def lessons(self, chosen: Mask) -> ways.Lessons:
        """Return what these photos teach, in the forms that the ways take."""
        taught = np.flatnonzero(chosen & (self.weights > 0)).tolist()
        shares = Counter((self.photos[i].label, self.photos[i].source) for i in taught)
        kinds = {"painting": 2.0, "render": 4.0}

        def lesson(first: int | None, factors: Sequence[float] | None = None) -> ways.Lesson:
            rows = [self.views[i][:first] for i in taught]
            weights = self.weights[taught] * (1.0 if factors is None else np.array(factors))
            return ways.Lesson.of(rows, self.is_drawn[taught], weights)

        of_source = [1 / shares[self.photos[i].label, self.photos[i].source] for i in taught]
        of_kind = [max([kinds.get(tag, 1.0) for tag in self.photos[i].tags], default=1.0) for i in taught]
        whole = [self.views[i] for i in taught], self.is_drawn[taught], self.weights[taught]
        weighed = ways.Lesson.of(*whole, [self.shares[i] for i in taught])
        return ways.Lessons(lesson(1), lesson(2), lesson(None), weighed, lesson(1, of_source), lesson(1, of_kind))


def main(arguments: Sequence[str] | None = None) -> int:
    """Try every way on every division of the sources, write figures."""
    options = _options(arguments)
    single_thread_torch()
    gathered = _gathered(options.features or max(CACHE.glob("*/"), key=lambda folder: folder.stat().st_mtime))
    originals = np.concatenate([views[:1] for views in gathered.views])
    scores: dict[str, list[Doubles]] = {}
    sides = _face_sides(gathered.photos)
    for seed in range(options.divisions):
        folds = folds_of(gathered.sources, seed)
        found = {name: np.empty(len(folds)) for name in WAYS}
        for number in np.unique(folds):
            lessons = gathered.lessons(folds != number)
            for name, way in WAYS.items():
                found[name][folds == number] = way(lessons, originals[folds == number])
        found["the weighted sum, then with the face's size"] = ways.stacked(
            found[BESIDE], sides, gathered.is_drawn, gathered.weights, folds
        )
        for name, values in found.items():
            scores.setdefault(name, []).append(values)
            print(f"{seed} {name}: {[_told(gathered, values, lost) for lost in LOST]}", file=sys.stderr, flush=True)
    result = {
        "num_drawings": int(gathered.is_drawn.sum()),
        "num_portraits": int(gathered.is_single.sum()),
        "divisions": options.divisions,
        "ways": {name: figures(gathered, found, scores[BESIDE]) for name, found in scores.items()},
        "machine": machine(),
        "commit": commit(),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return 0


def figures(gathered: Gathered, found: Sequence[Doubles], beside: Sequence[Doubles]) -> dict[str, Any]:
    """Return the drawings that a way tells, each division for itself, by kind, and its difference from another way."""
    tags = [photo.tags for photo in gathered.photos]
    kinds = {kind: np.array([kind in tag for tag in tags]) & gathered.is_drawn for kind in KINDS["drawn"]}
    most = max(LOST)
    return {
        **{f"told_at_{lost}_lost": [_told(gathered, one, lost) for one in found] for lost in LOST},
        f"told_by_kind_at_{most}_lost": {
            kind: [int(_above(gathered, one, most)[mask].sum()) for one in found] for kind, mask in kinds.items()
        },
        **{f"gain_at_{lost}_lost": _gain(gathered, found, beside, lost) for lost in LOST},
    }


def _above(gathered: Gathered, scores: Doubles, lost: int) -> Mask:
    return np.asarray(scores > np.sort(scores[gathered.is_single])[::-1][lost])


def _told(gathered: Gathered, scores: Doubles, lost: int) -> int:
    return int(_above(gathered, scores, lost)[gathered.is_drawn].sum())


def _gain(gathered: Gathered, found: Sequence[Doubles], beside: Sequence[Doubles], lost: int) -> dict[str, Any]:
    """Return the mean gain in drawings told, and the 95 % of it over sources drawn anew with their drawings."""
    apart = [
        _above(gathered, one, lost).astype(int) - _above(gathered, other, lost)
        for one, other in zip(found, beside, strict=True)
    ]
    gains = np.mean(apart, axis=0)
    _, number = np.unique(gathered.sources, return_inverse=True)
    by_source = np.bincount(number[gathered.is_drawn], weights=gains[gathered.is_drawn])
    by_source = by_source[np.bincount(number[gathered.is_drawn]) > 0]
    drawn = np.random.default_rng(0).integers(len(by_source), size=(NUM_RESAMPLED, len(by_source)))
    low, high = np.quantile(by_source[drawn].sum(axis=1), [0.025, 0.975])
    return {"mean": round(float(by_source.sum()), 1), "sources_95": [round(float(low), 1), round(float(high), 1)]}


def _gathered(folder: Path) -> Gathered:
    photos = [photo for photo in labelled(folders_named()) if photo.label in LABELS]
    views, shares = [], []
    for photo in photos:
        with np.load(folder / f"{photo.sha256}.npz", allow_pickle=False) as file:
            views.append(file["features"])
            shares.append(shares_of_views(int(file["masks"])))
    weights = [1.0 if photo.label == POSITIVE["drawn"] else PEOPLE.get(photo.label, 0.0) for photo in photos]
    return Gathered(photos, views, shares, np.array(weights))


def _face_sides(photos: Sequence[Labelled]) -> Doubles:
    """Return the side of each photo's largest face, pixels; 0 where none is seen or none was looked for."""
    judge = Judge(load_recipe("facecaptionhq-4m"))
    faces = [judge.evidence(photo, "faces").faces if judge.has(photo, "faces") else () for photo in photos]
    return np.array([max((face.side_px for face in found), default=0.0) for found in faces])


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts.heads_tried", description=__doc__)
    parser.add_argument("--divisions", type=int, default=2, help="in how many ways the sources are divided")
    parser.add_argument("--features", type=Path, help=f"where features lie; the latest folder in {CACHE} if left out")
    parser.add_argument("--out", type=Path, default=RESULTS / "heads_tried.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

r"""Verdicts side by side: two ways to judge the same photos, and every photo on which they differ with both reasons.

    ... python -m benchmarks.verdicts.agreement CORPUS|gold|gold2 [--sides obvious facecaptionhq-4m] [--num-photos 6]
    ... python -m benchmarks.verdicts.agreement CORPUS --num-photos 2000 --sides 'facecaptionhq-4m;-screens' \
            facecaptionhq-4m
    ... python -m benchmarks.verdicts.agreement gold2 --num-photos 80 --sides obvious 'facecaptionhq-4m;-drawn'

A side is `obvious`, which decides with the other side's recipe, or a recipe in the form of `benchmarks.variants`. What
a side made of a photo is kept in `build/agreement` under the digest of all that it depends on, so that a campaign goes
on where it was broken off; the full evidence of a difference lies there. `FACECAPTIONHQ_GOLD`, `FACECAPTIONHQ_GOLD2`
and `FACECAPTIONHQ_MODELS` name the photos and the weights. `obvious` has no `drawn`: beside a recipe with it, drawings
differ.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.pictures.photos import Photo, photos_of, read, stratified
from benchmarks.provenance import RESULTS, origin, wilson
from benchmarks.speed.contenders import ON_THE_HOUSE, Contender, Outcome
from benchmarks.speed.obvious import face_runtime
from benchmarks.speed.outcomes import CACHE, keep, known, place_of
from benchmarks.speed.throughput import ratio
from benchmarks.speed.workers import OBVIOUS, contender
from benchmarks.verdicts import lettering
from curation.errors import UsageError

KEPT_LABEL = "single"
IN_SAMPLE = (
    "agreement is measured on crops of the labelled photos on which thresholds and the screens' bounds were chosen, "
    "some of them (text's second screen, anime, the confidence of a face) with the crops of seed 2026 in sight, so on "
    "other photos expect less."
)
"""Of corpora, which are cut from the labelled photos, and of the first folder of these."""
IN_SIGHT = (
    "the heads of `drawn` were taught on the photos of `gold2`, and the limits of `colour`, `text` and `drawn` chosen "
    "with them in sight, so on other photos expect less; `faces`, `anime` and the sizes of the networks were chosen "
    "without them."
)
"""Of the second folder of labelled photos."""


@dataclass(frozen=True)
class Pair:
    """What two sides made of one photo."""

    photo: Photo
    outcomes: tuple[Outcome, Outcome]
    caches: tuple[Path, Path]

    @property
    def is_equal(self) -> bool:
        """Whether both keep it or both reject it."""
        return self.outcomes[0].kept == self.outcomes[1].kept


class Side:
    """One way to judge, with what it made of photos before."""

    def __init__(self, name: str, recipe: str) -> None:
        """Load the models: their digest names the folder of the cache."""
        self._contender: Contender = contender(name, recipe)
        self.key = self._contender.key
        self.num_measured = 0

    def examine(self, image_bytes: bytes) -> tuple[Outcome, Path]:
        """Return the outcome of one photo, and where it is kept."""
        path = place_of(CACHE, self.key, image_bytes)
        stored = known(path)
        outcome = self._contender.examine(image_bytes, stored)
        if stored is None or outcome.evidence != stored.evidence:
            self.num_measured += 1
            keep(path, outcome)
        return outcome, path


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge, and write what differs under the sides' names into the results."""
    options = _options(arguments)
    chosen = stratified(photos_of(options.place), options.num_photos, options.seed)
    started = time.monotonic()
    pairs = list(compare(chosen, options.sides))
    result = {
        "place": options.name or Path(options.place).name,
        "sides": options.sides,
        "in_sample": IN_SIGHT if options.place == "gold2" else IN_SAMPLE,
        "face_runtime_of_obvious": face_runtime(),
        "seed": options.seed,
        **figures(pairs),
        "wall_seconds": round(time.monotonic() - started, 1),
        **origin(*options.sides),
    }
    name = f"{result['place']}: {' | '.join(options.sides)}"
    done = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    options.out.write_text(json.dumps(done | {name: result}, indent=1) + "\n", encoding="utf-8")
    shown = {key: value for key, value in result.items() if key != "differences"}
    print(json.dumps(shown, indent=1))
    for pair in pairs:
        if not pair.is_equal:
            print(_line(pair, options.sides))
    return 0


def compare(photos: Sequence[Photo], names: Sequence[str]) -> Iterator[Pair]:
    """Yield what both sides make of every photo."""
    recipe = next((name for name in names if name != OBVIOUS), "facecaptionhq-4m")
    sides = [Side(name, recipe if name == OBVIOUS else name) for name in names]
    if len({side.key for side in sides}) < len(sides):
        raise UsageError(f"{' and '.join(names)}: both sides measure and decide alike; there is nothing to compare")
    for number, (photo, image_bytes) in enumerate(read(photos), 1):
        (one, here), (other, there) = (side.examine(image_bytes) for side in sides)
        yield Pair(photo, (one, other), (here, there))
        if number % 20 == 0:
            print(f"{number} of {len(photos)}; measured {[side.num_measured for side in sides]}", file=sys.stderr)


def figures(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return how often both sides agree, how each stands to the labels, and every difference."""
    equal = sum(pair.is_equal for pair in pairs)
    return {
        "num_photos": len(pairs),
        "labels": dict(sorted(Counter(pair.photo.label for pair in pairs).items())),
        "num_sources": len({pair.photo.source for pair in pairs} - {""}),
        "equal_verdicts": _share(equal, len(pairs)),
        "equal_verdicts_by_label": _equal(_by_label(pairs)),
        "equal_verdicts_by_kind": _equal(_grouped(pairs, lambda pair: made(pair.photo.kind))),
        "equal_rejecting_filter": _share(
            sum(pair.outcomes[0].rejected_by == pair.outcomes[1].rejected_by for pair in pairs), len(pairs)
        ),
        "against_the_labels": [against_labels(pairs, side) for side in (0, 1)],
        "num_measured": [
            dict(Counter(name for pair in pairs for name in pair.outcomes[side].scores)) for side in (0, 1)
        ],
        **_cpu(pairs),
        "differences": [_difference(pair) for pair in pairs if not pair.is_equal],
    }


def against_labels(pairs: Sequence[Pair], side: int) -> dict[str, Any]:
    """Return one side's precision and recall of keeping, where `single` alone should stay, and who rejects what."""
    kept = [pair for pair in pairs if pair.outcomes[side].kept]
    right = sum(pair.photo.label == KEPT_LABEL for pair in kept)
    return {
        "precision": _share(right, len(kept)),
        "recall": _share(right, sum(pair.photo.label == KEPT_LABEL for pair in pairs)),
        "by_label": {
            label: dict(sorted(Counter(pair.outcomes[side].rejected_by or "kept" for pair in of_label).items()))
            for label, of_label in sorted(_by_label(pairs).items())
        },
    }


def made(kind: str) -> str:
    """Return what a photo's kind comes to: `photos` as they are, `toned` ones, with `drawn text` or `marks` on them."""
    first = kind.split(maxsplit=1)[0]
    names = {"photo": "photos", "mark": "marks", **dict.fromkeys(lettering.MUCH, "drawn text")}
    return names.get(first, "toned")


def _by_label(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    return _grouped(pairs, lambda pair: pair.photo.label)


def _grouped(pairs: Sequence[Pair], group: Callable[[Pair], str]) -> dict[str, list[Pair]]:
    groups: dict[str, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(group(pair), []).append(pair)
    return groups


def _equal(groups: Mapping[str, Sequence[Pair]]) -> dict[str, Any]:
    return {name: _share(sum(pair.is_equal for pair in pairs), len(pairs)) for name, pairs in sorted(groups.items())}


def _cpu(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Return what both sides took, by their own clocks and whenever that was, without what is on the house."""
    one, other = (np.array([_charged(pair.outcomes[side]) for pair in pairs], dtype=np.float64) for side in (0, 1))
    seconds = [round(float(spent.sum()), 1) for spent in (one, other)]
    return {"cpu_seconds": seconds, "cpu_ratio": ratio(one, other, seed=0) if all(seconds) else None}


def _charged(outcome: Outcome) -> float:
    return sum(seconds for stage, seconds in outcome.seconds.items() if stage not in ON_THE_HOUSE)


def _difference(pair: Pair) -> dict[str, Any]:
    return {
        "key": pair.photo.key,
        "label": pair.photo.label,
        "kind": pair.photo.kind,
        "sides": [
            {
                "verdict": _said(outcome),
                "scores": {name: _rounded(scores) for name, scores in outcome.scores.items()},
                "evidence": str(cache),
            }
            for outcome, cache in zip(pair.outcomes, pair.caches, strict=True)
        ],
    }


def _rounded(scores: Any) -> dict[str, float]:
    return {name: round(value, 4) for name, value in scores.items()}


def _line(pair: Pair, names: Sequence[str]) -> str:
    said = "; ".join(f"{name}: {_said(outcome)}" for name, outcome in zip(names, pair.outcomes, strict=True))
    return f"{pair.photo.key} ({pair.photo.label}, {pair.photo.kind}) {said}"


def _said(outcome: Outcome) -> str:
    return "kept" if outcome.kept else f"{outcome.rejected_by} {outcome.reason}"


def _share(num_hits: int, num_trials: int) -> dict[str, Any]:
    return {"hits": num_hits, "of": num_trials, "wilson_95": wilson(num_hits, num_trials)}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.verdicts.agreement",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("place", help="a folder that benchmarks.pictures.corpus built, gold or gold2")
    parser.add_argument("--sides", nargs=2, default=[OBVIOUS, "facecaptionhq-4m"])
    parser.add_argument("--num-photos", type=int, default=6)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--name", help="what the results call the place; its folder's name where left out")
    parser.add_argument("--out", type=Path, default=RESULTS / "agreement.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())

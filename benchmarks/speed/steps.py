"""What each change of decisions 0078, 0079 and 0100 takes off a picture, alone and together; are verdicts equal?

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_GOLD2=... FACECAPTIONHQ_MODELS=... python -m benchmarks.speed.steps
        [--num-photos 63] [--rounds 3] [--every-verdict]

CPU milliseconds of one process with one thread. The photos are seeded and stratified by label; each is measured in
every way before the next one is, each time beginning with another way, and the median over rounds counts.
`--every-verdict` judges all photos of both folders before and with all changes, once, and lists every verdict or reason
that differs.
"""

import argparse
import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.provenance import RESULTS, origin
from benchmarks.verdicts.labelled import Labelled, folders_named, labelled
from curation.images import decode as gate
from curation.images.decode import Picture, decode
from curation.measure.cascade import DECODE, JUDGE, Decode, Entry, measure
from curation.measure.filter_set import FilterBank
from curation.recipe.judge import Verdict, judge
from curation.recipe.recipe import Recipe, load_recipe, recipe_of
from curation.recipe.settings import DecodeLimits
from filters.base import Filter, RgbImage, WeightsFile
from filters.detectors import ppocr
from filters.detectors.ppocr import Floats
from filters.loading import single_thread

RECIPE = "facecaptionhq-4m"
FOLDED, JPEG, BLOCKS, CASCADE = "folded text network", "JPEG by libjpeg-turbo", "colour by blocks", "cascade from 40 px"
CANDIDATES, SHARED, EIGHT_BITS = "face candidates alone decoded", "maps of text shared", "spots in int8"
STEPS = (FOLDED, JPEG, BLOCKS, CASCADE, CANDIDATES, SHARED)
BEFORE, TOGETHER, AND_EIGHT_BITS = "before", "together", f"together and {EIGHT_BITS}"
TOUCHED = {"text_map": {FOLDED, SHARED}, "text": {FOLDED, SHARED}, "faces": {CANDIDATES}}
"""Filter -> the steps that change how it is built."""
NUM_BOOTSTRAPS = 2000


class _Forgetful(ppocr.ProbabilityMaps):
    """Maps that are computed whenever they are asked for."""

    def of(self, canvases: Sequence[RgbImage]) -> list[Floats]:
        """Return the map of each canvas."""
        self._recent.clear()
        return super().of(canvases)


@dataclass(frozen=True)
class Judged:
    """One picture in one way."""

    rejected_by: str | None
    reason: str | None
    cpu_ms: float
    steps_ms: Mapping[str, float]
    """By decoding, judging and whoever measured."""


@dataclass(frozen=True)
class Way:
    """The recipe with some of the steps taken."""

    recipe: Recipe
    bank: FilterBank
    decode: Decode

    def judged(self, image_bytes: bytes) -> Judged:
        """Return the verdict on a picture and what it took, as if no other way had seen it before."""
        for maps in ppocr._LOADED.values():
            maps._recent.clear()
        started = time.process_time()
        (measured,) = measure([Entry("0" * 32, image_bytes)], self.bank, self.recipe, self.decode)
        verdict = measured.refused or judge(measured.evidence, self.recipe.criteria)
        cpu_ms = 1000 * (time.process_time() - started)
        assert isinstance(verdict, Verdict)
        steps = {name: 1000 * seconds for name, seconds in measured.seconds.items()}
        return Judged(verdict.rejected_by, verdict.reason, cpu_ms, steps)


def ways() -> dict[str, Way]:
    """Return the recipe before, with each step alone, and with all that it has; equal filters are loaded once."""
    built: dict[tuple[str, str, frozenset[str]], Filter] = {}
    taken = {BEFORE: set[str](), **{step: {step} for step in STEPS}, TOGETHER: set(STEPS)}
    taken[AND_EIGHT_BITS] = {*STEPS, EIGHT_BITS}
    return {name: _way(steps, built) for name, steps in taken.items()}


def _way(steps: set[str], built: dict[tuple[str, str, frozenset[str]], Filter]) -> Way:
    recipe = _recipe(steps)
    filters: dict[str, Filter] = {}
    for plan in recipe.measurers:
        key = plan.filter, plan.measure.model_dump_json(), frozenset(steps & TOUCHED.get(plan.filter, set()))
        if key not in built:
            with _networks(steps):
                built[key] = plan.module.build(plan.measure, "cpu")
        filters[plan.name] = built[key]
    bank = FilterBank(filters, {plan.name: plan.inputs for plan in recipe.measurers})
    return Way(recipe, bank, decode if JPEG in steps else _decode_by_pillow)


def _recipe(steps: set[str]) -> Recipe:
    values = load_recipe(RECIPE).file.model_dump(mode="json", exclude_unset=True)
    values["curate"] = {**values["curate"], "shadow_fraction": 0.0}
    for stanza in values["filters"]:
        if stanza["name"] == "colour" and BLOCKS not in steps:
            del stanza["screens"]
        if stanza["name"] == "anime" and CASCADE not in steps:
            del stanza["measure"]["min_side_px"]
        if stanza["name"] == "text" and EIGHT_BITS in steps:
            stanza["screens"][2]["measure"]["dtype"] = "int8"
    return recipe_of(values, f"{RECIPE} with {', '.join(sorted(steps)) or 'no step'}")


@contextmanager
def _networks(steps: set[str]) -> Iterator[None]:
    """Let networks be built as they are published, and each filter have its own, unless a step says otherwise."""

    def published(weights: WeightsFile, network: str) -> Path:
        return Path(weights.path)

    with ExitStack() as stack:
        if FOLDED not in steps:
            stack.enter_context(patch("filters.detectors.ppocr.exported", published))
        if CANDIDATES not in steps:
            stack.enter_context(patch("filters.detectors.yolov5_face.exported", published))
        if SHARED not in steps:
            stack.enter_context(patch("filters.detectors.ppocr.probability_maps", _Forgetful))
        yield


def _decode_by_pillow(image_bytes: bytes, limits: DecodeLimits) -> Picture:
    with patch.object(gate, "turbo_pixels", lambda *_: None):
        return decode(image_bytes, limits)


def stratified(photos: Sequence[Labelled], num_photos: int, seed: int) -> list[Labelled]:
    """Return as many photos of each label as of any other, as far as there are."""
    by_label: dict[str, list[Labelled]] = defaultdict(list)
    for photo in photos:
        by_label[photo.label].append(photo)
    shuffled = [random.Random(seed).sample(by_label[label], len(by_label[label])) for label in sorted(by_label)]
    turns = [group[turn] for turn in range(max(map(len, shuffled))) for group in shuffled if turn < len(group)]
    return turns[:num_photos]


def timed(photos: Sequence[Labelled], num_rounds: int) -> dict[str, Any]:
    """Return by way the cost of a picture, what it saves with its interval, and the verdicts that differ."""
    contenders = ways()
    names = list(contenders)
    judged: dict[str, list[list[Judged]]] = {name: [[] for _ in photos] for name in names}
    for way in contenders.values():
        way.judged(photos[0].path.read_bytes())
    for turn in range(num_rounds):
        for i, photo in enumerate(photos):
            image_bytes, first = photo.path.read_bytes(), (turn + i) % len(names)
            for name in names[first:] + names[:first]:
                judged[name][i].append(contenders[name].judged(image_bytes))
    costs = {name: np.array([np.median([one.cpu_ms for one in runs]) for runs in judged[name]]) for name in names}
    drawn = np.random.default_rng(0).integers(len(photos), size=(NUM_BOOTSTRAPS, len(photos)))
    result: dict[str, Any] = {}
    for name in names:
        saved = np.quantile((costs[BEFORE] - costs[name])[drawn].mean(axis=1), [0.025, 0.975])
        pairs = zip(photos, (runs[0] for runs in judged[BEFORE]), (runs[0] for runs in judged[name]), strict=True)
        result[name] = {
            "cpu_ms_per_picture": round(float(costs[name].mean()), 2),
            "saved_ms": round(float((costs[BEFORE] - costs[name]).mean()), 2),
            "saved_ms_bootstrap_95": [round(float(bound), 2) for bound in saved],
            "by_step": _by_step(judged[name]),
            "verdicts_that_differ": _differences(pairs),
        }
    return result


def _by_step(judged: Sequence[Sequence[Judged]]) -> dict[str, Any]:
    names = dict.fromkeys(name for runs in judged for name in runs[0].steps_ms)
    medians = {
        name: [float(np.median([run.steps_ms[name] for run in runs])) for runs in judged if name in runs[0].steps_ms]
        for name in (DECODE, JUDGE, *sorted(set(names) - {DECODE, JUDGE}))
    }
    return {
        name: {
            "reached_by": len(spent),
            "ms_where_reached": round(float(np.mean(spent)), 2),
            "ms_per_picture": round(sum(spent) / len(judged), 2),
        }
        for name, spent in medians.items()
    }


def every_verdict(photos: Sequence[Labelled]) -> dict[str, Any]:
    """Return what differs, and what all cost, over every photo before and with all steps."""
    before, together = _way(set(), {}), _way(set(STEPS), {})
    outcomes = []
    for number, photo in enumerate(photos):
        image_bytes = photo.path.read_bytes()
        pair = (before, together) if number % 2 else (together, before)
        by_way = {way.recipe.path: way.judged(image_bytes) for way in pair}
        outcomes.append((photo, by_way[before.recipe.path], by_way[together.recipe.path]))
    return {
        "num_photos": len(photos),
        "num_kept": sum(one.rejected_by is None for _, one, _ in outcomes),
        "cpu_ms_per_picture": {
            BEFORE: round(float(np.mean([one.cpu_ms for _, one, _ in outcomes])), 2),
            TOGETHER: round(float(np.mean([other.cpu_ms for _, _, other in outcomes])), 2),
        },
        "verdicts_that_differ": _differences(outcomes),
    }


def _differences(pairs: Any) -> list[str]:
    return [
        f"{photo.label} {photo.sha256[:16]}: {one.rejected_by} {one.reason}, then {other.rejected_by} {other.reason}"
        for photo, one, other in pairs
        if (one.rejected_by, one.reason) != (other.rejected_by, other.reason)
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.steps",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--num-photos", type=int, default=63)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--every-verdict", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS / "steps.json")
    options = parser.parse_args(arguments)
    single_thread()
    photos = labelled(folders_named())
    result = json.loads(options.out.read_text(encoding="utf-8")) if options.out.exists() else {}
    if options.every_verdict:
        result["every_verdict"] = every_verdict(photos) | origin(RECIPE)
    else:
        chosen = stratified(photos, options.num_photos, options.seed)
        labels = [photo.label for photo in chosen]
        result |= {
            "num_photos": len(chosen),
            "labels": {label: labels.count(label) for label in sorted(set(labels))},
            "rounds": options.rounds,
            "seed": options.seed,
            "ways": timed(chosen, options.rounds),
            **origin(RECIPE),
        }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

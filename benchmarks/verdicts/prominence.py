r"""Says how a limit of `text_prominence` fares on sources it was not chosen on, and where the screens contradict CRAFT.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_GOLD2=... FACECAPTIONHQ_MODELS=... \
        python -m benchmarks.verdicts.prominence [--whole 100] [--known]

The photos are those of both folders that are labelled `single` or `text`. A screen measures what those before it leave
open, and `text` itself the whole of the first `--whole` photos of a mixed order, so what decides is the closest look
that was taken. Evidence is kept where `benchmarks.verdicts.screens` keeps it.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.provenance import RESULTS, origin, wilson
from benchmarks.verdicts.labelled import Labelled, folders_named, labelled
from benchmarks.verdicts.proofs import Case, gauges_of, settled
from benchmarks.verdicts.screening import Gauge, Picture, measure
from curation.recipe.filter_plan import FilterPlan, ScreenPlan, stand_in
from curation.recipe.joint_scores import Bounds
from curation.recipe.recipe import load_recipe
from filters.base import RgbImage

LABELS = ("single", "text")
SCORES = ("text_prominence", "num_characters")
"""The score that decides, and the one that did before."""


@dataclass(frozen=True)
class Photos:
    """Labelled photos of several folders, by file name."""

    photos: Sequence[Labelled]

    @cached_property
    def by_name(self) -> Mapping[str, Labelled]:
        """File name -> photo."""
        return {photo.path.name: photo for photo in self.photos}

    def picture(self, file: str) -> RgbImage:
        """Return one photo as every filter sees it."""
        return self.by_name[file].picture


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not measured yet, write and print figures."""
    options = _options(arguments)
    recipe = load_recipe(options.recipe)
    plan = next(plan for plan in recipe.filters if plan.name == "text")
    photos = Photos([photo for photo in labelled(folders_named()) if photo.label in LABELS])
    pictures = [Picture(photo.label, photo.path.name) for photo in photos.photos]
    random.Random(0).shuffle(pictures)
    gauges = gauges_of(recipe, plan, {})
    whole = {picture.name for picture in pictures[: options.whole]}
    if not options.known:
        look_closer(photos, pictures, whole, gauges, plan)
    cases = list(looked_at(pictures, gauges, plan))
    result = {
        "num_photos": len(cases),
        "limit": limit_figures(SCORES[0], cases, photos, plan),
        "where_craft_looked": {
            score: limit_figures(score, [case for case in cases if has_looked(case, plan)], photos, plan)
            for score in SCORES
        },
        "open_after_each_screen": open_after(cases, plan),
        "screens": {
            "at_the_spots": screen_figures(cases, plan, plan.screens[:-1], plan.screens[-1].plan.name),
            "on_the_whole": screen_figures(cases, plan, plan.screens, plan.name),
        },
        **origin(options.recipe),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return 0


def look_closer(
    photos: Photos, pictures: Sequence[Picture], whole: AbstractSet[str], gauges: Mapping[str, Gauge], plan: FilterPlan
) -> None:
    """Measure faces and the first screen on all pictures, each further screen on what is open, the filter on some."""
    for number, screen in enumerate(plan.screens):
        cases = {case.name: case for case in looked_at(pictures, gauges, plan)}
        is_open = {name for name, case in cases.items() if settled(case, plan, plan.screens[:number]) is None}
        chosen = [picture for picture in pictures if number == 0 or picture.name in is_open | whole]
        own = [gauges[screen.plan.name], *([gauges["faces"]] if number == 0 else [])]
        for count, _ in enumerate(measure(photos, chosen, own), start=1):
            print(f"\r{screen.plan.name} {count}/{len(chosen)}", end="", file=sys.stderr)
    chosen = [picture for picture in pictures if picture.name in whole]
    for count, _ in enumerate(measure(photos, chosen, [gauges[plan.name]]), start=1):
        print(f"\r{plan.name} {count}/{len(chosen)}", end="", file=sys.stderr)


def looked_at(pictures: Sequence[Picture], gauges: Mapping[str, Gauge], plan: FilterPlan) -> Iterator[Case]:
    """Yield the pictures that a screen has seen, with the scores of the closest look at each."""
    evidence = {name: gauge.known() for name, gauge in gauges.items()}
    for picture in pictures:
        known = {name: of.get(picture.name) for name, of in evidence.items()}
        looks = [(plan, known[plan.name]), *((screen.plan, known[screen.plan.name]) for screen in plan.screens[::-1])]
        for look, seen in looks:
            if seen is not None:
                closest = {**known, plan.name: stand_in(look, seen)}
                joint = {name: score.bounds(closest).low for name, score in plan.joint.items()}
                yield Case(picture.name, known, {**_characters(look.scores(seen)), **joint}, ())
                break


def has_looked(case: Case, plan: FilterPlan) -> bool:
    """Whether CRAFT has seen a picture, whole or at spots; a map counts no characters."""
    return case.known[plan.name] is not None or case.known[plan.screens[-1].plan.name] is not None


def limit_figures(score: str, cases: Sequence[Case], photos: Photos, plan: FilterPlan) -> dict[str, Any]:
    """Return what a limit of one score gets wrong: chosen on all photos, and on those of the other sources."""
    best = best_limit(score, cases)
    sources = {_file(case): photos.by_name[_file(case)].source for case in cases}
    limits = {
        source: best_limit(score, [case for case in cases if sources[_file(case)] != source])
        for source in set(sources.values())
    }
    chosen = plan.keep[score].max if score in plan.keep else None
    return {
        "best": best,
        "best_wrong": _wrong(score, [(case, best) for case in cases]),
        "left_out_limits": [min(limits.values()), max(limits.values())],
        "left_out_wrong": _wrong(score, [(case, limits[sources[_file(case)]]) for case in cases]),
        **({} if chosen is None else {"recipe_wrong": _wrong(score, [(case, chosen) for case in cases])}),
    }


def best_limit(score: str, cases: Sequence[Case]) -> float:
    """Return the limit with the fewest wrong, in the middle of the room that it has; of equal ones the lowest."""
    single, text = (np.sort([case.truth[score] for case in cases if case.group == label]) for label in LABELS)
    values = np.unique(np.concatenate([single, text]))
    middles = (values[:-1] + values[1:]) / 2
    num_wrong = len(single) - np.searchsorted(single, middles, "right") + np.searchsorted(text, middles, "right")
    return round(float(middles[num_wrong.argmin()]), 3)


def screen_figures(
    cases: Sequence[Case], plan: FilterPlan, screens: Sequence[ScreenPlan], judge_name: str
) -> list[dict[str, Any]]:
    """Return by label how many these screens settle, and which of them against what `judge_name` sees.

    Only pictures at which the judge has looked count: all whose verdict the screens leave open, and others.
    """
    rows = []
    for label in LABELS:
        own = [case for case in cases if case.group == label and case.known[judge_name] is not None]
        proven = {case: settled(case, plan, screens) for case in own}
        against = [case for case in own if proven[case] not in (None, _stays(case, plan))]
        num_settled = sum(verdict is not None for verdict in proven.values())
        rows.append(
            {
                "label": label,
                "num": len(own),
                "settled": num_settled,
                "against": sorted(f"{_file(case)}: {case.truth['text_prominence']:.2f}" for case in against),
                "wilson_95": wilson(len(against), num_settled),
            }
        )
    return rows


def open_after(cases: Sequence[Case], plan: FilterPlan) -> dict[str, list[int]]:
    """Return by label how many photos there are, and how many are open after each screen but the last."""
    return {
        label: [
            sum(case.group == label and settled(case, plan, plan.screens[:count]) is None for case in cases)
            for count in range(len(plan.screens))
        ]
        for label in LABELS
    }


def _stays(case: Case, plan: FilterPlan) -> bool:
    return all(keep.holds(Bounds(case.truth[name], case.truth[name])) for name, keep in plan.keep.items())


def _characters(scores: Mapping[str, float]) -> dict[str, float]:
    """Return the characters that CRAFT counts, or what a map takes for as many."""
    return {"num_characters": scores.get("num_characters", scores.get("num_glyphs", 0.0))}


def _wrong(score: str, judged: Sequence[tuple[Case, float]]) -> dict[str, Any]:
    return {label: _row(score, [pair for pair in judged if pair[0].group == label], label) for label in LABELS}


def _row(score: str, judged: Sequence[tuple[Case, float]], label: str) -> dict[str, Any]:
    wrong = [case for case, limit in judged if (case.truth[score] <= limit) != (label == "single")]
    listed: Iterator[str] = (f"{_file(case)}: {case.truth[score]:.2f}" for case in wrong)
    return {"num": len(wrong), "of": len(judged), "wilson_95": wilson(len(wrong), len(judged)), "wrong": sorted(listed)}


def _file(case: Case) -> str:
    return case.name.partition("/")[2]


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts.prominence", description=__doc__)
    parser.add_argument("--recipe", default="facecaptionhq-4m")
    parser.add_argument("--whole", type=int, default=100, help="on how many photos `text` measures the whole")
    parser.add_argument("--known", action="store_true", help="measure nothing, take the photos that are complete")
    parser.add_argument("--out", type=Path, default=RESULTS / "prominence.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

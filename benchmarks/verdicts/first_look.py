"""Would a look at a smaller map before the one at 480 px spare the screens of `text` work, and change no verdict?

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_GOLD2=... FACECAPTIONHQ_MODELS=... python -m benchmarks.verdicts.first_look

The photos are those of both folders that ask `text` in the whole recipe, with logits of `drawn` by heads that saw
nothing of a photo's source. A smaller map would keep at a bound on `text_prominence`, with as little across the face as
the map at 480 px asks, and reject where that does. The bound is the greatest with which no verdict of today changes;
each source is judged by the bound that all others choose.
"""

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.provenance import RESULTS, origin, wilson
from benchmarks.speed.steps import stratified
from benchmarks.verdicts.contradictions import FILTER, compared
from benchmarks.verdicts.kept_evidence import Judge
from benchmarks.verdicts.labelled import Labelled, folders_named, labelled
from benchmarks.verdicts.teach import CACHE
from curation.recipe.recipe import Recipe, load_recipe, recipe_of
from filters import drawn

RECIPE, TODAY = "facecaptionhq-4m", 480
SIDES = (256, 320)
BOUNDS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.26)
OVERLAP, REJECTED = 0.1, 1.04
"""What the screen at 480 px asks of text across the face where it keeps, and from which prominence on it rejects."""


@dataclass(frozen=True)
class Look:
    """One photo: today's verdict, CRAFT's on the whole, and by side (prominence, overlap with the face)."""

    photo: Labelled
    today: bool
    whole: bool
    seen: Mapping[int, tuple[float, float]]

    def says(self, side: int, bound: float) -> bool | None:
        """Return whether a map keeps or rejects; None where it leaves that open."""
        prominence, overlap = self.seen[side]
        if prominence <= bound and overlap <= OVERLAP:
            return True
        return False if prominence >= REJECTED else None

    def changes(self, side: int, bound: float) -> bool:
        """Whether the verdict of a map is another than today's."""
        return self.says(side, bound) is (not self.today)


def with_sides(recipe: Recipe) -> Recipe:
    """Return the recipe with a screen for each side, all as the one at 480 px."""
    values = recipe.file.model_dump(mode="json", exclude_unset=True)
    (stanza,) = (stanza for stanza in values["filters"] if stanza["name"] == FILTER)
    first = stanza["screens"][0]
    stanza["screens"] = [{**first, "measure": {**first["measure"], "side": side}} for side in (*SIDES, TODAY)]
    return recipe_of(values, f"{recipe.path} at several sides")


def looks(photos: Sequence[Labelled], recipe: Recipe) -> list[Look]:
    """Return the photos that ask `text`, and what every side shows of them."""
    judge, maps = Judge(recipe), Judge(with_sides(recipe))
    plan, screens = (next(p for p in one.recipe.filters if p.name == FILTER) for one in (judge, maps))
    logits = json.loads((CACHE / "out_of_fold.json").read_text(encoding="ascii"))
    found = []
    for photo in photos:
        left_out = logits.get(photo.sha256)
        given = {} if left_out is None else {"drawn": drawn.DrawnEvidence(*(left_out[head] for head in drawn.HEADS))}
        if judge.verdict(photo, given)[1]["text_screen"] is None:
            continue
        seen = {}
        for side, screen in zip((*SIDES, TODAY), screens.screens, strict=True):
            known = {"faces": judge.evidence(photo, "faces"), screen.plan.name: maps.evidence(photo, screen.plan.name)}
            scores = screen.scores(screen.proofs, known)
            seen[side] = scores["text_prominence"], scores["face_overlap_fraction"]
        one = compared(judge, photo, plan)
        found.append(Look(photo, (one.screens or one.whole).kept, one.whole.kept, seen))
    return found


def greatest_bound(seen: Sequence[Look], side: int) -> float | None:
    """Return the greatest bound with which no verdict changes, None where every one changes some."""
    return max((bound for bound in BOUNDS if not any(look.changes(side, bound) for look in seen)), default=None)


def left_out(seen: Sequence[Look], side: int) -> dict[str, Any]:
    """Return what changes where each source is judged by the bound that all others choose."""
    chosen, changed = [], []
    for source in sorted({look.photo.source for look in seen}):
        bound = greatest_bound([look for look in seen if look.photo.source != source], side)
        chosen.append(bound)
        own = [look for look in seen if look.photo.source == source]
        changed += [] if bound is None else [look.photo.path.name for look in own if look.changes(side, bound)]
    return {
        "sources": len(chosen),
        "sources_without_a_bound": chosen.count(None),
        "changed": changed,
        "changed_wilson_95": wilson(len(changed), len(seen)),
    }


def of_side(seen: Sequence[Look], side: int, ms: Mapping[int, float]) -> dict[str, Any]:
    """Return how a side would do, by bound, and what a picture that asks `text` would take before the second look."""
    rows = []
    for bound in BOUNDS:
        settled = [look for look in seen if look.says(side, bound) is not None]
        rows.append(
            {
                "keeps_up_to": bound,
                "settled": len(settled),
                "changed": [look.photo.path.name for look in seen if look.changes(side, bound)],
                "against_the_whole": sum(look.says(side, bound) is not look.whole for look in settled),
                "ms_per_asking": round(ms[side] + ms[TODAY] * (1 - len(settled) / len(seen)), 1),
            }
        )
    rejecting = sum(look.says(side, -1.0) is not None for look in seen)
    return {
        "bound_without_a_change": greatest_bound(seen, side),
        "bounds": rows,
        "sources_left_out": left_out(seen, side),
        "rejecting_alone": {
            "settled": rejecting,
            "changed": [look.photo.path.name for look in seen if look.changes(side, -1.0)],
            "ms_per_asking": round(ms[side] + ms[TODAY] * (1 - rejecting / len(seen)), 1),
        },
    }


def cost_ms(photos: Sequence[Labelled], recipe: Recipe) -> dict[int, float]:
    """Return the mean CPU time of each side's map, one after the other on every photo."""
    (plan,) = (plan for plan in with_sides(recipe).filters if plan.name == FILTER)
    screens = zip((*SIDES, TODAY), plan.screens, strict=True)
    built = {side: screen.plan.module.build(screen.plan.measure, "cpu") for side, screen in screens}
    spent: dict[int, list[float]] = {side: [] for side in built}
    for photo in (photos[0], *photos):
        picture = photo.picture
        for side, one in built.items():
            started = time.process_time()
            one.measure([picture])
            spent[side].append(1000 * (time.process_time() - started))
    return {side: round(float(np.mean(each[1:])), 1) for side, each in spent.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Look, and write the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts.first_look", description=__doc__)
    parser.add_argument("--num-timed", type=int, default=40)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--out", type=Path, default=RESULTS / "first_look.json")
    options = parser.parse_args(arguments)
    recipe, photos = load_recipe(RECIPE), labelled(folders_named())
    seen = looks(photos, recipe)
    ms = cost_ms(stratified([look.photo for look in seen], options.num_timed, options.seed), recipe)
    missed = [look for look in seen if any(look.changes(side, min(BOUNDS)) for side in SIDES)]
    result = {
        "photos": len(photos),
        "asking": len(seen),
        "cpu_ms": ms,
        "sides": {side: of_side(seen, side, ms) for side in SIDES},
        "prominence_of_those_that_change_at_any_bound": {
            look.photo.path.name: {side: round(values[0], 3) for side, values in look.seen.items()} for look in missed
        },
        **origin(RECIPE),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())

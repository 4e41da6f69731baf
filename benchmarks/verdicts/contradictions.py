"""Says on which labelled photos the screens of `text` say otherwise than CRAFT on the whole picture, by source.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_GOLD2=... FACECAPTIONHQ_MODELS=... \
        python -m benchmarks.verdicts.contradictions [--also text]

The photos are those of both folders of which `benchmarks.verdicts.kept_evidence` keeps what CRAFT sees in the whole
(after `benchmarks.verdicts.wider`, all that reach `text` in any of its recipes), and all with the labels `--also`.
Bounds of the screens were looked at on photos labelled `single` and `text` alone, so photos of sources that hold
neither are told apart: of these nothing was in sight. Beside it stands the whole recipe with and without its screens,
on all photos, with logits of `drawn` by heads that saw nothing of a photo's source (`benchmarks.verdicts.teach`).
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.provenance import RESULTS, origin, wilson
from benchmarks.variants import plain
from benchmarks.verdicts.kept_evidence import Judge
from benchmarks.verdicts.labelled import Labelled, folders_named, labelled
from benchmarks.verdicts.teach import CACHE
from curation.recipe.filter_plan import FilterPlan, criterion_of
from curation.recipe.judge import Criterion, NotYet, Verdict, judge
from curation.recipe.recipe import Recipe, load_recipe
from filters import drawn

FILTER = "text"
IN_SIGHT = ("single", "text")
"""The labels on whose photos bounds were looked at."""


@dataclass(frozen=True)
class Compared:
    """One photo: what `text` alone says of the whole, and what its screens prove; None where they leave it open."""

    photo: Labelled
    whole: Verdict
    screens: Verdict | None
    num_screens: int
    """How many were asked."""

    @property
    def is_against(self) -> bool:
        """Whether a screen settles it, and otherwise."""
        return self.screens is not None and self.screens.kept != self.whole.kept


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask the screens, hold them against the whole, write figures."""
    options = _options(arguments)
    logits = json.loads((CACHE / "out_of_fold.json").read_text(encoding="ascii"))
    recipe = load_recipe(options.recipe)
    plan = next(plan for plan in recipe.filters if plan.name == FILTER)
    witness = Judge(recipe)
    photos = labelled(folders_named())
    seen = []
    for number, photo in enumerate([one for one in photos if one.label in options.also or witness.has(one, FILTER)], 1):
        seen.append(compared(witness, photo, plan))
        if number % 50 == 0:
            print(f"{number} photos", file=sys.stderr, flush=True)
    result = figures(seen, photos) | {"whole_recipe": on_and_off(recipe, photos, logits)} | origin(options.recipe)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return 0


def compared(witness: Judge, photo: Labelled, plan: FilterPlan) -> Compared:
    """Return what the whole picture and the screens say of one photo, other filters left aside."""
    by_screens = [criterion_of(plan, score, keep, plan.screens) for score, keep in plan.keep.items()]
    plain = [criterion_of(plan, score, keep, ()) for score, keep in plan.keep.items()]
    verdict, known = _settled(witness, photo, by_screens, spared=(plan.name,))
    whole, _ = _settled(witness, photo, plain, spared=())
    assert whole is not None
    asked = sum(known[screen.plan.name] is not None for screen in plan.screens)
    return Compared(photo, whole, verdict, asked)


def _settled(
    witness: Judge, photo: Labelled, criteria: Sequence[Criterion], spared: Sequence[str]
) -> tuple[Verdict | None, dict[str, Any]]:
    """Return the verdict and the evidence it took; None where only what is `spared` could decide."""
    known: dict[str, Any] = {plan.name: None for plan in witness.recipe.measurers}
    while isinstance(verdict := judge(known, criteria), NotYet):
        wanted = [name for name in witness.recipe.order if name in verdict.filters and name not in spared]
        if not wanted:
            return None, known
        known[wanted[0]] = witness.evidence(photo, wanted[0])
    return verdict, known


def figures(seen: Sequence[Compared], photos: Sequence[Labelled]) -> dict[str, Any]:
    """Return how many photos the screens settle, and against the whole, in all, by label and on sources unseen."""
    in_sight = {photo.source for photo in photos if photo.label in IN_SIGHT}
    labels = sorted({one.photo.label for one in seen})
    return {
        "all": _row(seen),
        "by_label": {label: _row([one for one in seen if one.photo.label == label]) for label in labels},
        "sources_in_sight": _row([one for one in seen if one.photo.source in in_sight]),
        "sources_not_in_sight": _row([one for one in seen if one.photo.source not in in_sight]),
        "settled_by_number_of_screens": [
            sum(one.screens is not None and one.num_screens == count for one in seen)
            for count in range(1, 1 + max((one.num_screens for one in seen), default=0))
        ],
        "against": [
            {
                "file": one.photo.path.name,
                "what": " ".join([one.photo.label, *one.photo.tags]),
                "source": one.photo.source,
                "screens": _said(one.screens),
                "whole": _said(one.whole),
            }
            for one in seen
            if one.is_against
        ],
    }


def on_and_off(recipe: Recipe, photos: Sequence[Labelled], logits: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    """Return on how many photos the recipe with its screens and without them keeps, or rejects, alike."""
    on, off = Judge(recipe), Judge(plain(recipe))
    num_asking, differences = 0, []
    for photo in photos:
        left_out = logits.get(photo.sha256)
        given = {} if left_out is None else {"drawn": drawn.DrawnEvidence(*(left_out[head] for head in drawn.HEADS))}
        (with_screens, _), (without, known) = (judge.verdict(photo, given) for judge in (on, off))
        num_asking += known[FILTER] is not None
        if with_screens.kept != without.kept:
            differences.append(f"{photo.path.name} ({photo.label}): {_said(with_screens)}, without {_said(without)}")
    equal = num_asking - len(differences)
    return {
        "photos": len(photos),
        "ask_text_without_screens": num_asking,
        "equal_of_these": equal,
        "wilson_95": wilson(equal, num_asking),
        "differences": differences,
    }


def _row(seen: Sequence[Compared]) -> dict[str, Any]:
    settled = [one for one in seen if one.screens is not None]
    against = [one for one in settled if one.is_against]
    sources, wrong = ({one.photo.source for one in some} for some in (settled, against))
    return {
        "photos": len(seen),
        "settled": len(settled),
        "against": len(against),
        "kept_against": sum(not one.whole.kept for one in against),
        "wilson_95": wilson(len(against), len(settled)),
        "sources": len(sources),
        "sources_with_one": len(wrong),
        "sources_wilson_95": wilson(len(wrong), len(sources)),
    }


def _said(verdict: Verdict | None) -> str:
    return "open" if verdict is None else verdict.reason or "kept"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts.contradictions", description=__doc__)
    parser.add_argument("--recipe", default="facecaptionhq-4m")
    parser.add_argument("--also", nargs="*", default=[], help="labels of photos that CRAFT is to see where it has not")
    parser.add_argument("--out", type=Path, default=RESULTS / "contradictions.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

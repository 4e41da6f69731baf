"""What `calibrate`, `teach` and `fairness` make of the labelled photos, beside the recipe's own limits and heads.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_GOLD2=... FACECAPTIONHQ_MODELS=... python -m benchmarks.verdicts.labels

Every figure is of photos whose source was left out. Features and logits are those that `benchmarks.verdicts.teach` left
in `build/teach`, evidence of `colour` is kept in `build/evidence`. Photos are never copied: only figures leave.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.provenance import RESULTS, commit, machine
from benchmarks.verdicts.kept_evidence import Judge
from benchmarks.verdicts.labelled import Labelled, folders_named, labelled
from benchmarks.verdicts.teach import CACHE, LABELS, NETWORK, Gatherer
from curation.commands.calibrate.calibrate import CalibratedLimit, Question, calibrated, evidence_of
from curation.commands.fairness.audit import FilterMasks, SliceFigures, slices_of
from curation.commands.fairness.slices import Attribute
from curation.commands.teach.lesson import TaughtHead, Wish, examined
from curation.dataset.labelled import LabelledPicture
from curation.learning.heads import Views, folds_of
from curation.learning.limits import Side, Target
from curation.recipe.recipe import load_recipe
from curation.run.labelled_rows import LabelledRow
from filters.weights import find_weights

TAGS = ("headcovering", "mask")
"""Classes of one's own: portraits that bear the tag, against portraits that do not."""
SLICES = ("skin_light", "skin_medium", "skin_dark", "low_light", "headcovering", "mask", "child", "older", "graded")
TARGETS = (Target("precision", 0.95), Target("recall", 0.9), Target())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not kept, calibrate, teach, audit, write the figures."""
    options = _options(arguments)
    photos = labelled(folders_named())
    result = {
        "calibrate": _limits(photos),
        "teach": _heads(photos, options.seed),
        "fairness": _audits([photo for photo in photos if photo.label == "single" and photo.tags]),
        "machine": machine(),
        "commit": commit(),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return 0


def _limits(photos: Sequence[Labelled]) -> dict[str, Any]:
    """Return what `calibrate` chooses for four scores, and what the recipe's limit does with the same photos."""
    logits = json.loads((CACHE / "out_of_fold.json").read_text(encoding="ascii"))
    judge = Judge(load_recipe("facecaptionhq-4m"))
    colour = {p.sha256: judge.evidence(p, "colour") for p in photos if p.label in ("single", "bw", "sepia")}
    questions: dict[str, tuple[tuple[str, ...], Side, float, dict[str, float]]] = {
        "drawn_logit": (("anime",), "max", 0.99, {name: one["drawn"] for name, one in logits.items()}),
        "nonhuman_logit": (("noface",), "max", -0.08, {name: one["nonhuman"] for name, one in logits.items()}),
        "toning_residual": (("bw", "sepia"), "min", 3.6, {n: one.toning_residual for n, one in colour.items()}),
        "mean_channel_std": (("bw", "sepia"), "min", 0.5, {n: one.mean_channel_std for n, one in colour.items()}),
    }
    found = {}
    for name, (reject, side, own, scores) in questions.items():
        question = Question("scores", name, f"scores.{name}", reject, ("single",), side, own)
        rows = [_row(photo, {"scores": {name: scores[photo.sha256]}}) for photo in photos if photo.sha256 in scores]
        found[name] = [_limit(calibrated(question, rows, target, 0), target) for target in TARGETS]
    return found


def _limit(outcome: CalibratedLimit | str, target: Target) -> dict[str, Any]:
    if isinstance(outcome, str):
        return {"target": str(target), "none": outcome}
    return {"limit": outcome.limit, **evidence_of(outcome, target)}


def _heads(photos: Sequence[Labelled], seed: int) -> dict[str, Any]:
    """Return what `teach` makes of the photos themselves, without the variations that taught the recipe's heads."""
    gatherer = Gatherer(seed)
    taught = [photo for photo in photos if photo.label in LABELS]
    features = {photo.sha256: gatherer.views(photo)["features"][0] for photo in taught}
    people = ("single", "group", "bw", "sepia")
    found = {
        "anime": _lesson(taught, [photo.label for photo in taught], Wish("anime", people), features, seed),
        "noface": _lesson(taught, [photo.label for photo in taught], Wish("noface", people), features, seed),
    }
    portraits = [photo for photo in taught if photo.label == "single" and photo.tags]
    for tag in TAGS:
        words = [tag if tag in photo.tags else "other" for photo in portraits]
        found[tag] = _lesson(portraits, words, Wish(tag, ("other",)), features, seed)
    return found


def _lesson(
    photos: Sequence[Labelled], words: Sequence[str], wish: Wish, features: dict[str, Any], seed: int
) -> dict[str, Any]:
    chosen = [(photo, word) for photo, word in zip(photos, words, strict=True) if word in (wish.label, *wish.against)]
    rows = [_row(photo, {"kept": True}, word) for photo, word in chosen]
    views = Views(
        np.stack([features[photo.sha256] for photo, _ in chosen]),
        np.arange(len(chosen)),
        np.array([word for _, word in chosen]),
        folds_of([photo.source for photo, _ in chosen], seed),
    )
    lessons = [examined(rows, views, wish, wish.against, target, find_weights(NETWORK).sha256) for target in TARGETS]
    return {
        "num_pictures": dict(lessons[0].heads.training.num_pictures),
        "num_sources": lessons[0].num_sources,
        "auc": round(lessons[0].auc, 4),
        "limits": [_examined(lesson) for lesson in lessons],
    }


def _examined(lesson: TaughtHead) -> dict[str, Any]:
    figures = None if lesson.left_out is None else lesson.left_out.figures
    return {
        "target": str(lesson.target),
        "limit": lesson.limit,
        "sources_left_out": None
        if figures is None
        else {name: str(getattr(figures, name)) for name in ("precision", "recall", "lost")},
        "rejected": {label: f"{share} of {share.num}" for label, share in lesson.rejected.items()},
    }


def _audits(portraits: Sequence[Labelled]) -> dict[str, Any]:
    """Return whom the published statistic and the recipe's own turn away among portraits in colour, by tag."""
    found = {}
    for name in ("published-literal", "facecaptionhq-4m"):
        judge = Judge(load_recipe(name))
        (plan,) = [plan for plan in judge.recipe.filters if plan.name == "colour"]
        scores = [plan.scores(judge.evidence(photo, "colour")) for photo in portraits]
        kept = np.array([all((keep.min or 0) <= one[score] for score, keep in plan.keep.items()) for one in scores])
        masks = {"colour": FilterMasks(np.ones(len(kept), bool), ~kept)}
        slices = [one for tag in SLICES for one in slices_of(_attribute(tag, portraits), kept, masks)]
        found[name] = {
            "kept": f"{int(kept.sum())} of {len(kept)}",
            "slices": [_slice(one) for one in slices if one.value == "yes"],
        }
    return found


def _attribute(tag: str, photos: Sequence[Labelled]) -> Attribute:
    values = ["yes" if tag in photo.tags else "no" for photo in photos]
    return Attribute(tag, values, np.ones(len(photos)), "portraits with tags")


def _slice(figures: SliceFigures) -> dict[str, Any]:
    ratio = figures.filters["colour"].ratio
    return {
        "slice": figures.attribute,
        "kept": f"{figures.kept} of {figures.kept.num}",
        "finding": figures.finding,
        "rejected_as_often_as_others": [round(ratio.value, 2), round(ratio.low, 2), round(min(ratio.high, 1e6), 2)],
        "is_amplified": figures.filters["colour"].is_shown,
    }


def _row(photo: Labelled, row: dict[str, Any], label: str | None = None) -> LabelledRow:
    picture = LabelledPicture(photo.sha256, label or photo.label, photo.tags, photo.source)
    return LabelledRow(picture, "", {"uid": photo.sha256[:32], "sha256": photo.sha256, "url": None, **row})


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts.labels", description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "labels.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

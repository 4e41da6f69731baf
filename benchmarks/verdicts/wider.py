"""Says what recipes keep of both folders of labelled photos, by kind and by tag, and lists every wrong verdict.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_GOLD2=... python -m benchmarks.verdicts.wider

Beside the recipe stand the same without `drawn`, its step of the cascade alone, the recipe as it was before
(`before.toml`), and the published sentences taken literally; of these no wrong verdict is listed.

The heads of `drawn` were taught on these very photos. So its evidence is replaced by logits of heads that saw nothing
of the photo's source (`build/teach/out_of_fold.json`, which `benchmarks.verdicts.teach` writes; photos of `text` alone
taught nothing). Its limits, and thresholds of other filters, were chosen with these photos in sight. Evidence
is kept in `build/evidence`: run again, only filters that changed measure. Where a change concerns some of the recipes,
`--beside` names these, and `--carry` takes the figures of the others over, with the commit that measured them.
"""

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.provenance import RESULTS, commit, machine, wilson
from benchmarks.verdicts.drawn_figures import KINDS, SLICES
from benchmarks.verdicts.kept_evidence import Judge
from benchmarks.verdicts.labelled import BUSINESS, Labelled, folders_named, labelled
from benchmarks.verdicts.teach import CACHE
from curation.intervals import katz
from curation.recipe.judge import Verdict
from curation.recipe.recipe import Recipe, load_recipe
from filters import drawn

KINDS_OF = {"anime": KINDS["drawn"], "noface": KINDS["nonhuman"]}
BEFORE = Path(__file__).with_name("before.toml")
BESIDE = ("without drawn", "cascade alone", "before", "published-literal")
ALLOWED_RATIO = 1.25
"""Of a slice's share of rejected portraits to that of all others."""


@dataclass(frozen=True)
class Judged:
    """One photo with what became of it; of a wrong verdict the scores that matter, else none."""

    photo: Labelled
    folder: str
    verdict: Verdict
    scores: Mapping[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge with every recipe, write figures, print the table."""
    options = _options(arguments)
    started = time.monotonic()
    folders = {photo.sha256: folder.name for folder in reversed(folders_named()) for photo in labelled([folder])}
    photos = labelled(folders_named())[:: options.every]
    logits = json.loads((CACHE / "out_of_fold.json").read_text(encoding="ascii"))
    recipes: dict[str, dict[str, Any]] = {}
    for name, recipe in _recipes(load_recipe(options.recipe), options.beside).items():
        judge = Judge(recipe)
        is_listed = not recipes
        seen = [judged(judge, photo, folders[photo.sha256], logits, is_listed) for photo in photos]
        recipes[name] = figures(seen) | ({"wrong": wrong(seen)} if is_listed else {})
        print(f"{name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    if options.carry:
        recipes |= carried(json.loads(options.out.read_text(encoding="utf-8")), recipes)
    result = {
        "num_photos": len(photos),
        "num_sources": len({photo.source for photo in photos}),
        "recipes": recipes,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "machine": machine(),
        "commit": commit(),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(table(recipes))
    return 0


def carried(before: Mapping[str, Any], recipes: Container[str]) -> dict[str, Any]:
    """Return the figures of an earlier file of those recipes that are not here, each with the commit that it is of."""
    of = {"commit": before["commit"]}
    return {name: of | values for name, values in before["recipes"].items() if name not in recipes}


def judged(
    judge: Judge, photo: Labelled, folder: str, logits: Mapping[str, Mapping[str, float]], is_listed: bool
) -> Judged:
    """Return what becomes of a photo by heads that saw nothing of its source; with its scores if it may be listed."""
    left_out = logits.get(photo.sha256)
    given = {} if left_out is None else {"drawn": drawn.DrawnEvidence(*(left_out[head] for head in drawn.HEADS))}
    verdict, known = judge.verdict(photo, given)
    if not is_listed or (photo.label == "single") == verdict.kept:
        return Judged(photo, folder, verdict, {})
    mine = BUSINESS.get(photo.label, ())
    scores = {
        name: values
        for name, values in judge.scores(photo, known).items()
        if values["fails"] or name.partition(".")[0] in mine
    }
    return Judged(photo, folder, verdict, scores)


def figures(photos: Sequence[Judged]) -> dict[str, Any]:
    """Return what became of each label, what stays of each kind and tag, and how equal that is."""
    by_label: dict[str, Counter[str]] = {}
    for one in photos:
        by_label.setdefault(one.photo.label, Counter())[one.verdict.rejected_by or "kept"] += 1
    kinds = {kind: label for label, known in KINDS_OF.items() for kind in known}
    folders = sorted({one.folder for one in photos})
    return {
        "by_label": {label: dict(sorted(counts.items())) for label, counts in sorted(by_label.items())},
        "kept_by_label": {label: _kept(photos, label) for label in sorted(by_label)},
        "kept_by_kind": {kind: _kept(photos, label, kind) for kind, label in kinds.items()},
        "kept_by_folder": {
            folder: {label: _kept([one for one in photos if one.folder == folder], label) for label in sorted(by_label)}
            for folder in folders
        },
        "single_by_tag": {tag: _slice([one for one in photos if one.photo.label == "single"], tag) for tag in SLICES},
    }


def wrong(photos: Sequence[Judged]) -> list[dict[str, Any]]:
    """Return every wrong verdict with its scores and limits."""
    return [_wrong(one) for one in photos if (one.photo.label == "single") != one.verdict.kept]


def _kept(photos: Sequence[Judged], label: str, tag: str | None = None) -> dict[str, Any]:
    mine = [one for one in photos if one.photo.label == label and (tag is None or tag in one.photo.tags)]
    kept = [one.verdict.kept for one in mine]
    return {"hits": sum(kept), "of": len(kept), "wilson_95": wilson(sum(kept), len(kept))}


def _slice(singles: Sequence[Judged], tag: str) -> dict[str, Any]:
    """Return how many with a tag are rejected, and the ratio of that share to the share of those without it."""
    inside = [not one.verdict.kept for one in singles if tag in one.photo.tags]
    outside = [not one.verdict.kept for one in singles if tag not in one.photo.tags]
    ratio, low, high = katz((sum(inside), sum(outside)), (len(inside), len(outside)))
    return {
        "rejected": sum(inside),
        "of": len(inside),
        "wilson_95": wilson(sum(inside), len(inside)),
        "ratio_to_rest": round(ratio, 2),
        "katz_95": (round(low, 2), round(high, 2)) if inside and outside else None,
        "unequal": low > ALLOWED_RATIO,
    }


def _wrong(one: Judged) -> dict[str, Any]:
    what = " ".join([one.photo.label, *one.photo.tags])
    return {
        "file": f"{one.folder}/{one.photo.path.name}",
        "what": what,
        "verdict": one.verdict.rejected_by or "kept",
        "scores": one.scores,
    }


def table(recipes: Mapping[str, Mapping[str, Any]]) -> str:
    """Return all shares kept, a column for each recipe, and the ratios of the first recipe's slices."""
    lines = [f"| kept | {' | '.join(recipes)} |", "|---|" + "---|" * len(recipes)]
    for part in ("kept_by_label", "kept_by_kind"):
        for name in next(iter(recipes.values()))[part]:
            lines.append(f"| {name} | {' | '.join(_told(values[part][name]) for values in recipes.values())} |")
    lines += ["", "| portraits | rejected | ratio to the rest |", "|---|---|---|"]
    for tag, values in next(iter(recipes.values()))["single_by_tag"].items():
        low, high = values["katz_95"] or (None, None)
        mark = ", unequal" if values["unequal"] else ""
        lines.append(
            f"| {tag} | {values['rejected']}/{values['of']} | {values['ratio_to_rest']} ({low}-{high}){mark} |"
        )
    return "\n".join(lines)


def _told(share: Mapping[str, Any]) -> str:
    low, high = share["wilson_95"] or (0, 1)
    return f"{share['hits']}/{share['of']} ({low:.2f}-{high:.2f})"


def _recipes(recipe: Recipe, beside: Sequence[str]) -> dict[str, Recipe]:
    def of(is_in: Callable[[str], bool]) -> Recipe:
        return replace(recipe, filters=tuple(plan for plan in recipe.filters if is_in(plan.name)))

    others = {
        "without drawn": of(lambda name: name != "drawn"),
        "cascade alone": of(lambda name: name == "anime"),
        "before": load_recipe(BEFORE),
        "published-literal": load_recipe("published-literal"),
    }
    return {recipe.name: recipe, **{name: others[name] for name in beside}}


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts.wider", description=__doc__)
    parser.add_argument("--recipe", default="facecaptionhq-4m")
    parser.add_argument("--beside", nargs="*", choices=BESIDE, default=BESIDE, help="with what to compare")
    parser.add_argument("--carry", action="store_true", help="take over from the file what other recipes kept")
    parser.add_argument("--every", type=int, default=1, help="judge every n-th photo only, to try")
    parser.add_argument("--out", type=Path, default=RESULTS / "wider.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

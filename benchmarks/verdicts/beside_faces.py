r"""Says what two things tell of lettering, on sources left out: the edge cuts a line off, and how large the face is.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_GOLD2=... FACECAPTIONHQ_MODELS=... \
        python -m benchmarks.verdicts.beside_faces [--whole]

The photos are those of both folders that are labelled `single` or `text`; `text` and `faces` alone of the recipe are
asked. A score is that of the closest look that its screens leave open. With `--whole` CRAFT sees every photo on which
the first screen sees something and settles nothing, so that screens can be held against it. Evidence is kept where
`benchmarks.verdicts.wider` keeps it.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.provenance import RESULTS, origin, wilson
from benchmarks.verdicts.contradictions import compared
from benchmarks.verdicts.kept_evidence import Judge
from benchmarks.verdicts.labelled import Labelled, folders_named, labelled
from benchmarks.verdicts.prominence import LABELS, best_limit
from benchmarks.verdicts.proofs import Case
from curation.recipe.filter_plan import FilterPlan, stand_in
from curation.recipe.joint_scores import TextProminence
from curation.recipe.recipe import load_recipe

SCORE = "text_prominence"
CUT_WEIGHTS = (1.0, 0.5)
FACE_SIDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
WAYS = {
    f"cut {cut}, sides {sides}": TextProminence(cut_weight=cut, face_sides=sides)
    for cut in CUT_WEIGHTS
    for sides in FACE_SIDES
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Look, compare, write and print figures."""
    options = _options(arguments)
    recipe = load_recipe(options.recipe)
    plan, faces = (next(one for one in recipe.filters if one.name == name) for name in ("text", "faces"))
    witness = Judge(replace(recipe, filters=(plan, replace(faces, keep={}))))
    photos = [photo for photo in labelled(folders_named()) if photo.label in LABELS]
    sources = {_name(photo): photo.source for photo in photos}
    cases = [case for photo in photos for case in _closest(witness, photo, plan)]
    if options.whole:
        for photo in photos:
            if _is_worth_a_whole_look(witness, photo, plan):
                witness.evidence(photo, plan.name)
    seen = [compared(witness, photo, plan) for photo in photos if witness.has(photo, plan.name)]
    limit = plan.keep[SCORE].max
    assert limit is not None
    result = {
        "num_photos": {label: sum(photo.label == label for photo in photos) for label in LABELS},
        "recipe": {
            "limit": limit,
            "joint": plan.joint[SCORE].model_dump(),  # type: ignore[attr-defined]
            "wrong": _wrong([(case, SCORE, limit) for case in cases]),
        },
        "ways": {way: _figures(way, cases, sources) for way in WAYS},
        "chosen_by_other_sources": nested(cases, sources),
        "closest_look": dict(Counter(case.known["look"] for case in cases)),
        "screens_against_the_whole": {
            "photos": len(seen),
            "settled": sum(one.screens is not None for one in seen),
            "against": [f"{one.photo.path.name} ({one.photo.label})" for one in seen if one.is_against],
        },
        **origin(options.recipe),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return 0


def nested(cases: Sequence[Case], sources: Mapping[str, str]) -> dict[str, Any]:
    """Return what is wrong where each source is judged by the way and the limit with the fewest wrong on the others."""
    chosen = {source: _chosen(cases, sources, source) for source in set(sources.values())}
    wrong = _wrong([(case, *chosen[sources[case.name]]) for case in cases])
    return {"wrong": wrong, "ways": dict(Counter(way for way, _ in chosen.values()))}


def _chosen(cases: Sequence[Case], sources: Mapping[str, str], source: str) -> tuple[str, float]:
    others = [case for case in cases if sources[case.name] != source]
    limits = {way: best_limit(way, others) for way in WAYS}
    return min(limits.items(), key=lambda pair: sum(_is_wrong(case, *pair) for case in others))


def _figures(way: str, cases: Sequence[Case], sources: Mapping[str, str]) -> dict[str, Any]:
    best = best_limit(way, cases)
    limits = {
        source: best_limit(way, [case for case in cases if sources[case.name] != source])
        for source in set(sources.values())
    }
    return {
        "best": best,
        "best_wrong": _counts([(case, way, best) for case in cases]),
        "left_out_limits": [min(limits.values()), max(limits.values())],
        "left_out_wrong": _counts([(case, way, limits[sources[case.name]]) for case in cases]),
    }


def _closest(witness: Judge, photo: Labelled, plan: FilterPlan) -> Iterator[Case]:
    """Yield the photo with its scores by the closest look that was needed, by every way and the recipe's."""
    faces = witness.evidence(photo, "faces")
    _, known = witness.verdict(photo, {"faces": faces})
    for look in (plan, *(screen.plan for screen in plan.screens[::-1])):
        if known[look.name] is not None:
            seen = {"faces": faces, plan.name: stand_in(look, known[look.name])}
            scores = {way: score.bounds(seen).low for way, score in WAYS.items()}
            own = plan.joint[SCORE].bounds(seen).low
            yield Case(_name(photo), {"look": look.name}, {**scores, SCORE: own}, ())
            return


def _is_worth_a_whole_look(witness: Judge, photo: Labelled, plan: FilterPlan) -> bool:
    """Whether the second screen was asked, as the first settles nothing."""
    return witness.has(photo, plan.screens[1].plan.name)


def _is_wrong(case: Case, score: str, limit: float) -> bool:
    return (case.truth[score] <= limit) != (case.group == "single")


def _counts(judged: Sequence[tuple[Case, str, float]]) -> dict[str, int]:
    return {label: sum(_is_wrong(*one) for one in judged if one[0].group == label) for label in LABELS}


def _wrong(judged: Sequence[tuple[Case, str, float]]) -> dict[str, Any]:
    found = {}
    for label in LABELS:
        mine = [one for one in judged if one[0].group == label]
        listed = sorted(
            f"{case.name.partition('/')[2]}: {case.truth[way]:.2f}"
            for case, way, limit in mine
            if _is_wrong(case, way, limit)
        )
        found[label] = {
            "num": len(listed),
            "of": len(mine),
            "wilson_95": wilson(len(listed), len(mine)),
            "wrong": listed,
        }
    return found


def _name(photo: Labelled) -> str:
    return f"{photo.label}/{photo.path.name}"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts.beside_faces", description=__doc__)
    parser.add_argument("--recipe", default="facecaptionhq-4m")
    parser.add_argument("--whole", action="store_true", help="CRAFT looks where the first screen settles nothing")
    parser.add_argument("--out", type=Path, default=RESULTS / "beside_faces.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

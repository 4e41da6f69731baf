"""Holds a screen's proofs against what the filter itself measures, and says how many pictures are left to the filter.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_MODELS=... python -m benchmarks.verdicts.screens [--bands FILE] [--truth JSON]

The pictures are labelled photos, derivatives of them and seeded lettering (`benchmarks.verdicts.screening`). Filter,
joint inputs and every screen are measured once; evidence is kept in `build/screens` under the measurement key, so other
bands cost nothing. For each proof: how many pictures it speaks of, which contradict it, and how near the next one comes
that would. For the screens in a row: how many pictures each settles, by group, and the band that is left.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.provenance import RESULTS, ROOT, commit, machine, wilson
from benchmarks.verdicts.calibrate import Photos
from benchmarks.verdicts.proofs import LETTERED, Case, case_of, gauges_of, proof_row, settled, stays, with_screens
from benchmarks.verdicts.random_text import Lettering, random_lettering
from benchmarks.verdicts.screening import by_picture, measure, text_corpus
from curation.recipe.filter_plan import FilterPlan
from curation.recipe.recipe import load_recipe

EUROPEAN = ("capitals", "latin", "digits", "cyrillic", "greek")


def is_plain(lettering: Lettering) -> bool:
    """Whether anybody would see at once that something is written there."""
    return lettering.contrast >= 0.7 and lettering.height_fraction >= 0.025


CHOSEN_ON = 240
"""The lettering below this number was looked at when the bounds were chosen, the rest was not."""
STRATA: Mapping[str, Callable[[int, Lettering], bool]] = {
    "all": lambda number, lettering: True,
    "the bounds were chosen on": lambda number, lettering: number < CHOSEN_ON,
    "the bounds were not chosen on": lambda number, lettering: number >= CHOSEN_ON,
    "contrast 0.7 and more, lines of 2.5 % of the height and more": lambda number, lettering: is_plain(lettering),
    "the same in Latin, Cyrillic or Greek": lambda number, lettering: (
        is_plain(lettering) and lettering.script in EUROPEAN
    ),
    "fainter or smaller": lambda number, lettering: not is_plain(lettering),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what is not measured yet, print the tables, write the figures."""
    options = _options(arguments)
    recipe = with_screens(load_recipe(options.recipe), options.bands)
    plan = next(plan for plan in recipe.filters if plan.name == options.filter)
    photos = Photos(Path(os.environ["FACECAPTIONHQ_GOLD"]))
    pictures = text_corpus(photos, options.lettered)
    gauges = gauges_of(recipe, plan, json.loads(options.truth))
    if not options.known:
        for count, _ in enumerate(measure(photos, pictures, list(gauges.values())), start=1):
            print(f"\r{count}/{len(pictures)}", end="", file=sys.stderr)
    measured = by_picture(gauges, [picture.name for picture in pictures])
    cases = [case_of(name, evidence, plan) for name, evidence in measured.items()]
    result = {
        "filter": plan.name,
        "truth": gauges[plan.name].measure.model_dump(mode="json"),
        "num_pictures": len(cases),
        "screens": [screen_table(plan, row, cases) for row in range(len(plan.screens))],
        "groups": [group_row(group, cases, plan) for group in sorted({case.group for case in cases})],
        "lettered": lettered_rows(cases, plan),
        "machine": machine(),
        "commit": commit(),
    }
    show(result)
    known = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    options.out.write_text(json.dumps({**known, plan.name: result}, indent=1) + "\n", encoding="utf-8")
    return 0


def screen_table(plan: FilterPlan, row: int, cases: Sequence[Case]) -> dict[str, Any]:
    """Return what one of the screens adds: its proofs one by one, and the pictures that are still in doubt."""
    screen = plan.screens[row]
    reached = [case for case in cases if settled(case, plan, plan.screens[:row]) is None]
    return {
        "filter": screen.plan.filter,
        "measure": screen.plan.measure.model_dump(mode="json"),
        "score": screen.plan.score.model_dump(mode="json"),
        "reached": len(reached),
        "left": sum(settled(case, plan, plan.screens[: row + 1]) is None for case in reached),
        "proofs": [proof_row(proof, cases, row) for proof in screen.proofs],
    }


def lettered_rows(cases: Sequence[Case], plan: FilterPlan) -> list[dict[str, Any]]:
    """Return where on lettering the screens say otherwise than the filter, by how plain the lettering is.

    What is left to the filter cannot contradict it, so the share of what is settled is given beside that of all.
    """
    numbers = {case: int(case.name.rpartition("#")[2]) for case in cases if case.group == LETTERED}
    rows = []
    for what, is_in in STRATA.items():
        own = [case for case, number in numbers.items() if is_in(number, random_lettering(number))]
        kept = {case: stays(case, plan, plan.screens) for case in own}
        wrong = [case for case in own if kept[case] != stays(case, plan)]
        left = sum(settled(case, plan, plan.screens) is None for case in own)
        rows.append(
            {
                "lettering": what,
                "num": len(own),
                "left": left,
                "settled": len(own) - left,
                "kept_against_the_filter": sum(kept[case] for case in wrong),
                "rejected_against_the_filter": sum(not kept[case] for case in wrong),
                "wilson_95": wilson(len(wrong), len(own)),
                "settled_wilson_95": wilson(len(wrong), len(own) - left),
            }
        )
    return rows


def group_row(group: str, cases: Sequence[Case], plan: FilterPlan) -> dict[str, Any]:
    """Return what becomes of the pictures of one group."""
    own = [case for case in cases if case.group == group]
    verdicts = {case.name: settled(case, plan, plan.screens) for case in own}
    left = sum(verdict is None for verdict in verdicts.values())
    return {
        "group": group,
        "num": len(own),
        "filter_keeps": sum(stays(case, plan) for case in own),
        "proven_kept": sum(verdict is True for verdict in verdicts.values()),
        "proven_rejected": sum(verdict is False for verdict in verdicts.values()),
        "left_after": [
            sum(settled(case, plan, plan.screens[:count]) is None for case in own)
            for count in range(1, len(plan.screens) + 1)
        ],
        "band": round(left / len(own), 4),
        "band_wilson_95": wilson(left, len(own)),
        "other_verdict": [case.name for case in own if stays(case, plan, plan.screens) != stays(case, plan)],
    }


def show(result: Mapping[str, Any]) -> None:
    """Print the tables."""
    for screen in result["screens"]:
        print(f"\n## {screen['filter']} {screen['measure']}: {screen['reached']} reach it, {screen['left']} left\n")
        for row in screen["proofs"]:
            print(f"- {row['proof']}\n  nearest photo {row['nearest']}")
            for which in ("photos", "lettered"):
                own = row[which]
                print(
                    f"  {which}: {len(own['contradicted_by'])} of {own['spoken_of']} contradict it, {own['wilson_95']}"
                )
            for name, moved in row["moved"].items():
                print(f"  {name} moved: {moved}")
    print("\n| lettering | of | left | settled | kept against the filter | rejected against it | 95 % of settled |")
    print("|---" * 7 + "|")
    for row in result["lettered"]:
        against = f"{row['kept_against_the_filter']} | {row['rejected_against_the_filter']}"
        counts = f"{row['num']} | {row['left']} | {row['settled']}"
        print(f"| {row['lettering']} | {counts} | {against} | {row['settled_wilson_95']} |")
    print("\n| pictures | of | filter keeps | proven kept | proven rejected | left after | 95 % | other verdict |")
    print("|---" * 8 + "|")
    for row in result["groups"]:
        kept = f"{row['num']} | {row['filter_keeps']} | {row['proven_kept']} | {row['proven_rejected']}"
        print(
            f"| {row['group']} | {kept} | {row['left_after']} | {row['band_wilson_95']} | {len(row['other_verdict'])} |"
        )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts.screens", description=__doc__)
    parser.add_argument("--recipe", default="facecaptionhq-4m")
    parser.add_argument("--filter", default="text", help="the filter that is screened")
    parser.add_argument(
        "--bands", type=Path, default=ROOT / "benchmarks" / "verdicts" / "screens.toml", help="TOML with its screens"
    )
    parser.add_argument("--lettered", type=int, default=360, help="how many photos get seeded lettering")
    parser.add_argument("--truth", default="{}", help="JSON of parameters with which the filter measures the truth")
    parser.add_argument("--known", action="store_true", help="measure nothing, take the pictures that are complete")
    parser.add_argument("--out", type=Path, default=RESULTS / "screens.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

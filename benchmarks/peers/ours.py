"""Our side beside a peer: some steps of a recipe over a folder of pictures, in one process; prints JSON."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from curation.bank import load_bank, weights_of
from curation.decode import decode
from curation.judge import NotYet, judge
from curation.recipe import Recipe, load_recipe

DECODE = "decode"


def main() -> None:
    """Decode each picture, let each step measure it, and print CPU seconds and verdicts by step."""
    folder, recipe_name, *steps = sys.argv[1:]
    recipe = load_recipe(recipe_name)
    bank = load_bank(recipe, weights_of(recipe))
    filters = {step: bank.filters[step] for step in steps if step != DECODE}
    paths = sorted(Path(folder).iterdir())
    first = decode(paths[0].read_bytes(), recipe.file.decode)
    for one in filters.values():
        one.measure([first.rgb])
    seconds = dict.fromkeys(steps, 0.0)
    kept: dict[str, list[bool]] = {name: [] for name in filters}
    for path in paths:
        started = time.process_time()
        picture = decode(path.read_bytes(), recipe.file.decode)
        seconds[DECODE] += time.process_time() - started
        for name, one in filters.items():
            started = time.process_time()
            (evidence,) = one.measure([picture.rgb])
            seconds[name] += time.process_time() - started
            kept[name].append(_keeps(recipe, name, evidence))
    print(json.dumps({"seconds": seconds, "kept": kept}))


def _keeps(recipe: Recipe, name: str, evidence: Any) -> bool:
    """Whether a filter's own keep ranges hold."""
    known = {plan.name: evidence if plan.name == name else None for plan in recipe.filters}
    verdict = judge(known, [criterion for criterion in recipe.criteria if criterion.inputs == (name,)])
    return not isinstance(verdict, NotYet) and verdict.kept


if __name__ == "__main__":
    main()

"""Our side beside a peer: parts of a recipe over a folder of pictures, in one process; prints JSON.

A part is written `decode+colour`: the recipe with these filters alone, and their screens where they have some.
"""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from curation.dataset.sample import uid_of_bytes
from curation.measure.cascade import Entry, measure
from curation.measure.filter_set import FilterBank, load_bank, weights_of
from curation.recipe.judge import NotYet, judge
from curation.recipe.recipe import Recipe, load_recipe


def main() -> None:
    """Let each part look at every picture, and print CPU seconds and verdicts by part."""
    folder, recipe_name, *parts = sys.argv[1:]
    pictures = [path.read_bytes() for path in sorted(Path(folder).iterdir())]
    seconds, kept = {}, {}
    for part in parts:
        recipe = only(load_recipe(recipe_name), part.split("+"))
        bank = load_bank(recipe, weights_of(recipe))
        keeps(pictures[0], bank, recipe)
        started = time.process_time()
        kept[part] = [keeps(image_bytes, bank, recipe) for image_bytes in pictures]
        seconds[part] = time.process_time() - started
    print(json.dumps({"seconds": seconds, "kept": kept}))


def only(recipe: Recipe, names: list[str]) -> Recipe:
    """Return the recipe with some of its filters alone."""
    settings = recipe.file.curate.model_copy(update={"order": (), "shadow_fraction": 0.0})
    filters = tuple(plan for plan in recipe.filters if plan.name in names)
    return replace(recipe, file=recipe.file.model_copy(update={"curate": settings}), filters=filters)


def keeps(image_bytes: bytes, bank: FilterBank, recipe: Recipe) -> bool:
    """Decode and measure one picture as `curate` does, and say whether it stays."""
    (measured,) = measure([Entry(uid_of_bytes(image_bytes), image_bytes)], bank, recipe)
    if measured.refused is not None:
        return False
    verdict = judge(measured.evidence, recipe.criteria)
    return not isinstance(verdict, NotYet) and verdict.kept


if __name__ == "__main__":
    main()

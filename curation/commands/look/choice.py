"""Which recipe looks at a folder of which nobody has said anything: the best one whose weights are here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from curation.commands.curate.work import curate_work
from curation.measure.filter_set import lacking_weights, weights_of
from curation.recipe.recipe import Recipe, load_recipe
from curation.run.target import work_of

CANDIDATES = ("facecaptionhq-4m", "demo")
"""Bundled recipes, best first; the last needs nothing but what Python packages carry."""


@dataclass(frozen=True)
class Chosen:
    """The recipe that looks, and why none of the better ones does."""

    recipe: Recipe
    lacking: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """Better recipes by name, each with the weights that it lacks."""
    is_begun: bool = False
    """Whether it is the one that the folder was begun with, although a better one could look now."""


def choose(curated: Path, candidates: Sequence[str] = CANDIDATES) -> Chosen:
    """Return the best recipe whose weights are here, or that with which the folder `curated` was begun.

    Raises:
        WeightsError: there are weights for none of them; the message says how to get those of the last.
    """
    lacking: list[tuple[str, tuple[str, ...]]] = []
    able: list[Recipe] = []
    for name in candidates:
        recipe = load_recipe(name)
        wanting = lacking_weights(recipe)
        if wanting:
            lacking.append((name, wanting))
        else:
            able.append(recipe)
    if not able:
        weights_of(load_recipe(candidates[-1]))
    begun = work_of(curated)
    own = [recipe for recipe in able if begun and curate_work(recipe, weights_of(recipe)) == begun["work_digest"]]
    recipe = (own or able)[0]
    better = candidates[: candidates.index(recipe.name)]
    return Chosen(recipe, tuple(pair for pair in lacking if pair[0] in better), recipe is not able[0])

"""What screens prove of a run's samples: where one settles a keep range, the filter's own score decides nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curation.measure.columns import known_of
from curation.recipe.judge import Criterion as Judged
from curation.recipe.judge import Settled
from curation.recipe.recipe import Recipe, recipe_of


@dataclass(frozen=True)
class RunProofs:
    """The keep ranges that a recipe's screens may settle."""

    recipe: Recipe | None = None
    criteria: Mapping[str, Judged] = field(default_factory=dict)
    """By `filter.score`; only those with screens."""

    def columns(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the evidence columns by which these keep ranges are settled; none where they have no screens."""
        criteria = [self.criteria[name] for name in names if name in self.criteria]
        inputs = [name for criterion in criteria for screening in criterion.screens for name in screening.inputs]
        inputs += [name for criterion in criteria for name in criterion.inputs]
        return tuple(dict.fromkeys(f"{name}_evidence" for name in inputs))

    def settle(self, row: Mapping[str, Any], name: str) -> Settled | None:
        """Return what a row's evidence makes of a keep range; None where it has no screens."""
        if self.recipe is None or name not in self.criteria:
            return None
        return self.criteria[name].settle(known_of(row, self.recipe))


NO_PROOFS = RunProofs()


def proofs_of(recipe: Mapping[str, Any], where: Path) -> RunProofs:
    """Return what the screens of a resolved recipe may settle; `where` names it in errors.

    Raises:
        RecipeError: it has screens, and a key of it does not hold.
    """
    if not any(stanza.get("screens") for stanza in recipe["filters"]):
        return NO_PROOFS
    built = recipe_of(recipe, f"{where}: the recipe in its manifest")
    screened = (criterion for criterion in built.criteria if criterion.screens)
    return RunProofs(built, {f"{criterion.filter}.{criterion.score}": criterion for criterion in screened})

"""The recipe's filters, loaded: weights found and verified, models built once per process, each column named."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from curation.errors import WeightsError
from curation.images.decode import IN_DIGESTS
from curation.recipe.recipe import Recipe
from curation.storage.publish import digest
from filters.base import Filter
from filters.weights import find_all, find_weights


@dataclass(frozen=True)
class FilterBank:
    """Ready filters by name."""

    filters: Mapping[str, Filter]


def weights_of(recipe: Recipe) -> dict[str, str]:
    """Return name -> sha256 of every weights file that the recipe needs, each verified where it lies.

    Raises:
        WeightsError: files are missing or have another sha256; the message tells of all of them.
    """
    names = sorted({name for plan in recipe.measurers for name in plan.module.weights(plan.measure)})
    return {file.name: file.sha256 for file in find_all(names)}


def measurement_keys(recipe: Recipe, weights: Mapping[str, str]) -> dict[str, str]:
    """Return filter or screen -> digest of all that its evidence depends on: versions, parameters, limits, weights.

    Two ledgers whose keys agree for a filter hold comparable evidence in that column; when a key changes, that
    column alone must be measured again.
    """
    keys = {}
    for plan in recipe.measurers:
        needed = [find_weights(name).name for name in plan.module.weights(plan.measure)]
        keys[plan.name] = digest(
            {
                "filter": plan.filter,
                "version": plan.module.VERSION,
                "measure": plan.measure.model_dump(mode="json"),
                "decode": recipe.file.decode.model_dump(mode="json"),
                "weights": {name: weights[name] for name in needed},
                **IN_DIGESTS,
            }
        )
    return keys


_LOADED: dict[tuple[str, str], FilterBank] = {}


def load_bank(recipe: Recipe, weights: Mapping[str, str]) -> FilterBank:
    """Return the recipe's filters, built at most once per process and set of weights.

    Raises:
        WeightsError: this machine's weights differ from `weights`, those the run was started with.
    """
    name = (recipe.curate_digest + recipe.file.curate.device, digest(dict(weights)))
    if name not in _LOADED:
        here = weights_of(recipe)
        if here != dict(weights):
            changed = sorted(key for key in {*here, *weights} if here.get(key) != weights.get(key))
            raise WeightsError(f"weights {', '.join(changed)}: not the bytes that the run was started with")
        device = recipe.file.curate.device
        built = {plan.name: plan.module.build(plan.measure, device) for plan in recipe.measurers}
        _LOADED[name] = FilterBank(MappingProxyType(built))
    return _LOADED[name]

"""The recipe's filters, loaded: weights found and verified, models built once per process, each column named."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from curation.errors import WeightsError
from curation.images.decode import IN_DIGESTS
from curation.recipe.filter_plan import FilterPlan
from curation.recipe.joint_scores import Known
from curation.recipe.recipe import Recipe
from curation.storage.publish import digest
from filters.base import Extended, Filter, RgbImage
from filters.device.client import served_by
from filters.plugins import bringer_of
from filters.weights import find_all, find_weights


@dataclass(frozen=True)
class FilterBank:
    """Ready filters by name."""

    filters: Mapping[str, Filter]
    inputs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Whose evidence a filter needs to measure, by its name."""

    def measure(self, name: str, images: Sequence[RgbImage], known: Sequence[Known]) -> list[Any]:
        """Return one evidence per picture of the filter, which must be `ready` for what is known of each."""
        measure: Callable[..., list[Any]] = self.filters[name].measure
        return measure(images, *([evidence[other] for evidence in known] for other in self.inputs.get(name, ())))


def weights_of(recipe: Recipe) -> dict[str, str]:
    """Return name -> sha256 of every weights file that the recipe needs, each verified where it lies.

    Raises:
        WeightsError: files are missing or have another sha256; the message tells of all of them. Or they are not those
            whose scores the recipe's limits were calibrated on.
    """
    names = sorted({name for plan in recipe.measurers for name in plan.module.weights(plan.measure)})
    found = {file.name: file.sha256 for file in find_all(names)}
    if (limits := recipe.file.limits) is not None:
        for name, sha256 in limits.weights.items():
            if found.get(name, sha256) != sha256:
                raise WeightsError(
                    f"{recipe.path}: the limits of {limits.file} were calibrated on weights `{name}` of sha256 "
                    f"{sha256}; here they have {found[name]}: calibrate again"
                )
    return found


def lacking_weights(recipe: Recipe) -> tuple[str, ...]:
    """Return the names of the weights of a recipe that are not here, or have other bytes than they should."""
    names = sorted({name for plan in recipe.measurers for name in plan.module.weights(plan.measure)})
    return tuple(name for name in names if not _is_here(name))


def _is_here(name: str) -> bool:
    try:
        find_weights(name)
    except WeightsError:
        return False
    return True


def measurement_keys(recipe: Recipe, weights: Mapping[str, str]) -> dict[str, str]:
    """Return filter or screen -> digest of all that its evidence depends on: versions, parameters, limits, weights.

    Two ledgers whose keys agree for a filter hold comparable evidence in that column; when a key changes, that
    column alone must be measured again.
    """
    keys: dict[str, str] = {}
    for plan in sorted(recipe.measurers, key=lambda plan: bool(plan.inputs)):
        needed = [find_weights(name).name for name in plan.module.weights(plan.measure)]
        keys[plan.name] = digest(
            {
                "filter": plan.filter,
                "version": plan.module.VERSION,
                "measure": plan.measure.model_dump(mode="json"),
                "decode": recipe.file.decode.model_dump(mode="json"),
                "weights": {name: weights[name] for name in needed},
                **IN_DIGESTS,
                **({"plugins": brought} if (brought := plugins_of(plan)) else {}),
                **({"inputs": {name: keys[name] for name in plan.inputs}} if plan.inputs else {}),
            }
        )
    return {plan.name: keys[plan.name] for plan in recipe.measurers}


def plugins_of(plan: FilterPlan) -> list[str]:
    """Return the distributions, with their versions, that bring a filter, or what it measures with; mostly none."""
    own = bringer_of(getattr(plan.module, "__file__", None))
    is_extended = isinstance(plan.module, Extended) and callable(plan.module.plugins)  # a module may bear that name
    parts = plan.module.plugins(plan.measure) if is_extended else ()  # type: ignore[attr-defined]
    return [brought.source for brought in (*([] if own is None else [own]), *parts)]


_LOADED: dict[tuple[str, str], FilterBank] = {}


def load_bank(recipe: Recipe, weights: Mapping[str, str], server: str | None = None) -> FilterBank:
    """Return the recipe's filters, built at most once per process and set of weights.

    Where the address of a device server is given, it runs what onnxruntime would run on the recipe's device; whatever
    else there is runs here, on the CPU.

    Raises:
        WeightsError: this machine's weights differ from `weights`, those the run was started with.
    """
    device = recipe.file.curate.device if server is None else "cpu"
    name = (recipe.curate_digest + (server or device), digest(dict(weights)))
    if name not in _LOADED:
        here = weights_of(recipe)
        if here != dict(weights):
            changed = sorted(key for key in {*here, *weights} if here.get(key) != weights.get(key))
            raise WeightsError(f"weights {', '.join(changed)}: not the bytes that the run was started with")
        with served_by(server):
            built = {plan.name: plan.module.build(plan.measure, device) for plan in recipe.measurers}
        inputs = {plan.name: plan.inputs for plan in recipe.measurers}
        _LOADED[name] = FilterBank(MappingProxyType(built), MappingProxyType(inputs))
    return _LOADED[name]

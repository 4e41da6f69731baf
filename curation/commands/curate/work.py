"""The identity of what `curate` makes, of a folder and of a shard."""

from collections.abc import Callable, Mapping

from curation.dataset.stages import CURATE
from curation.measure.filter_set import measurement_keys
from curation.recipe.recipe import Recipe
from curation.storage.publish import digest


def curate_work(recipe: Recipe, weights: Mapping[str, str]) -> str:
    """Return the digest of all that a curated folder depends on beside its source."""
    return digest([CURATE.name, recipe.curate_digest, measurement_keys(recipe, weights), CURATE.output_since])


def curate_work_id(shard: str, source_sha256: str, recipe: Recipe, weights: Mapping[str, str]) -> str:
    """Return the identity of one shard's work: its source, the recipe, the weights, this stage."""
    return curate_work_id_of(shard, source_sha256, recipe, measurement_keys(recipe, weights))


def curate_work_id_of(shard: str, source_sha256: str, recipe: Recipe, keys: Mapping[str, str]) -> str:
    """Return the same from the measurement keys, where the weights themselves may not be here."""
    return digest([CURATE.name, shard, source_sha256, recipe.curate_digest, dict(keys), CURATE.output_since])


def work_ids(recipe: Recipe, weights: Mapping[str, str]) -> Callable[[str, str], str]:
    """Return what makes the identity of a shard's work of its name and its source's sha256."""
    keys = measurement_keys(recipe, weights)
    return lambda name, sha256: curate_work_id_of(name, sha256, recipe, keys)

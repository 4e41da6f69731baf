"""Features of a run's pictures, as `teach` keeps them beside it: where they lie, how they are measured, and read.

`RUN/curate-features/<measurement key>/<shard>.parquet` holds a row for every picture that was ever asked for.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curation.dataset.manifest import Manifest
from curation.measure.filter_set import measurement_keys, weights_of
from curation.recipe.recipe import Recipe, recipe_of
from curation.storage.paths import local_copy, named

Floats = npt.NDArray[np.float32]
SUFFIX = "-features"
"""What the folder's name adds to that of the curated one."""
SCHEMA = pa.schema([("uid", pa.string()), ("sha256", pa.string()), ("features", pa.list_(pa.float32()))])
NUM_KEY_DIGITS = 16
NUM_BATCH_ROWS = 4096
OF_THE_RUN = ("isolate", "device", "device_server", "num_gpus", "max_decode_s", "max_measure_s", "max_measure_mib")
"""Settings of `[curate]` by which the run's own pictures are met."""


def features_recipe(manifest: Manifest) -> Recipe:
    """Return the recipe that measures features of pictures, and nothing else, as the run decodes them."""
    told = manifest.recipe["curate"]
    curate = {name: told[name] for name in OF_THE_RUN if name in told}
    values = {
        "schema_version": 1,
        "name": "features",
        "decode": manifest.recipe["decode"],
        "curate": {**curate, "measure": "all"},
        "filters": [{"name": "taught", "measure": {"stores_features": True}}],
    }
    return recipe_of(values, "the recipe of features")


def features_folder(target: Path, recipe: Recipe, weights: Mapping[str, str]) -> Path:
    """Return where the features of a curated folder's pictures lie, as a recipe and weights measure them."""
    (key,) = measurement_keys(recipe, weights).values()
    home = named(target)
    return home.parent / f"{home.name}{SUFFIX}" / key[:NUM_KEY_DIGITS]


def stored_features(target: Path, manifest: Manifest) -> Iterator[tuple[list[str], Floats]]:
    """Yield uids and features, (N, 1584), of a curated folder's pictures as far as they are kept, some at a time.

    Raises:
        WeightsError: the network's weights are not here, so which features are its own is not known.
    """
    recipe = features_recipe(manifest)
    folder = features_folder(target, recipe, weights_of(recipe))
    for report in manifest.shards:
        path = folder / f"{report.shard}.parquet"
        if not path.exists():
            continue
        with local_copy(path) as copy, pq.ParquetFile(copy) as table:
            for batch in table.iter_batches(NUM_BATCH_ROWS, columns=["uid", "features"], use_threads=False):
                flat = batch.column("features").flatten().to_numpy(zero_copy_only=False)
                yield batch.column("uid").to_pylist(), flat.reshape(batch.num_rows, -1)

"""A pack is planned in memory that does not grow with the rows: what is as long as they are waits on disk."""

import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest

from curation.commands.pack.plan import chosen, planned
from curation.dataset.ledger import write_table
from curation.dataset.manifest import Manifest, ShardReport
from curation.measure.columns import ledger_schema
from curation.recipe.recipe import Recipe
from curation.storage.publish import publish
from tests.curation.shards import recipe_from

NUM_SHARD_ROWS = 100


def curated(folder: Path, recipe: Recipe, num_shards: int) -> Manifest:
    """Write ledgers of samples of which every tenth has no caption, and the manifest that names them."""
    schema, reports = ledger_schema(recipe), []
    for shard in range(num_shards):
        numbers = range(shard * NUM_SHARD_ROWS, (shard + 1) * NUM_SHARD_ROWS)
        values = {
            "uid": [f"{n:032x}" for n in numbers], "key": [f"{n:09d}" for n in numbers],
            "sha256": [f"{n:064x}" for n in numbers], "format": ["jpg"] * NUM_SHARD_ROWS,
            "kept": [True] * NUM_SHARD_ROWS,
            "num_bytes": [100] * NUM_SHARD_ROWS, "num_captions": [int(n % 10 > 0) for n in numbers],
        }  # fmt: skip
        columns = [
            pa.array(values[f.name], f.type) if f.name in values else pa.nulls(NUM_SHARD_ROWS, f.type) for f in schema
        ]
        path, table = folder / f"{shard:05d}.parquet", pa.table(columns, schema=schema)
        record = publish(path, lambda temp, table=table: write_table(temp, table, {}))  # type: ignore[misc]
        reports.append(ShardReport(path.stem, "w", NUM_SHARD_ROWS, NUM_SHARD_ROWS, {}, {path.name: record}))
    num = num_shards * NUM_SHARD_ROWS
    return Manifest("curate", "laws", recipe.digest, "w", num, num, {}, reports, recipe=recipe.resolved)


def peak_of(folder: Path, recipe: Recipe, num_shards: int) -> int:
    """Plan, go through all that is planned, and return the most bytes that Python has held."""
    folder.mkdir()
    manifest = curated(folder, recipe, num_shards)
    tracemalloc.start()
    try:
        with chosen(folder, manifest, recipe) as choice, planned(choice, recipe) as plan:
            num_packed = sum(len(seats) for _, seats in plan.chunks)
            num_out = sum(len(rows) for rows in plan.rest())
        assert (num_packed, num_out) == (num_shards * 90, num_shards * 10)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_planning_three_times_the_rows_takes_no_more_memory(tmp_path: Path) -> None:
    recipe = recipe_from(tmp_path)
    peak_of(tmp_path / "first", recipe, 1)
    some, many = (peak_of(tmp_path / f"{num}", recipe, num) for num in (20, 60))
    assert many < some + 60 * NUM_SHARD_ROWS * 50

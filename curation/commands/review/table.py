"""The ledgers' scores as one table in memory, read once, for questions that are to be answered while a slider moves."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.commands.review.columns import HIGH, JOINT, LOW, Proven, Score, proofs_of, scores_of
from curation.commands.review.folder import Reviewed
from curation.dataset.ledger import ledger_batches
from curation.measure.cascade import QUARANTINE, UNREADABLE
from curation.measure.columns import known_of, ledger_schema
from curation.recipe.recipe import Recipe
from curation.storage.paths import local_copy

BASE = ("uid", "width", "height", "kept", "rejected_by", "reason", "num_bytes")
NEVER_SHOWN = (UNREADABLE, QUARANTINE)
"""Whose pictures no page shows: they cannot be decoded, or do harm to what decodes them."""
OnShard = Callable[[int], None]
FIRST_OF_UID = """
    CREATE TABLE rows AS SELECT *, row_number() OVER (PARTITION BY uid ORDER BY judged DESC, id) = 1 AS is_first
    FROM read_rows ORDER BY id
"""
"""Of several rows of one uid that which was judged stands for it; the others are duplicates."""


@dataclass(frozen=True)
class RowTable:
    """The table `rows`: a row of the ledgers each, with `id` (its number over all of them), `shard` and its scores.

    `judged` says whether filters decided it; of the rows of one uid, one `is_first`.
    """

    database: Any
    recipe: Recipe
    scores: tuple[Score, ...]
    num_rows: int

    def ask(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return what a query gives; every thread may ask."""
        rows: list[tuple[Any, ...]] = self.database.cursor().execute(query, list(values)).fetchall()
        return rows

    def ask_columns(self, query: str, values: Sequence[Any] = ()) -> Mapping[str, Any]:
        """Return what a query gives as one array per column; null is masked, or NaN."""
        columns: Mapping[str, Any] = self.database.cursor().execute(query, list(values)).fetchnumpy()
        return columns


def read_table(reviewed: Reviewed, on_shard: OnShard = lambda number: None) -> RowTable:
    """Read the ledgers of a curated folder; `on_shard` hears of each that is read.

    What screens prove takes the evidence itself, about as long as `decide --dry-run`.

    Raises:
        ShardError: a ledger cannot be read, or lacks a column that the recipe of the manifest gives it.
    """
    import duckdb

    database, recipe = duckdb.connect(), reviewed.recipe
    scores, proofs = scores_of(recipe), proofs_of(recipe)
    nothing = pa.RecordBatch.from_pylist([], ledger_schema(recipe))
    _put(database, "CREATE TABLE read_rows AS FROM batch", _read(nothing, 0, 0, scores, proofs, recipe))
    num_rows = 0
    for number, shard in enumerate(reviewed.shards):
        with local_copy(shard.ledger) as ledger:
            for batch in ledger_batches(ledger, _wanted(scores, proofs)):
                table = _read(batch, num_rows, number, scores, proofs, recipe)
                _put(database, "INSERT INTO read_rows FROM batch", table)
                num_rows += table.num_rows
        on_shard(number + 1)
    database.execute(FIRST_OF_UID)
    database.execute("DROP TABLE read_rows")
    return RowTable(database, recipe, scores, num_rows)


def _put(database: Any, query: str, batch: pa.Table) -> None:
    database.register("batch", batch)
    try:
        database.execute(query)
    except RuntimeError as error:
        if "interrupted" in str(error):  # what the database makes of Ctrl-C
            raise KeyboardInterrupt from error
        raise
    database.unregister("batch")


def _wanted(scores: Sequence[Score], proofs: Sequence[Proven]) -> list[str]:
    structs = dict.fromkeys(score.struct for score in scores)
    evidence = dict.fromkeys(f"{name}_evidence" for proof in proofs for name in proof.inputs)
    return [*BASE, *structs, *evidence]


def _read(
    batch: pa.RecordBatch, first: int, shard: int, scores: Sequence[Score], proofs: Sequence[Proven], recipe: Recipe
) -> pa.Table:
    num_rows = batch.num_rows
    columns: dict[str, Any] = {"id": pa.array(range(first, first + num_rows), pa.int64())}
    columns["shard"] = pa.array([shard] * num_rows, pa.int32())
    columns |= {name: batch.column(name) for name in BASE}
    filters = pa.array([plan.name for plan in recipe.filters])
    is_filter = pc.fill_null(pc.is_in(batch.column("rejected_by"), filters), False)
    columns["judged"] = pc.or_(batch.column("kept"), is_filter)
    for score in scores:
        columns[score.column] = pc.struct_field(batch.column(score.struct), score.name)
    return pa.table(columns | _bounds(batch, proofs, recipe))


def _bounds(batch: pa.RecordBatch, proofs: Sequence[Proven], recipe: Recipe) -> dict[str, pa.Array]:
    """Return the columns of bounds that evidence gives: null where it gives none, or the ledger the score itself."""
    names = [name for name in batch.schema.names if name == JOINT or name.endswith("_evidence")]
    found: dict[str, list[float | None]] = {
        proof.column + end: [None] * batch.num_rows for proof in proofs for end in (LOW, HIGH)
    }
    for number, row in enumerate(batch.select(names).to_pylist() if proofs else ()):
        known, joint = known_of(row, recipe), row.get(JOINT) or {}
        for proof in proofs:
            if joint.get(proof.joint) is None and (bounds := proof.of(known)) is not None:
                found[proof.column + LOW][number] = bounds.low
                found[proof.column + HIGH][number] = bounds.high
    return {name: pa.array(values, pa.float64()) for name, values in found.items()}

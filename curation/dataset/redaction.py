"""Turns rows of ledgers into tombstones: the row stays, so that counts hold, and says nothing any more of the image."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from curation.dataset.stages import FORGET, FORGOTTEN

STAYS = frozenset({"uid", "source_shard", "num_facecaption_rows", "num_laion_rows"})
"""Columns that say nothing of the image but its hash, where it stood, and how many metadata rows it had."""
STAYS_IF_KEPT = frozenset({"format", "num_captions", "has_caption"})
"""Columns by which `pack` knows that a forgotten row held a place in a final shard, so that the others keep theirs."""
NUM_BLOCK_BYTES = 16 << 10


def coarse_size(num_bytes: int) -> int:
    """Return a size rounded up to whole blocks of 16 KiB: all that is left of that of a forgotten picture."""
    return -(-num_bytes // NUM_BLOCK_BYTES) * NUM_BLOCK_BYTES


def buried(row: Mapping[str, Any], schema: pa.Schema) -> dict[str, Any]:
    """Return the tombstone of a row: its payload null, or empty where the column cannot be null."""
    stays = STAYS | STAYS_IF_KEPT if row["kept"] else STAYS
    empty = {column.name: row[column.name] if column.name in stays else _empty(column) for column in schema}
    if row["kept"] and empty.get("num_captions") is not None:  # a row of `curate`: `pack` cuts by its size
        empty["num_bytes"] = coarse_size(row["num_bytes"])
    return {**empty, "kept": False, "rejected_by": FORGET, "reason": FORGOTTEN}


def bury(table: pa.Table, mask: pa.ChunkedArray) -> pa.Table:
    """Return a ledger in which the rows of `mask` are tombstones; all others are untouched, in their places."""
    numbers = np.flatnonzero(mask.to_numpy(zero_copy_only=False))
    if not len(numbers):
        return table
    rows = [buried(row, table.schema) for row in table.take(pa.array(numbers)).to_pylist()]
    stones = pa.Table.from_pylist(rows, schema=table.schema)
    places = np.arange(table.num_rows)
    places[numbers] = table.num_rows + np.arange(len(numbers))
    return pa.concat_tables([table, stones]).take(pa.array(places))


def recount(
    rejected: Mapping[str, Mapping[str, int]], num_kept: int, rows: Sequence[Mapping[str, Any]]
) -> tuple[int, dict[str, dict[str, int]]]:
    """Return (num_kept, rejected) after these rows, as they were before, have become tombstones."""
    counts = {by: dict(reasons) for by, reasons in rejected.items()}
    for row in rows:
        if row["kept"]:
            num_kept -= 1
        else:
            counts[row["rejected_by"]][row["reason"]] -= 1
        stones = counts.setdefault(FORGET, {})
        stones[FORGOTTEN] = stones.get(FORGOTTEN, 0) + 1
    left = {by: {reason: n for reason, n in sorted(reasons.items()) if n} for by, reasons in sorted(counts.items())}
    return num_kept, {by: reasons for by, reasons in left.items() if reasons}


def _empty(field: pa.Field) -> Any:
    if field.nullable:
        return None
    return "" if pa.types.is_string(field.type) else False if pa.types.is_boolean(field.type) else 0

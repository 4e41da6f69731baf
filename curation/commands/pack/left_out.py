"""Whom a pack leaves out by its recipe, by place: recorded beside the index, since it depends on who else was there.

Places in the curated ledgers say nothing of what is pictured, and stay what they are when somebody is forgotten. So a
pack stays as it was cut although the better one of two near duplicates is forgotten; another pack takes the next best.
The table is there before any shard is, so that this holds for a pack that was stopped, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import MANIFEST_NAME, STATS_SUFFIX, Manifest, read_manifest
from curation.dataset.stages import LEFT_OUT_NAME, PACK
from curation.recipe.recipe import Recipe

Position = tuple[str, int]
"""Curated shard, and row of its ledger."""
SCHEMA = pa.schema(
    [
        pa.field("shard", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("of_shard", pa.string()),
        pa.field("of_row", pa.int64()),
    ]
)
"""Columns of `left_out.parquet`: who is out, why, and for whom."""
CAPTIONS = pa.field("captions", pa.list_(pa.int32()), nullable=False)
"""A column besides, where somebody is packed without some captions: their places; empty where the sample is out."""


@dataclass(frozen=True)
class LeftOut:
    """Why a sample is not packed, and where the better one lies that is."""

    reason: str
    better: Position | None = None
    captions: tuple[int, ...] = ()
    """Where not empty, the sample itself is packed, but with none of these captions, by their places among its own."""

    @property
    def is_unfit(self) -> bool:
        """Whether the sample has no fit caption."""
        return self.better is None and not self.captions


def leaves_out(recipe: Recipe) -> bool:
    """Whether a recipe leaves anybody out for what they are beside others, or for their captions."""
    return recipe.file.pack.near_duplicate_bits is not None or recipe.file.captions is not None


def table_of(left_out: Mapping[Position, LeftOut]) -> pa.Table:
    """Return who is out as it is written, in order of place."""
    schema = SCHEMA.append(CAPTIONS) if any(out.captions for out in left_out.values()) else SCHEMA
    rows = [
        (*place, out.reason, *(out.better or (None, None)), out.captions)
        for place, out in sorted(left_out.items(), key=_place)
    ]
    names = [*SCHEMA.names, CAPTIONS.name]
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=schema)


def recorded(folder: Path, manifest: Manifest | None = None) -> dict[Position, LeftOut] | None:
    """Return whom a pack leaves out; None where no shard is committed yet. `manifest` is the pack's, if known."""
    if manifest is None and (folder / MANIFEST_NAME).is_file():
        manifest = read_manifest(folder, PACK.name)
    if not (_began(folder) if manifest is None else LEFT_OUT_NAME in manifest.files):
        return None
    rows = read_ledger(folder / LEFT_OUT_NAME).to_pylist()
    return {
        (row["shard"], row["row"]): LeftOut(
            row["reason"],
            None if row["of_shard"] is None else (row["of_shard"], row["of_row"]),
            tuple(row.get(CAPTIONS.name, ())),
        )
        for row in rows
    }


def _began(folder: Path) -> bool:
    """Whether an unfinished pack has committed a shard, and so has said before whom it leaves out."""
    return any(folder.glob(f"*{STATS_SUFFIX}")) and (folder / LEFT_OUT_NAME).is_file()


def _place(item: tuple[Position, LeftOut]) -> Position:
    return item[0]

"""The rows of a pack's ledgers: those of packed samples, and of those that stay out."""

import hashlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from curation.commands.caption.rows import PROVENANCE
from curation.commands.pack.placement import Placed
from curation.dataset.ledger import BASE_FIELDS, base_row
from curation.dataset.redaction import buried
from curation.dataset.rights import rights_of
from curation.dataset.sample import Sample
from curation.dataset.stages import PACK
from curation.recipe.recipe import Recipe

EXTRA_FIELDS = (
    pa.field("source_shard", pa.string(), nullable=False),
    pa.field("source_sha256", pa.string()),
    pa.field("format", pa.string(), nullable=False),
    pa.field("shard", pa.string()),
    pa.field("offset", pa.int64()),
    pa.field("num_bytes", pa.int64()),
    pa.field("caption_source", pa.string()),
    pa.field("caption_binding", pa.string()),
    pa.field("license", pa.string()),
    pa.field("author", pa.string()),
    pa.field("rights_json", pa.string()),
)
SCHEMA = pa.schema([*BASE_FIELDS, *EXTRA_FIELDS])
"""Columns of `ledger.parquet` and `index.parquet`; `offset` is that of the picture's tar header, in bytes."""
DUPLICATE_OF = pa.field("duplicate_of", pa.string())
"""A column besides, where the recipe looks for near duplicates: the uid of the picture that is packed for this one."""


def schema_of(recipe: Recipe) -> pa.Schema:
    """Return the columns of a pack's ledgers."""
    more = [] if recipe.file.caption is None else list(PROVENANCE)
    more += [] if recipe.file.pack.near_duplicate_bits is None else [DUPLICATE_OF]
    return pa.schema([*SCHEMA, *more])


def packed_row(seat: Placed, sample: Sample, measured: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ledger's row of a packed sample, but for its place in the shard."""
    base = base_row(
        seat.uid, seat.uid, url=measured["url"], sha256=fields["sha256"],
        width=measured["width"], height=measured["height"],
    )  # fmt: skip
    rights = rights_of(sample.metadata)
    return {
        **base,
        "source_shard": seat.source_shard,
        "source_sha256": hashlib.sha256(sample.image_bytes).hexdigest(),
        "format": seat.format,
        "num_bytes": fields["num_bytes"],
        "caption_source": fields["caption_source"],
        "caption_binding": fields["caption_binding"],
        **{field.name: fields[field.name] or None for field in PROVENANCE if field.name in fields},
        "license": rights.license,
        "author": rights.author,
        "rights_json": rights.as_json,
    }


def vacant_row(seat: Placed) -> dict[str, Any]:
    """Return the row of a forgotten sample, which only holds a place."""
    kept = {**_no_place(), **base_row(seat.uid, ""), "source_shard": seat.source_shard, "format": seat.format}
    return buried(kept, SCHEMA)


def rejected_row(row: Mapping[str, Any], shard: str, reason: str) -> dict[str, Any]:
    """Return the row of a sample that stays out; `row` is the curated shard's."""
    base = base_row(
        row["uid"], row["uid"], url=row["url"], width=row["width"], height=row["height"],
        rejected_by=PACK.name, reason=reason,
    )  # fmt: skip
    return {**_no_place(), **base, "source_shard": shard, "source_sha256": row["sha256"], "format": row["format"]}


def _no_place() -> dict[str, Any]:
    return dict.fromkeys(column.name for column in EXTRA_FIELDS)

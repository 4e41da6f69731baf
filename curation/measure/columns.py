"""The curate ledger's columns: what each filter saw and scored, as Arrow structs, and back again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.dataset.caption_facts import CaptionFacts
from curation.dataset.ledger import BASE_FIELDS, base_row
from curation.dataset.stages import CURATE
from curation.errors import ShardError
from curation.measure.arrow import arrow_type, evidence_type, from_struct, to_struct
from curation.recipe.judge import Verdict
from curation.recipe.recipe import Recipe

EXTRA_FIELDS = (
    pa.field("format", pa.string()),
    pa.field("num_bytes", pa.int64(), nullable=False),
    pa.field("num_captions", pa.int32(), nullable=False),
)
IDENTITY = ("uid", "key", "url", "sha256", "width", "height", *(column.name for column in EXTRA_FIELDS))
"""Columns that say who a sample is, whatever is thought of it."""


CAPTIONS = "captions"
"""Column of what can be said of each caption (`CaptionFacts`), where the recipe has a table `[captions]`."""


def ledger_schema(recipe: Recipe) -> pa.Schema:
    """Return the columns of the curate ledger: who and how large, captions, then two structs per filter, then joint."""
    fields = [*BASE_FIELDS, *EXTRA_FIELDS]
    if recipe.file.captions is not None:
        fields.append(pa.field(CAPTIONS, arrow_type(tuple[CaptionFacts, ...])))
    for plan in recipe.measurers:
        fields.append(pa.field(f"{plan.name}_evidence", evidence_type(plan.module.EVIDENCE)))
        fields.append(pa.field(f"{plan.name}_scores", pa.struct([(name, pa.float64()) for name in plan.module.SCORES])))
    joint = [(name, pa.float64()) for plan in recipe.filters for name in plan.joint]
    if joint:
        fields.append(pa.field("joint_scores", pa.struct(joint)))
    return pa.schema(fields)


def ledger_row(
    identity: Mapping[str, Any], verdict: Verdict, known: Mapping[str, Any], recipe: Recipe
) -> dict[str, Any]:
    """Return a sample's row: identity, verdict, and for every filter its evidence and scores or nulls.

    `identity` holds the columns of `IDENTITY`, and `CAPTIONS` where the recipe asks for it; `known` is
    empty where there was nothing to look at.
    """
    base = {name: identity[name] for name in ("uid", "key", "url", "sha256", "width", "height")}
    row = base_row(**base, rejected_by=verdict.rejected_by, reason=verdict.reason)
    row |= {column.name: identity[column.name] for column in EXTRA_FIELDS}
    if recipe.file.captions is not None:
        row[CAPTIONS] = identity[CAPTIONS]
    for plan in recipe.measurers:
        evidence = known.get(plan.name)
        row[f"{plan.name}_evidence"] = None if evidence is None else to_struct(evidence)
        row[f"{plan.name}_scores"] = None if evidence is None else plan.scores(evidence)
    if any(plan.joint for plan in recipe.filters):
        row["joint_scores"] = joint_scores(known, recipe) if known else None
    return row


def known_of(row: Mapping[str, Any], recipe: Recipe, names: frozenset[str] | None = None) -> dict[str, Any]:
    """Return the evidence that a row holds, by every filter and screen of the recipe; None where it holds none.

    `names` are the filters whose columns may be used; None allows all.
    """
    return {
        plan.name: from_struct(plan.module.EVIDENCE, row[f"{plan.name}_evidence"])
        if (names is None or plan.name in names) and row.get(f"{plan.name}_evidence") is not None
        else None
        for plan in recipe.measurers
    }


@dataclass(frozen=True)
class Footer:
    """What a curate ledger says of its own making."""

    measurement_keys: Mapping[str, str]
    """Filter -> digest of all that its column depends on."""
    source_sha256: str
    """The sha256 of the tar that was curated."""


def footer_of(table: pa.Table, path: Path) -> Footer:
    """Return the footer of a curate ledger; `path` names it in errors.

    Raises:
        ShardError: the ledger does not say what its columns depend on.
    """
    metadata = table.schema.metadata or {}
    try:
        return Footer(json.loads(metadata[b"measurement_keys"]), metadata[b"source_sha256"].decode())
    except (KeyError, ValueError) as error:
        raise ShardError(f"{path}: no curate ledger of this version: its footer lacks {error}") from error


def filters_of(table: pa.Table) -> frozenset[str]:
    """Return the filters that have a column in a curate ledger."""
    suffix = "_evidence"
    return frozenset(name.removesuffix(suffix) for name in table.schema.names if name.endswith(suffix))


def joint_scores(known: Mapping[str, Any], recipe: Recipe) -> dict[str, float | None]:
    """Return each joint score that the evidence settles exactly, else None."""
    exact: dict[str, float | None] = {}
    for plan in recipe.filters:
        for name, score in plan.joint.items():
            bounds = score.bounds(known)
            exact[name] = bounds.low if bounds.low == bounds.high else None
    return exact


def ledger_footer(recipe: Recipe, keys: Mapping[str, str], source_sha256: str) -> dict[str, str]:
    """Return what the footer of a curate ledger says of its making."""
    return {
        "stage": CURATE.name,
        "recipe_name": recipe.name,
        "recipe_digest": recipe.curate_digest,
        "measurement_keys": json.dumps(dict(keys), sort_keys=True),
        "source_sha256": source_sha256,
        "code_version": CURATE.output_since,
    }

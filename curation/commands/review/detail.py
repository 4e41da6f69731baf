"""All that is known of one picture, read from its row of the ledger when somebody looks at it."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow.parquet as pq

from curation.commands.report.thumbnails import MAX_MARKS, marks_of
from curation.commands.review.folder import Reviewed
from curation.commands.review.table import NEVER_SHOWN, RowTable
from curation.commands.review.whatif import name_of
from curation.measure.columns import known_of
from curation.recipe.joint_scores import Known
from curation.recipe.recipe import Recipe
from curation.storage.paths import local_copy

REGION = "region"
"""The kind of a mark that a screen has made."""


def detail(reviewed: Reviewed, table: RowTable, uid: str) -> dict[str, Any] | None:
    """Return identity, verdict, every criterion as the judge sees it, all scores, and what to draw over the picture."""
    rows = table.ask("SELECT id, shard FROM rows WHERE uid = ? AND is_first", [uid])
    if not rows:
        return None
    ((number, shard),) = rows
    ((first,),) = table.ask("SELECT min(id) FROM rows WHERE shard = ?", [shard])
    row = _row(reviewed, shard, number - first)
    known = known_of(row, reviewed.recipe)
    scores = {f"{name.removesuffix('_scores')}": values for name, values in row.items() if name.endswith("_scores")}
    return {
        "id": number,
        "is_shown": row["rejected_by"] not in NEVER_SHOWN,
        **{name: row[name] for name in ("uid", "key", "url", "width", "height", "kept", "rejected_by", "reason")},
        "format": row["format"],
        "num_bytes": row["num_bytes"],
        "criteria": [] if not any(known.values()) else list(_criteria(reviewed.recipe, known)),
        "scores": {
            f"{name}.{score}": plain(value)
            for name, values in scores.items()
            for score, value in (values or {}).items()
            if value is not None
        },
        "marks": list(_marks(row, reviewed.recipe)),
    }


def _row(reviewed: Reviewed, shard: int, number: int) -> dict[str, Any]:
    """Return one row of a ledger, all columns, reading no more than its group of rows."""
    with local_copy(reviewed.shards[shard].ledger) as path, pq.ParquetFile(path) as ledger:
        for group in range(ledger.num_row_groups):
            size = ledger.metadata.row_group(group).num_rows
            if number < size:
                rows: list[dict[str, Any]] = (
                    ledger.read_row_group(group, use_threads=False).slice(number, 1).to_pylist()
                )
                return rows[0]
            number -= size
    raise IndexError(number)


def _criteria(recipe: Recipe, known: Known) -> Iterator[dict[str, Any]]:
    for criterion in recipe.criteria:
        settled = criterion.settle(known)
        yield {
            "name": name_of(criterion),
            "min": criterion.keep.min,
            "max": criterion.keep.max,
            "low": plain(settled.bounds.low),
            "high": plain(settled.bounds.high),
            "failure": settled.failure,
            "holds": settled.holds,
            "by": settled.by,
            "waiting": list(settled.waiting),
        }


def _marks(row: Mapping[str, Any], recipe: Recipe) -> Iterator[dict[str, str]]:
    """Yield outlines and points in pixels of the upright picture; of screens, the regions that they saw."""
    faces = next((plan.score.model_dump() for plan in recipe.filters if plan.name == "faces"), {})
    for mark in marks_of(row, faces):
        yield {"kind": mark.kind, "points": mark.points}
    for plan in recipe.measurers:
        seen = row.get(f"{plan.name}_evidence") or {}
        if plan.name == "text":
            continue
        outlines = [region["corners"] for region in seen.get("regions", ())] + list(seen.get("polygons", ()))
        for corners in outlines[:MAX_MARKS]:
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(corners[::2], corners[1::2], strict=False))
            if "nan" not in points and "inf" not in points:
                yield {"kind": REGION, "points": points}


def plain(value: float) -> float | str:
    """Return a number as JSON can hold it: infinities and NaN as text."""
    return value if math.isfinite(value) else str(value)

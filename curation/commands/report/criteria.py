"""The recipe's keep ranges as the report sees them, and the columns of the ledger where their scores stand."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.dataset.ledger import ledger_batches

Floats = npt.NDArray[np.float64]
KEPT, REJECTED_HERE, REJECTED_ELSEWHERE = range(3)
"""What became of a sample, seen from one criterion: kept, rejected by this very score, rejected by something else."""
FAILURES = ("low", "high", "not_finite")


@dataclass(frozen=True)
class ScoreColumn:
    """One keep range of the recipe, and where its score stands in the ledger."""

    filter: str
    score: str
    min: float | None
    max: float | None
    column: str

    @property
    def name(self) -> str:
        """`filter.score`, unique within a recipe."""
        return f"{self.filter}.{self.score}"

    @property
    def is_whole(self) -> bool:
        """Whether the score is a count."""
        return self.score.startswith("num_")

    @property
    def limits(self) -> tuple[float, ...]:
        """The ends of the keep range that are closed."""
        return tuple(limit for limit in (self.min, self.max) if limit is not None)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Every reason with which this criterion rejects."""
        return tuple(f"{self.score}_{failure}" for failure in FAILURES)

    def holds(self, scores: Floats) -> npt.NDArray[np.bool_]:
        """Return which scores stay."""
        low = -math.inf if self.min is None else self.min
        high = math.inf if self.max is None else self.max
        return np.isfinite(scores) & (scores >= low) & (scores <= high)


def criteria_of(recipe: Mapping[str, Any]) -> tuple[ScoreColumn, ...]:
    """Return every keep range of a resolved recipe, in declared order."""
    return tuple(
        ScoreColumn(
            filter=stanza["name"],
            score=score,
            min=keep.get("min"),
            max=keep.get("max"),
            column=f"joint_scores.{score}" if score in stanza["joint"] else f"{stanza['name']}_scores.{score}",
        )
        for stanza in recipe["filters"]
        for score, keep in stanza["keep"].items()
    )


def read_scores(criterion: ScoreColumn, ledgers: Sequence[Path]) -> Iterator[tuple[Floats, npt.NDArray[np.int64]]]:
    """Yield (scores, fates) of each batch; NaN stands for a score that was not measured.

    Raises:
        ShardError: a ledger cannot be read or has no such score.
    """
    for path in ledgers:
        for batch in ledger_batches(path, ["kept", "rejected_by", "reason", criterion.column]):
            yield scores_in(batch, criterion), _fates(batch, criterion)


def scores_in(batch: pa.RecordBatch, criterion: ScoreColumn) -> Floats:
    """Return the scores of a batch of rows; NaN stands for one that was not measured, infinity for a measured NaN."""
    struct, _, field = criterion.column.partition(".")
    scores = pc.struct_field(batch.column(struct), field)
    scores = pc.if_else(pc.fill_null(pc.is_nan(scores), False), math.inf, scores)
    numbers: Floats = scores.to_numpy(zero_copy_only=False).astype(np.float64)
    return numbers


def _fates(batch: pa.RecordBatch, criterion: ScoreColumn) -> npt.NDArray[np.int64]:
    by_filter = pc.equal(batch.column("rejected_by"), criterion.filter)
    by_score = pc.is_in(batch.column("reason"), pa.array(criterion.reasons))
    here = pc.fill_null(pc.and_(by_filter, by_score), False).to_numpy(zero_copy_only=False)
    kept = batch.column("kept").to_numpy(zero_copy_only=False)
    return np.where(kept, KEPT, np.where(here, REJECTED_HERE, REJECTED_ELSEWHERE))

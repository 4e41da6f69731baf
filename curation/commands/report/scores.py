"""How each score with a keep range is spread over the samples of a run."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from curation.commands.report.criteria import KEPT, REJECTED_HERE, ScoreColumn, read_scores, scores_in
from curation.commands.report.flow import Check
from curation.commands.report.histograms import Histogram, histogram_of
from curation.commands.report.proofs import NO_PROOFS, RunProofs
from curation.commands.report.quantiles import NUM_QUANTILES, Quantiles
from curation.dataset.ledger import ledger_batches

NO_QUANTILES: tuple[float, ...] = ()
REACH_FRACTION = 0.25
"""How far from a limit a near score may lie, as a share of the score's own spread."""


@dataclass(frozen=True)
class ScoreSpread:
    """One criterion, and what the ledgers say of its score."""

    criterion: ScoreColumn
    num_measured: int
    num_not_measured: int
    num_not_finite: int
    num_outside: int
    """Measured samples outside the keep range, whoever is named for their rejection."""
    num_kept_outside: int
    """Samples that were kept although their score lies outside and no screen proves it: 0 unless the run is broken."""
    num_rejected: int
    """Samples whose recorded reason is this very criterion."""
    lowest: float | None
    highest: float | None
    histogram: Histogram | None
    """None where nothing finite was measured."""
    num_proven_kept: int = 0
    """Kept samples whose own score nobody measured: a screen, or another bound of it, had settled it."""
    num_proven_rejected: int = 0
    """Samples that were rejected for it in the same way."""
    quantiles: tuple[float, ...] = field(default=NO_QUANTILES, repr=False, compare=False)
    """The finite scores that stand at every thousandth of their order."""

    @property
    def reach(self) -> float:
        """How far from a limit a score may lie and still be near it, in the score's own spread.

        That is a quarter of the range of the middle nine tenths of all scores, or of all of them where the middle is
        one value; 0 for counts, which have no near cases, and for a score that is always the same.
        """
        if self.criterion.is_whole or not len(self.quantiles):
            return 0.0
        middle = self.quantiles[round(0.95 * NUM_QUANTILES)] - self.quantiles[round(0.05 * NUM_QUANTILES)]
        return REACH_FRACTION * float(middle or self.quantiles[-1] - self.quantiles[0])

    def closeness(self, score: float) -> float:
        """Return the share of all measured samples that lie between a score and its nearest limit, itself included.

        So scores of any unit can be compared; where most samples have one value, none of these is close to a limit.
        """
        shares = []
        for limit in self.criterion.limits:
            low, high = min(score, limit), max(score, limit)
            first, last = np.searchsorted(self.quantiles, low, "left"), np.searchsorted(self.quantiles, high, "right")
            shares.append(float(last - first) / max(1, len(self.quantiles)))
        return min(shares)


def spread_of(  # long: what it counts
    criterion: ScoreColumn, ledgers: Sequence[Path], proofs: RunProofs = NO_PROOFS
) -> ScoreSpread:
    """Read one score's column, a batch at a time, as often as needed to place the bins.

    Raises:
        ShardError: a ledger cannot be read or has no such score.
    """
    num_seen = num_measured = num_outside = num_kept_outside = num_rejected = num_finite = 0
    num_proven_kept = num_proven_rejected = 0
    low, high = math.inf, -math.inf
    order = Quantiles()
    for scores, fates in read_scores(criterion, ledgers):
        num_seen += len(scores)
        num_rejected += int(np.count_nonzero(fates == REJECTED_HERE))
        is_unmeasured = np.isnan(scores)
        num_proven_kept += int(np.count_nonzero(is_unmeasured & (fates == KEPT)))
        num_proven_rejected += int(np.count_nonzero(is_unmeasured & (fates == REJECTED_HERE)))
        measured = scores[~is_unmeasured]
        finite = measured[np.isfinite(measured)]
        order.add(finite)
        num_measured += len(measured)
        num_finite += len(finite)
        outside = ~is_unmeasured & ~criterion.holds(scores)
        num_outside += int(np.count_nonzero(outside))
        num_kept_outside += int(np.count_nonzero(outside & (fates == KEPT)))
        low, high = min(low, finite.min(initial=low)), max(high, finite.max(initial=high))
    if num_kept_outside and criterion.name in proofs.criteria:
        num_kept_outside -= _num_proven(criterion, ledgers, proofs)
    return ScoreSpread(
        criterion=criterion,
        num_measured=num_measured,
        num_not_measured=num_seen - num_measured,
        num_not_finite=num_measured - num_finite,
        num_outside=num_outside,
        num_kept_outside=num_kept_outside,
        num_rejected=num_rejected,
        lowest=float(low) if num_finite else None,
        highest=float(high) if num_finite else None,
        histogram=histogram_of(criterion, ledgers, float(low), float(high)) if num_finite else None,
        num_proven_kept=num_proven_kept,
        num_proven_rejected=num_proven_rejected,
        quantiles=order.thousandths(),
    )


def _num_proven(criterion: ScoreColumn, ledgers: Sequence[Path], proofs: RunProofs) -> int:
    """Count the kept samples whose own score lies outside, and of which a screen proves that it holds."""
    num_proven = 0
    for path in ledgers:
        for batch in ledger_batches(path, ["kept", criterion.column, *proofs.columns([criterion.name])]):
            scores, kept = scores_in(batch, criterion), batch.column("kept").to_numpy(zero_copy_only=False)
            outside = np.flatnonzero(kept & ~np.isnan(scores) & ~criterion.holds(scores))
            for row in batch.take(pa.array(outside)).to_pylist():
                settled = proofs.settle(row, criterion.name)
                num_proven += settled is not None and settled.by is not None and settled.holds
    return num_proven


def check_verdicts(spreads: Sequence[ScoreSpread]) -> Check:
    """Return the check that no kept sample has a score outside a keep range, but by a screen's proof."""
    broken = {spread.criterion.name: spread.num_kept_outside for spread in spreads if spread.num_kept_outside}
    num_broken = sum(broken.values())
    note = f"not so for {', '.join(broken)}" if broken else ""
    return Check("curate: every kept sample is within every keep range", not broken, f"{num_broken:,} outside", note)

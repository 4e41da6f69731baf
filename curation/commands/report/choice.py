"""Which samples a report shows: a seeded choice that depends on the ledgers' rows alone, never on their order."""

import hashlib
import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation.commands.report.criteria import Floats, ScoreColumn, scores_in
from curation.commands.report.ledgers import column_names
from curation.commands.report.proofs import NO_PROOFS, RunProofs
from curation.commands.report.scores import ScoreSpread
from curation.dataset.ledger import ledger_batches

SEED = b"facecaptionhq report 1"
NUM_PER_SHEET = 12
NUM_PER_SIDE = 6
Fate = tuple[str | None, str | None]
"""(rejected_by, reason), or two times None for kept samples."""
ROW_COLUMNS = ("uid", "key", "url", "sha256", "width", "height", "kept", "rejected_by", "reason")
EVIDENCE_COLUMNS = ("faces_evidence", "text_evidence", "anime_evidence")
"""Evidence that can be drawn over a picture."""
SCORES_ENDING = "_scores"


@dataclass(frozen=True, order=True)
class RowPlace:
    """A row of a ledger: the shard's name and the number of the row."""

    shard: str
    row: int


@dataclass(frozen=True)
class Choice:
    """Samples to show under one heading."""

    kind: str
    """`kept`, `rejected`, `near` or `changed`."""
    name: str
    """Who rejected, or which criterion is near; empty for `kept`."""
    num_available: int
    """How many samples the choice was made from."""
    places: tuple[RowPlace, ...]


@dataclass(frozen=True)
class _Side:
    """One side of one limit."""

    criterion: ScoreColumn
    limit: float
    is_inside: bool


@dataclass(frozen=True)
class _Rows:
    """A batch of rows of one ledger."""

    shard: str
    first: int
    """Number of the first of them."""
    uids: tuple[str, ...]
    seed: int

    def place(self, number: int) -> RowPlace:
        return RowPlace(self.shard, self.first + number)

    def token(self, number: int) -> bytes:
        """What ranks a sample: as good as random, yet the same each time."""
        return token_of(self.uids[number], self.seed)


@dataclass
class _Smallest:
    """The entries with the smallest ranks among all that were offered."""

    size: int
    num_offered: int = 0
    entries: list[tuple[Any, ...]] = field(default_factory=list)

    def offer(self, entries: list[tuple[Any, ...]], num_offered: int) -> None:
        self.num_offered += num_offered
        self.entries = heapq.nsmallest(self.size, [*self.entries, *entries])


def token_of(uid: str, seed: int = 0) -> bytes:
    """Return what ranks a sample: as good as random, yet the same each time."""
    key = SEED if seed == 0 else SEED + b" %d" % seed
    return hashlib.blake2b(uid.encode(), key=key, digest_size=8).digest()


def choose(
    ledgers: Sequence[Path],
    spreads: Sequence[ScoreSpread],
    rejectors: Sequence[str],
    num_per_sheet: int = NUM_PER_SHEET,
    seed: int = 0,
) -> tuple[Choice, ...]:
    """Choose kept samples, rejected ones of each of `rejectors` (in turn from each reason), and near ones.

    Near a limit are the samples whose score is closest to it, on either side, within the score's reach.
    """
    num_per_side = max(1, num_per_sheet // 2)
    groups: dict[Fate, _Smallest] = {}
    near = {
        _Side(spread.criterion, limit, is_inside): _Smallest(num_per_side)
        for spread in spreads
        if spread.reach
        for limit in spread.criterion.limits
        for is_inside in (False, True)
    }
    reaches = {spread.criterion: spread.reach for spread in spreads}
    columns = ["uid", "kept", "rejected_by", "reason", *dict.fromkeys(side.criterion.column for side in near)]
    for path in ledgers:
        first = 0
        for batch in ledger_batches(path, columns):
            rows = _Rows(path.stem, first, tuple(batch.column("uid").to_pylist()), seed)
            _offer_groups(groups, batch, rows, num_per_sheet)
            for side, nearest in near.items():
                _offer_nearest(nearest, side, scores_in(batch, side.criterion), reaches[side.criterion], rows)
            first += batch.num_rows
    return tuple(
        choice
        for choice in (
            _kept(groups),
            *(_near(near, criterion) for criterion in dict.fromkeys(side.criterion for side in near)),
            *(_rejected(groups, rejector, num_per_sheet) for rejector in rejectors),
        )
        if choice.places
    )


def read_rows(
    path: Path, rows: Iterable[int], criteria: Sequence[ScoreColumn], proofs: RunProofs = NO_PROOFS
) -> dict[RowPlace, dict[str, Any]]:
    """Return chosen rows of one ledger: base columns, evidence that can be drawn, all scores, `scores` and `proven`.

    The last two are by criterion name; `proven` names the screen that settled it, or is None.
    """
    names = column_names(path)
    evidence = [name for name in names if name in EVIDENCE_COLUMNS or name.endswith(SCORES_ENDING)]
    evidence += [name for name in proofs.columns([c.name for c in criteria]) if name not in evidence]
    wanted = np.array(sorted(rows), dtype=np.int64)
    chosen: dict[RowPlace, dict[str, Any]] = {}
    first = 0
    for batch in ledger_batches(path, [*ROW_COLUMNS, *evidence]):
        here = wanted[(wanted >= first) & (wanted < first + batch.num_rows)]
        for row, values in zip(here.tolist(), batch.take(pa.array(here - first)).to_pylist(), strict=True):
            values["scores"] = {c.name: _score(values, c) for c in criteria}
            settled = {c.name: proofs.settle(values, c.name) for c in criteria}
            values["proven"] = {name: outcome and outcome.by for name, outcome in settled.items()}
            chosen[RowPlace(path.stem, row)] = values
        first += batch.num_rows
    return chosen


def _kept(groups: Mapping[Fate, _Smallest]) -> Choice:
    kept = groups.get((None, None), _Smallest(NUM_PER_SHEET))
    return Choice("kept", "", kept.num_offered, tuple(place for _, place in kept.entries))


def _near(near: Mapping[_Side, _Smallest], criterion: ScoreColumn) -> Choice:
    sides = [nearest for side, nearest in near.items() if side.criterion == criterion]
    by_score = sorted((score, place) for nearest in sides for _, _, score, place in nearest.entries)
    num_available = sum(nearest.num_offered for nearest in sides)
    return Choice("near", criterion.name, num_available, tuple(dict.fromkeys(place for _, place in by_score)))


def _rejected(groups: Mapping[Fate, _Smallest], rejector: str, num_per_sheet: int) -> Choice:
    """Take one of each reason, then a second of each, until the sheet is full."""
    reasons = [groups[fate] for fate in sorted(groups, key=str) if fate[0] == rejector]
    turns = (group.entries[turn][1] for turn in range(num_per_sheet) for group in reasons if turn < len(group.entries))
    return Choice("rejected", rejector, sum(group.num_offered for group in reasons), tuple(turns)[:num_per_sheet])


def _offer_groups(groups: dict[Fate, _Smallest], batch: pa.RecordBatch, rows: _Rows, num_per_sheet: int) -> None:
    offers: dict[Fate, list[tuple[Any, ...]]] = {}
    fates = zip(*(batch.column(name).to_pylist() for name in ("kept", "rejected_by", "reason")), strict=True)
    for number, (kept, by, reason) in enumerate(fates):
        offers.setdefault((None, None) if kept else (by, reason), []).append((rows.token(number), rows.place(number)))
    for fate, entries in offers.items():
        groups.setdefault(fate, _Smallest(num_per_sheet)).offer(entries, len(entries))


def _offer_nearest(nearest: _Smallest, side: _Side, scores: Floats, reach: float, rows: _Rows) -> None:
    """Offer the closest of a batch; all that are equally close, so that the choice among them is by token."""
    distances = np.abs(scores - side.limit)
    is_inside = scores >= side.limit if side.limit == side.criterion.min else scores <= side.limit
    distances = np.where((is_inside == side.is_inside) & (distances <= reach), distances, np.inf)
    num_near = int(np.count_nonzero(np.isfinite(distances)))
    if num_near == 0:
        return
    last = min(nearest.size, num_near) - 1
    numbers = np.flatnonzero(distances <= np.partition(distances, last)[last]).tolist()
    entries = [(float(distances[n]), rows.token(n), float(scores[n]), rows.place(n)) for n in numbers]
    nearest.offer(entries, num_near)


def _score(values: Mapping[str, Any], criterion: ScoreColumn) -> float | None:
    struct, _, name = criterion.column.partition(".")
    score: float | None = (values[struct] or {}).get(name)
    return score

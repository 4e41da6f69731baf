"""What is known of a shard before anybody is asked: replies that were paid for, and who was forgotten in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from curation.commands.caption.arrived import Arrived
from curation.commands.caption.asking import Replied
from curation.commands.caption.rows import Row
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import read_report, stats_path
from curation.dataset.stages import FORGET
from curation.errors import VerificationError
from curation.storage.publish import is_there


@dataclass(frozen=True)
class Known:
    """What earlier work on a shard has left."""

    replies: Mapping[tuple[str, str], Replied] = field(default_factory=dict)
    """By uid and sha256 of the picture."""
    stones: Mapping[str, Row] = field(default_factory=dict)
    """uid -> the row that is left of a forgotten picture; it says whether `pack` keeps a place for it."""

    def reply_to(self, row: Row) -> Replied | None:
        """Return the reply about a curated row, if there is one."""
        return self.replies.get((row["uid"], row["sha256"]))


def known_of(target: Path, shard: str, arrived: Arrived) -> Known:
    """Return what an earlier state of a shard holds, and what has come for this one."""
    rows = _rows(target, shard)
    stored = {(row["uid"], row["sha256"]): Replied(row, None, is_new=False) for row in rows if row["reply"] is not None}
    came = {picture: Replied(columns, None, is_new=True) for picture, columns in arrived.known().items()}
    return Known(came | stored, {row["uid"]: row for row in rows if row["rejected_by"] == FORGET})


def _rows(target: Path, shard: str) -> list[Row]:
    try:
        report = read_report(stats_path(target, shard))
    except (OSError, VerificationError):
        return []
    path = target / f"{shard}.parquet"
    if path.name not in report.files or not is_there(path, report.files[path.name]):
        return []
    rows: list[Row] = read_ledger(path).to_pylist()
    return rows

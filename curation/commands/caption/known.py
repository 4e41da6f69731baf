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
from curation.errors import ShardError, VerificationError
from curation.storage.publish import is_there

MEND = (
    "put it back from a copy; or remove the shard's record and ledger: then all its pictures are asked about again, "
    "and a pack with these captions loses the places of who was forgotten: pack again into a new folder"
)


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
    """Return what an earlier state of a shard holds, and what has come for this one.

    Raises:
        ShardError: there is an earlier state, and it cannot be read: replies that were paid for, and the places of who
            was forgotten, would be lost with it.
    """
    rows = _rows(target, shard)
    stored = {(row["uid"], row["sha256"]): Replied(row, None, is_new=False) for row in rows if row["reply"] is not None}
    came = {picture: Replied(columns, None, is_new=True) for picture, columns in arrived.known().items()}
    return Known(came | stored, {row["uid"]: row for row in rows if row["rejected_by"] == FORGET})


def _rows(target: Path, shard: str) -> list[Row]:
    record, path = stats_path(target, shard), target / f"{shard}.parquet"
    if not record.exists():
        return []
    try:
        report = read_report(record)
    except (OSError, VerificationError) as error:
        raise ShardError(f"{error}; {MEND}") from error
    if path.name not in report.files or not is_there(path, report.files[path.name]):
        raise ShardError(f"{path}: not the ledger that {record.name} names; {MEND}")
    rows: list[Row] = read_ledger(path).to_pylist()
    return rows

"""The one way a shard is written: its tar and ledger grow sample by sample, and a done record claims them at the end.

Nothing appears before `commit`, and nothing counts before its last step, so a shard that is broken off anywhere has
left no trace. `decide`, which writes only the files that change, and `rank`, whose shard is tables alone, publish those
themselves; their done records come from here too.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.dataset.ledger import count_rejections, write_ledger
from curation.dataset.manifest import ShardReport, write_report
from curation.dataset.tar import TarWriter
from curation.storage.fence import fenced
from curation.storage.lease import Lease
from curation.storage.publish import FileRecord, Staged, publish, refusing, staged

Row = Mapping[str, Any]


class ShardWriter:
    """A shard on its way into a folder: `add` every sample in order, then `commit`."""

    def __init__(self, file: Staged, lease: Lease | None, shard: str, work_id: str) -> None:
        """Begin the tar that `file` is; `shard_writer` makes and ends all this."""
        self._file, self._lease, self._shard, self._work_id = file, lease, shard, work_id
        with refusing(file.path):
            self._tar = TarWriter(file.temp)
        self._rows: list[Row] = []

    @property
    def num_rows(self) -> int:
        """Samples that were added so far, kept or not."""
        return len(self._rows)

    @property
    def offset(self) -> int:
        """Where the tar header of the next member will stand, in bytes: for rows that tell it."""
        return self._tar.offset

    def add(self, row: Row, members: Iterable[tuple[str, bytes]] = ()) -> None:
        """Add a sample: its row of the ledger, and its members of the tar where it is kept.

        Raises:
            DiskFullError: there is no room.
            StorageError: the disk refuses.
        """
        with refusing(self._file.path):
            for name, content in members:
                self._tar.add(name, content)
        self._rows.append(row)

    def commit(self, schema: pa.Schema, footer: Mapping[str, str], run: Callable[[], Mapping[str, Any]]) -> ShardReport:
        """Publish the tar, then the ledger, then the done record, and return that.

        `run` tells what may differ between runs; it is asked once both files are there, so it can tell of them too.

        Raises:
            LeaseError: another run took the folder over; nothing is claimed then.
            DiskFullError, StorageError, ShardError: as `publish`.
        """
        tar = self._file.path
        ledger = tar.with_suffix(".parquet")
        with refusing(tar):
            self._tar.close()
        files = {
            tar.name: self._file.publish(),
            ledger.name: publish(ledger, lambda temp: write_ledger(temp, self._rows, schema, footer)),
        }
        report = report_of(self._shard, self._work_id, self._rows, files, run())
        return commit_report(tar.parent, self._lease, report)

    def close(self) -> None:
        """Let go of a tar that was not committed; what the disk says against it no longer matters."""
        with suppress(OSError):
            self._tar.close()


@contextmanager
def shard_writer(target: Path, lease: Lease | None, shard: str, work_id: str) -> Iterator[ShardWriter]:
    """Yield what writes one shard into a folder: `{shard}.tar`, `{shard}.parquet`, and last `{shard}_stats.json`."""
    with ExitStack() as stack:
        if lease is not None:
            stack.enter_context(fenced(lease.fence))
        writer = ShardWriter(stack.enter_context(staged(target / f"{shard}.tar")), lease, shard, work_id)
        stack.callback(writer.close)
        yield writer


def report_of(
    shard: str, work_id: str, rows: Sequence[Row], files: Mapping[str, FileRecord], run: Mapping[str, Any]
) -> ShardReport:
    """Return the done record of a shard whose ledger holds these rows."""
    return ShardReport(
        shard=shard,
        work_id=work_id,
        num_seen=len(rows),
        num_kept=sum(row["kept"] for row in rows),
        rejected=count_rejections(rows),
        files=files,
        run=run,
    )


def commit_report(target: Path, lease: Lease | None, report: ShardReport) -> ShardReport:
    """Write the done record of a shard whose files are durable, and return it.

    Raises:
        LeaseError: another run took the folder over.
    """
    if lease is not None:
        lease.require()
    write_report(target, report)
    return report

"""Shares of one stage's work: each does every N-th shard in a folder of its own, and one folder takes them all over.

A share's folder is an ordinary finished one, so nothing is to be known of the others while it works; a done record
does not say in which folder its shard lies, so taken over it is what one process would have written.
"""

import logging
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from curation.dataset.manifest import MANIFEST_NAME, committed, read_report, stats_path
from curation.dataset.stages import Stage
from curation.errors import ShardError, UsageError
from curation.run.derived import derived_of
from curation.run.shard_writer import commit_report
from curation.run.target import finished
from curation.storage.lease import Lease
from curation.storage.paths import is_local, local_copy, resolved
from curation.storage.publish import publish

FORM = re.compile(r"([1-9][0-9]*)/([1-9][0-9]*)")
log = logging.getLogger(__name__)
S = TypeVar("S")


@dataclass(frozen=True)
class Share:
    """The `number`-th of `num_shares`, from 1."""

    number: int
    num_shares: int

    @classmethod
    def parse(cls, text: str) -> "Share":
        """Read `I/N`.

        Raises:
            UsageError: it is of another form, or I is above N.
        """
        form = FORM.fullmatch(text)
        if form is None or int(form[1]) > int(form[2]):
            raise UsageError(f"--shards {text}: say I/N with I from 1 to N, such as 3/8")
        return cls(int(form[1]), int(form[2]))

    def of(self, shards: Sequence[S]) -> list[S]:
        """Return its part of all shards, which must be the same ones, in one order, for every share."""
        return list(shards[self.number - 1 :: self.num_shares])


def take_over(shares: Sequence[Path], target: Path, stage: Stage, work_digest: str, lease: Lease) -> None:
    """Commit in `target` whatever shares have done, as they did it; a share that is gone was taken over before.

    Raises:
        UsageError: a share is no finished folder of this very work.
        ShardError: a file of a share is not the one that its record names.
    """
    for share in shares:
        if not share.is_dir() and (target / MANIFEST_NAME).is_file():
            continue
        manifest = finished(share, stage)
        if manifest.work_digest != work_digest:
            raise UsageError(f"{share}: holds other work than {target}: another recipe, or other weights")
        for shard in manifest.shards:
            if committed(target, shard.shard, shard.work_id) is not None:
                continue
            for name, record in shard.files.items():
                with local_copy(share / name) as file:
                    if publish(target / name, partial(shutil.copyfile, file)) != record:
                        raise ShardError(f"{share / name}: not the file that its record names; curate this share again")
            commit_report(target, lease, read_report(stats_path(share, shard.shard)))


def clear_away(shares: Sequence[Path], source: Path) -> None:
    """Remove shares that were taken over, with their cards at the source; in object stores they are left, and named."""
    there = {resolved(share): share for share in shares if share.is_dir()}
    for derived in derived_of(source):
        if derived.folder in there and is_local(derived.folder):
            derived.card.unlink(missing_ok=True)
    for share in there.values():
        if is_local(share):
            shutil.rmtree(share, ignore_errors=True)
        else:
            log.warning("%s: taken over; it may be removed", share)

"""Shares of one stage's work: each does every N-th shard in a folder of its own, and one folder takes them all over.

A share's folder is an ordinary finished one, so nothing is to be known of the others while it works; a done record
does not say in which folder its shard lies, so taken over it is what one process would have written.
"""

import logging
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial, reduce
from operator import or_
from pathlib import Path
from typing import TypeVar

from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import (
    MANIFEST_NAME,
    RECIPE_NAME,
    WORK_NAME,
    Manifest,
    ShardReport,
    committed,
    read_manifest,
    read_report,
    stats_path,
)
from curation.dataset.stages import Stage
from curation.dataset.tombstones import (
    FORGOTTEN_FOLDER,
    IDENTITY,
    Tombstones,
    consult,
    tombstones_of,
    write_tombstones,
)
from curation.errors import ShardError, UsageError
from curation.run.derived import DERIVED_FOLDER, derived_of, led_to
from curation.run.folders import done_records
from curation.run.shard_writer import commit_report
from curation.run.sources import Known
from curation.run.target import OWN_FOLDERS, finished, work_of
from curation.storage.lease import Lease, hold
from curation.storage.paths import folders_of, is_local, local_copy, named, resolved, spellings
from curation.storage.publish import digest, publish, publish_sealed

FORM = re.compile(r"([1-9][0-9]*)/([1-9][0-9]*)")
log = logging.getLogger(__name__)
S = TypeVar("S")

JOINED_FOLDER = f"{DERIVED_FOLDER}/joined"
"""Where a folder says, beside its cards and named by no manifest, which shares it took over and may remove."""


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


@dataclass(frozen=True)
class Joined:
    """A share that is there to be taken over, and what its manifest says."""

    folder: Path
    manifest: Manifest


def require_apart(shares: Sequence[Path], source: Path, target: Path, shards: Sequence[Known]) -> None:
    """Refuse shares whose removal would reach what stays, by whatever name they are given.

    Raises:
        UsageError: a share is, holds or lies in the source or the target, or holds a file that a source links to.
    """
    stay = [place for folder in (source, target) for place in spellings(folder)]
    homes = [resolved(home) for home in folders_of(shard.path for shard, _ in shards)]
    for share in shares:
        for place in spellings(share):
            met = [other for other in stay if place == other or place in other.parents or other in place.parents]
            met += [home for home in homes if place == home or place in home.parents]
            if met:
                raise UsageError(
                    f"--join {share}: is, holds or lies in {met[0]}, which stays, and shares are removed once they are "
                    f"taken over; give folders of shares that lie apart"
                )


def shares_in(folders: Sequence[Path], target: Path, stage: Stage, work_digest: str) -> tuple[Joined, ...]:
    """Return the shares that are there to be taken over; those that `target` says it took over may be gone.

    Raises:
        UsageError: a share is no finished folder of this very work, or something was derived from it or put into it.
    """
    found = []
    for share in {resolved(folder): folder for folder in folders}.values():
        if _is_taken(share, target, work_digest):
            continue
        if not share.is_dir():
            raise UsageError(f"--join {share}: no such folder, and none that {target} took over before")
        manifest = finished(share, stage)
        if manifest.work_digest != work_digest:
            raise UsageError(f"{share}: holds other work than {target}: another recipe, or other weights")
        _require_nothing_else(share, manifest, stage)
        found.append(Joined(share, manifest))
    return tuple(found)


def require_same_source(
    shares: Iterable[Joined], source: Path, shards: Sequence[Known], work_id: Callable[[str, str], str]
) -> None:
    """Hold every shard of the shares against this source's; `work_id` makes one of a shard's name and sha256.

    Raises:
        UsageError: a share was made from other shards.
    """
    sha256s = {shard.name: sha256 for shard, sha256 in shards}
    for share in shares:
        for report in share.manifest.shards:
            sha256 = sha256s.get(report.shard)
            if sha256 is None or work_id(report.shard, sha256) != report.work_id:
                wrong = "does not have, or not to be read" if sha256 is None else "has with other bytes"
                raise UsageError(
                    f"{share.folder}: holds shard {report.shard}, which {source} {wrong}; nothing was taken over: give "
                    f"the source that the share was made from, or curate the share again"
                )


def take_over(shares: Sequence[Joined], target: Path, shards: Sequence[Known], lease: Lease) -> None:
    """Commit in `target` whatever shares have done, as they did it, and forget with them whatever they forgot.

    Raises:
        UsageError: what was forgotten here, at the source or by a share lives on in another share or here.
        ShardError: a file of a share is not the one that its record names.
    """
    waiting: dict[str, tuple[Path, ShardReport]] = {}
    for share in shares:
        for report in share.manifest.shards:
            if committed(target, report.shard, report.work_id) is None:
                waiting.setdefault(report.shard, (share.folder, report))
    _forget_together(shares, target, waiting.values(), {shard.name: shard.path for shard, _ in shards})
    for folder, report in waiting.values():
        for name, record in report.files.items():
            if not (folder / name).is_file():
                raise ShardError(f"{folder / name}: missing; curate this share again")
            with local_copy(folder / name) as file:
                if publish(target / name, partial(shutil.copyfile, file)) != record:
                    raise ShardError(f"{folder / name}: not the file that its record names; curate this share again")
        commit_report(target, lease, read_report(stats_path(folder, report.shard)))


def _forget_together(
    shares: Sequence[Joined], target: Path, waiting: Iterable[tuple[Path, ShardReport]], sources: Mapping[str, Path]
) -> None:
    stones_at = cache(consult)
    own = stones_at(target)
    stones = reduce(or_, (stones_at(share.folder) for share in shares), own)
    for folder, report in waiting:
        _require_forgotten(folder, report, reduce(or_, map(stones_at, folders_of([sources[report.shard]])), stones))
    if stones == own:
        return
    for report in done_records(target):
        _require_forgotten(target, report, stones)
    run = named(target).parent
    with hold(run / FORGOTTEN_FOLDER):  # as `forget` does, which may be at work on another folder beside this one
        write_tombstones(run, tombstones_of(run) | stones)


def _require_forgotten(folder: Path, report: ShardReport, stones: Tombstones) -> None:
    ledger = report.file(folder, ".parquet")
    if not stones or not ledger.is_file():
        return
    with local_copy(ledger) as file:
        alive = list(stones.alive(read_ledger(file, list(IDENTITY))))
    if alive:
        raise UsageError(
            f"{ledger}: still tells of {len(alive)} pictures that were forgotten (first: {alive[0]}); nothing was "
            f"taken over: forget them there, too, or remove {folder} and curate it again"
        )


def mark_taken(shares: Sequence[Path], target: Path) -> None:
    """Write down in `target`, which is whole now, which shares it took over: from then on they may be gone."""
    for share in shares:
        publish_sealed(_mark(share, target), {"share": str(resolved(share))})


def clear_away(shares: Sequence[Path], sources: Iterable[Path]) -> None:
    """Remove shares that were taken over, then their cards at the sources; in object stores they are left, and named.

    Killed anywhere and called again, it completes.
    """
    for share in shares:
        if is_local(share) and share.is_dir():
            _remove(share)
        elif share.is_dir():
            log.warning("%s: taken over; it may be removed", share)
    gone = {resolved(share) for share in shares if not share.is_dir()}
    for derived in (one for source in sources for one in derived_of(source)):
        if derived.folder in gone:
            derived.card.unlink(missing_ok=True)


def _remove(share: Path) -> None:
    try:
        shutil.rmtree(resolved(share))
        if share.is_symlink():
            share.unlink()
    except OSError as error:
        log.warning("%s: taken over, and could not be removed (%s); it may be", share, error)


def _mark(share: Path, target: Path) -> Path:
    return target / JOINED_FOLDER / f"{digest(str(resolved(share)))[:16]}.json"


def _is_taken(share: Path, target: Path, work_digest: str) -> bool:
    """Whether a share is gone, or half removed, since `target` took it over: nothing is in it but what is there."""
    if not _mark(share, target).is_file() or not (target / MANIFEST_NAME).is_file():
        return False
    if not share.is_dir():
        return True
    if (share / MANIFEST_NAME).is_file():
        return False
    work, manifest = work_of(share), read_manifest(target)
    is_own = work is None or work["work_digest"] == work_digest
    return is_own and not derived_of(share) and not _others_in(share, manifest)


def _others_in(share: Path, manifest: Manifest) -> list[str]:
    """Return what lies in a share and is neither a record nor of a shard that a manifest names."""
    own = {"", MANIFEST_NAME, RECIPE_NAME, WORK_NAME, DERIVED_FOLDER, *OWN_FOLDERS, *manifest.file_names}
    own |= {stats_path(share, report.shard).name for report in manifest.shards}
    return sorted({path.name for path in share.iterdir()} - own)


def _require_nothing_else(share: Path, manifest: Manifest, stage: Stage) -> None:
    """Refuse a share that more would be lost with than its shards.

    Raises:
        UsageError: something was derived from it, labels or packs, or lies in it.
    """
    for derived in (one for place in spellings(share) for one in led_to(place, stage.name)):
        gone = "" if derived.is_there else f" ({derived.gone}; if it is gone for good, remove {derived.card})"
        raise UsageError(
            f"{share}: {derived.folder} ({derived.stage}) was made from it{gone}, and nobody would know that any more; "
            f"join shares first, then pack, label or teach from the joined folder"
        )
    if others := _others_in(share, manifest):
        raise UsageError(
            f"{share}: {', '.join(others[:5])}: not of a finished share, and would be removed with it; take it "
            f"elsewhere, or curate the share again"
        )

"""Holds the sources that a folder is made from now against those that its shards were made from before.

A source is named by its shard's name and the sha256 of its bytes, wherever it lies, so a tree may be moved; what the
folder holds already it tells by the work ids in its manifest and done records. New shards are welcome. A shard that
is gone, has another name or other bytes is not: its output would be deleted or replaced.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.dataset.manifest import MANIFEST_NAME, STATS_SUFFIX, read_manifest, read_report, stats_path
from curation.dataset.sources import SourceShard
from curation.dataset.sources.made import FileShard, RowShard
from curation.errors import ShardError, UsageError, VerificationError
from curation.storage.publish import sha256_of

REMOVED = "removed"
"""Key of a manifest's `extra`: what was let go by `--allow-removed`, one entry for each time, oldest first."""
NUM_SHOWN = 20
WAY = (
    "the source that it was made from, or another folder, or say --allow-removed to delete or replace what was made "
    "from these"
)
WAY_WHERE_CUT = (
    "the source as it was, or another folder, or say --allow-removed to measure these shards anew: pictures or rows "
    "were added, removed or changed, and shards are cut from all of them in order, so those behind such a place change "
    "too"
)

Known = tuple[SourceShard, str | None]
"""A shard of a source, and its sha256 where that is known."""


@dataclass(frozen=True)
class Difference:
    """What a folder was made from and is not among its sources any more as it was."""

    gone: tuple[str, ...] = ()
    """Shards that no source bears the name of."""
    changed: tuple[str, ...] = ()
    """Shards whose source has other bytes."""

    def __bool__(self) -> bool:
        return bool(self.gone or self.changed)

    @property
    def values(self) -> dict[str, list[str]]:
        """Return it as the manifest records it."""
        return {"gone": list(self.gone), "changed": list(self.changed)}


def known_shards(target: Path) -> dict[str, str]:
    """Return the work id of every shard that a folder holds, by its manifest, else by its done record."""
    known: dict[str, str] = {}
    if (target / MANIFEST_NAME).is_file():
        known = {report.shard: report.work_id for report in read_manifest(target).shards}
    for path in sorted(target.glob(f"*{STATS_SUFFIX}")):
        shard = path.name.removesuffix(STATS_SUFFIX)
        if shard not in known and (work_id := _work_id(stats_path(target, shard))) is not None:
            known[shard] = work_id
    return known


def _work_id(path: Path) -> str | None:
    try:
        return read_report(path).work_id
    except VerificationError:
        return None


def with_sha256s(shards: Sequence[Known], wanted: Collection[str], num_threads: int) -> list[Known]:
    """Return the shards with the sha256 of those that are wanted; one that cannot be read stays without."""
    unknown = [shard for shard, sha256 in shards if shard.name in wanted and sha256 is None]
    with ThreadPoolExecutor(max(1, num_threads)) as pool:
        found = dict(zip((shard.name for shard in unknown), pool.map(_sha256_of, unknown), strict=True))
    return [(shard, found.get(shard.name, sha256)) for shard, sha256 in shards]


def _sha256_of(shard: SourceShard) -> str | None:
    try:
        with shard.opened() as copy:
            return sha256_of(copy)
    except (OSError, ShardError):
        return None


def difference(known: Mapping[str, str], shards: Sequence[Known], work_id: Callable[[str, str], str]) -> Difference:
    """Return which known shards no source gives any more; `work_id` makes one of a shard's name and sha256."""
    sha256s = {shard.name: sha256 for shard, sha256 in shards}
    gone = tuple(sorted(known.keys() - sha256s.keys()))
    changed = tuple(
        name for name in sorted(known.keys() & sha256s.keys())
        if (sha256 := sha256s[name]) is not None and work_id(name, sha256) != known[name]
    )  # fmt: skip
    return Difference(gone, changed)


def way_on(shards: Iterable[SourceShard]) -> str:
    """Return what may be done where a source is not as it was; shards cut from what lies there move with it."""
    return WAY_WHERE_CUT if any(isinstance(shard, FileShard | RowShard) for shard in shards) else WAY


def require_all(source: Path, target: Path, missing: Difference, way: str) -> None:
    """Refuse to let go of what a folder holds; `way` says what to give instead.

    Raises:
        UsageError: something is missing; the message lists it.
    """
    if not missing:
        return
    said = [
        f"{len(names)} {what}: {', '.join(names[:NUM_SHOWN])}{', ...' if len(names) > NUM_SHOWN else ''}"
        for names, what in ((missing.gone, "are gone or renamed"), (missing.changed, "have other bytes"))
        if names
    ]
    raise UsageError(
        f"{target}: made from shards that {source} does not hold as they were ({'; '.join(said)}); nothing was "
        f"touched: give {way}"
    )


def recorded(extra: Mapping[str, Any], missing: Difference) -> dict[str, Any]:
    """Return what a manifest says of everything that was let go so far."""
    let_go = [*extra.get(REMOVED, ()), *([missing.values] if missing else [])]
    return {REMOVED: let_go} if let_go else {}

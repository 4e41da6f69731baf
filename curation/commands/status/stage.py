"""How a run stands, in progress, dead or finished: from its records and leases alone; nothing is held."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from curation.dataset.manifest import MANIFEST_NAME, STATS_SUFFIX, ShardReport, read_manifest, stats_path
from curation.dataset.stages import FETCH, LEDGER_NAME, RANK, STAGES
from curation.run.costs import CALLS
from curation.run.folders import StageFolder, done_records, names_in, stages_of
from curation.storage.lease import Holder, holder_of

WINDOW_S = 3600.0
"""The rate is that of the last hour of work."""
FINISHED, FAILED, RUNNING, DEAD, DAMAGED = (
    "finished", "finished, but for failed shards", "in progress", "dead", "finished, but done records are damaged",
)  # fmt: skip


@dataclass(frozen=True)
class StageStatus:
    """How one stage of a run stands."""

    stage: str
    state: str
    """`finished`, `finished, but for failed shards`, `finished, but done records are damaged`, `in progress`, or
    `dead`: the same command goes on."""
    num_done: int
    """Shards that are committed."""
    num_shards: int | None
    """Shards that there are; None where neither its holder nor the stage before it says."""
    num_seen: int
    num_kept: int
    rejected: Mapping[str, Mapping[str, int]]
    shards_per_hour: float | None
    """Over the last hour of work; None where no record says when it was made."""
    is_rate_of_deciding: bool
    """Whether that work was `decide`, which measures little or nothing."""
    pictures_per_s: float | None
    hours_left: float | None
    """At that rate; None where it, or the number of shards, is not known, and where nothing is left."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Shards that failed when the stage last ended, with the last line of why."""
    quarantined: Mapping[str, int] = field(default_factory=dict)
    """Pictures that could not be measured, by reason."""
    damaged: Sequence[str] = ()
    """Done records that cannot be read, or that a manifest asks for and are not there: what they say is not counted."""
    holder: Holder | None = None


def status(run: Path) -> tuple[StageStatus, ...]:
    """Return how each stage of a run stands, or that of a stage's own folder.

    Raises:
        UsageError: there is none.
        VerificationError: a manifest is not as it was written.
    """
    return tuple(_status(place) for place in stages_of(run))


def _status(place: StageFolder) -> StageStatus:
    records, holder = list(done_records(place.folder)), holder_of(place.folder)
    manifest = read_manifest(place.folder) if (place.folder / MANIFEST_NAME).is_file() else None
    failed = {} if manifest is None else {shard: error.splitlines()[-1] for shard, error in manifest.failed.items()}
    damaged = _damaged(place.folder, records, () if manifest is None else manifest.shards)
    ended = DEAD if manifest is None else DAMAGED if damaged else FAILED if failed else FINISHED
    state = RUNNING if holder is not None and holder.is_alive else ended
    total = _num_shards(place, holder) if manifest is None or state == RUNNING else len(manifest.shards) + len(failed)
    rate, speed = _rates(records)
    left = None if total is None else total - len(records)
    rejected: dict[str, Counter[str]] = {}
    for record in records:
        for by, reasons in record.rejected.items():
            rejected.setdefault(by, Counter()).update(reasons)
    return StageStatus(
        stage=place.stage,
        state=state,
        num_done=len(records),
        num_shards=total,
        num_seen=sum(record.num_seen for record in records),
        num_kept=sum(record.num_kept for record in records),
        rejected={by: dict(sorted(reasons.items())) for by, reasons in sorted(rejected.items())},
        is_rate_of_deciding=bool(records) and _is_of_deciding(_last(records)),
        shards_per_hour=rate,
        pictures_per_s=speed,
        hours_left=left / rate if left and left > 0 and rate else None,
        failed=failed,
        quarantined=Counter(found["reason"] for record in records for found in record.run.get("quarantined", ())),
        damaged=damaged,
        holder=holder,
    )


def _damaged(folder: Path, readable: Sequence[ShardReport], shards: Sequence[ShardReport]) -> tuple[str, ...]:
    """Return the names of the done records that are wanted, or there, and cannot be read."""
    there = {name for name in names_in(folder) if name.endswith(STATS_SUFFIX) and "/" not in name}
    wanted = {stats_path(folder, report.shard).name for report in shards}
    return tuple(sorted((there | wanted) - {stats_path(folder, report.shard).name for report in readable}))


def _num_shards(place: StageFolder, holder: Holder | None) -> int | None:
    """Return how many shards a stage has to do: as its holder says, else as many as the stage before it made."""
    if holder is not None and holder.num_shards is not None:
        return holder.num_shards
    stage = STAGES[place.stage]
    before = place.folder.parent / str(stage.before)
    if not (stage.follows_shards and (before / MANIFEST_NAME).is_file()):
        return None
    manifest = read_manifest(before)
    if stage.name == FETCH.name and manifest.stage == RANK.name:
        return len(manifest.file_names - {LEDGER_NAME} - set(manifest.files))
    return len(manifest.shards)


def _rates(records: Sequence[ShardReport]) -> tuple[float | None, float | None]:
    """Return shards per hour and pictures per second over the last hour of work, by the workers' own clocks.

    Work is what was done last: deciding again, or what the stage does itself.
    """
    is_deciding = bool(records) and _is_of_deciding(_last(records))
    alike = [record for record in records if _is_of_deciding(record) == is_deciding]
    timed = [record for record in alike if {"started", "seconds"} <= record.run.keys()]
    if not timed:
        return None, None
    ends = [record.run["started"] + record.run["seconds"] for record in timed]
    late = [record for record, end in zip(timed, ends, strict=True) if end >= max(ends) - WINDOW_S]
    span = max(ends) - max(max(ends) - WINDOW_S, min(record.run["started"] for record in late))
    if span <= 0:
        return None, None
    return 3600 * len(late) / span, sum(record.num_seen for record in late) / span


def _last(records: Sequence[ShardReport]) -> ShardReport:
    return max(records, key=lambda record: record.run.get("started", 0.0))


def _is_of_deciding(record: ShardReport) -> bool:
    return CALLS in record.run

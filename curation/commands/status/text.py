"""How a run stands, for a terminal and as plain values."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from curation.commands.status.stage import DAMAGED, DEAD, FAILED, StageStatus
from curation.printable import counted, joined
from curation.storage.lease import Holder

NUM_FAILED_SHOWN = 20
NUM_REASONS = 6


def tell(stages: Sequence[StageStatus]) -> str:
    """Return some lines per stage: what is done and left, what failed, who holds it."""
    return joined(line for stage in stages for line in _lines(stage))


def values(stages: Sequence[StageStatus]) -> list[dict[str, Any]]:
    """Return the same as plain values, for JSON."""
    return [asdict(stage) for stage in stages]


def _lines(stage: StageStatus) -> Iterator[str]:
    of = "" if stage.num_shards is None else f" of {stage.num_shards:,}"
    noun = "shard" if (stage.num_done if stage.num_shards is None else stage.num_shards) == 1 else "shards"
    done = f"{stage.num_done:,}{of} {noun}, {stage.num_seen:,} seen, {stage.num_kept:,} kept"
    yield f"{stage.stage}: {stage.state}: {done}"
    if stage.shards_per_hour is not None and stage.pictures_per_s is not None:
        left = "" if stage.hours_left is None else f", {stage.hours_left:,.2f} hours left at this rate"
        rate = f"{stage.shards_per_hour:,.1f} shards per hour, {stage.pictures_per_s:,.1f} pictures per second"
        yield f"  rate{' of deciding again' if stage.is_rate_of_deciding else ''}: {rate}{left}"
    for by, turned_away in stage.rejected.items():
        yield f"  turned away by {by}: {_most(turned_away)}"
    for shard, error in list(stage.failed.items())[:NUM_FAILED_SHOWN]:
        yield f"  failed: {shard}: {error}"
    if len(stage.failed) > NUM_FAILED_SHOWN:
        yield f"  ... and {len(stage.failed) - NUM_FAILED_SHOWN} more (--json lists all)"
    if stage.damaged:
        shown = ", ".join(stage.damaged[:NUM_FAILED_SHOWN]) + (" ..." if len(stage.damaged) > NUM_FAILED_SHOWN else "")
        yield f"  damaged or missing done records: {shown}; `verify` says what holds, the same command makes them anew"
    if stage.quarantined:
        reasons = ", ".join(f"{reason} {number}" for reason, number in sorted(stage.quarantined.items()))
        yield f"  quarantined: {reasons}"
    if stage.holder is not None and not stage.holder.is_released:
        yield f"  {_held(stage.holder)}"
    if stage.state in (DEAD, FAILED, DAMAGED):
        yield f"  {_way_on(stage.holder)}"


def _most(reasons: Mapping[str, int]) -> str:
    """Return the most frequent reasons with their numbers."""
    most = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    more = f", and {counted(len(most) - NUM_REASONS, 'more reason')}" if len(most) > NUM_REASONS else ""
    return ", ".join(f"{reason} {number:,}" for reason, number in most[:NUM_REASONS]) + more


def _way_on(holder: Holder | None) -> str:
    """Return the command that goes on."""
    if holder is None or holder.command is None:
        return "to go on: the command that began it, once more"
    is_here = holder.folder in (None, str(Path.cwd()))
    return f"to go on: {holder.command}" if is_here else f"to go on, in {holder.folder}: {holder.command}"


def _held(holder: Holder) -> str:
    age = "an unknown time" if holder.beat_age_s is None else f"{holder.beat_age_s:,.0f} s"
    who = f"process {holder.pid} on {holder.host} (lease {holder.number}, last heartbeat {age} ago)"
    return f"held by {who}" if holder.is_alive else f"was held by {who}, which is gone"

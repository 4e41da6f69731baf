"""When, where and with what a stage was made: what its done records say beside the work itself."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from curation.commands.curate.origin import ORIGIN, TARGET
from curation.commands.report.flow import FinishedStage
from curation.run.folders import done_records


@dataclass(frozen=True)
class Making:
    """How one stage came about; what no record says is empty."""

    stage: str
    code_version: str
    begun: str = ""
    """When its first shard was begun, UTC."""
    ended: str = ""
    """When the last one that is there now was done, UTC."""
    worked_seconds: float = 0.0
    """Seconds that all its shards took, one after the other."""
    hosts: tuple[str, ...] = ()
    runtime: Mapping[str, str] = field(default_factory=dict)
    """Version of each library that evidence may depend on, and the machine's architecture."""
    source: str = ""
    target: str = ""


def making_of(stage: FinishedStage) -> Making:
    """Return how a stage came about, from the done records of the shards that its manifest names."""
    work = {report.shard: report.work_id for report in stage.manifest.shards}
    runs = [record.run for record in done_records(stage.folder) if work.get(record.shard) == record.work_id]
    version = stage.manifest.code_version
    timed = [(run["started"], run["seconds"]) for run in runs if {"started", "seconds"} <= run.keys()]
    if not timed:
        return Making(stage.name, version)
    return Making(
        stage.name,
        version,
        begun=_time(min(started for started, _ in timed)),
        ended=_time(max(started + seconds for started, seconds in timed)),
        worked_seconds=round(sum(seconds for _, seconds in timed), 1),
        hosts=tuple(sorted({str(run["host"]) for run in runs if "host" in run})),
        runtime=_runtime(runs),
        source=_named(runs, ORIGIN),
        target=_named(runs, TARGET),
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def _runtime(runs: list[Mapping[str, Any]]) -> dict[str, str]:
    found: dict[str, set[str]] = {}
    for run in runs:
        for name, value in dict(run.get("runtime") or {}).items():
            if isinstance(value, str):
                found.setdefault(name, set()).add(value)
    return {name: ", ".join(sorted(values)) for name, values in sorted(found.items())}


def _named(runs: list[Mapping[str, Any]], key: str) -> str:
    return ", ".join(sorted({str(run[key]) for run in runs if key in run}))

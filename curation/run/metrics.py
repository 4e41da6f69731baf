"""What machines watch: a stage's counters for Prometheus, in a textfile, and through Ray's own metrics where Ray runs.

The textfile is that of node_exporter's textfile collector; it appears whole or not at all. Only what this call does is
counted, so counters begin at 0 with each process, as Prometheus expects of them.
"""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from curation.dataset.manifest import ShardReport
from curation.errors import StorageError
from curation.run.costs import PEAK_BYTES, PROFILE
from curation.run.runner import Outcome

log = logging.getLogger(__name__)

WRITE_S = 1.0
"""Seconds between two writes of the textfile; the last one comes when the stage ends."""
BUCKETS_S = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0)


@dataclass(frozen=True)
class MetricKind:
    """One metric: what it counts, and by which labels besides the stage."""

    kind: str
    """`counter`, `gauge` or `histogram`."""
    help: str
    labels: tuple[str, ...] = ()


METRICS: Mapping[str, MetricKind] = MappingProxyType(
    {
        "facecaptionhq_pictures": MetricKind("counter", "Pictures that were seen.", ("verdict",)),
        "facecaptionhq_rejected": MetricKind("counter", "Pictures that were rejected.", ("rejected_by", "reason")),
        "facecaptionhq_bytes": MetricKind("counter", "Bytes of the files of committed shards."),
        "facecaptionhq_shards": MetricKind("counter", "Shards: committed, found done, or failed.", ("outcome",)),
        "facecaptionhq_shard_seconds": MetricKind("histogram", "Seconds that a committed shard took."),
        "facecaptionhq_asked_again": MetricKind("counter", "Links that were asked for again, in later passes."),
        "facecaptionhq_quarantined": MetricKind("counter", "Pictures that could not be measured.", ("reason",)),
        "facecaptionhq_measured": MetricKind("counter", "Pictures that a step has looked at.", ("step",)),
        "facecaptionhq_cpu_seconds": MetricKind("counter", "CPU seconds of each step.", ("step",)),
        "facecaptionhq_peak_bytes": MetricKind(
            "gauge", "Most memory of the last shard's worker and cell.", ("process",)
        ),
        "facecaptionhq_shards_expected": MetricKind("gauge", "Shards that there are to do."),
        "facecaptionhq_lease": MetricKind(
            "gauge", "Number of the lease that is held; one more with each run that takes the folder."
        ),
        "facecaptionhq_up": MetricKind("gauge", "1 while the stage runs and holds its folder, then 0."),
    }
)
"""Every metric; in Prometheus counters end in `_total`, and Ray puts `ray_` before each."""
Measurement = tuple[str, Mapping[str, str], float]


def measurements(outcome: Outcome, *, is_new: bool) -> Iterator[Measurement]:
    """Yield what an outcome adds to counters and histograms; one that was found done counts as a shard alone."""
    if not isinstance(outcome, ShardReport):
        yield "facecaptionhq_shards", {"outcome": "failed"}, 1
        return
    yield "facecaptionhq_shards", {"outcome": "committed" if is_new else "found"}, 1
    if not is_new:
        return
    yield "facecaptionhq_pictures", {"verdict": "kept"}, outcome.num_kept
    yield "facecaptionhq_pictures", {"verdict": "rejected"}, outcome.num_seen - outcome.num_kept
    for by, reasons in outcome.rejected.items():
        for reason, number in reasons.items():
            yield "facecaptionhq_rejected", {"rejected_by": by, "reason": reason}, number
    yield "facecaptionhq_bytes", {}, sum(record.num_bytes for record in outcome.files.values())
    if "seconds" in outcome.run:
        yield "facecaptionhq_shard_seconds", {}, outcome.run["seconds"]
    yield "facecaptionhq_asked_again", {}, sum(outcome.run.get("asked", ())[1:])
    for found in outcome.run.get("quarantined", ()):
        yield "facecaptionhq_quarantined", {"reason": found["reason"]}, 1
    for process, peak in outcome.run.get(PEAK_BYTES, {}).items():
        yield "facecaptionhq_peak_bytes", {"process": process}, peak
    for step, (number, seconds) in outcome.run.get(PROFILE, {}).items():
        yield "facecaptionhq_measured", {"step": step}, number
        yield "facecaptionhq_cpu_seconds", {"step": step}, max(0.0, seconds)


class Sink(Protocol):
    """Where metrics go."""

    def record(self, name: str, labels: Mapping[str, str], value: float) -> None:
        """Add to a counter or a histogram, or set a gauge."""
        ...

    def flush(self, *, is_last: bool = False) -> None:
        """Let be seen what was recorded."""
        ...


class Textfile:
    """Metrics in a file for node_exporter's textfile collector (`prometheus_client` writes and renames it)."""

    def __init__(self, path: Path) -> None:
        """Begin; the file appears with the first `flush`."""
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

        disable_created_metrics()  # type: ignore[no-untyped-call, unused-ignore]
        self._path, self._registry, self._written = path, CollectorRegistry(), -WRITE_S
        kinds: dict[str, Any] = {"counter": Counter, "gauge": Gauge, "histogram": Histogram}
        self._metrics = {
            name: kinds[metric.kind](
                name, metric.help, ("stage", *metric.labels), registry=self._registry,
                **({"buckets": BUCKETS_S} if metric.kind == "histogram" else {}),
            )
            for name, metric in METRICS.items()
        }  # fmt: skip

    def record(self, name: str, labels: Mapping[str, str], value: float) -> None:
        """Add, or set."""
        metric, kind = self._metrics[name].labels(**labels), METRICS[name].kind
        getattr(metric, {"counter": "inc", "gauge": "set", "histogram": "observe"}[kind])(value)

    def flush(self, *, is_last: bool = False) -> None:
        """Write the file, at most once a second.

        Raises:
            StorageError: it cannot be written.
        """
        from prometheus_client import write_to_textfile

        if is_last or time.monotonic() - self._written >= WRITE_S:
            try:
                write_to_textfile(str(self._path), self._registry)
            except OSError as error:
                raise StorageError(f"{self._path}: metrics cannot be written: {error}") from error
            self._written = time.monotonic()


class RayMetrics:
    """Metrics through Ray, whose nodes export them; silent while this process is connected to no Ray.

    What was set before it was connected, such as the number of shards to do, is told once it is.
    """

    def __init__(self) -> None:
        """Make nothing before Ray runs."""
        self.made: dict[str, Any] = {}
        """Ray's metrics by name."""
        self._set_before: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}

    def record(self, name: str, labels: Mapping[str, str], value: float) -> None:
        """Add, or set."""
        ray = sys.modules.get("ray")
        if value < 0:
            return
        if ray is None or not ray.is_initialized():
            if METRICS[name].kind == "gauge":
                self._set_before[name, tuple(labels.items())] = value
            return
        while self._set_before:
            (earlier, tags), was = self._set_before.popitem()
            self._tell(earlier, dict(tags), was)
        self._tell(name, labels, value)

    def _tell(self, name: str, labels: Mapping[str, str], value: float) -> None:
        if name not in self.made:
            self.made[name] = _on_ray(name)
        metric = self.made[name]
        if METRICS[name].kind == "counter":
            if value > 0:  # Ray takes no 0
                metric.inc(value, tags=dict(labels))
        else:
            getattr(metric, "set" if METRICS[name].kind == "gauge" else "observe")(value, tags=dict(labels))

    def flush(self, *, is_last: bool = False) -> None:
        """Ray exports by itself."""


def _on_ray(name: str) -> Any:
    from ray.util.metrics import Counter, Gauge, Histogram

    metric, tags = METRICS[name], ("stage", *METRICS[name].labels)
    if metric.kind == "histogram":
        return Histogram(name, metric.help, boundaries=list(BUCKETS_S), tag_keys=tags)
    return (Counter if metric.kind == "counter" else Gauge)(name, metric.help, tag_keys=tags)


class Watched:
    """A stage whose outcomes are counted."""

    def __init__(self, stage: str, sinks: tuple[Sink, ...]) -> None:
        """Count into these sinks."""
        self._stage, self._sinks = stage, sinks

    def expect(self, num_outcomes: int, lease: int | None = None) -> None:
        """Take the number of shards that there are to do, and that of the lease."""
        held: list[Measurement] = [] if lease is None else [("facecaptionhq_lease", {}, lease)]
        self._tell([*held, ("facecaptionhq_shards_expected", {}, num_outcomes)])

    def count(self, outcome: Outcome, *, is_new: bool) -> None:
        """Count one outcome."""
        self._tell(measurements(outcome, is_new=is_new))

    def is_up(self, *, is_up: bool) -> None:
        """Say that the stage runs, or that it has ended."""
        self._tell([("facecaptionhq_up", {}, float(is_up))], is_last=True, may_fail=not is_up)

    def _tell(self, told: Iterable[Measurement], *, is_last: bool = False, may_fail: bool = True) -> None:
        """Record and show; a run that has begun goes on where its metrics cannot be shown."""
        for name, labels, value in told:
            for sink in self._sinks:
                sink.record(name, {"stage": self._stage, **labels}, value)
        try:
            for sink in self._sinks:
                sink.flush(is_last=is_last)
        except StorageError as error:
            if not may_fail:
                raise
            log.warning("%s", error)


@contextmanager
def watching(stage: str, textfile: Path | None) -> Iterator[Watched]:
    """Yield what counts a stage's outcomes until the block ends, however it does.

    Raises:
        StorageError: the textfile cannot be written.
    """
    watched = Watched(stage, (RayMetrics(), *([Textfile(textfile)] if textfile is not None else [])))
    watched.is_up(is_up=True)
    try:
        yield watched
    finally:
        watched.is_up(is_up=False)

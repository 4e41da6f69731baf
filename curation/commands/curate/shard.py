"""The work of `curate` on one source shard: a tar of the kept and a ledger of all."""

import resource
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

from curation.commands.curate.examine import OPTED_OUT, Examined, examine, identity_of, members
from curation.commands.curate.origin import ORIGIN, TARGET
from curation.commands.curate.work import curate_work_id, curate_work_id_of
from curation.dataset.caption_facts import facts_of_all
from curation.dataset.captions import captions_of
from curation.dataset.manifest import ShardReport, committed
from curation.dataset.sample import Sample
from curation.dataset.sources import SourceShard, source_layout
from curation.dataset.tar.read import samples_of
from curation.dataset.tombstones import consult
from curation.errors import ShardError, UsageError
from curation.images.reservations import reservation_in
from curation.measure.arrow import to_struct
from curation.measure.columns import CAPTIONS, ledger_footer, ledger_row, ledger_schema
from curation.measure.filter_set import measurement_keys
from curation.recipe.recipe import Recipe
from curation.run.costs import PEAK_BYTES, PROFILE, profile, whereabouts
from curation.run.shard_writer import shard_writer
from curation.run.tally import Tally
from curation.sandbox.in_flight import intent_path
from curation.sandbox.parent import CELL
from curation.sandbox.quarantine import quarantine
from curation.storage.lease import Lease
from curation.storage.paths import folders_of, read_ahead
from curation.storage.publish import sha256_of
from curation.version import runtime


@dataclass(frozen=True)
class CurateJob:
    """All that one shard's work depends on."""

    shard: str
    source: SourceShard
    target: Path
    recipe: Recipe
    weights: Mapping[str, str]
    source_sha256: str | None = None
    """The source tar's sha256 where a manifest names it; otherwise the tar is read to know."""
    lease: Lease | None = None
    ahead: Path | None = None
    """Source of a shard that is worked on soon after this one."""
    origin: Path | None = None
    """The whole source, for the done record: where pictures that are turned away may be seen again."""
    tally: Path | None = None
    """Where it says how far it is."""


def curate_shard(job: CurateJob) -> ShardReport:
    """Measure, judge and commit one shard: `{shard}.tar`, `{shard}.parquet`, and last `{shard}_stats.json`.

    Raises:
        ShardError: the source tar is not whole, or not the one that its manifest names; nothing is committed then.
        LeaseError: another run took the target over.
    """
    started, cpu_started = time.time(), time.process_time()
    if not job.source.path.exists():
        raise UsageError(f"{job.source.path}: no such shard on {socket.gethostname()}")
    if job.source_sha256 is not None and (report := _committed(job, job.source_sha256)) is not None:
        return report
    with job.source.opened() as source:
        read_ahead(job.ahead)
        source_sha256 = sha256_of(source)
        if job.source_sha256 not in (None, source_sha256):
            raise ShardError(
                f"{job.source.path}: not the bytes that fetch's manifest names, or that lay here when this run began; "
                f"run fetch, or this, again"
            )
        if (report := _committed(job, source_sha256)) is not None:
            return report
        return _write_shard(job, source, source_sha256, (started, cpu_started))


def done_before(job: CurateJob) -> ShardReport | None:
    """Return the done record of a shard whose source is known to be what it was made from."""
    return None if job.source_sha256 is None else _committed(job, job.source_sha256)


def _committed(job: CurateJob, source_sha256: str) -> ShardReport | None:
    work_id = curate_work_id(job.shard, source_sha256, job.recipe, job.weights)
    return committed(job.target, job.shard, work_id)


def _write_shard(job: CurateJob, source: Path, source_sha256: str, began: tuple[float, float]) -> ShardReport:
    """Read, measure, judge, add: the way of every sample of a shard, in order."""
    recipe, schema = job.recipe, ledger_schema(job.recipe)
    stones = reduce(or_, map(consult, (job.target, *folders_of([job.source.path]))))
    keys = measurement_keys(recipe, job.weights)
    work_id = curate_work_id_of(job.shard, source_sha256, recipe, keys)
    footer = ledger_footer(recipe, keys, source_sha256)
    spent: list[Mapping[str, float]] = []
    reserved: list[dict[str, str]] = []
    layout = source_layout(job.source, source)
    skipped = {"skipped": dict(sorted(layout.skipped.items()))} if layout.skipped else {}
    with shard_writer(job.target, job.lease, job.shard, work_id) as shard:
        intent = intent_path(job.target, job.shard, work_id)
        with quarantine(recipe, job.weights, job.source.path, intent) as quarantined:
            samples = samples_of(layout, source, job.source.path)
            tally = Tally(job.tally, job.shard, layout.num_pictures)
            for examined in examine(samples, job.shard, recipe, quarantined.measure):
                row = stones.row(_row(examined, recipe), schema)
                shard.add(row, members(examined) if row["kept"] else ())
                tally.add(row["kept"])
                spent.append(examined.measured.seconds)
                reserved += _reserved(examined)
            quarantined.require(shard.num_rows)
        found: dict[str, Any] = (
            {"quarantined": quarantined.found} | ({OPTED_OUT: reserved} if reserved else {}) | skipped
        )
        found |= {ORIGIN: str(job.origin), TARGET: str(job.target)} if job.origin is not None else {}
        return shard.commit(schema, footer, lambda: run_facts(*began, recipe, spent) | found | {PEAK_BYTES: _peaks()})


def _row(examined: Examined, recipe: Recipe) -> dict[str, Any]:
    told = {} if recipe.file.captions is None else {CAPTIONS: _captions(examined.sample, recipe)}
    return ledger_row(identity_of(examined) | told, examined.verdict, examined.measured.evidence, recipe)


def _captions(sample: Sample, recipe: Recipe) -> list[Any]:
    captions = captions_of(sample.caption, sample.metadata)
    return [to_struct(facts) for facts in facts_of_all(captions, recipe.file.pack.max_caption_characters)]


def _reserved(examined: Examined) -> list[dict[str, str]]:
    """Return where a picture that was turned away for it says that it is reserved."""
    if examined.verdict.reason != OPTED_OUT:
        return []
    found = reservation_in(examined.sample.image_bytes)
    return [{"uid": examined.uid, **vars(found)}] if found is not None else []


def run_facts(
    started: float, cpu_started: float, recipe: Recipe, spent: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    """Return what may differ between equal runs: when, where and with which libraries, and where the time went.

    `started` and `cpu_started` are `time.time` and `time.process_time` of the beginning; `spent` holds the CPU seconds
    of each picture by step.
    """
    own = time.process_time() - cpu_started
    in_here = 0.0 if recipe.file.curate.isolate else sum(sum(steps.values()) for steps in spent)
    return {
        **whereabouts(started),
        "runtime": {**runtime(), **_device(recipe), "order": list(recipe.order)},
        PROFILE: profile(spent, own - in_here, len(spent)),
    }


def _device(recipe: Recipe) -> dict[str, Any]:
    """Return where networks ran; a device server is told only where there was one."""
    curate = recipe.file.curate
    return {"device": curate.device} | ({"device_server": True} if curate.device_server else {})


def _peaks() -> dict[str, int]:
    """Return the most memory that this process and its cell have held so far, bytes."""
    peaks = {"worker": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10, "cell": CELL.peak_bytes}
    return {process: peak for process, peak in peaks.items() if peak is not None}

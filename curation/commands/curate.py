"""The stage `curate`: pictures of one source shard through the filters, into a tar of the kept and a ledger of all."""

import hashlib
import json
import os
import resource
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import zip_longest
from operator import or_
from pathlib import Path
from typing import Any

from curation.dataset.caption_facts import facts_of_all
from curation.dataset.captions import captions_of
from curation.dataset.manifest import MANIFEST_NAME, WORK_NAME, Manifest, ShardReport, committed, read_manifest
from curation.dataset.sample import Sample
from curation.dataset.sources import SourceShard, TarShard, shards_in, source_layout
from curation.dataset.sources.made import PackedTar
from curation.dataset.stages import CURATE, FETCH
from curation.dataset.tar import sample_members
from curation.dataset.tar.read import samples_of
from curation.dataset.tombstones import consult
from curation.errors import ShardError, UsageError
from curation.images.decode import require_decoders
from curation.images.reservations import reservation_in
from curation.measure.arrow import to_struct
from curation.measure.cascade import Entry, Measured
from curation.measure.columns import CAPTIONS, ledger_footer, ledger_row, ledger_schema
from curation.measure.filter_set import measurement_keys, plugins_of, weights_of
from curation.recipe.judge import Verdict, judge
from curation.recipe.recipe import Recipe
from curation.run.costs import PEAK_BYTES, PROFILE, profile, whereabouts
from curation.run.derived import homes_of, register_at
from curation.run.folders import done_records
from curation.run.runner import OnOutcome, Spread, run_all, silent, tally_of
from curation.run.shard_writer import shard_writer
from curation.run.shares import (
    Share,
    clear_away,
    mark_taken,
    require_apart,
    require_same_source,
    shares_in,
    take_over,
)
from curation.run.sources import (
    Known,
    difference,
    known_shards,
    recorded,
    require_all,
    way_on,
    with_sha256s,
)
from curation.run.tally import Tally
from curation.run.target import Facts, claimed, finish, finished
from curation.sandbox.in_flight import intent_path
from curation.sandbox.parent import CELL
from curation.sandbox.quarantine import quarantine
from curation.storage.lease import Lease
from curation.storage.paths import folders_of, location, named, read_ahead
from curation.storage.publish import digest, sha256_of
from curation.version import runtime

MAX_BATCH_BYTES = 64 << 20
"""Encoded bytes of the pictures that are handed over together."""
MAX_FEW_SHARDS, MAX_FEW_BYTES = 16, 8 << 20
"""Tars that are so few and small are measured sooner than a Ray of one's own has started."""
ORIGIN, TARGET = "source", "target"
"""Where a done record says what was curated and into which folder, among what may differ between equal runs."""

OPTED_OUT = "opted_out"
"""Reason: the picture's own metadata reserves it from training."""
Measure = Callable[[Sequence[Entry]], list[Measured]]


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


@dataclass(frozen=True)
class Examined:
    """What became of one sample: its verdict, and the evidence that was measured on the way."""

    sample: Sample
    uid: str
    measured: Measured
    verdict: Verdict


def curate(  # long: its options, and one line of work
    source: Path,
    target: Path,
    recipe: Recipe,
    spread: Spread,
    on_outcome: OnOutcome = silent,
    *,
    allow_removed: bool = False,
    share: Share | None = None,
    taken: Sequence[Path] = (),
) -> Manifest:
    """Curate every shard of `source` into `target`; the manifest is written when every shard had its outcome.

    Shards that came to the source since the last time are added. `allow_removed` lets go of what was made from shards
    that are gone or have changed; the manifest records it. `share` takes only its part of the shards
    (`curation.run.shares`); `taken` are the folders of shares, which `target` takes over and which go once it is whole.

    Raises:
        UsageError: there is no shard, `target` holds the output of another recipe or stage, or of shards that
            `source` does not hold as they were.
        WeightsError: a detector's weights are missing or not the ones that the catalogue names.
    """
    source, target = named(source), named(target)
    shards = source_shards(source)
    shards = shards if share is None else share.of(shards)
    require_apart(taken, source, target, shards)
    require_decoders(recipe.file.decode)
    weights = weights_of(recipe)
    work_digest, work_id = curate_work(recipe, weights), _work_ids(recipe, weights)
    joined = shares_in(taken, target, CURATE, work_digest)
    with claimed(target, CURATE, work_digest, recipe) as lease:
        names = known_shards(target).keys() | {report.shard for one in joined for report in one.manifest.shards}
        shards = with_sha256s(shards, names, min(max(1, spread.num_workers), os.cpu_count() or 1))
        require_same_source(joined, source, shards, work_id)
        take_over(joined, target, shards, lease)
        before = read_manifest(target).extra if (target / MANIFEST_NAME).is_file() else {}
        missing = difference(known_shards(target), shards, work_id)
        if not allow_removed:
            require_all(source, target, missing, way_on(shard for shard, _ in shards))
        homes = homes_of([source / MANIFEST_NAME, *(shard.path for shard, _ in shards)])
        register_at(homes, target, CURATE.name)
        soon = [shard.path for shard, _ in shards[max(1, spread.num_workers) :]]
        jobs = [
            CurateJob(shard.name, shard, target, recipe, weights, sha, lease, ahead, source, tally_of(on_outcome))
            for (shard, sha), ahead in zip_longest(shards, soon)
        ]
        outcomes = run_all(jobs, curate_shard, _not_more_than_needed(spread, shards), on_outcome, _done_before)
        brought = {plan.name: sources for plan in recipe.measurers if (sources := plugins_of(plan))}
        extra = {**before, "curate_digest": recipe.curate_digest, **recorded(before, missing)}
        extra |= {"plugins": brought} if brought else {}
        manifest = finish(target, CURATE, recipe, work_digest, outcomes, Facts(weights=weights, extra=extra), lease)
        if not manifest.failed:
            mark_taken(taken, target)
    if not manifest.failed:
        clear_away(taken, homes)
    return manifest


def _not_more_than_needed(spread: Spread, shards: Sequence[Known]) -> Spread:
    """Return a spread that starts no Ray of its own where measuring takes less time than that."""
    if spread.ray_address is not None or not 0 < len(shards) <= MAX_FEW_SHARDS:
        return spread
    num_bytes = sum(shard.path.stat().st_size for shard, _ in shards if shard.path.is_file())
    is_little = all(isinstance(shard, TarShard | PackedTar) for shard, _ in shards) and num_bytes <= MAX_FEW_BYTES
    return replace(spread, num_workers=0) if is_little else spread


def _done_before(job: CurateJob) -> ShardReport | None:
    """Return the done record of a shard whose source is known to be what it was made from."""
    return None if job.source_sha256 is None else _committed(job, job.source_sha256)


def _work_ids(recipe: Recipe, weights: Mapping[str, str]) -> Callable[[str, str], str]:
    """Return what makes the identity of a shard's work of its name and its source's sha256."""
    keys = measurement_keys(recipe, weights)
    return lambda name, sha256: curate_work_id_of(name, sha256, recipe, keys)


def curate_work(recipe: Recipe, weights: Mapping[str, str]) -> str:
    """Return the digest of all that a curated folder depends on beside its source."""
    return digest([CURATE.name, recipe.curate_digest, measurement_keys(recipe, weights), CURATE.output_since])


def curate_work_id(shard: str, source_sha256: str, recipe: Recipe, weights: Mapping[str, str]) -> str:
    """Return the identity of one shard's work: its source, the recipe, the weights, this stage."""
    return curate_work_id_of(shard, source_sha256, recipe, measurement_keys(recipe, weights))


def curate_work_id_of(shard: str, source_sha256: str, recipe: Recipe, keys: Mapping[str, str]) -> str:
    """Return the same from the measurement keys, where the weights themselves may not be here."""
    return digest([CURATE.name, shard, source_sha256, recipe.curate_digest, dict(keys), CURATE.output_since])


def origin_of(target: Path) -> Path | None:
    """Return what a folder was curated from, by its done records; None where they do not say, or it lies there no more.

    Shards that were curated before a source was moved may name its old place: the first that is there counts.
    """
    for name in dict.fromkeys(record.run.get(ORIGIN) for record in done_records(target)):
        if name is not None and (origin := location(str(name))).exists():
            return origin
    return None


def source_shards(source: Path) -> list[tuple[SourceShard, str | None]]:
    """Return the shards of a source in order of name, each with the sha256 that a manifest of `fetch` names, if any.

    Raises:
        UsageError: the source is missing, holds nothing that could be read, or is one that `fetch` has not finished.
    """
    if (source / WORK_NAME).exists() or (source / MANIFEST_NAME).exists():
        tars = ((report, report.file(source, ".tar")) for report in finished(source, FETCH).shards)
        return [(TarShard(tar.stem, tar), report.files[tar.name].sha256) for report, tar in tars]
    return [(shard, None) for shard in shards_in(source)]


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


def _peaks() -> dict[str, int]:
    """Return the most memory that this process and its cell have held so far, bytes."""
    peaks = {"worker": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10, "cell": CELL.peak_bytes}
    return {process: peak for process, peak in peaks.items() if peak is not None}


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


def _committed(job: CurateJob, source_sha256: str) -> ShardReport | None:
    work_id = curate_work_id(job.shard, source_sha256, job.recipe, job.weights)
    return committed(job.target, job.shard, work_id)


def _row(examined: Examined, recipe: Recipe) -> dict[str, Any]:
    told = {} if recipe.file.captions is None else {CAPTIONS: _captions(examined.sample, recipe)}
    return ledger_row(identity_of(examined) | told, examined.verdict, examined.measured.evidence, recipe)


def _captions(sample: Sample, recipe: Recipe) -> list[Any]:
    captions = captions_of(sample.caption, sample.metadata)
    return [to_struct(facts) for facts in facts_of_all(captions, recipe.file.pack.max_caption_characters)]


def examine(samples: Iterable[Sample], shard: str, recipe: Recipe, measure: Measure) -> Iterator[Examined]:
    """Yield what becomes of each sample, in order, a batch at a time.

    A uid whose picture could be read shadows those that come after it; a torn copy shadows none.
    """
    seen: set[str] = set()
    for batch in _batches(samples, shard, recipe.file.curate.num_batch_samples):
        away = {
            uid: verdict for uid, sample in batch if (verdict := _turned_away(uid, sample, seen, recipe)) is not None
        }
        entries = [Entry(uid, sample.image_bytes) for uid, sample in batch if uid not in away]
        measured = dict(zip((entry.uid for entry in entries), measure(entries) if entries else (), strict=True))
        for uid, sample in batch:
            outcome = Measured(refused=away[uid]) if uid in away else measured[uid]
            if outcome.refused is None:
                seen.add(uid)
            yield Examined(sample, uid, outcome, _verdict(outcome, recipe))


def _batches(samples: Iterable[Sample], shard: str, size: int) -> Iterator[list[tuple[str, Sample]]]:
    """Yield the samples with their uids in batches in which no uid stands twice, each of so many bytes at most.

    A picture that is larger goes alone.
    """
    batch: dict[str, Sample] = {}
    num_bytes = 0
    for sample in samples:
        uid, num_more = sample.uid(shard), len(sample.image_bytes)
        if batch and (len(batch) == size or uid in batch or num_bytes + num_more > MAX_BATCH_BYTES):
            yield list(batch.items())
            batch, num_bytes = {}, 0
        batch[uid] = sample
        num_bytes += num_more
    if batch:
        yield list(batch.items())


def _turned_away(uid: str, sample: Sample, seen: set[str], recipe: Recipe) -> Verdict | None:
    """Return why a sample is not even looked at, or None."""
    if sample.problem is not None:
        return Verdict(CURATE.name, sample.problem)
    if uid in seen:
        return Verdict(CURATE.name, "duplicate_uid")
    is_free = recipe.file.curate.reservations == "ignore" or reservation_in(sample.image_bytes) is None
    return None if is_free else Verdict(CURATE.name, OPTED_OUT)


def _verdict(measured: Measured, recipe: Recipe) -> Verdict:
    if measured.refused is not None:
        return measured.refused
    verdict = judge(measured.evidence, recipe.criteria)
    assert isinstance(verdict, Verdict), f"every filter that {verdict} waits for has measured"
    return verdict


def members(examined: Examined) -> Iterator[tuple[str, bytes]]:
    """Yield the tar members of a kept sample: the bytes as they came, its metadata, its caption."""
    return members_as(examined.uid, str(examined.measured.format), examined.sample)


def members_as(uid: str, image_format: str, sample: Sample) -> Iterator[tuple[str, bytes]]:
    """Yield the tar members of a sample under the uid and the format that its ledger gives it."""
    metadata = json.dumps(sample.metadata, sort_keys=True).encode()
    return sample_members(uid, image_format, sample.image_bytes, metadata, sample.caption)


def identity_of(examined: Examined) -> dict[str, Any]:
    """Return the columns of the ledger that say who a sample is."""
    sample, measured = examined.sample, examined.measured
    return {
        "uid": examined.uid,
        "key": clean(sample.key),
        "url": None if sample.url is None else clean(sample.url),
        "sha256": hashlib.sha256(sample.image_bytes).hexdigest() if sample.image_bytes else None,
        "width": measured.width,
        "height": measured.height,
        "format": measured.format,
        "num_bytes": len(sample.image_bytes),
        "num_captions": len(captions_of(sample.caption, sample.metadata)),
    }


def clean(text: str) -> str:
    """Parquet holds UTF-8 only; a lone surrogate from hostile JSON becomes a question mark."""
    return text.encode("utf-8", "replace").decode()

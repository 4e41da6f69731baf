"""Deciding again: another recipe over a curated folder, from its ledgers, measuring only what is still undecided.

The folder's manifest and files stay as they are until every shard is decided; then one swap shows the new state. A
file whose content would not change is not written again, so untouched shards cost nothing.
"""

import hashlib
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.commands.curate.examine import MAX_BATCH_BYTES, clean, members_as
from curation.commands.curate.origin import ORIGIN, TARGET, origin_of, source_shards
from curation.commands.curate.shard import run_facts
from curation.commands.curate.work import curate_work, curate_work_id
from curation.commands.decide.preview import Opinion, Preview, add, opinion, preview_of
from curation.dataset.ledger import read_ledger, write_ledger
from curation.dataset.manifest import HISTORY, Manifest, ShardReport, committed, read_report, stats_path
from curation.dataset.sample import Sample
from curation.dataset.sources import SourceShard, source_samples
from curation.dataset.stages import CURATE, FETCH
from curation.dataset.tar import TarWriter, read_samples
from curation.dataset.tombstones import consult
from curation.errors import ShardError, UsageError, VerificationError
from curation.measure.cascade import Entry, Measured
from curation.measure.columns import CAPTIONS, IDENTITY, filters_of, footer_of, ledger_footer, ledger_row, ledger_schema
from curation.measure.filter_set import measurement_keys, weights_of
from curation.recipe.judge import NotYet, judge
from curation.recipe.recipe import Recipe, recipe_of
from curation.run.costs import CALLS
from curation.run.runner import OnOutcome, ShardFailure, Spread, run_all, silent
from curation.run.shard_writer import commit_report, report_of
from curation.run.target import Facts, finish, finished, settle
from curation.sandbox.in_flight import intent_path
from curation.sandbox.quarantine import quarantine
from curation.storage.lease import Lease, hold
from curation.storage.paths import local_copy, named, spellings
from curation.storage.publish import FileRecord, publish, refusing, sha256_of, staged

NUM_NAME_DIGITS = 8
"""Digits of the work id in the names of files that are written anew."""


@dataclass(frozen=True)
class DecideJob:
    """All that one shard's new decision depends on."""

    shard: str
    report: ShardReport
    """The record of the shard as it is now."""
    source: SourceShard | None
    """The shard that was curated; needed only where something must be measured or comes back."""
    target: Path
    recipe: Recipe
    weights: Mapping[str, str]
    lease: Lease | None = None


@dataclass(frozen=True)
class Ledger:
    """A shard's ledger as it is now, and what the new recipe says of each row."""

    table: pa.Table
    source_sha256: str
    opinions: tuple[Opinion, ...]


def decide(
    run: Path, recipe: Recipe, spread: Spread, source: Path | None = None, on_outcome: OnOutcome = silent
) -> Manifest:
    """Decide a curated folder again by another recipe, and return its new manifest.

    `run` holds the folder `curate`, or is it; `source` is the folder that was curated (the run's `fetch` by default).

    Raises:
        UsageError: the folder is not finished, or the new recipe decodes otherwise, which is another curation.
        ShardError: some shards could not be decided; the folder still shows its last state.
        LeaseError: another run holds the folder.
    """
    target, source = places_of(run, source)
    with hold(target) as lease:
        consult(target)
        before = curated(target, recipe)
        weights = weights_of(recipe)
        work_digest = curate_work(recipe, weights)
        if before.work_digest == work_digest:
            settle(target, before, recipe, lease)
            return before
        jobs = [replace(job, lease=lease) for job in _jobs(before, target, source, recipe, weights)]
        outcomes = run_all(jobs, decide_shard, spread, on_outcome)
        failures = [outcome for outcome in outcomes if isinstance(outcome, ShardFailure)]
        if failures:
            raise ShardError(
                f"{target}: {len(failures)} of {len(jobs)} shards could not be decided again (first: "
                f"{failures[0].shard}: {failures[0].error}); the folder still shows its last state; run again to go on"
            )
        extra = {**before.extra, "curate_digest": recipe.curate_digest, HISTORY: recipes_of(before)}
        return finish(target, CURATE, recipe, work_digest, outcomes, Facts(weights=weights, extra=extra), lease)


def foresee(run: Path, recipe: Recipe) -> Preview:
    """Return what `decide` would give and cost; nothing is written and no model is called.

    Raises:
        UsageError: as `decide`.
    """
    target, _ = places_of(run, None)
    consult(target)
    manifest = curated(target, recipe)
    weights = weights_of(recipe)
    where = f"{target}: a recipe in its manifest"
    recipes = [recipe_of(values, where) for values in recipes_of(manifest)]
    previews = []
    for job in _jobs(manifest, target, None, recipe, weights):
        ledger = read(job)
        is_measured = any(judged.wanted for judged in ledger.opinions)
        is_rewritten = is_measured or not _equal(ledger, _rows(ledger, {}, recipe), recipe)
        previews.append(preview_of(job.shard, ledger.opinions, recipe, recipes, is_rewritten))
    return add(previews)


def decide_shard(job: DecideJob) -> ShardReport:
    """Decide one shard: new files only where their content changes, then the done record of the new work.

    Raises:
        ShardError: a sample must be measured or comes back, and the source tar is not the one that was curated.
        LeaseError: another run took the folder over.
    """
    started, cpu_started = time.time(), time.process_time()
    ledger = read(job)
    work_id = curate_work_id(job.shard, ledger.source_sha256, job.recipe, job.weights)
    if (report := committed(job.target, job.shard, work_id)) is not None:
        return report
    measured, quarantined = _measure(job, ledger, work_id)
    rows = _rows(ledger, measured, job.recipe)
    stem = f"{job.shard}.{work_id[:NUM_NAME_DIGITS]}"
    files = {**_tar(job, ledger, rows, stem), **_ledger(job, ledger, rows, stem)}
    run = run_facts(started, cpu_started, job.recipe, [outcome.seconds for outcome in measured.values()]) | {
        CALLS: _calls(ledger, measured),
        "quarantined": quarantined,
        "rewritten": sorted(set(files) - set(job.report.files)),
    }
    run = _whereabouts(job) | run
    return commit_report(job.target, job.lease, report_of(job.shard, work_id, rows, files, run))


def _whereabouts(job: DecideJob) -> dict[str, Any]:
    """Return what the done record before said of where its pictures came from."""
    try:
        before = read_report(stats_path(job.target, job.shard)).run
    except (OSError, VerificationError):
        return {}
    return {name: before[name] for name in (ORIGIN, TARGET) if name in before}


def read(job: DecideJob) -> Ledger:
    """Read a shard's ledger and form an opinion on each of its rows."""
    path = job.report.file(job.target, ".parquet")
    table = read_ledger(path)
    footer = footer_of(table, path)
    keys = measurement_keys(job.recipe, job.weights)
    usable = frozenset(name for name, key in keys.items() if footer.measurement_keys.get(name) == key)
    filters_before = filters_of(table)
    opinions = tuple(opinion(row, job.recipe, usable, filters_before) for row in table.to_pylist())
    return Ledger(table, footer.source_sha256, opinions)


def recipes_of(manifest: Manifest) -> list[Mapping[str, Any]]:
    """Return the recipes that judged a curated folder, resolved, oldest first."""
    return [*manifest.extra.get(HISTORY, ()), manifest.recipe]


def places_of(run: Path, source: Path | None = None) -> tuple[Path, Path]:
    """Return the curated folder, and what it was curated from: beside it, where its link leads, or as it recorded."""
    target = named(run / CURATE.name if (run / CURATE.name).is_dir() else run)
    beside = [place.parent / FETCH.name for place in spellings(target)]
    found = source or next((folder for folder in beside if folder.is_dir()), None) or origin_of(target) or beside[0]
    return target, named(found)


def curated(target: Path, recipe: Recipe) -> Manifest:
    """Return the manifest of a curated folder that another recipe may judge.

    Raises:
        UsageError: the folder is not finished, or the recipe decodes or looks at captions otherwise.
    """
    manifest = finished(target, CURATE)
    if manifest.recipe["decode"] != recipe.resolved["decode"]:
        raise UsageError(
            f"{target}: recipe {recipe.name!r} decodes otherwise ([decode]), so nothing measured here holds; "
            f"curate into a new folder with it"
        )
    if told_of_captions(recipe.resolved) not in (None, told_of_captions(manifest.recipe)):
        raise UsageError(
            f"{target}: recipe {recipe.name!r} asks what captions are like ([captions]), which nobody has looked at "
            f"here, or not in this length; curate into a new folder with it"
        )
    return manifest


def told_of_captions(recipe: Mapping[str, Any]) -> int | None:
    """Return up to which length a resolved recipe asks what captions are like; None where it does not ask."""
    return recipe["pack"]["max_caption_characters"] if recipe.get("captions") is not None else None


def _jobs(
    manifest: Manifest, target: Path, source: Path | None, recipe: Recipe, weights: Mapping[str, str]
) -> list[DecideJob]:
    there = shards_by_name(source) if source else {}
    return [
        DecideJob(report.shard, report, there.get(report.shard), target, recipe, weights) for report in manifest.shards
    ]


def shards_by_name(source: Path) -> dict[str, SourceShard]:
    """Return the shards of what was curated, by name; none where it is gone, since few decisions ask for them."""
    try:
        return {shard.name: shard for shard, _ in source_shards(source)}
    except UsageError:
        return {}


def _measure(job: DecideJob, ledger: Ledger, work_id: str) -> tuple[dict[int, Measured], list[dict[str, str]]]:
    """Return what the undecided rows' pictures give, by row number, and which of them were quarantined.

    Raises:
        ShardError: the source does not hold all of them.
    """
    wanted = {i: judged for i, judged in enumerate(ledger.opinions) if judged.wanted}
    if not wanted:
        return {}, []
    measured: dict[int, Measured] = {}
    intent = intent_path(job.target, job.shard, work_id)
    with quarantine(job.recipe, job.weights, job.report.file(job.target, ".tar"), intent) as quarantined:
        for batch in _batches(_source(job, ledger, wanted), job.recipe.file.curate.num_batch_samples):
            entries = [
                Entry(wanted[i].row["uid"], sample.image_bytes, wanted[i].known, wanted[i].wanted)
                for i, sample in batch
            ]
            measured |= dict(zip((i for i, _ in batch), quarantined.measure(entries), strict=True))
        quarantined.require(len(ledger.opinions))
    if missing := wanted.keys() - measured.keys():
        raise ShardError(f"{_shown(job)}: lacks {len(missing)} of {len(wanted)} samples that must be measured again")
    return measured, quarantined.found


def _source(job: DecideJob, ledger: Ledger, rows: Mapping[int, Any]) -> Iterator[tuple[int, Sample]]:
    """Yield some rows' samples from the tar that was curated, by key: what was forgotten may be gone from it."""
    numbers: dict[str, deque[int]] = defaultdict(deque)
    for i, judged in enumerate(ledger.opinions):
        numbers[judged.row["key"]].append(i)
    if job.source is None or not job.source.path.exists():
        raise ShardError(
            f"{_shown(job)}: not here, but {len(rows)} samples of shard {job.shard} must be read from it; "
            f"name the folder that was curated with --source"
        )
    with job.source.opened() as tar:
        if sha256_of(tar) != ledger.source_sha256:
            raise ShardError(f"{job.source.path}: not the tar that shard {job.shard} was curated from")
        for sample in source_samples(job.source, tar):
            waiting = numbers.get(clean(sample.key))
            if waiting and (i := waiting.popleft()) in rows:
                if hashlib.sha256(sample.image_bytes).hexdigest() != ledger.opinions[i].row["sha256"]:
                    raise ShardError(f"{job.source.path}: {sample.key}: its bytes are not those that the ledger names")
                yield i, sample


def _shown(job: DecideJob) -> Path | str:
    """Return what errors call the shard that was curated."""
    return job.source.path if job.source is not None else f"source of shard {job.shard}"


def _batches(stream: Iterator[tuple[int, Sample]], size: int) -> Iterator[list[tuple[int, Sample]]]:
    batch: list[tuple[int, Sample]] = []
    num_bytes = 0
    for number, sample in stream:
        num_more = len(sample.image_bytes)
        if batch and (len(batch) == size or num_bytes + num_more > MAX_BATCH_BYTES):
            yield batch
            batch, num_bytes = [], 0
        batch.append((number, sample))
        num_bytes += num_more
    if batch:
        yield batch


def _calls(ledger: Ledger, measured: Mapping[int, Measured]) -> dict[str, int]:
    """Count by filter how many pictures it has measured."""
    calls = Counter(
        name
        for i, outcome in measured.items()
        for name, evidence in outcome.evidence.items()
        if evidence is not None and ledger.opinions[i].known[name] is None
    )
    return dict(calls)


def _rows(ledger: Ledger, measured: Mapping[int, Measured], recipe: Recipe) -> list[dict[str, Any]]:
    """Return the ledger's rows as the new recipe has them; an undecided row that was not measured keeps its verdict."""
    rows = []
    for i, judged in enumerate(ledger.opinions):
        identity, known, verdict = {name: judged.row[name] for name in IDENTITY}, judged.known, judged.after
        identity |= {CAPTIONS: judged.row.get(CAPTIONS)}
        if i in measured:
            outcome = measured[i]
            known = {} if outcome.refused else outcome.evidence
            verdict = outcome.refused or judge(known, recipe.criteria)
            identity |= {name: getattr(outcome, name) for name in ("width", "height", "format")}
        rows.append(ledger_row(identity, judged.before if isinstance(verdict, NotYet) else verdict, known, recipe))
    return rows


def _equal(ledger: Ledger, rows: Sequence[Mapping[str, Any]], recipe: Recipe) -> bool:
    schema = ledger_schema(recipe)
    if not ledger.table.schema.equals(schema):
        return False
    return bool(pa.Table.from_pylist(list(rows), schema=schema).equals(ledger.table))


def _ledger(job: DecideJob, ledger: Ledger, rows: list[dict[str, Any]], stem: str) -> dict[str, FileRecord]:
    path = job.report.file(job.target, ".parquet")
    keys = measurement_keys(job.recipe, job.weights)
    if _equal(ledger, rows, job.recipe) and footer_of(ledger.table, path).measurement_keys == keys:
        return {path.name: job.report.files[path.name]}
    footer = ledger_footer(job.recipe, keys, ledger.source_sha256)
    name = f"{stem}.parquet"
    write = partial(write_ledger, rows=rows, schema=ledger_schema(job.recipe), footer=footer)
    return {name: publish(job.target / name, write)}


def _tar(job: DecideJob, ledger: Ledger, rows: Sequence[Mapping[str, Any]], stem: str) -> dict[str, FileRecord]:
    path = job.report.file(job.target, ".tar")
    before = {judged.row["uid"] for judged in ledger.opinions if judged.before.kept}
    after = {row["uid"]: row["format"] for row in rows if row["kept"]}
    if after.keys() == before:
        return {path.name: job.report.files[path.name]}
    name = f"{stem}.tar"
    kept = {i: row for i, row in enumerate(rows) if row["kept"]}
    if after.keys() <= before:
        with local_copy(path) as tar:
            left = ((after[s.key], s.key, s) for s in read_samples(tar, after.keys(), shown=path))
            return {name: _write(job.target / name, left, path, len(after))}
    samples = ((kept[i]["format"], kept[i]["uid"], sample) for i, sample in _source(job, ledger, kept))
    return {name: _write(job.target / name, samples, _shown(job), len(after))}


def _write(path: Path, samples: Iterator[tuple[str, str, Sample]], where: Path | str, num_samples: int) -> FileRecord:
    """Publish a tar of samples, each with its format and uid, that must be as many as are kept."""
    num_written = 0
    with staged(path) as file, refusing(path), closing(TarWriter(file.temp)) as tar:
        for image_format, uid, sample in samples:
            for name, content in members_as(uid, image_format, sample):
                tar.add(name, content)
            num_written += 1
        if num_written != num_samples:
            raise ShardError(f"{where}: gave {num_written} of {num_samples} samples that are kept")
        tar.close()
        return file.publish()

"""The stage `pack`: the kept samples of all curated shards, cut into the final shards that a trainer reads.

What goes where is planned from the ledgers alone; then every final shard is a job of its own.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.commands.caption.beside import (
    NewCaption,
    captions_of_shard,
    places_of,
    reports_for,
    require_captions,
)
from curation.commands.caption.stage import captions_of_folder
from curation.commands.pack.card import CARD
from curation.commands.pack.left_out import leaves_out, schema_in, tables_of
from curation.commands.pack.members import packed_members
from curation.commands.pack.placement import Chunk, Placed
from curation.commands.pack.plan import PackChoice, PackPlan, chosen, planned
from curation.commands.pack.rows import packed_row, schema_of, vacant_row
from curation.commands.pack.spool import Spool
from curation.commands.pack.training_sample import has_face_fields, score_fields, training_sample
from curation.dataset.ledger import in_row_groups, read_ledger, rejections_of, write_tables
from curation.dataset.manifest import MADE_FROM, Manifest, ShardReport, committed
from curation.dataset.sample import Sample
from curation.dataset.stages import CARD_NAME, CURATE, INDEX_NAME, LEDGER_NAME, LEFT_OUT_NAME, PACK
from curation.dataset.tar import read_samples
from curation.dataset.tombstones import consult
from curation.errors import ShardError
from curation.images.containers import ImageFormat, strip_metadata
from curation.recipe.recipe import Recipe
from curation.run.derived import register
from curation.run.recipes_apart import require_curated_by
from curation.run.runner import OnOutcome, Outcome, Spread, run_all, silent
from curation.run.shard_writer import shard_writer
from curation.run.target import Facts, claimed, finish, finished
from curation.storage.lease import Lease
from curation.storage.paths import local_copy, named
from curation.storage.publish import FileRecord, digest, publish
from curation.storage.spilled import Spilled

CAPTIONS_FROM = "captions_from"
"""Key of the manifest's `extra`: the state of the new captions that it was packed with."""
CURATED_RECIPE = "curated_recipe_digest"
"""Key of the manifest's `extra`: the recipe by which the folder was decided that it was packed from."""


@dataclass(frozen=True)
class PackJob:
    """All that one final shard depends on."""

    shard: str
    source: Path
    target: Path
    recipe: Recipe
    placed: tuple[Placed, ...]
    inputs: tuple[ShardReport, ...]
    """The curated shards that it draws from."""
    captions: Mapping[str, ShardReport]
    """Curated shard -> the replies about it, where the recipe asks for such."""
    lease: Lease | None = None


def pack(source: Path, target: Path, recipe: Recipe, spread: Spread, on_outcome: OnOutcome = silent) -> Manifest:
    """Pack a curated folder into `NNNNN.tar`, `index.parquet`, `ledger.parquet`, a card and a manifest.

    Raises:
        UsageError: `source` is not a finished `curate` folder, or `target` holds the output of other work.
    """
    source, target = named(source), named(target)
    curated = finished(source, CURATE)
    require_curated_by(source, curated, recipe, "pack")
    captions = require_captions(source, curated, recipe)
    work_digest = pack_work(curated, recipe)
    with claimed(target, PACK, work_digest, recipe) as lease:
        register(source, target, PACK.name, curated.state)
        stones, told = consult(target) | consult(source), places_of(source, recipe)
        with ExitStack() as stack:
            with chosen(source, curated, recipe, told, target, stones=stones) as choice:
                said = _say_left_out(target, recipe, choice)
                plan = stack.enter_context(planned(choice, recipe, stones))
            jobs = pack_jobs(source, target, recipe, curated, plan, lease)
            outcomes = run_all(jobs, pack_shard, spread, on_outcome, _packed)
            lease.require()
            tables, rejected = _write_tables(target, recipe, outcomes, plan), plan.rejected
        facts = Facts(
            weights=curated.weights,
            files={**said, **tables},
            extra={
                "schema": sample_fields(recipe),
                CURATED_RECIPE: curated.recipe_digest,
                MADE_FROM: curated.state,
                **({} if captions is None else {CAPTIONS_FROM: captions.state}),
            },
            rejected_before=rejections_of(rejected),
        )
        return finish(target, PACK, recipe, work_digest, outcomes, facts, lease)


def pack_work(curated: Manifest, recipe: Recipe) -> str:
    """Return the digest of all that a packed folder depends on: the curated shards, the recipe, this stage."""
    return digest([PACK.name, [_hashes(report) for report in curated.shards], recipe.digest, PACK.output_since])


@dataclass(frozen=True)
class PackJobs:
    """One job per final shard of which anything is left, each made as it is asked for."""

    source: Path
    target: Path
    recipe: Recipe
    inputs: Mapping[str, ShardReport]
    """The curated shards by name."""
    replies: Mapping[str, ShardReport]
    chunks: Spilled[str, Chunk]
    lease: Lease | None = None

    def __len__(self) -> int:
        """Return the number of jobs."""
        return len(self.chunks)

    def __iter__(self) -> Iterator[PackJob]:
        """Yield all jobs, as often as they are asked for."""
        return (self.of(shard, seats) for shard, seats in self.chunks)

    def of(self, shard: str, seats: tuple[Placed, ...]) -> PackJob:
        """Return the job of one final shard, with the curated shards that it draws from."""
        sources = sorted({seat.source_shard for seat in seats})
        inputs = tuple(self.inputs[source] for source in sources)
        replies = {source: self.replies[source] for source in sources if source in self.replies}
        return PackJob(shard, self.source, self.target, self.recipe, seats, inputs, replies, self.lease)


def pack_jobs(
    source: Path, target: Path, recipe: Recipe, curated: Manifest, plan: PackPlan, lease: Lease | None = None
) -> PackJobs:
    """Return the jobs of a plan."""
    inputs = {report.shard: replace(report, run={}) for report in curated.shards}
    return PackJobs(source, target, recipe, inputs, reports_for(source, recipe), plan.chunks, lease)


def pack_work_id(job: PackJob) -> str:
    """Return the identity of one final shard's work: what it draws from, what stands where, the recipe, this stage."""
    places = [
        (
            seat.uid,
            seat.source_shard,
            seat.row,
            *(["forgotten"] if seat.is_forgotten else [["without", *seat.repeated]] if seat.repeated else []),
            *([["told", seat.told]] if seat.told and not seat.is_forgotten else []),
        )
        for seat in job.placed
    ]
    return digest(
        [PACK.name, job.shard, [_hashes(report) for report in job.inputs], places, job.recipe.digest, PACK.output_since]
    )


def _say_left_out(target: Path, recipe: Recipe, choice: PackChoice) -> dict[str, FileRecord]:
    """Write the table of those whom the recipe leaves out, if it does, before the first shard is cut without them."""
    if not leaves_out(recipe):
        return {}
    schema = schema_in(choice.database)
    tables = tables_of(choice.database, schema)
    write = partial(write_tables, tables=tables, schema=schema, footer=_footer(recipe))
    return {LEFT_OUT_NAME: publish(target / LEFT_OUT_NAME, write)}


def _footer(recipe: Recipe) -> dict[str, str]:
    return {"stage": PACK.name, "recipe_name": recipe.name, "recipe_digest": recipe.digest}


def _write_tables(target: Path, recipe: Recipe, outcomes: Sequence[Outcome], plan: PackPlan) -> dict[str, FileRecord]:
    """Write the index of the packed samples, the ledger that also names those that stay out, and the card."""
    schema, footer = schema_of(recipe), _footer(recipe)
    reports = sorted((o for o in outcomes if isinstance(o, ShardReport)), key=lambda report: report.shard)

    def packed() -> Iterator[pa.Table]:
        return (read_ledger(target / f"{report.shard}.parquet").replace_schema_metadata() for report in reports)

    def rest() -> Iterator[pa.Table]:
        tables = (pa.Table.from_pylist(rows, schema=schema) for rows in plan.rest() if rows)
        return in_row_groups(tables, sum(report.num_seen for report in reports))

    def write(name: str, tables: Iterable[pa.Table]) -> FileRecord:
        return publish(target / name, partial(write_tables, tables=tables, schema=schema, footer=footer))

    return {
        INDEX_NAME: write(INDEX_NAME, (table.filter(table["kept"]) for table in packed())),
        LEDGER_NAME: write(LEDGER_NAME, chain(packed(), rest())),
        CARD_NAME: publish(target / CARD_NAME, lambda temp: temp.write_text(CARD, encoding="utf-8")),
    }


def sample_fields(recipe: Recipe) -> dict[str, Any]:
    """Return what the manifest says of the `.json` member: whether faces are guaranteed, and the scores by filter."""
    scores, joint = score_fields(recipe)
    return {"has_face_fields": has_face_fields(recipe), "scores": scores, "joint_scores": joint}


def _packed(job: PackJob) -> ShardReport | None:
    return committed(job.target, job.shard, pack_work_id(job))


def pack_shard(job: PackJob) -> ShardReport:
    """Write one final shard: `{shard}.tar`, its rows as `{shard}.parquet`, and last `{shard}_stats.json`.

    Raises:
        ShardError: a source shard does not hold what its ledger says.
    """
    if (report := _packed(job)) is not None:
        return report
    work_id, footer = pack_work_id(job), _footer(job.recipe)
    with Spool() as spool, shard_writer(job.target, job.lease, job.shard, work_id) as shard:
        for seat, sample, measured, told in _with_evidence(job):
            image_bytes = _stored(sample.image_bytes, seat.format, job.recipe)
            fields = training_sample(sample, measured, image_bytes, job.recipe, seat.repeated, told)
            spool.put(seat, packed_row(seat, sample, measured, fields), _members(seat, image_bytes, fields))
        for seat in job.placed:
            if seat.is_forgotten:
                shard.add(vacant_row(seat))
                continue
            row, members = spool.take(seat)
            shard.add({**row, "shard": job.shard, "offset": shard.offset}, members)
        return shard.commit(schema_of(job.recipe), footer, dict)


def _members(seat: Placed, image_bytes: bytes, fields: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    metadata = json.dumps(fields, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
    return packed_members(seat.uid, image_bytes, metadata, str(fields["caption"]))


def _with_evidence(job: PackJob) -> Iterator[tuple[Placed, Sample, Mapping[str, Any], NewCaption | None]]:
    """Yield each placed sample with its bytes, its ledger row and its new caption, reading every source shard once."""
    folder = captions_of_folder(job.source)
    for report in job.inputs:
        told = captions_of_shard(folder, job.captions[report.shard]) if report.shard in job.captions else {}
        here = [seat for seat in job.placed if seat.source_shard == report.shard and not seat.is_forgotten]
        table = read_ledger(report.file(job.source, ".parquet"))
        measured = table.take(pa.array([seat.row for seat in here], pa.int64())).to_pylist()
        wanted = {seat.uid: (seat, row) for seat, row in zip(here, measured, strict=True)}
        path = report.file(job.source, ".tar")
        with local_copy(path) as tar:
            for sample in read_samples(tar, wanted.keys(), shown=path):
                seat, row = wanted.pop(sample.key)
                if hashlib.sha256(sample.image_bytes).hexdigest() != row["sha256"]:
                    raise ShardError(f"{path}: {sample.key}: its bytes are not those that the ledger names")
                yield seat, sample, row, told.get(seat.uid)
        if wanted:
            raise ShardError(f"{path}: {next(iter(wanted))} is kept in the ledger but not in the tar")


def _stored(image_bytes: bytes, image_format: ImageFormat, recipe: Recipe) -> bytes:
    return image_bytes if recipe.file.pack.metadata == "keep" else strip_metadata(image_bytes, image_format)


def _hashes(report: ShardReport) -> list[Any]:
    return [report.shard, *sorted(record.sha256 for record in report.files.values())]

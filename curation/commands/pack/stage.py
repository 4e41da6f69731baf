"""The stage `pack`: the kept samples of all curated shards, cut into the final shards that a trainer reads.

What goes where is planned from the ledgers alone; then every final shard is a job of its own.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from curation.commands.caption.beside import (
    NewCaption,
    Places,
    captions_of_shard,
    places_of,
    reports_for,
    require_captions,
)
from curation.commands.caption.rows import PROVENANCE
from curation.commands.caption.stage import captions_of_folder
from curation.commands.pack.card import CARD
from curation.commands.pack.dedup import duplicates_among, left_out_among
from curation.commands.pack.left_out import LeftOut, Position, leaves_out, recorded, table_of
from curation.commands.pack.members import packed_members
from curation.commands.pack.placement import Placed, cut
from curation.commands.pack.spool import Spool
from curation.commands.pack.training_sample import has_face_fields, score_fields, training_sample
from curation.dataset.ledger import BASE_FIELDS, base_row, count_rejections, read_ledger, write_table
from curation.dataset.manifest import MADE_FROM, Manifest, ShardReport, committed
from curation.dataset.redaction import buried
from curation.dataset.rights import rights_of
from curation.dataset.sample import Sample
from curation.dataset.stages import CARD_NAME, CURATE, FORGET, INDEX_NAME, LEDGER_NAME, LEFT_OUT_NAME, PACK
from curation.dataset.tar import read_samples
from curation.dataset.tombstones import Tombstones, consult
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

NO_TOMBSTONES = Tombstones()
CAPTIONS_FROM = "captions_from"
"""Key of the manifest's `extra`: the state of the new captions that it was packed with."""
CURATED_RECIPE = "curated_recipe_digest"
"""Key of the manifest's `extra`: the recipe by which the folder was decided that it was packed from."""
EXTRA_FIELDS = (
    pa.field("source_shard", pa.string(), nullable=False),
    pa.field("source_sha256", pa.string()),
    pa.field("format", pa.string(), nullable=False),
    pa.field("shard", pa.string()),
    pa.field("offset", pa.int64()),
    pa.field("num_bytes", pa.int64()),
    pa.field("caption_source", pa.string()),
    pa.field("caption_binding", pa.string()),
    pa.field("license", pa.string()),
    pa.field("author", pa.string()),
    pa.field("rights_json", pa.string()),
)
SCHEMA = pa.schema([*BASE_FIELDS, *EXTRA_FIELDS])
"""Columns of `ledger.parquet` and `index.parquet`; `offset` is that of the picture's tar header, in bytes."""
DUPLICATE_OF = pa.field("duplicate_of", pa.string())
"""A column besides, where the recipe looks for near duplicates: the uid of the picture that is packed for this one."""


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
        out = left_out(source, curated, recipe, target, stones=stones)
        said = _say_left_out(target, recipe, out)
        placed, rejected = place_samples(source, curated, stones, out, told)
        jobs = pack_jobs(source, target, recipe, curated, placed, lease)
        rejected += without_a_shard(placed, recipe)
        outcomes = run_all(jobs, pack_shard, spread, on_outcome, _packed)
        lease.require()
        facts = Facts(
            weights=curated.weights,
            files={**said, **_write_tables(target, recipe, outcomes, rejected)},
            extra={
                "schema": sample_fields(recipe),
                CURATED_RECIPE: curated.recipe_digest,
                MADE_FROM: curated.state,
                **({} if captions is None else {CAPTIONS_FROM: captions.state}),
            },
            rejected_before=count_rejections(rejected),
        )
        return finish(target, PACK, recipe, work_digest, outcomes, facts, lease)


def pack_work(curated: Manifest, recipe: Recipe) -> str:
    """Return the digest of all that a packed folder depends on: the curated shards, the recipe, this stage."""
    return digest([PACK.name, [_hashes(report) for report in curated.shards], recipe.digest, PACK.output_since])


def pack_jobs(
    source: Path, target: Path, recipe: Recipe, curated: Manifest, placed: Sequence[Placed], lease: Lease | None
) -> list[PackJob]:
    """Return one job per final shard of which anything is left, each with the curated shards that it draws from."""
    inputs = {report.shard: replace(report, run={}) for report in curated.shards}
    told = reports_for(source, recipe)
    return [
        PackJob(
            shard, source, target, recipe, chunk, tuple(inputs[s] for s in sorted(_sources(chunk))),
            {s: told[s] for s in _sources(chunk) if s in told}, lease,
        )
        for shard, chunk in cut(placed, recipe.file.pack)
        if not all(seat.is_forgotten for seat in chunk)
    ]  # fmt: skip


def without_a_shard(placed: Sequence[Placed], recipe: Recipe) -> list[dict[str, Any]]:
    """Return the ledger rows of forgotten samples that would fill a final shard alone: it is not written."""
    chunks = (chunk for _, chunk in cut(placed, recipe.file.pack))
    return [_vacant_row(seat) for chunk in chunks if all(seat.is_forgotten for seat in chunk) for seat in chunk]


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


def _say_left_out(target: Path, recipe: Recipe, out: Mapping[Position, LeftOut]) -> dict[str, FileRecord]:
    """Write the table of those whom the recipe leaves out, if it does, before the first shard is cut without them."""
    if not leaves_out(recipe):
        return {}
    write = partial(write_table, table=table_of(out), footer=_footer(recipe))
    return {LEFT_OUT_NAME: publish(target / LEFT_OUT_NAME, write)}


def _footer(recipe: Recipe) -> dict[str, str]:
    return {"stage": PACK.name, "recipe_name": recipe.name, "recipe_digest": recipe.digest}


def _write_tables(
    target: Path, recipe: Recipe, outcomes: Sequence[Outcome], rejected: Sequence[Mapping[str, Any]]
) -> dict[str, FileRecord]:
    """Write the index of the packed samples, the ledger that also names those that stay out, and the card."""
    schema = schema_of(recipe)
    reports = sorted((o for o in outcomes if isinstance(o, ShardReport)), key=lambda report: report.shard)
    footer = _footer(recipe)
    tables = [read_ledger(target / f"{report.shard}.parquet") for report in reports]
    packed = pa.concat_tables([table.replace_schema_metadata() for table in tables] or [schema.empty_table()])
    ledger = pa.concat_tables([packed, pa.Table.from_pylist(list(rejected), schema=schema)])
    return {
        INDEX_NAME: publish(target / INDEX_NAME, lambda temp: write_table(temp, packed.filter(packed["kept"]), footer)),
        LEDGER_NAME: publish(target / LEDGER_NAME, lambda temp: write_table(temp, ledger, footer)),
        CARD_NAME: publish(target / CARD_NAME, lambda temp: temp.write_text(CARD, encoding="utf-8")),
    }


SEEN_COLUMNS = ("uid", "url", "sha256", "width", "height", "kept", "rejected_by", "format", "num_bytes", "num_captions")
"""What placing reads of a curated ledger."""


def place_samples(
    source: Path,
    curated: Manifest,
    stones: Tombstones = NO_TOMBSTONES,
    out: Mapping[Position, LeftOut] = MappingProxyType({}),
    told: Places = MappingProxyType({}),
) -> tuple[list[Placed], list[dict[str, Any]]]:
    """Return the samples to pack in order of source shard and row, and the ledger rows of those that stay out.

    Of several samples of one picture the best is packed; a sample without any caption is of no use to a text-to-image
    trainer. What was kept and then forgotten holds its place, if it had one, but where nothing else is left of a final
    shard. `out` says whom the recipe leaves out (`left_out`), `told` who has a new caption.
    """
    placed: list[Placed] = []
    rejected: list[dict[str, Any]] = []
    waiting: list[tuple[dict[str, Any], Position]] = []
    unfit = {at: one.reason for at, one in out.items() if not one.captions}
    reasons = unfit | duplicates_among(source, curated, out, told)
    better = {one.better for one in out.values()}
    uids: dict[Position, str] = {}
    for report in curated.shards:
        rows = read_ledger(report.file(source, ".parquet"), list(SEEN_COLUMNS)).to_pylist()
        for number, row in enumerate(rows):
            one = out.get(position := (report.shard, number))
            if position in better:
                uids[position] = row["uid"]
            is_forgotten = row["rejected_by"] == FORGET or stones.hold(row["uid"], row["url"], row["sha256"])
            if not (row["kept"] or (is_forgotten and row["format"] is not None)):
                continue
            reason = reasons.get(position) if row["num_captions"] or position in told else "no_caption"
            if reason is None:
                placed.append(_seat(row, position, one, is_forgotten, told.get(position, "")))
            else:
                rejected_row = _rejected_row(row, report.shard, reason)
                if one is not None and one.better is not None and not is_forgotten:
                    waiting.append((rejected_row, one.better))
                rejected.append(buried(rejected_row, SCHEMA) if is_forgotten else rejected_row)
    for rejected_row, place in waiting:
        rejected_row[DUPLICATE_OF.name] = uids[place]
    return placed, rejected


def _seat(row: Mapping[str, Any], position: Position, one: LeftOut | None, is_forgotten: bool, told: str) -> Placed:
    size, repeated = row["num_bytes"] or 0, one.captions if one is not None else ()
    return Placed(row["uid"], *position, sys.intern(row["format"]), size, is_forgotten, repeated, told)


def left_out(
    source: Path,
    curated: Manifest,
    recipe: Recipe,
    target: Path,
    packed: Manifest | None = None,
    stones: Tombstones = NO_TOMBSTONES,
) -> Mapping[Position, LeftOut]:
    """Return whom a recipe leaves out of a pack: what it says itself once it has begun, else by the curated ledgers.

    `packed` is the manifest of `target`, if known; nobody is out for one whom the tombstones hold.
    """
    if not leaves_out(recipe):
        return {}
    found = recorded(target, packed)
    return left_out_among(source, curated, recipe, stones) if found is None else found


def schema_of(recipe: Recipe) -> pa.Schema:
    """Return the columns of a pack's ledgers."""
    more = [] if recipe.file.caption is None else list(PROVENANCE)
    more += [] if recipe.file.pack.near_duplicate_bits is None else [DUPLICATE_OF]
    return pa.schema([*SCHEMA, *more])


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
            spool.put(seat, _row(seat, sample, measured, fields), _members(seat, image_bytes, fields))
        for seat in job.placed:
            if seat.is_forgotten:
                shard.add(_vacant_row(seat))
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


def _row(seat: Placed, sample: Sample, measured: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the ledger's row of a packed sample, but for its place in the shard."""
    base = base_row(
        seat.uid, seat.uid, url=measured["url"], sha256=fields["sha256"],
        width=measured["width"], height=measured["height"],
    )  # fmt: skip
    rights = rights_of(sample.metadata)
    return {
        **base,
        "source_shard": seat.source_shard,
        "source_sha256": hashlib.sha256(sample.image_bytes).hexdigest(),
        "format": seat.format,
        "num_bytes": fields["num_bytes"],
        "caption_source": fields["caption_source"],
        "caption_binding": fields["caption_binding"],
        **{field.name: fields[field.name] or None for field in PROVENANCE if field.name in fields},
        "license": rights.license,
        "author": rights.author,
        "rights_json": rights.as_json,
    }


def _vacant_row(seat: Placed) -> dict[str, Any]:
    kept = {**_no_place(), **base_row(seat.uid, ""), "source_shard": seat.source_shard, "format": seat.format}
    return buried(kept, SCHEMA)


def _rejected_row(row: Mapping[str, Any], shard: str, reason: str) -> dict[str, Any]:
    base = base_row(
        row["uid"], row["uid"], url=row["url"], width=row["width"], height=row["height"],
        rejected_by=PACK.name, reason=reason,
    )  # fmt: skip
    return {**_no_place(), **base, "source_shard": shard, "source_sha256": row["sha256"], "format": row["format"]}


def _no_place() -> dict[str, Any]:
    return dict.fromkeys(column.name for column in EXTRA_FIELDS)


def _hashes(report: ShardReport) -> list[Any]:
    return [report.shard, *sorted(record.sha256 for record in report.files.values())]


def _sources(placed: Sequence[Placed]) -> set[str]:
    return {seat.source_shard for seat in placed}

"""The stage `curate`: pictures of one source shard through the filters, into a tar of the kept and a ledger of all."""

import hashlib
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.arrow import arrow_type, to_struct
from curation.bank import FilterBank, load_bank, measurement_keys, weights_of
from curation.captions import captions_of
from curation.commit import digest, publish, sha256_of
from curation.decode import Picture, UnreadableError, decode
from curation.errors import UsageError
from curation.judge import NotYet, Verdict, judge
from curation.ledger import BASE_FIELDS, base_row, count_rejections, write_ledger
from curation.manifest import MANIFEST_NAME, Manifest, ShardReport, committed, write_report
from curation.recipe import Recipe
from curation.runner import OnOutcome, Spread, run_shards, silent, told
from curation.sample import Sample
from curation.stage import WORK_NAME, claim, finish, finished
from curation.tar import read_samples, write_tar
from curation.version import CODE_VERSION, runtime

STAGE = "curate"
EXTRA_FIELDS = (
    pa.field("format", pa.string()),
    pa.field("num_bytes", pa.int64(), nullable=False),
    pa.field("num_captions", pa.int32(), nullable=False),
)


@dataclass(frozen=True)
class CurateJob:
    """All that one shard's work depends on."""

    shard: str
    source: Path
    target: Path
    recipe: Recipe
    weights: Mapping[str, str]


@dataclass(frozen=True)
class Examined:
    """What became of one sample: its verdict, and the evidence that was measured on the way."""

    sample: Sample
    uid: str
    verdict: Verdict
    picture: Picture | None
    evidence: Mapping[str, Any]


def curate(source: Path, target: Path, recipe: Recipe, spread: Spread, on_outcome: OnOutcome = silent) -> Manifest:
    """Curate every shard of `source` into `target`; the manifest is written when every shard had its outcome.

    Raises:
        UsageError: there is no shard, or `target` holds the output of another recipe or stage.
        WeightsError: a detector's weights are missing or not the ones that the catalogue names.
    """
    weights = weights_of(recipe)
    work_digest = digest([STAGE, recipe.curate_digest, measurement_keys(recipe, weights), CODE_VERSION])
    shards = source_shards(source)
    claim(target, STAGE, work_digest)
    jobs = [CurateJob(path.stem, path, target, recipe, weights) for path in shards]
    outcomes = list(told(run_shards(jobs, curate_shard, spread), on_outcome))
    return finish(
        target, STAGE, recipe, work_digest, outcomes, weights=weights, extra={"curate_digest": recipe.curate_digest}
    )


def source_shards(source: Path) -> list[Path]:
    """Return the tars of a folder in order of name: those that its manifest names where `fetch` wrote it.

    Raises:
        UsageError: the folder is missing, holds no tar, or is one that `fetch` has not finished.
    """
    if not source.is_dir():
        raise UsageError(f"{source}: no such folder; give a folder of WebDataset tars (NNNNN.tar)")
    if (source / WORK_NAME).exists() or (source / MANIFEST_NAME).exists():
        return [source / f"{report.shard}.tar" for report in finished(source, "fetch").shards]
    shards = sorted(source.glob("*.tar"))
    if not shards:
        raise UsageError(f"{source}: no *.tar in this folder; give a folder of WebDataset tars (NNNNN.tar)")
    return shards


def curate_shard(job: CurateJob) -> ShardReport:
    """Measure, judge and commit one shard: `{shard}.tar`, `{shard}.parquet`, and last `{shard}_stats.json`.

    Raises:
        ShardError: the source tar is not whole; nothing is committed then.
    """
    started = time.time()
    if not job.source.is_file():
        raise UsageError(f"{job.source}: no such shard")
    keys = measurement_keys(job.recipe, job.weights)
    work_id = digest([STAGE, job.shard, sha256_of(job.source), job.recipe.curate_digest, keys, CODE_VERSION])
    if (report := committed(job.target, job.shard, work_id)) is not None:
        return report
    bank = load_bank(job.recipe, job.weights)
    rows: list[dict[str, Any]] = []

    def kept_members() -> Iterator[tuple[str, bytes]]:
        for examined in examine(read_samples(job.source), job.shard, bank, job.recipe):
            rows.append(ledger_row(examined, job.recipe))
            if examined.verdict.kept:
                yield from members(examined)

    tar, ledger = job.target / f"{job.shard}.tar", job.target / f"{job.shard}.parquet"
    files = {
        tar.name: publish(tar, lambda temp: _write_members(temp, kept_members())),
        ledger.name: publish(ledger, lambda temp: write_ledger(temp, rows, ledger_schema(job.recipe), _footer(job))),
    }
    report = ShardReport(
        shard=job.shard,
        work_id=work_id,
        num_seen=len(rows),
        num_kept=sum(row["kept"] for row in rows),
        rejected=count_rejections(rows),
        files=files,
        run={
            "started": started,
            "seconds": time.time() - started,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "runtime": {**runtime(), "device": job.recipe.file.curate.device, "order": list(job.recipe.order)},
        },
    )
    write_report(job.target, report)
    return report


def examine(samples: Iterable[Sample], shard: str, bank: FilterBank, recipe: Recipe) -> Iterator[Examined]:
    """Yield what becomes of each sample, in order, a batch at a time."""
    seen: set[str] = set()
    stream = iter(samples)
    while batch := list(islice(stream, recipe.file.curate.num_batch_samples)):
        yield from _examine_batch(batch, shard, bank, recipe, seen)


def _examine_batch(
    batch: Sequence[Sample], shard: str, bank: FilterBank, recipe: Recipe, seen: set[str]
) -> list[Examined]:
    entered = [_enter(sample, sample.uid(shard), recipe, seen) for sample in batch]
    pictures = {i: outcome for i, outcome in enumerate(entered) if isinstance(outcome, Picture)}
    known: dict[int, dict[str, Any]] = {i: {plan.name: None for plan in recipe.filters} for i in pictures}
    for name in recipe.order:
        wanted = [i for i in pictures if _wants(name, known[i], recipe)]
        measured = bank.filters[name].measure([pictures[i].rgb for i in wanted]) if wanted else []
        for i, evidence in zip(wanted, measured, strict=True):
            known[i][name] = evidence
    return [
        Examined(
            sample, sample.uid(shard), _verdict(outcome, known.get(i, {}), recipe), pictures.get(i), known.get(i, {})
        )
        for i, (sample, outcome) in enumerate(zip(batch, entered, strict=True))
    ]


def _enter(sample: Sample, uid: str, recipe: Recipe, seen: set[str]) -> Picture | Verdict:
    """Open the door to a sample: a decoded picture, or why there is none to look at."""
    if sample.problem is not None:
        return Verdict(STAGE, sample.problem)
    if uid in seen:
        return Verdict(STAGE, "duplicate_uid")
    try:
        picture = decode(sample.image_bytes, recipe.file.decode)
    except UnreadableError as error:
        return Verdict("unreadable", error.reason)
    seen.add(uid)
    return picture


def _wants(name: str, known: Mapping[str, Any], recipe: Recipe) -> bool:
    if recipe.file.curate.measure == "all":
        return True
    verdict = judge(known, recipe.criteria)
    return isinstance(verdict, NotYet) and name in verdict.filters


def _verdict(entered: Picture | Verdict, known: Mapping[str, Any], recipe: Recipe) -> Verdict:
    if isinstance(entered, Verdict):
        return entered
    verdict = judge(known, recipe.criteria)
    assert isinstance(verdict, Verdict), f"every filter that {verdict} waits for has measured"
    return verdict


def members(examined: Examined) -> Iterator[tuple[str, bytes]]:
    """Yield the tar members of a kept sample: the bytes as they came, its metadata, its caption."""
    assert examined.picture is not None
    sample = examined.sample
    yield f"{examined.uid}.{examined.picture.format}", sample.image_bytes
    yield f"{examined.uid}.json", json.dumps(sample.metadata, sort_keys=True).encode()
    if sample.caption is not None:
        yield f"{examined.uid}.txt", sample.caption.encode()


def ledger_row(examined: Examined, recipe: Recipe) -> dict[str, Any]:
    """Return the sample's row: identity, verdict, and for every filter its evidence and scores or nulls."""
    sample, picture, known = examined.sample, examined.picture, examined.evidence
    row = base_row(
        examined.uid,
        _clean(sample.key),
        url=None if sample.url is None else _clean(sample.url),
        sha256=hashlib.sha256(sample.image_bytes).hexdigest() if sample.image_bytes else None,
        width=None if picture is None else picture.width,
        height=None if picture is None else picture.height,
        rejected_by=examined.verdict.rejected_by,
        reason=examined.verdict.reason,
    )
    row["format"] = None if picture is None else picture.format
    row["num_bytes"] = len(sample.image_bytes)
    row["num_captions"] = len(captions_of(sample.caption, sample.metadata))
    for plan in recipe.filters:
        evidence = known.get(plan.name)
        row[f"{plan.name}_evidence"] = None if evidence is None else to_struct(evidence)
        row[f"{plan.name}_scores"] = None if evidence is None else plan.scores(evidence)
    row["joint_scores"] = joint_scores(known, recipe) if known else None
    return row


def joint_scores(known: Mapping[str, Any], recipe: Recipe) -> dict[str, float | None]:
    """Return each joint score that the evidence settles exactly, else None."""
    exact: dict[str, float | None] = {}
    for plan in recipe.filters:
        for name, score in plan.joint.items():
            bounds = score.bounds(known)
            exact[name] = bounds.low if bounds.low == bounds.high else None
    return exact


def ledger_schema(recipe: Recipe) -> pa.Schema:
    """Return the columns of the curate ledger: the base, format and size, then two structs per filter, then joint."""
    fields = [*BASE_FIELDS, *EXTRA_FIELDS]
    for plan in recipe.filters:
        fields.append(pa.field(f"{plan.name}_evidence", arrow_type(plan.module.EVIDENCE)))
        fields.append(pa.field(f"{plan.name}_scores", pa.struct([(name, pa.float64()) for name in plan.module.SCORES])))
    joint = [(name, pa.float64()) for plan in recipe.filters for name in plan.joint]
    if joint:
        fields.append(pa.field("joint_scores", pa.struct(joint)))
    return pa.schema(fields)


def _footer(job: CurateJob) -> dict[str, str]:
    return {
        "stage": STAGE,
        "recipe_name": job.recipe.name,
        "recipe_digest": job.recipe.curate_digest,
        "measurement_keys": json.dumps(measurement_keys(job.recipe, job.weights), sort_keys=True),
        "code_version": CODE_VERSION,
    }


def _write_members(path: Path, stream: Iterable[tuple[str, bytes]]) -> None:
    write_tar(path, stream)


def _clean(text: str) -> str:
    """Parquet holds UTF-8 only; a lone surrogate from hostile JSON becomes a question mark."""
    return text.encode("utf-8", "replace").decode()

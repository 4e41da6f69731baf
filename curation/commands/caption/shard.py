"""One curated shard is asked about: a few pictures at once, each answer in its picture's row, one ledger at the end.

A reply that an earlier state of the shard has, or that came before an earlier attempt ended, is taken over, so a
picture is paid for once, whatever `decide`, `forget`, other checks or a kill have changed since.
"""

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from curation.commands.caption.arrived import Arrived
from curation.commands.caption.asking import UNREADABLE, Replied, in_order, shown_of
from curation.commands.caption.claims import columns_of
from curation.commands.caption.endpoint import Endpoint
from curation.commands.caption.known import Known, known_of
from curation.commands.caption.local_model import LocalModel
from curation.commands.caption.reply import Asker, Budget
from curation.commands.caption.rows import IDENTITY, LEDGER_SCHEMA, REPLY_FIELDS, Row, judged
from curation.dataset.ledger import read_ledger, write_ledger
from curation.dataset.manifest import ShardReport, committed
from curation.dataset.stages import CAPTION
from curation.dataset.tar import read_samples
from curation.dataset.tombstones import consult
from curation.errors import ShardError
from curation.recipe.captioning import ASKED, CaptioningSettings
from curation.recipe.recipe import Recipe
from curation.run.costs import whereabouts
from curation.run.lookup import is_in
from curation.run.shard_writer import commit_report, report_of
from curation.storage.lease import Lease
from curation.storage.paths import local_copy
from curation.storage.publish import digest, publish

MIN_BUDGET = 10
"""Requests of a shard that may be made again, however small it is."""


@dataclass(frozen=True)
class CaptionJob:
    """All that one shard's work depends on."""

    shard: str
    source: Path
    """The curated folder."""
    report: ShardReport
    """The curated shard."""
    target: Path
    recipe: Recipe
    endpoint: str | None
    lease: Lease | None = None

    @property
    def settings(self) -> CaptioningSettings:
        """The recipe's table, which is there: the stage has looked."""
        assert self.recipe.file.caption is not None
        return self.recipe.file.caption

    @property
    def tar_sha256(self) -> str:
        """The sha256 of the curated tar: by it this shard's work is known."""
        return self.report.files[self.report.file(self.source, ".tar").name].sha256


def asked(settings: CaptioningSettings) -> dict[str, Any]:
    """Return all that decides what a model is asked."""
    return settings.model_dump(mode="json", include=set(ASKED))


def caption_work(source_name: str, settings: CaptioningSettings) -> str:
    """Return the digest of all that a folder of replies depends on: what is asked, and of which curated folder."""
    return digest([CAPTION.name, source_name, asked(settings), CAPTION.output_since])


def caption_work_id(shard: str, tar_sha256: str, recipe: Recipe) -> str:
    """Return the identity of one shard's work: its pictures, their evidence, what is asked and what is fit."""
    assert recipe.file.caption is not None
    checks = recipe.file.caption.checks.model_dump(mode="json")
    asked_for = asked(recipe.file.caption)
    return digest([CAPTION.name, shard, tar_sha256, recipe.curate_digest, asked_for, checks, CAPTION.output_since])


def captioned(job: CaptionJob) -> ShardReport | None:
    """Return the done record of a shard that is done."""
    return committed(job.target, job.shard, caption_work_id(job.shard, job.tar_sha256, job.recipe))


def caption_shard(job: CaptionJob) -> ShardReport:
    """Ask about every kept picture of a shard, and commit `{shard}.parquet` and last `{shard}_stats.json`.

    Raises:
        ShardError: the curated shard is not what its records say, or whoever is asked does not answer.
    """
    if (report := captioned(job)) is not None:
        return report
    started = time.time()
    with Arrived(job.target, job.shard, digest(asked(job.settings))) as arrived:
        known = known_of(job.target, job.shard, arrived)
        curated, stones = _curated(job, known), consult(job.target) | consult(job.source)
        living = [row for row in curated if row["kept"] and not stones.hold_row(row)]
        answers = _replies(job, living, known, arrived)
        replies, faults = [answer.columns for answer in answers], [answer.fault for answer in answers]
        by_uid = {row["uid"]: row for row in judged(living, replies, faults, job.settings.checks)} | dict(known.stones)
        rows = [by_uid.get(row["uid"]) or stones.row(_unasked(row), LEDGER_SCHEMA) for row in curated]
        ledger = job.target / f"{job.shard}.parquet"
        work_id = caption_work_id(job.shard, job.tar_sha256, job.recipe)
        record = publish(ledger, partial(write_ledger, rows=rows, schema=LEDGER_SCHEMA, footer=_footer(job)))
        run = whereabouts(started) | _counts(answers)
        report = report_of(job.shard, work_id, rows, {ledger.name: record}, run)
        commit_report(job.target, job.lease, report)
        arrived.remove()
    return report


def _footer(job: CaptionJob) -> dict[str, str]:
    settings = job.settings
    return {
        "stage": CAPTION.name,
        "source_sha256": job.tar_sha256,
        "asked": digest(asked(settings)),
        "code_version": CAPTION.output_since,
    }


def _unasked(row: Row) -> dict[str, Any]:
    nothing = dict.fromkeys([field.name for field in REPLY_FIELDS])
    return {**{name: row[name] for name in IDENTITY}, **nothing, "kept": False, "has_caption": False}


def _curated(job: CaptionJob, known: Known) -> list[dict[str, Any]]:
    """Return what is asked about, in order: who is kept, and the scores that a text may contradict.

    Among them stand those who were forgotten after they had been asked about.
    """
    ledger = read_ledger(job.report.file(job.source, ".parquet"))
    table = ledger.select(["kept", *IDENTITY, *columns_of(ledger.column_names)])
    rows: list[dict[str, Any]] = table.filter(pc.or_(table["kept"], is_in(table["uid"], known.stones))).to_pylist()
    return rows


def _replies(job: CaptionJob, rows: Sequence[Row], known: Known, arrived: Arrived) -> list[Replied]:
    """Return each picture's answer, in order; new ones are kept as they come.

    Raises:
        ShardError: too many have none.
    """
    settings, replied = job.settings, [known.reply_to(row) for row in rows]
    if not (num_new := replied.count(None)):
        return [reply for reply in replied if reply is not None]
    answers: list[Replied] = []
    failed: list[str] = []
    budget = Budget(max(MIN_BUDGET, int(settings.max_retry_fraction * num_new)))

    def keep(number: int, columns: Row) -> None:
        arrived.add(rows[number]["uid"], rows[number]["sha256"], columns)

    with (
        closing(_asker(job, budget)) as asker,
        closing(in_order(_pictures(job, rows, replied), asker, settings, keep)) as replies,
    ):
        for answer in replies:
            answers.append(answer)
            failed += [answer.fault] if answer.fault not in (None, UNREADABLE) else []
            if len(failed) > max(settings.max_failed, settings.max_failed_fraction * num_new):
                raise ShardError(
                    f"{job.shard}: {len(failed)} of {num_new} pictures stayed without a reply (first: {failed[0]}), "
                    f"which points to whoever is asked ({job.endpoint or settings.model}; is it there?); the shard "
                    f"is not done, and what came is kept: mend that and run again, which asks only about the others, "
                    f"or pack by a recipe without [caption]"
                )
    return answers


def _asker(job: CaptionJob, budget: Budget) -> Asker:
    if job.settings.via == "transformers":
        return LocalModel(job.settings, job.recipe.file.curate.device)
    return Endpoint(str(job.endpoint), job.settings, budget)


def _pictures(
    job: CaptionJob, rows: Sequence[Row], replied: Sequence[Replied | None]
) -> Iterator[Replied | bytes | None]:
    """Yield the reply of each picture that has one, or the JPEG to ask about; None where it cannot be read.

    Raises:
        ShardError: the tar does not hold what the ledger keeps, in its order.
    """
    path = job.report.file(job.source, ".tar")
    limits = job.recipe.file.decode.admitting_all()
    with local_copy(path) as tar:
        samples = read_samples(tar, {row["uid"] for row in rows}, shown=path)
        for row, reply in zip(rows, replied, strict=True):
            sample = next(samples, None)
            if sample is None or sample.key != row["uid"]:
                raise ShardError(f"{path}: {row['uid']} is kept in the ledger but does not stand there in the tar")
            if hashlib.sha256(sample.image_bytes).hexdigest() != row["sha256"]:
                raise ShardError(f"{path}: {sample.key}: its bytes are not those that the ledger names")
            yield shown_of(sample.image_bytes, job.settings.max_side_px, limits) if reply is None else reply


def _counts(answers: Sequence[Replied]) -> dict[str, Any]:
    """Return what the done record says of a shard: pictures asked about, asked about again, and replies taken over."""
    new = [answer.columns["num_requests"] for answer in answers if answer.is_new]
    return {"asked": [len(new), sum(max(0, num - 1) for num in new)], "reused": len(answers) - len(new)}

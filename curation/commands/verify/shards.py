"""One shard, re-derived from what lies on disk: a job of its own, so that shards are verified side by side."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.commands.verify.faults import Checked, Fault
from curation.commands.verify.pictures import tar_findings
from curation.commands.verify.rows import Finding, Row, base_findings, evidence_findings
from curation.dataset.ledger import count_rejections, read_ledger, require_base
from curation.dataset.manifest import ShardReport
from curation.dataset.stages import CURATE, FORGET, STAGES
from curation.errors import ShardError
from curation.measure.columns import ledger_schema
from curation.recipe.recipe import Recipe
from curation.run.folders import StageFolder
from curation.storage.paths import local_copy
from curation.storage.publish import FileRecord, record_of


@dataclass(frozen=True)
class Before:
    """What a shard was made from, as the stage before it says."""

    ledger: Path
    """Rows with `uid` and `key`: a part of the selection, or the ledger of a fetched shard."""
    record: FileRecord
    """The record of that file: where it is rotten, it is not read."""
    sha256: str
    """sha256 of the part or tar that it was made from."""


@dataclass(frozen=True)
class CheckJob:
    """All that verifying one shard depends on."""

    shard: str
    """Unique in the run: `curate/00012`."""
    place: StageFolder
    report: ShardReport
    recipe: Recipe | None
    """None where it cannot be read; then nothing is judged."""
    footer: Mapping[str, str] = field(default_factory=dict)
    """What the ledger's footer must say."""
    before: Before | None = None


def check_shard(job: CheckJob) -> Checked:
    """Return the shard's own counts and everything that is wrong with it; files that are rotten are not parsed."""
    with ExitStack() as stack:
        copies, faults = open_files(job, stack)
        rotten = {fault.file for fault in faults}
        name = next((file for file in job.report.files if file.endswith(".parquet")), "")
        table: pa.Table | None = None
        if name in copies and shown_as(job, name) not in rotten:
            try:
                table = read_ledger(copies[name])
                require_base(table.schema, copies[name])
            except ShardError as error:
                table = None
                faults.append(fault_in(job, name, ("", str(error), "a ledger of this version")))
        rows = None if table is None else table.to_pylist()
        if table is not None and rows is not None:
            faults += [fault_in(job, name, finding) for finding in _ledger_findings(job, table, rows)]
        for tar in (file for file in copies if file.endswith(".tar")):
            shown = Path(shown_as(job, tar))
            findings = tar_findings(copies[tar], shown, job.place.stage, job.report.shard, rows)
            faults += [fault_in(job, tar, finding) for finding in findings]
    rejected = _rejections(rows or ())
    num_kept = sum(row["kept"] for row in rows or ())
    return Checked(job.shard, job.report.work_id, len(rows or ()), num_kept, rejected, {}, faults=tuple(faults))


def open_files(job: CheckJob, stack: ExitStack) -> tuple[dict[str, Path], list[Fault]]:
    """Return a local file for each that is there, and a fault for each that is missing or has other bytes."""
    copies: dict[str, Path] = {}
    faults: list[Fault] = []
    for name, record in job.report.files.items():
        path = job.place.folder / name
        if not path.is_file():
            faults.append(fault_in(job, name, ("", "missing", f"{record.num_bytes} bytes, sha256 {record.sha256}")))
            continue
        copies[name] = stack.enter_context(local_copy(path))
        actual = record_of(copies[name])
        if actual.num_bytes != record.num_bytes:
            faults.append(fault_in(job, name, ("", f"{actual.num_bytes} bytes", f"{record.num_bytes} bytes")))
        elif actual.sha256 != record.sha256:
            faults.append(fault_in(job, name, ("", f"sha256 {actual.sha256}", f"sha256 {record.sha256}")))
    return copies, faults


def _ledger_findings(job: CheckJob, table: pa.Table, rows: Sequence[Row]) -> Iterator[Finding]:
    yield from count_findings(job.report, len(rows), sum(row["kept"] for row in rows), _rejections(rows))
    yield from base_findings(rows)
    footer = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
    yield from footer_findings(job, footer)
    if job.place.stage == CURATE.name and job.recipe is not None:
        columns = ledger_schema(job.recipe)
        wrong = [
            column.name
            for column in columns
            if column.name not in table.schema.names or table.schema.field(column.name) != column
        ]
        if wrong:
            yield "", f"columns {', '.join(wrong)} are missing or of another type", "every column of the recipe"
        else:
            yield from evidence_findings(rows, job.recipe)
    if job.before is not None:
        yield from _origin_findings(job.place.stage, job.before, footer, rows)


def count_findings(
    report: ShardReport, num_rows: int, num_kept: int, rejected: Mapping[str, Mapping[str, int]]
) -> Iterator[Finding]:
    """Yield where a ledger's counts are not those of the record."""
    if (report.num_seen, report.num_kept) != (num_rows, num_kept):
        yield "", f"{num_rows} rows, {num_kept} kept", f"{report.num_seen} seen, {report.num_kept} kept, as recorded"
    if json.dumps(rejected, sort_keys=True) != json.dumps(report.rejected, sort_keys=True):
        yield "", f"rejects {rejected}", f"{dict(report.rejected)}, as recorded"


def footer_findings(job: CheckJob, footer: Mapping[str, str]) -> Iterator[Finding]:
    """Yield where a ledger's footer does not say what it must."""
    for key, right in job.footer.items():
        if footer.get(key) != right:
            yield "", f"its footer says {key} {footer.get(key)!r}", repr(right)


def _rejections(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Count rejections, also those that lack what they should have."""
    return count_rejections(
        {**row, **{name: row[name] or "(none)" for name in ("rejected_by", "reason")}} for row in rows
    )


def _origin_findings(stage: str, before: Before, footer: Mapping[str, str], rows: Sequence[Row]) -> Iterator[Finding]:
    """Yield what came in and is in no row, what no one sent, and another source than the one that lies there."""
    if (stage == CURATE.name or "source_sha256" in footer) and footer.get("source_sha256") != before.sha256:
        yield "", f"made from a tar with sha256 {footer.get('source_sha256')}", f"{before.sha256}, of the one fetched"
    came = _came(before, stage)
    if came is None:
        return  # that file has a fault of its own
    living = dict.fromkeys((row["uid"], row["key"]) for row in rows if row["rejected_by"] != FORGET)
    for uid, key in came:
        if (uid, key) not in living:
            yield uid, f"{key!r} came in, but has no row", "a row for every sample that entered"
    for uid, key in living:
        if (uid, key) not in came:
            yield uid, f"row of {key!r}, which never came in", "rows of what entered, and no others"


def _came(before: Before, stage: str) -> dict[tuple[str, str], None] | None:
    """Return (uid, key) of what came in, or None where the file that says so is missing or rotten."""
    import pyarrow.parquet as pq

    if not before.ledger.is_file():
        return None
    with local_copy(before.ledger) as path:
        if record_of(path) != before.record:
            return None
        if STAGES[STAGES[stage].before or stage].is_selection:
            rows = pq.read_table(path, columns=["uid", "key"], partitioning=None).to_pylist()
        else:
            rows = [row for row in read_ledger(path, ["uid", "key", "kept"]).to_pylist() if row["kept"]]
    return dict.fromkeys((row["uid"], row["key"]) for row in rows)


def shown_as(job: CheckJob, name: str) -> str:
    """Return what messages call a file."""
    return f"{job.place.shown}/{name}"


def fault_in(job: CheckJob, name: str, finding: Finding) -> Fault:
    """Return a finding as a fault of a file."""
    uid, wrong, right = finding
    return Fault(shown_as(job, name), wrong, right, job.report.shard, uid or None)


def as_values(report: ShardReport) -> dict[str, Any]:
    """Return plain values of what must be equal in manifest and done record."""
    files = {name: [record.sha256, record.num_bytes] for name, record in sorted(report.files.items())}
    names = ("work_id", "num_seen", "num_kept", "rejected")
    return {**{name: getattr(report, name) for name in names}, "files": files}

"""Shows what the process that knows every row holds as rows grow: `pack`, `verify`, and what comes after.

    python -m benchmarks.scale.rows [--rows 100000 1000000] [--folder BIG_DISK] [--stages pack verify ...]

Rows are made up and have no pictures but those of the first shard, so the work on single shards, which takes as much
memory however many there are, is left out where it would read pictures: `pack` writes each final shard's ledger and an
empty tar, `verify` checks the selection and all that holds between files. Every stage runs in a process of its own; its
most memory is what the kernel counts (VmHWM), beside what such a process holds that has only imported.
"""

import argparse
import json
import os
import resource
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.provenance import RESULTS, commit, machine
from curation.commands.curate.work import curate_work, curate_work_id
from curation.commands.decide.stage import decide
from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.pack.rows import schema_of
from curation.commands.pack.stage import PackJob, pack, pack_work_id
from curation.commands.report.contents import read_report, report_values
from curation.commands.verify.check import verify
from curation.commands.verify.faults import Checked
from curation.commands.verify.shards import CheckJob
from curation.commands.why.story import why
from curation.dataset.ledger import BASE_FIELDS, base_row, write_ledger, write_table
from curation.dataset.manifest import ShardReport
from curation.dataset.stages import CURATE, LEDGER_NAME, RANK
from curation.dataset.tar import write_tar
from curation.measure.columns import ledger_footer, ledger_row, ledger_schema
from curation.measure.filter_set import measurement_keys
from curation.recipe.judge import Verdict, judge
from curation.recipe.recipe import Recipe, recipe_of
from curation.run.runner import Spread
from curation.run.shard_writer import commit_report
from curation.run.target import Facts, finish
from curation.storage.publish import FileRecord, digest, publish
from filters.colour import ColourEvidence

ALONE = Spread(num_workers=0)
NUM_SHARD_ROWS = 1000
NUM_PART_ROWS = 10_000
NUM_PICTURES = 10
"""The first rows, which lie in tars, too."""
RECIPE: dict[str, Any] = {
    "schema_version": 1,
    "name": "rows",
    "filters": [{"name": "colour", "keep": {"mean_channel_std": {"min": 2.0}}}],
    "pack": {"num_shard_samples": 5000},
}
TIGHTER = RECIPE | {"filters": [{"name": "colour", "keep": {"mean_channel_std": {"min": 2.5}}}]}
PICTURE = b"\xff\xd8 no picture \xff\xd9"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run every stage at every number of rows, and write what it held and took."""
    options = _options(arguments)
    result: dict[str, Any] = {"machine": machine(), "commit": commit(), "rows_per_shard": NUM_SHARD_ROWS, "runs": []}
    base = in_child(lambda: None)
    result["mib_of_imports"] = base["most_mib"]
    for num_rows in options.rows:
        with tempfile.TemporaryDirectory(prefix="rows-", dir=options.folder) as name:
            run = Path(name, "run")
            made = in_child(partial(write_run, run, num_rows))
            stages: dict[str, dict[str, float]] = {}
            result["runs"].append({"num_rows": num_rows, "making_cpu_s": made["cpu_s"], "stages": stages})
            for stage in options.stages:
                stages[stage] = in_child(partial(STAGES[stage], run))
                print(num_rows, stage, stages[stage], flush=True)
                options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def in_child(work: Callable[[], object]) -> dict[str, float]:
    """Run work in a process of its own, and return the most memory that it held, and its CPU time."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            work()
            spent = resource.getrusage(resource.RUSAGE_SELF)
            lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
            most = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
            told = {"most_mib": round(most / 1024, 1), "cpu_s": round(spent.ru_utime + spent.ru_stime, 1)}
            os.write(write, json.dumps(told).encode())
            os._exit(0)
        except BaseException:  # noqa: BLE001  a child ends here, whatever happens
            traceback.print_exc()
        finally:
            os._exit(1)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        figures: dict[str, float] = json.loads(pipe.read() or b"{}")
    assert os.waitpid(pid, 0)[1] == 0, f"{work} failed"
    return figures


def packed(run: Path) -> None:
    """Plan a pack and write its tables."""
    with mock.patch("curation.commands.pack.stage.pack_shard", rows_alone):
        pack(run / "curate", run / "pack", _recipe(), ALONE)


def rows_alone(job: PackJob) -> ShardReport:
    """Write the ledger of a final shard as if all its pictures were there."""
    schema = schema_of(job.recipe)
    empty = dict.fromkeys(schema.names)
    rows = [
        {
            **empty, **base_row(seat.uid, seat.uid, url=_url(int(seat.uid, 16)), sha256=seat.uid * 2),
            "source_shard": seat.source_shard, "source_sha256": _sha256(int(seat.uid, 16)), "format": seat.format,
            "shard": job.shard, "offset": 0, "num_bytes": seat.num_bytes, "caption_source": "alt",
            "caption_binding": "no_box", "license": "?", "author": "?", "rights_json": "{}",
        }
        for seat in job.placed
    ]  # fmt: skip
    members = [
        (f"{seat.uid}.{end}", PICTURE) for seat in job.placed if int(seat.uid, 16) < 10 for end in ("jpg", "json")
    ]
    files = {
        f"{job.shard}.tar": publish(job.target / f"{job.shard}.tar", lambda temp: write_tar(temp, members)),
        f"{job.shard}.parquet": publish(
            job.target / f"{job.shard}.parquet", lambda temp: write_ledger(temp, rows, schema, {"stage": "pack"})
        ),
    }
    report = ShardReport(job.shard, pack_work_id(job), len(rows), len(rows), {}, files)
    return commit_report(job.target, job.lease, report)


def verified(run: Path) -> None:
    """Verify the records, the selection and what holds between files."""
    with mock.patch("curation.commands.verify.check.check_shard", _unchecked):
        found = verify(run, ALONE)
    assert found.ok, found.faults[:3]


def _unchecked(job: CheckJob) -> Checked:
    return Checked(job.shard, job.report.work_id, job.report.num_seen, job.report.num_kept, job.report.rejected, {})


def reported(run: Path) -> None:
    """Derive all that a report says."""
    report_values(read_report(run))


def told(run: Path) -> None:
    """Tell the story of one picture, by its address."""
    assert len(why(run, _url(3))) == 1


def decided(run: Path) -> None:
    """Decide again, by a recipe that asks for a little more."""
    decide(run, _recipe(TIGHTER), ALONE)


def forgotten(run: Path) -> None:
    """Forget one picture."""
    _, receipt = forget(run, read_requests([f"{3:032x}"], "list"))
    assert receipt["num_images"] == 1


STAGES: Mapping[str, Callable[[Path], None]] = {
    "pack": packed, "verify": verified, "report": reported, "why": told, "forget": forgotten, "decide": decided,
}  # fmt: skip


def write_run(run: Path, num_rows: int) -> None:
    """Write a selection and a curated folder: a tenth grey, a tenth without caption, a twentieth there twice."""
    recipe = _recipe()
    _write_selection(run / "rank", recipe, num_rows)
    weights: dict[str, str] = {}
    keys, rows = measurement_keys(recipe, weights), _templates(recipe)
    reports = []
    for first in range(0, num_rows, NUM_SHARD_ROWS):
        numbers = range(first, first + NUM_SHARD_ROWS)
        shard, source = f"{first // NUM_SHARD_ROWS:05d}", digest([first])
        kinds = pa.array([0 if n % 10 == 7 else 1 if n % 10 == 8 else 2 for n in numbers])
        table = _with(rows.take(kinds), numbers)
        shown = [n for n in numbers if n < NUM_PICTURES]
        members = [(f"{n:032x}.{end}", PICTURE) for n in shown for end in ("jpg", "json")]
        write = partial(write_table, table=table, footer=ledger_footer(recipe, keys, source))
        tar = run / "curate" / f"{shard}.tar"
        files = {tar.name: publish(tar, partial(write_tar, members=members))}
        files[f"{shard}.parquet"] = publish(tar.with_suffix(".parquet"), write)
        num_grey = NUM_SHARD_ROWS // 10
        rejected = {"colour": {"mean_channel_std_low": num_grey}}
        work_id = curate_work_id(shard, source, recipe, weights)
        report = ShardReport(shard, work_id, NUM_SHARD_ROWS, NUM_SHARD_ROWS - num_grey, rejected, files)
        reports.append(commit_report(run / "curate", None, report))
    facts = Facts(weights=weights, extra={"curate_digest": recipe.curate_digest})
    finish(run / "curate", CURATE, recipe, curate_work(recipe, weights), reports, facts)


def _templates(recipe: Recipe) -> pa.Table:
    """Return three rows: a grey one, one without caption, and one that is packed."""
    rows = []
    for std, num_captions in ((1.0, 1), (30.0, 0), (30.0, 1)):
        identity = {
            "uid": "", "key": "", "url": None, "sha256": None, "width": 512, "height": 512, "format": "jpg",
            "num_bytes": len(PICTURE), "num_captions": num_captions,
        }  # fmt: skip
        evidence = {"colour": ColourEvidence(std, 0.5, 40.0, 9.0)}
        verdict = judge(evidence, recipe.criteria)
        assert isinstance(verdict, Verdict)
        rows.append(ledger_row(identity, verdict, evidence, recipe))
    return pa.Table.from_pylist(rows, schema=ledger_schema(recipe))


def _with(table: pa.Table, numbers: Sequence[int]) -> pa.Table:
    own = {
        "uid": [f"{n:032x}" for n in numbers], "key": [f"{n:09d}" for n in numbers],
        "url": [_url(n) for n in numbers], "sha256": [_sha256(n) for n in numbers],
    }  # fmt: skip
    for name, values in own.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), pa.array(values, pa.string()))
    return table


def _write_selection(folder: Path, recipe: Recipe, num_rows: int) -> None:
    files: dict[str, FileRecord] = {}
    schema = pa.schema(BASE_FIELDS)
    nothing = {f.name: pa.nulls(NUM_PART_ROWS, f.type) for f in schema}
    publish(folder / "begun", lambda temp: temp.write_text(""))
    whole = folder.parent / "ledger"
    with pq.ParquetWriter(whole, schema.with_metadata({"schema_version": "1", "stage": "rank"})) as writer:
        for part in range(num_rows // NUM_PART_ROWS):
            numbers = range(part * NUM_PART_ROWS, (part + 1) * NUM_PART_ROWS)
            own = {
                "uid": pa.array([f"{n:032x}" for n in numbers]), "kept": pa.array([True] * len(numbers)),
                "key": pa.array([f"{part:05d}{n % NUM_PART_ROWS:04d}" for n in numbers]),
                "url": pa.array([_url(n) for n in numbers]),
            }  # fmt: skip
            table = pa.table({**nothing, **own}, schema=schema)
            writer.write_table(table.replace_schema_metadata({"schema_version": "1", "stage": "rank"}))
            write = partial(pq.write_table, table.select(["uid", "key", "url"]))
            files[f"{part:05d}.parquet"] = publish(folder / f"{part:05d}.parquet", write)
    files[LEDGER_NAME] = publish(folder / LEDGER_NAME, whole.rename)
    (folder / "begun").unlink()
    work = digest(["rows", num_rows])
    report = commit_report(folder, None, ShardReport("selection", work, num_rows, num_rows, {}, files))
    finish(folder, RANK, recipe, work, [report])


def _url(number: int) -> str:
    return f"http://host{number % 997}.example/{number}.jpg"


def _sha256(number: int) -> str:
    """Return a sha256 of its own, but that every twentieth is that of the one before."""
    return f"{number - (number % 20 == 5):064x}"


def _recipe(values: Mapping[str, Any] = MappingProxyType(RECIPE)) -> Recipe:
    return recipe_of(values, "rows")


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.rows", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--stages", nargs="+", choices=[*STAGES], default=[*STAGES])
    parser.add_argument("--folder", type=Path, default=None, help="where the runs go")
    parser.add_argument("--out", type=Path, default=RESULTS / "rows.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

"""A stage that is only a row of the table and a function of its own: all that reads folders must know it."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.gc.collect import collect
from curation.commands.report.write import write_report
from curation.commands.verify.check import verify
from curation.commands.why.story import why
from curation.dataset import stages
from curation.dataset.ledger import BASE_FIELDS, base_row, read_ledger
from curation.dataset.manifest import ShardReport, read_manifest
from curation.dataset.sample import Sample
from curation.dataset.stages import PACK, STAGES, Stage
from curation.dataset.tar import read_samples, sample_members
from curation.recipe.recipe import Recipe
from curation.run.shard_writer import shard_writer
from curation.run.target import claimed, finish, finished
from curation.storage.lease import Lease
from tests.curation.whole_run import ALONE, write_run

THIN = Stage(name="thin", before=PACK.name, output_since="0.0.1", is_by_format=True, follows_shards=True)
SCHEMA = pa.schema(list(BASE_FIELDS))


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """The recipe of a whole run, behind whose pack a fifth stage may come."""
    monkeypatch.setitem(stages._TABLE, THIN.name, THIN)
    assert list(STAGES)[-1] == "thin"
    return write_run(tmp_path / "run", num_images=12)


def thin(run: Path, recipe: Recipe, is_lost: Callable[[int], bool] = lambda _: False) -> None:
    """Keep every second packed sample of each shard; a lost one gets no row, which no stage may do."""
    packed = finished(run / "pack", PACK)
    with claimed(run / "thin", THIN, "work") as lease:
        reports = [_thin_shard(run, shard, lease, is_lost) for shard in packed.shards]
        finish(run / "thin", THIN, recipe, "work", reports, lease=lease)


def _thin_shard(run: Path, before: ShardReport, lease: Lease, is_lost: Callable[[int], bool]) -> ShardReport:
    with shard_writer(run / "thin", lease, before.shard, f"work {before.shard}") as shard:
        for number, sample in enumerate(read_samples(before.file(run / "pack", ".tar"))):
            if not is_lost(number):
                row = _row(sample, is_out=number % 2 == 1)
                metadata = json.dumps(sample.metadata).encode()
                members = sample_members(sample.key, "jpg", sample.image_bytes, metadata, sample.caption)
                shard.add(row, members if row["kept"] else ())
        return shard.commit(SCHEMA, {"stage": "thin"}, dict)


def _row(sample: Sample, *, is_out: bool) -> dict[str, Any]:
    by, reason = ("thin", "not_its_turn") if is_out else (None, None)
    sha256 = hashlib.sha256(sample.image_bytes).hexdigest()
    url = sample.metadata["url"]
    return base_row(sample.key, sample.key, url=url, sha256=sha256, rejected_by=by, reason=reason)


def rows_of(run: Path) -> list[dict[str, Any]]:
    shards = [report.shard for report in read_manifest(run / "thin").shards]
    return [row for shard in shards for row in read_ledger(run / "thin" / f"{shard}.parquet").to_pylist()]


@pytest.mark.slow
def test_it_is_verified_told_reported_collected_and_forgotten_like_every_other(tmp_path: Path, recipe: Recipe) -> None:
    run = tmp_path / "run"
    thin(run, recipe)
    verification = verify(run, ALONE)
    assert verification.ok, verification.faults
    kept = next(row for row in rows_of(run) if row["kept"])
    told = why(run, kept["uid"])[0].stages[-1]
    assert (told.stage, told.kept) == ("thin", True)
    assert write_report(run).is_file()
    (run / "thin" / "jpg-00009.tar").write_bytes((run / "thin" / "00000.tar").read_bytes())
    assert [removal.file for removal in collect(run).removed] == ["thin/jpg-00009.tar"]
    before = read_manifest(run / "thin")
    forget(run, read_requests([kept["uid"]], "a list"))
    after = read_manifest(run / "thin")
    keys = [sample.key for report in after.shards for sample in read_samples(report.file(run / "thin", ".tar"))]
    assert (after.num_seen, after.num_kept, len(keys)) == (before.num_seen, before.num_kept - 1, before.num_kept - 1)
    assert kept["uid"] not in keys and verify(run, ALONE).ok


def test_a_sample_that_it_loses_is_found(tmp_path: Path, recipe: Recipe) -> None:
    run = tmp_path / "run"
    thin(run, recipe, is_lost=lambda number: number == 1)
    faults = [str(fault) for fault in verify(run, ALONE).faults]
    assert any("came in, but has no row" in fault for fault in faults), faults

"""A selection that grows: the next rows come in, nothing that was there changes, and every row is accounted for."""

import shutil
from collections import Counter
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from curation.commands.curate.stage import curate
from curation.commands.fetch.again import PASSING
from curation.commands.fetch.stage import fetch
from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_requests
from curation.commands.pack.stage import pack
from curation.commands.rank.growth import grown_by
from curation.commands.rank.stage import rank
from curation.commands.verify.check import verify
from curation.commands.why.story import why
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import MANIFEST_NAME, Manifest, read_manifest
from curation.errors import UsageError
from curation.recipe.recipe import Recipe
from curation.run.runner import Spread
from demo.server import serve
from tests.curation.killing import killing
from tests.curation.shards import colourful, recipe_from
from tests.curation.whole_run import url_of, write_metadata

ALONE = Spread(num_workers=0)
WAIVER = "the test drew every picture itself"
RECIPE = """
schema_version = 1
name = "grows"
[rank]
top = 5
rows_per_part = 4
[fetch]
num_retries = 0
[curate]
isolate = false
[[filters]]
name = "colour"
"""


def rows_of(folder: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = read_ledger(folder / "ledger.parquet").to_pylist()
    return rows


def parts_of(folder: Path) -> dict[str, list[str]]:
    names = sorted(path.name for path in folder.glob("*.parquet") if path.name != "ledger.parquet")
    return {name: pq.read_table(folder / name)["url"].to_pylist() for name in names}


@pytest.mark.slow
def test_the_next_rows_below_the_cut_come_in_and_what_was_there_stays(tmp_path: Path) -> None:
    recipe, tables = recipe_from(tmp_path, RECIPE), write_metadata(tmp_path, 12)
    grow = partial(rank, *tables, tmp_path / "rank", recipe)
    with pytest.raises(UsageError, match="rank first"):
        grow(grow=3)
    first, before = grow(), parts_of(tmp_path / "rank")
    manifest_before = (tmp_path / "rank" / MANIFEST_NAME).read_bytes()
    second = grow(grow=6)
    after = parts_of(tmp_path / "rank")
    assert before == {name: after[name] for name in before}
    assert [url for urls in after.values() for url in urls] == [url_of(n) for n in range(11)]
    assert list(after)[2:] == ["100000.parquet", "100001.parquet"]
    assert (first.num_seen, first.num_kept) == (15, 5) and (second.num_seen, second.num_kept) == (15, 11)
    assert grown_by(second, 6).endswith("not a total; asked for in all so far: 6 more; selected now: 11")
    assert second.rejected == {"rank": {"below_cut": 4}} and second.work_digest == first.work_digest
    uids = Counter(row["uid"] for row in rows_of(tmp_path / "rank"))
    assert set(uids.values()) == {1} and len(uids) == 15
    assert [row["key"] for row in rows_of(tmp_path / "rank") if row["kept"]][5:7] == ["1000000", "1000001"]
    assert verify(tmp_path / "rank", ALONE).faults == ()
    assert grow().state == second.state, "a plain rank leaves a selection as it has grown"
    grown = (tmp_path / "rank" / MANIFEST_NAME).read_bytes()
    (tmp_path / "rank" / MANIFEST_NAME).write_bytes(manifest_before)  # as if it was killed before its manifest came
    with pytest.raises(UsageError, match="same --grow again"):
        grow()
    assert grow(grow=6).state == second.state
    (tmp_path / "rank" / MANIFEST_NAME).write_bytes(grown)
    assert grow(grow=100).num_kept == 15 and grow(grow=1).num_kept == 15
    assert list(parts_of(tmp_path / "rank"))[4:] == ["200000.parquet"]
    whole = recipe_from(tmp_path / "whole", RECIPE.replace("top = 5\n", ""))
    rank(*tables, tmp_path / "all", whole)
    with pytest.raises(UsageError, match="no \\[rank\\] top"):
        rank(*tables, tmp_path / "all", whole, grow=1)
    with pytest.raises(UsageError, match="holds the output of other work"):
        rank(*tables, tmp_path / "rank", recipe_from(tmp_path / "more", RECIPE.replace("top = 5", "top = 6")), grow=1)


def fetched(run: Path, recipe: Recipe, again: frozenset[str] | None = None) -> Manifest:
    return fetch(run / "rank", run / "fetch", recipe, ALONE, allow_loopback=True, waiver=WAIVER, again=again)


@pytest.mark.slow
def test_every_stage_takes_up_what_grew_in_and_nothing_that_was_done_is_done_again(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for seed in range(15):
        (tmp_path / "pictures" / f"p-{seed}.jpg").write_bytes(colourful(seed))
    recipe, run = recipe_from(tmp_path, RECIPE), tmp_path / "run"
    with serve(tmp_path / "pictures") as server:
        routes = ["images", "flaky", "missing", "images", "images"] + ["images"] * 10
        urls = [f"{server.base_url}/{route}/p-{number}.jpg" for number, route in enumerate(routes)]
        tables = write_metadata(tmp_path, 12, urls)
        rank(*tables, run / "rank", recipe)
        assert fetched(run, recipe).num_kept == 3
        assert fetched(run, recipe, PASSING).num_kept == 4
        curate(run / "fetch", run / "curate", recipe, ALONE)
        pack(run / "curate", run / "pack", recipe, ALONE)
        forget(run, read_requests([urls[3], urls[6]], "the test"))
        done = {path.name: path.read_bytes() for path in (run / "curate").glob("*.tar")}
        requests = server.requests.copy()
        rank(*tables, run / "rank", recipe, grow=4)
        assert fetched(run, recipe).num_kept == 6  # of four rows one is forgotten, and one was asked for twice
        new = server.requests - requests
        assert sorted(path for path in new if "p-" in path) == [f"/images/p-{n}.jpg" for n in (5, 7, 8)]
        curate(run / "fetch", run / "curate", recipe, ALONE)
        pack(run / "curate", run / "pack-2", recipe, ALONE)
        assert {name: (run / "curate" / name).read_bytes() for name in done} == done
        assert [report.shard for report in read_manifest(run / "fetch").shards] == ["00000", "00001", "00002", "100000"]
        assert verify(run, ALONE).faults == ()
        assert read_manifest(run / "pack-2").num_kept == 6
        rank(*tables, run / "rank", recipe, grow=2)
        assert fetched(run, recipe, PASSING).num_kept == 8
        curate(run / "fetch", run / "curate", recipe, ALONE)
        assert verify(run, ALONE).faults == ()
        story = why(run, urls[5])[0]
        assert (story.stages[0].stage, story.stages[0].file) == ("rank", "rank/100000.parquet")


@pytest.mark.slow
def test_killed_while_it_grows_it_is_whole_again_after_the_same_call(tmp_path: Path) -> None:
    recipe, tables = recipe_from(tmp_path, RECIPE), write_metadata(tmp_path, 12)
    rank(*tables, tmp_path / "first", recipe)
    with killing() as killer:

        def work(folder: Path) -> partial[Manifest]:
            return partial(rank, *tables, folder, recipe, grow=4)

        shutil.copytree(tmp_path / "first", tmp_path / "count")
        num_steps = killer.count_steps(work(tmp_path / "count"))
        for step in range(1, num_steps, 4):
            folder = tmp_path / f"killed-{step}"
            shutil.copytree(tmp_path / "first", folder)
            killer.kill_at(step, work(folder))
            if read_manifest(folder).num_kept == 5:
                work(folder)()
            else:
                rank(*tables, folder, recipe)
            assert rows_of(folder) == rows_of(tmp_path / "count")
            assert verify(folder, ALONE).faults == ()
            shutil.rmtree(folder)

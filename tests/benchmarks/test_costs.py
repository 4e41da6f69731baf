"""What the benchmarks of cost rest on: process times by role, pieces of a corpus, orders that keep the same."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.pictures.pieces import first_samples, write_pictures, write_shards
from benchmarks.process_tree import Tree
from benchmarks.speed.order import main as order_main
from benchmarks.speed.order import parted
from curation.dataset.tar import read_samples
from curation.errors import UsageError, WeightsError
from filters.weights import find_weights
from tests.curation.shards import mixed_source

BURN = "import time, sys; end = time.process_time() + {seconds}\nwhile time.process_time() < end: pass"
FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {child!r}, "curation.sandbox.child"], stdin=subprocess.PIPE)
{burn}
sys.stdin.readline()
child.communicate()
print("gone", flush=True)
sys.stdin.readline()
"""
"""A child that lives until its parent is told to let it go, and a parent that is told twice."""
RECIPE = """
schema_version = 1
name = "orders"
[curate]
order = ["drawn", "colour"]
[[filters]]
name = "colour"
keep.mean_channel_std = { min = 2.0 }
[[filters]]
name = "drawn"
keep.drawn_probability = { max = 0.9 }
"""


def test_the_cpu_time_of_a_child_is_told_apart_from_its_parents_and_outlives_it() -> None:
    program = FAMILY.format(child=BURN.format(seconds=0.6) + "\nsys.stdin.read()", burn=BURN.format(seconds=0.3))
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        tree = Tree(process.pid)
        while tree.cpu_s("cell") < 0.55 or tree.cpu_s("driver") < 0.25:
            tree.look()
            time.sleep(0.02)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "gone\n"
        tree.look()
    assert process.returncode == 0
    assert 0.5 <= tree.cpu_s("cell") <= 1.0
    assert 0.25 <= tree.cpu_s("driver") <= 0.6
    assert tree.peak_mib("cell") > 3 and tree.peak_mib("driver") > 3
    assert tree.cpu_s("worker") == tree.peak_mib("worker") == 0.0


def test_a_piece_of_a_corpus_holds_its_first_whole_samples_in_as_many_tars_as_asked_for(tmp_path: Path) -> None:
    source = mixed_source(tmp_path / "in", 2)
    samples = first_samples(source, 10)
    folder = write_shards(samples, tmp_path / "out", 3)
    back = {one.key: one for path in sorted(folder.glob("*.tar")) for one in read_samples(path)}
    assert len(list(folder.iterdir())) == 3 and len(back) == 10
    assert all(back[one.key].image_bytes == one.image_bytes and back[one.key].url == one.url for one in samples)
    pictures = sorted(write_pictures(samples, tmp_path / "files").iterdir())
    assert [path.read_bytes() for path in pictures] == [one.image_bytes for one in samples]
    with pytest.raises(UsageError, match="holds 16 whole samples, and 17 are asked for"):
        first_samples(source, 17)


@pytest.mark.slow
def test_the_benchmark_of_orders_finds_the_same_pictures_kept_in_each(tmp_path: Path) -> None:
    try:
        find_weights("efficientnet_lite0")
    except WeightsError as error:
        pytest.skip(str(error))
    recipe, out = tmp_path / "recipe.toml", tmp_path / "order.json"
    recipe.write_text(RECIPE)
    every = {one.uid(""): one for one in first_samples(mixed_source(tmp_path / "twice", 5), 40)}
    source = write_shards(list(every.values()), tmp_path / "in", 2)
    order_main([str(source), "--recipe", str(recipe), "--num-samples", "16", "--num-planned", "16", "--out", str(out)])
    found = json.loads(out.read_text())
    assert found["orders"]["declared"]["order"] == ["colour", "drawn"] == found["orders"]["proposed"]["order"]
    assert found["orders"]["recipe"]["calls"] == {"colour": 14, "drawn": 14}
    assert found["orders"]["proposed"]["calls"]["drawn"] == 12
    assert found["same_kept_uids"] and found["same_tars"] and found["num_kept"] > 0
    assert str(tmp_path) not in out.read_text()


def test_no_picture_is_timed_that_was_planned_on(tmp_path: Path) -> None:
    source = mixed_source(tmp_path / "in", 1)
    with pytest.raises(UsageError, match="twice; what is timed must not have been planned on"):
        parted(source, 4, 4, seed=5)
    samples = [one for one in first_samples(source, 8) if one.key != "00040"]
    planned, timed = parted(write_shards(samples, tmp_path / "once", 1), 3, 4, seed=1)
    assert (len(planned), len(timed)) == (3, 4)
    assert {one.key for one in planned} | {one.key for one in timed} == {one.key for one in samples}

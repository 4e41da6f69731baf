import json
import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from curation.commands.curate import examine
from curation.commands.curate.shard import CurateJob, curate_shard
from curation.commands.curate.stage import curate
from curation.commands.pack.stage import pack
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import Manifest, ShardReport, read_manifest
from curation.dataset.sources import TarShard
from curation.dataset.tar import read_samples
from curation.errors import ShardError, UsageError, WeightsError
from curation.recipe.recipe import load_recipe
from curation.run.runner import Spread
from curation.storage.publish import TEMP_FOLDER, sha256_of
from tests.curation.images.test_reservations import jpeg_with, packet
from tests.curation.killing import killing
from tests.curation.shards import (
    RECIPE,
    bytes_of,
    colourful,
    grey,
    mixed_source,
    recipe_from,
    sample_members,
    write_shard,
)

ALONE = Spread(num_workers=0)


def rejections(path: Path) -> dict[str, str | None]:
    return {row["key"]: row["rejected_by"] for row in read_ledger(path).to_pylist()}


def job(tmp_path: Path, name: str = "00000") -> CurateJob:
    target = tmp_path / "out"
    target.mkdir(exist_ok=True)
    return CurateJob(name, TarShard(name, tmp_path / "in" / f"{name}.tar"), target, recipe_from(tmp_path), {})


def test_the_ledger_accounts_for_every_sample(tmp_path: Path) -> None:
    samples = [
        sample_members("red", colourful(1)),
        sample_members("grey", grey(2)),
        sample_members("torn", colourful(3)[:-60]),
        sample_members("copy", colourful(4), url="http://EXAMPLE.org:80/red.jpg#x"),
        [("captiononly.txt", b"no picture")],
    ]
    write_shard(tmp_path / "in", "00000", samples)
    report = curate_shard(job(tmp_path))
    assert rejections(tmp_path / "out" / "00000.parquet") == {
        "red": None, "grey": "colour", "torn": "unreadable", "copy": "curate", "captiononly": "curate",
    }  # fmt: skip
    assert (report.num_seen, report.num_kept) == (5, 1)
    assert report.rejected == {
        "colour": {"mean_channel_std_low": 1},
        "curate": {"duplicate_uid": 1, "no_image": 1},
        "unreadable": {"truncated": 1},
    }


def test_kept_bytes_and_captions_are_those_that_came_in(tmp_path: Path) -> None:
    write_shard(tmp_path / "in", "00000", [sample_members("red", colourful(1)), sample_members("grey", grey(2))])
    curate_shard(job(tmp_path))
    (kept,) = read_samples(tmp_path / "out" / "00000.tar")
    (came, _) = read_samples(tmp_path / "in" / "00000.tar")
    assert (kept.image_bytes, kept.caption, kept.metadata) == (came.image_bytes, came.caption, came.metadata)
    assert kept.key == came.uid("00000")


def test_a_picture_that_reserves_itself_is_turned_away_unless_the_recipe_says_otherwise(tmp_path: Path) -> None:
    reserved = jpeg_with(packet('tdm:reservation="1"'))
    write_shard(tmp_path / "in", "00000", [sample_members("red", colourful(1)), sample_members("kept", reserved)])
    report = curate_shard(job(tmp_path))
    assert report.rejected == {"curate": {"opted_out": 1}}
    uid = next(row["uid"] for row in read_ledger(tmp_path / "out" / "00000.parquet").to_pylist() if not row["kept"])
    assert report.run["opted_out"] == [{"uid": uid, "where": "xmp", "value": "tdm:reservation 1"}]
    (tmp_path / "out2").mkdir()
    text = RECIPE.replace("[[filters]]", '[curate]\nreservations = "ignore"\n[[filters]]')
    free = replace(job(tmp_path), target=tmp_path / "out2", recipe=recipe_from(tmp_path, text))
    assert curate_shard(free).num_kept == 2


def test_all_missing_weights_are_named_at_once_but_a_missing_source_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FACECAPTIONHQ_MODELS", str(tmp_path / "none"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    wanting = load_recipe("published-literal")
    with pytest.raises(UsageError, match="no such folder"):
        curate(tmp_path / "in", tmp_path / "out", wanting, ALONE)
    write_shard(tmp_path / "in", "00000", [sample_members("red", colourful(1))])
    with pytest.raises(WeightsError, match=r"lbpcascade_animeface(.|\n)*yolov5n-face"):
        curate(tmp_path / "in", tmp_path / "out", wanting, ALONE)
    assert not (tmp_path / "out").exists()


def test_a_broken_shard_leaves_nothing_behind_and_is_named(tmp_path: Path) -> None:
    source = write_shard(tmp_path / "in", "00000", [sample_members("red", colourful(1))])
    source.write_bytes(source.read_bytes()[:700])
    with pytest.raises(ShardError, match=r"00000\.tar"):
        curate_shard(job(tmp_path))
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def test_a_broken_shard_stops_no_other_and_is_named_in_the_manifest(tmp_path: Path) -> None:
    source = mixed_source(tmp_path / "in", 2)
    broken = source / "00001.tar"
    broken.write_bytes(broken.read_bytes()[:-12000])
    manifest = curate(source, tmp_path / "out", recipe_from(tmp_path), ALONE)
    assert [report.shard for report in manifest.shards] == ["00000"]
    assert list(manifest.failed) == ["00001"] and "00001.tar" in manifest.failed["00001"]


def test_seen_equals_kept_plus_rejected_in_every_shard_and_in_the_manifest(tmp_path: Path) -> None:
    curate(mixed_source(tmp_path / "in"), tmp_path / "out", recipe_from(tmp_path), ALONE)
    manifest = read_manifest(tmp_path / "out", "curate")
    parts: list[Manifest | ShardReport] = [manifest, *manifest.shards]
    counts = [(part.num_seen, part.num_kept, part.rejected) for part in parts]
    for num_seen, num_kept, rejected in counts:
        assert num_seen == num_kept + sum(sum(reasons.values()) for reasons in rejected.values())
    assert manifest.num_seen == sum(
        read_ledger(tmp_path / "out" / f"{r.shard}.parquet").num_rows for r in manifest.shards
    )
    for report in manifest.shards:
        for name, record in report.files.items():
            assert record.sha256 == sha256_of(tmp_path / "out" / name)


def test_the_ledger_names_its_recipe_and_what_each_column_depends_on(tmp_path: Path) -> None:
    write_shard(tmp_path / "in", "00000", [sample_members("red", colourful(1))])
    recipe = recipe_from(tmp_path)
    curate_shard(job(tmp_path))
    footer = read_ledger(tmp_path / "out" / "00000.parquet").schema.metadata
    assert footer[b"recipe_digest"].decode() == recipe.curate_digest
    assert list(json.loads(footer[b"measurement_keys"])) == ["colour"]


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path, ray_address: str) -> None:
    source, recipe = mixed_source(tmp_path / "in"), recipe_from(tmp_path)
    outputs = []
    for num_workers in (0, 1, 2):
        target = tmp_path / f"out{num_workers}"
        curate(source, target, recipe, Spread(num_workers, ray_address))
        outputs.append(bytes_of(target) | {"manifest.json": (target / "manifest.json").read_bytes()})
    assert outputs[0] == outputs[1] == outputs[2]
    assert len(outputs[0]) == 7


def test_batching_changes_no_byte(tmp_path: Path) -> None:
    source = mixed_source(tmp_path / "in", 1)
    outputs = []
    for number in (1, 3, 64):
        text = RECIPE.replace("[[filters]]", f"[curate]\nnum_batch_samples = {number}\n[[filters]]")
        target = tmp_path / f"out{number}"
        curate(source, target, recipe_from(tmp_path, text), ALONE)
        outputs.append(bytes_of(target))
    assert outputs[0] == outputs[1] == outputs[2]


def test_a_batch_holds_no_more_bytes_than_it_may_and_that_changes_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, recipe = mixed_source(tmp_path / "in", 1), recipe_from(tmp_path)
    curate(source, tmp_path / "one", recipe, ALONE)
    sizes: list[list[int]] = []
    batches = examine._batches

    def watched(*arguments: Any) -> Iterator[Any]:
        for batch in batches(*arguments):
            sizes.append([len(sample.image_bytes) for _, sample in batch])
            yield batch

    monkeypatch.setattr(examine, "_batches", watched)
    monkeypatch.setattr(examine, "MAX_BATCH_BYTES", 2400)
    curate(source, tmp_path / "two", recipe, ALONE)
    assert all(sum(batch) <= 2400 or len(batch) == 1 for batch in sizes) and max(map(len, sizes)) > 1
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")


def test_what_was_skipped_stands_in_the_done_record(tmp_path: Path) -> None:
    write_shard(tmp_path / "in", "00000", [sample_members("red", colourful(1)), [(".DS_Store", b""), ("README", b"")]])
    assert curate_shard(job(tmp_path)).run["skipped"] == {"hidden": 1, "no_suffix": 1}


def test_a_rerun_measures_nothing_and_changes_nothing(tmp_path: Path) -> None:
    source, recipe, target = mixed_source(tmp_path / "in"), recipe_from(tmp_path), tmp_path / "out"
    curate(source, target, recipe, ALONE)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in target.glob("0*")}
    curate(source, target, recipe, ALONE)
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in target.glob("0*")}


def test_a_damaged_output_is_made_again(tmp_path: Path) -> None:
    source, recipe, target = mixed_source(tmp_path / "in"), recipe_from(tmp_path), tmp_path / "out"
    curate(source, target, recipe, ALONE)
    whole = bytes_of(target)
    (target / "00001.tar").write_bytes(b"rot")
    (target / "00002.parquet").unlink()
    curate(source, target, recipe, ALONE)
    assert bytes_of(target) == whole


def test_a_folder_of_another_recipe_is_refused_finished_or_not(tmp_path: Path) -> None:
    source, target = mixed_source(tmp_path / "in", 1), tmp_path / "out"
    curate(source, target, recipe_from(tmp_path), ALONE)
    for _ in range(2):
        with pytest.raises(UsageError, match="holds the output of other work"):
            curate(source, target, recipe_from(tmp_path, RECIPE.replace("2.0", "3.0")), ALONE)
        (target / "manifest.json").unlink(missing_ok=True)


def test_a_folder_with_foreign_files_is_left_alone(tmp_path: Path) -> None:
    source = mixed_source(tmp_path / "in", 1)
    before = bytes_of(source)
    with pytest.raises(UsageError, match="not empty, and not the output of curate"):
        curate(source, source, recipe_from(tmp_path), ALONE)
    assert bytes_of(source) == before


def test_a_shard_that_the_user_lets_go_of_leaves_no_trace_but_in_the_manifest(tmp_path: Path) -> None:
    source, recipe, target = mixed_source(tmp_path / "in", 2), recipe_from(tmp_path), tmp_path / "out"
    curate(source, target, recipe, ALONE)
    (source / "00001.tar").unlink()
    manifest = curate(source, target, recipe, ALONE, allow_removed=True)
    assert sorted(bytes_of(target)) == ["00000.parquet", "00000.tar"]
    assert not (target / TEMP_FOLDER).exists()
    assert manifest.extra["removed"] == [{"gone": ["00001"], "changed": []}]
    assert curate(source, target, recipe, ALONE).extra["removed"] == manifest.extra["removed"]


def test_a_shard_that_fails_on_a_rerun_keeps_what_it_had_committed(tmp_path: Path) -> None:
    source, recipe, target = mixed_source(tmp_path / "in", 2), recipe_from(tmp_path), tmp_path / "out"
    curate(source, target, recipe, ALONE)
    whole, content = bytes_of(target), (source / "00001.tar").read_bytes()
    (source / "00001.tar").write_bytes(content[:700])
    assert list(curate(source, target, recipe, ALONE, allow_removed=True).failed) == ["00001"]
    assert bytes_of(target) == whole and (target / "00001_stats.json").exists()
    (source / "00001.tar").write_bytes(content)
    before = {path: path.stat().st_mtime_ns for path in target.glob("0*")}
    assert curate(source, target, recipe, ALONE).failed == {}
    assert bytes_of(target) == whole and before == {path: path.stat().st_mtime_ns for path in target.glob("0*")}


def test_a_torn_copy_does_not_shadow_the_whole_one(tmp_path: Path) -> None:
    url = "http://example.org/same.jpg"
    torn, whole = sample_members("a", colourful(1)[:-60], url=url), sample_members("b", colourful(1), url=url)
    write_shard(tmp_path / "in", "00000", [torn, whole])
    curate_shard(job(tmp_path))
    assert rejections(tmp_path / "out" / "00000.parquet") == {"a": "unreadable", "b": None}


def test_a_new_version_of_a_filter_is_other_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, recipe, target = mixed_source(tmp_path / "in", 1), recipe_from(tmp_path), tmp_path / "out"
    curate(source, target, recipe, ALONE)
    monkeypatch.setattr("filters.colour.VERSION", 99)
    with pytest.raises(UsageError, match="holds the output of other work"):
        curate(source, target, recipe, ALONE)


@pytest.mark.parametrize(
    "metadata",
    [
        b'{"facecaptions": [{"caption": "x", "box": [1, 2, 1%s, 4]}]}' % (b"0" * 400),
        b'{"facecaptions": [{"caption": "x", "box": [NaN, -Infinity, Infinity, 4]}]}',
        b'{"facecaptions": "%s"}' % (b"[" * 100_000),
        b'{"crawled_width": 1%s, "crawled_height": true}' % (b"0" * 400),
        b'{"url": "http://[::1/", "facecaptions": {"caption": 1}}',
        b'{"url": "http://a.org/\\ud800"}',
    ],
)
def test_hostile_metadata_costs_no_other_sample(tmp_path: Path, metadata: bytes) -> None:
    hostile = [("h.jpg", colourful(5)), ("h.json", metadata), ("h.txt", b"caption")]
    write_shard(tmp_path / "in", "00000", [hostile, sample_members("red", colourful(1))])
    recipe = recipe_from(tmp_path)
    manifest = curate(tmp_path / "in", tmp_path / "curate", recipe, ALONE)
    assert (manifest.num_seen, manifest.num_kept, manifest.failed) == (2, 2, {})
    assert pack(tmp_path / "curate", tmp_path / "pack", recipe, ALONE).num_kept == 2


def test_names_that_are_not_utf8_are_named_in_the_manifest_all_the_same(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff")
    apart = [(f"{name}.jpg", colourful(1)), ("b.jpg", colourful(2)), (f"{name}.txt", b"x")]
    write_shard(tmp_path / "in", "00000", [apart])
    write_shard(tmp_path / "in", "00001", [[(os.fsdecode(b"\xff.txt"), b"no picture")]])
    manifest = curate(tmp_path / "in", tmp_path / "out", recipe_from(tmp_path), ALONE)
    assert "stand apart" in manifest.failed["00000"]
    assert manifest.rejected == {"curate": {"no_image": 1}}
    assert read_manifest(tmp_path / "out").failed == manifest.failed


@pytest.mark.parametrize("folder", ["gone", "."])
def test_a_source_without_shards_is_refused(tmp_path: Path, folder: str) -> None:
    with pytest.raises(UsageError, match=r"no such folder|no \*\.tar"):
        curate(tmp_path / folder, tmp_path / "out", recipe_from(tmp_path / "r"), ALONE)


HERE = RECIPE.replace("[[filters]]", "[curate]\nisolate = false\n[[filters]]")
"""Measures in the process that the test kills."""


@pytest.mark.slow
def test_killed_at_every_commit_point_and_run_again_the_result_is_that_of_an_uninterrupted_run(tmp_path: Path) -> None:
    source, recipe = mixed_source(tmp_path / "in", 1), recipe_from(tmp_path, HERE)
    with killing() as killer:
        num_steps = killer.count_steps(partial(curate, source, tmp_path / "whole", recipe, ALONE))
        assert num_steps >= 40
        expected = bytes_of(tmp_path / "whole")
        for step in range(num_steps):
            target = tmp_path / f"killed{step}"
            killer.kill_at(step, partial(curate, source, target, recipe, ALONE))
            for path in target.glob("0*"):
                if path.suffix in {".tar", ".parquet"}:
                    assert path.read_bytes() == expected[path.name], f"step {step}: {path.name} appeared unfinished"
            curate(source, target, recipe, ALONE)
            assert bytes_of(target) == expected
            assert read_manifest(target).num_seen == 8
            assert not (target / TEMP_FOLDER).exists() or not any((target / TEMP_FOLDER).iterdir())


@pytest.mark.slow
def test_a_pack_that_is_killed_and_run_again_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    recipe = recipe_from(tmp_path, HERE)
    curated = tmp_path / "curate"
    curate(mixed_source(tmp_path / "in", 1), curated, recipe, ALONE)
    with killing() as killer:
        num_steps = killer.count_steps(partial(pack, curated, tmp_path / "whole", recipe, ALONE))
        expected = bytes_of(tmp_path / "whole")
        for step in range(num_steps):
            target = tmp_path / f"killed{step}"
            killer.kill_at(step, partial(pack, curated, target, recipe, ALONE))
            pack(curated, target, recipe, ALONE)
            assert bytes_of(target) == expected


def test_a_shard_is_curated_the_same_whether_or_not_the_one_to_be_read_ahead_is_there(tmp_path: Path) -> None:
    mixed_source(tmp_path / "in", num_shards=2)
    num_open = len([*Path("/proc/self/fd").iterdir()])
    plain = curate_shard(job(tmp_path))
    files = bytes_of(tmp_path / "out")
    for ahead in (tmp_path / "in" / "00001.tar", tmp_path / "in" / "gone.tar"):
        (tmp_path / "out" / "00000_stats.json").unlink()
        assert curate_shard(replace(job(tmp_path), ahead=ahead)) == plain
        assert bytes_of(tmp_path / "out") == files
    assert len([*Path("/proc/self/fd").iterdir()]) <= num_open + 1, "only the cell's socket stays open"

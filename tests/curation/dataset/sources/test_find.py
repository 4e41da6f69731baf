"""Every form of a data set is read as tars are, with a row for every picture in it."""

import gzip
import json
import logging
import random
import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.commands.curate.origin import source_shards
from curation.commands.curate.stage import curate
from curation.dataset.ledger import read_ledger
from curation.dataset.sources import shards_in, source_samples
from curation.dataset.tar import read_samples, write_tar
from curation.errors import ShardError, UsageError
from curation.run.runner import Spread
from curation.storage.paths import location
from curation.storage.publish import sha256_of
from tests.curation.shards import colourful, grey, recipe_from, sample_members, write_shard

ALONE = Spread(num_workers=0)


def samples(source: Path) -> list[tuple[str, str, bytes, str | None]]:
    """Return shard, key, picture and caption of every sample."""
    found = []
    for shard in shards_in(source):
        with shard.opened() as tar:
            found += [(shard.name, s.key, s.image_bytes, s.caption) for s in source_samples(shard, tar)]
    return found


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_a_folder_of_pictures_is_curated_by_one_command(tmp_path: Path) -> None:
    files = {
        "a.jpg": colourful(1), "a.txt": b"one", "sub/b.JPEG": colourful(2), "sub/b.json": b'{"url": "http://a.org/b"}',
        "sub/deep/22.05.jfif": grey(3), "sub/deep/22.06.jpg": colourful(4), "a.b/c.png": colourful(5, "PNG"),
    }  # fmt: skip
    manifest = curate(write(tmp_path / "in", files), tmp_path / "out", recipe_from(tmp_path), ALONE)
    rows = {row["key"]: row for row in read_ledger(tmp_path / "out/00000.parquet").to_pylist()}
    assert set(rows) == {"a", "sub/b", "sub/deep/22.05", "sub/deep/22.06", "a.b/c"}
    assert (manifest.num_seen, manifest.num_kept) == (5, 4)
    assert rows["sub/b"]["url"] == "http://a.org/b"
    assert "one" in {sample.caption for sample in read_samples(tmp_path / "out/00000.tar")}


def test_pictures_that_differ_in_their_suffix_alone_are_each_a_sample(tmp_path: Path) -> None:
    files = {"a.jpg": b"1", "a.png": b"2", "a.txt": b"both", "b.jpg": b"3", "b.jpg.txt": b"b's", "c.txt": b"nobody's"}
    assert samples(write(tmp_path / "in", files)) == [
        ("00000", "a.jpg", b"1", "both"), ("00000", "a.png", b"2", "both"), ("00000", "b", b"3", "b's"),
    ]  # fmt: skip


def test_what_is_left_out_of_a_folder_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "in", {"a.jpg": b"1", "notes.md": b"", "c.txt": b"", ".DS_Store": b"", "__MACOSX/._a.jpg": b""})
    with caplog.at_level(logging.WARNING):
        assert len(samples(tmp_path / "in")) == 1
    assert "2 files are neither pictures nor a picture's text, and are left out: c.txt, " in caplog.text
    (tmp_path / "in" / "notes.md").unlink()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            samples(tmp_path / "in")
    once = "1 file is neither a picture nor a picture's text, and is left out: c.txt"
    assert caplog.text.count(once) == 1


def test_a_folder_is_cut_into_shards_in_order_of_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.dataset.sources.pictures.NUM_SHARD_SAMPLES", 3)
    monkeypatch.setattr("curation.dataset.sources.pictures.MAX_SHARD_BYTES", 25)
    write(tmp_path / "in", {f"{n}/x.jpg": bytes(10 if n < 6 else 1) for n in range(10)})
    by_shard: dict[str, list[str]] = {}
    for shard, key, _, _ in samples(tmp_path / "in"):
        by_shard.setdefault(shard, []).append(key[0])
    assert ["".join(keys) for keys in by_shard.values()] == ["01", "23", "456", "789"]


def test_a_folder_gives_the_same_tars_each_time(tmp_path: Path) -> None:
    write(tmp_path / "one", {"b.jpg": b"2", "a.jpg": b"1", "a.txt": b"x"})
    write(tmp_path / "two", {"a.txt": b"x", "a.jpg": b"1", "b.jpg": b"2"})
    sums = set()
    for folder in ("one", "two", "one"):
        (shard,) = shards_in(tmp_path / folder)
        with shard.opened() as tar:
            sums.add(sha256_of(tar))
    assert len(sums) == 1


def test_sources_in_a_store_are_read_as_those_on_a_disk(tmp_path: Path) -> None:
    store = location("memory://test_find")
    for place in (store / "pictures", tmp_path / "pictures"):
        files = {"sub/b.jpg": b"2", "a.jpg": b"1", "a.txt": b"x", ".hidden.jpg": b"", "out/work.json": b""}
        for name, content in files.items():
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
        (place / "out" / "c.jpg").write_bytes(b"3")
    assert samples(store / "pictures") == samples(tmp_path / "pictures") == [
        ("00000", "a", b"1", "x"), ("00000", "sub/b", b"2", None),
    ]  # fmt: skip
    hub(tmp_path / "set", ROWS)
    (store / "set").mkdir()
    (store / "set" / "x.parquet").write_bytes(next((tmp_path / "set").iterdir()).read_bytes())
    assert [sample[2] for sample in samples(store / "set")] == [row["image"] or b"" for row in ROWS]


def test_names_that_no_tar_header_holds_are_shortened_and_stay_apart(tmp_path: Path) -> None:
    files = {f"{'ü' * 60}/{'k' * 120}{n}.jpg": b"1" for n in range(2)}
    assert len({key for _, key, _, _ in samples(write(tmp_path / "in", files))}) == 2


def test_links_in_a_folder_are_followed_and_a_loop_of_them_ends(tmp_path: Path) -> None:
    write(tmp_path / "blobs", {"x": b"1"})
    write(tmp_path / "in", {"sub/a.jpg": b"2"})
    (tmp_path / "in" / "b.jpg").symlink_to(tmp_path / "blobs" / "x")
    (tmp_path / "in" / "sub" / "loop").symlink_to(tmp_path / "in")
    assert [content for _, _, content, _ in samples(tmp_path / "in")] == [b"1", b"2"]


def test_output_inside_the_folder_is_no_source(tmp_path: Path) -> None:
    source, recipe = write(tmp_path / "in", {"a.jpg": colourful(1)}), recipe_from(tmp_path)
    first = curate(source, source / "out", recipe, ALONE)
    assert curate(source, source / "out", recipe, ALONE) == first


def test_one_tar_and_packed_tars_are_sources(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "in", "00000", [sample_members("a", b"1"), sample_members("b", b"2")])
    expected = samples(path)
    assert [(shard, key) for shard, key, _, _ in expected] == [("00000", "a"), ("00000", "b")]
    for name in ("00000.tar.gz", "00000.TGZ"):
        write(tmp_path / name[-3:], {name: gzip.compress(path.read_bytes())})
        assert samples(tmp_path / name[-3:]) == samples(tmp_path / name[-3:] / name) == expected


@pytest.mark.parametrize("cut", [10, 60, -9, -1])
def test_a_packed_tar_that_is_cut_is_an_error_that_names_it(tmp_path: Path, cut: int) -> None:
    path = write_shard(tmp_path, "00000", [sample_members("a", bytes(range(256)))])
    packed = tmp_path / "00000.tar.gz"
    packed.write_bytes(gzip.compress(path.read_bytes())[:cut])
    path.unlink()
    with pytest.raises(ShardError, match=r"00000\.tar\.gz: not a whole"):
        samples(packed)


def test_a_packed_tar_that_grows_beyond_all_measure_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.dataset.sources.made.MIN_UNPACKED_BYTES", 1 << 20)
    (tmp_path / "bomb.tgz").write_bytes(gzip.compress(bytes(8 << 20)))
    with pytest.raises(ShardError, match=r"bomb\.tgz: unpacks to more than 1048576 bytes"):
        samples(tmp_path)


def test_two_files_that_would_be_one_shard_are_refused(tmp_path: Path) -> None:
    path = write_shard(tmp_path, "00000", [sample_members("a", b"1")])
    (tmp_path / "00000.tar.gz").write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(UsageError, match="several files would be shard '00000'"):
        shards_in(tmp_path)


@pytest.mark.parametrize("stated", [{"count": 9, "successes": 2}, {"num_kept": 2}, None])
def test_counts_beside_a_tar_are_held_against_it(tmp_path: Path, stated: dict[str, int] | None) -> None:
    path = write_shard(tmp_path / "in", "00000", [sample_members("a", b"1"), sample_members("b", b"2")])
    if stated is None:
        pq.write_table(pa.table({"status": ["success", "failed_to_download", "success"]}), path.with_suffix(".parquet"))
    else:
        (path.parent / "00000_stats.json").write_text(json.dumps(stated))
    assert len(samples(tmp_path / "in")) == 2
    write_tar(path, [("a.jpg", b"1")])
    with pytest.raises(ShardError, match=r"00000\.tar: holds 1 pictures, and 00000\S+ says 2.*repair"):
        samples(tmp_path / "in")


def test_a_count_that_cannot_be_read_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "in", "00000", [sample_members("a", b"1")])
    (path.parent / "00000_stats.json").write_text('{"successes": 3')
    with pytest.raises(ShardError, match=r"00000_stats\.json: says how many"):
        samples(tmp_path / "in")


def test_an_empty_tar_is_believed_only_where_something_says_so(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "in", "00000", [])
    with pytest.raises(ShardError, match="holds no member at all"):
        samples(tmp_path / "in")
    (path.parent / "00000_stats.json").write_text('{"count": 5, "successes": 0}')
    assert samples(tmp_path / "in") == []


def test_a_long_end_is_believed_where_the_count_agrees(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "in", "00000", [sample_members("a", b"1")])
    path.write_bytes(path.read_bytes() + bytes(1 << 20))
    with pytest.raises(ShardError, match="zeros follow its 1 pictures"):
        samples(tmp_path / "in")
    (path.parent / "00000_stats.json").write_text('{"successes": 1}')
    assert len(samples(tmp_path / "in")) == 1


def hub(folder: Path, rows: list[dict[str, object]]) -> Path:
    """Write rows as the Hub has data sets with pictures."""
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [{"bytes": row["image"], "path": "x.jpg"} if row["image"] else None for row in rows]
    columns = {"image": pa.array(cells, image), "n": pa.array([row["n"] for row in rows], pa.uint64())}
    columns |= {name: pa.array([row[name] for row in rows]) for name in ("text", "Url")}
    folder.mkdir(parents=True)
    pq.write_table(pa.table(columns), folder / "train-00000-of-00001.parquet", row_group_size=3)
    return folder


ROWS: list[dict[str, object]] = [
    {"image": bytes([n]) if n != 4 else None, "text": f"caption {n}", "Url": f"http://a.org/{n}", "n": 2**63 + n}
    for n in range(8)
]


def test_parquet_with_pictures_is_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("curation.dataset.sources.find.NUM_SHARD_SAMPLES", 5)
    found = samples(hub(tmp_path / "set" / "data", ROWS).parent)
    assert [content for _, _, content, _ in found] == [row["image"] or b"" for row in ROWS]
    assert [caption for _, _, _, caption in found] == [row["text"] for row in ROWS]
    assert [shard[-5:] for shard, *_ in found] == ["00000"] * 5 + ["00001"] * 3
    (shard, *_) = shards_in(tmp_path / "set")
    with shard.opened() as tar:
        first = next(source_samples(shard, tar))
    assert (first.url, first.metadata["n"]) == ("http://a.org/0", 2**63)


def test_a_data_set_that_datasets_saved_is_curated_by_one_command(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict, Features, Image, Value

    def rows(first: int) -> Dataset:
        pictures = [{"bytes": colourful(n), "path": None} for n in range(first, first + 3)]
        features = Features({"image": Image(), "caption": Value("string")})
        return Dataset.from_dict({"image": pictures, "caption": ["a", "b", "c"]}, features)

    DatasetDict({"train": rows(0), "test": rows(3)}).save_to_disk(str(tmp_path / "set"))
    (tmp_path / "set/train/cache-1234.arrow").write_bytes(b"of no use")
    manifest = curate(tmp_path / "set", tmp_path / "out", recipe_from(tmp_path), ALONE)
    assert (manifest.num_seen, manifest.num_kept) == (6, 6)
    assert {shard.shard for shard in manifest.shards} == {
        "test_data-00000-of-00001-00000", "train_data-00000-of-00001-00000",
    }  # fmt: skip
    kept = read_samples(tmp_path / "out/train_data-00000-of-00001-00000.tar")
    assert [(sample.image_bytes, sample.caption) for sample in kept] == [(colourful(n), "abc"[n]) for n in range(3)]


def test_a_file_that_a_saved_data_set_names_and_lacks_is_missed(tmp_path: Path) -> None:
    hub(tmp_path / "set", [{**row, "image": colourful(1)} for row in ROWS])
    state = tmp_path / "set" / "state.json"
    state.write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    with pytest.raises(UsageError, match=r"data-00000-of-00001\.arrow: not here"):
        shards_in(tmp_path / "set")
    state.write_text("{")
    with pytest.raises(UsageError, match=r"state\.json: does not name the files"):
        shards_in(tmp_path / "set")


def forms(folder: Path) -> dict[str, Path]:
    """Return a file of every form that a source may have."""
    tar = write_shard(folder, "00000", [sample_members("a", colourful(1))])
    packed = {"00003.tar.xz": b"", "00004.TAR.BZ2": b"", "00005.tar.zst": b"", "00006.zip": b"", "00007.tbz2": b""}
    write(folder, {"b.jpg": colourful(2), "00002.tgz": gzip.compress(tar.read_bytes()), **packed})
    (table,) = hub(folder / "set", [{**row, "image": colourful(3)} for row in ROWS]).iterdir()
    return {
        name: folder / name for name in ("00000.tar", "b.jpg", "00002.tgz", *packed)
    } | {"train.parquet": table}  # fmt: skip


MIXTURES = [
    ("00000.tar", "more/00000.tar", "1 tars in folders below it"),
    ("00000.tar", "a/b/00002.tgz", "1 tars in folders below it"),
    ("00000.tar", "b.jpg", "1 pictures"),
    ("00000.tar", "album/b.jpg", "1 pictures"),
    ("00002.tgz", "album/b.jpg", "1 pictures"),
    ("more/00000.tar", "b.jpg", "1 pictures"),
    ("00000.tar", "train.parquet", "1 tables of pictures"),
    ("more/00000.tar", "data/train.parquet", "1 tables of pictures"),
    ("data/train.parquet", "album/b.jpg", "1 pictures"),
    ("00000.tar", "00003.tar.xz", "1 archives of a kind that is not read"),
    ("b.jpg", "old/00006.zip", "1 archives of a kind that is not read"),
    ("data/train.parquet", "00005.tar.zst", "1 archives of a kind that is not read"),
    ("00004.TAR.BZ2", "00007.tbz2", "2 archives of a kind that is not read"),
]


@pytest.mark.parametrize(("one", "other", "said"), MIXTURES)
def test_a_source_of_several_forms_is_read_whole_or_not_at_all(tmp_path: Path, one: str, other: str, said: str) -> None:
    known = forms(tmp_path / "forms")
    store = location(f"memory://test_forms/{one}-{other}".replace(".", "_"))
    for place in (tmp_path / "in", store):
        write(place, {name: known[name.rpartition("/")[2]].read_bytes() for name in (one, other)})
        with pytest.raises(UsageError, match=f"{said} .first: .*move all but one form out"):
            shards_in(place)


def test_what_goes_with_tars_is_no_other_form(tmp_path: Path) -> None:
    write_shard(tmp_path / "in", "00000", [sample_members("a", b"1")])
    write(tmp_path / "in", {"00000_stats.json": b'{"successes": 1}', ".hidden/b.jpg": b"2", "README.md": b"# a.jpg"})
    write(tmp_path / "in", {"logo.svg": b"<svg/>", "00000.depth.exr": b"", "favicon.ico": b""})
    write(tmp_path / "in", {"run/work.json": b"", "run/00000.tar": b"", "state.json": b"{}"})
    pq.write_table(pa.table({"url": ["http://a.org"]}), tmp_path / "in" / "links.parquet")
    (tmp_path / "in" / "lost+found").mkdir(mode=0)
    assert [key for _, key, _, _ in samples(tmp_path / "in")] == ["a"]


def test_rows_with_several_pictures_are_a_sample_for_each(tmp_path: Path) -> None:
    table = pa.table({"jpg": [b"1", None, b"3"], "png": [None, b"2", b"4"], "txt": ["a", "b", "c"]})
    table = table.append_column("jpg", pa.array([None, None, b"5"]))
    pq.write_table(table, tmp_path / "x.parquet")
    assert [(content, caption) for _, _, content, caption in samples(tmp_path / "x.parquet")] == [
        (b"1", "a"), (b"2", "b"), (b"3", "c"), (b"4", "c"), (b"5", "c"),
    ]  # fmt: skip


def test_a_table_of_links_is_no_source_of_pictures(tmp_path: Path) -> None:
    pq.write_table(pa.table({"URL": ["http://a.org"]}), tmp_path / "x.parquet")
    with pytest.raises(UsageError, match="no column of it holds pictures"):
        shards_in(tmp_path / "x.parquet")
    pq.write_table(pa.table({"one": [b"1"], "two": [b"2"]}), tmp_path / "x.parquet")
    with pytest.raises(UsageError, match="the columns one, two may hold pictures"):
        shards_in(tmp_path / "x.parquet")


def test_a_table_that_cannot_be_read_stops_no_other(tmp_path: Path) -> None:
    hub(tmp_path / "set", [{**row, "image": colourful(1)} for row in ROWS])
    (tmp_path / "set" / "broken.parquet").write_bytes(b"PAR1 and no more")
    manifest = curate(tmp_path / "set", tmp_path / "out", recipe_from(tmp_path), ALONE)
    assert manifest.num_seen == len(ROWS)
    assert "broken.parquet: cannot be read" in manifest.failed["broken-00000"]


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_table_never_gives_fewer_rows_in_silence(tmp_path: Path, seed: int) -> None:
    folder = hub(tmp_path / "set", [{**row, "image": colourful(1)[:200]} for row in ROWS])
    (path,) = folder.iterdir()
    content, dice = bytearray(path.read_bytes()), random.Random(seed)
    content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    path.write_bytes(content)
    try:
        assert len(samples(folder)) == len(ROWS)
    except (ShardError, UsageError) as error:
        assert "train-00000" in str(error)


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes_of_any_source(tmp_path: Path, ray_address: str) -> None:
    write(tmp_path / "in", {f"{n}.jpg": colourful(n) for n in range(5)})
    outputs = []
    for workers in (0, 2):
        target = tmp_path / f"out{workers}"
        manifest = curate(tmp_path / "in", target, recipe_from(tmp_path), Spread(workers, ray_address))
        outputs.append([report.files for report in manifest.shards])
    assert outputs[0] == outputs[1]


def test_an_img2dataset_folder_with_its_tables_is_read_by_its_tars(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "in", "00000", [sample_members("000000001", colourful(1))])
    pq.write_table(pa.table({"status": ["success"], "jpg": [b"x"]}), path.with_suffix(".parquet"))
    (path.parent / "._00000.tar").write_bytes(b"of a Mac")
    assert [(shard.name) for shard, _ in source_shards(tmp_path / "in")] == ["00000"]
    assert len(samples(tmp_path / "in")) == 1


def test_tars_in_folders_are_shards_named_by_their_place(tmp_path: Path) -> None:
    for part in ("one", "two"):
        write_shard(tmp_path / "in" / part, "00000", [sample_members("a", b"1")])
    assert [shard.name for shard in shards_in(tmp_path / "in")] == ["one_00000", "two_00000"]


def test_a_source_that_holds_nothing_says_what_it_may_hold(tmp_path: Path) -> None:
    write(tmp_path / "in", {"notes.md": b""})
    for source in ("gone", "in", "in/notes.md"):
        with pytest.raises(UsageError, match="a folder of pictures"):
            shards_in(tmp_path / source)


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    (shard,) = shards_in(write(tmp_path / "in", {"a.jpg": b"1", "b.jpg": b"2"}))
    (tmp_path / "in" / "b.jpg").unlink()
    with pytest.raises(ShardError, match=r"b\.jpg: cannot be read"), shard.opened():
        pass


def test_a_plain_tar_of_a_folder_made_by_tar_itself_is_read(tmp_path: Path) -> None:
    write(tmp_path / "in", {"sub/a.jpg": b"1", "sub/a.txt": b"x"})
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        tar.add(tmp_path / "in", arcname=".")
    shutil.rmtree(tmp_path / "in")
    assert samples(tmp_path / "x.tar") == [("x", "./sub/a", b"1", "x")]

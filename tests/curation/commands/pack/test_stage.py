import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from curation.commands.curate.stage import curate
from curation.commands.pack.stage import pack
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import read_manifest
from curation.dataset.tar import BLOCK_BYTES, members_of, read_samples
from curation.errors import UsageError
from curation.images.decode import decode
from curation.recipe.settings import DecodeLimits
from curation.run.runner import Spread
from tests.curation.shards import RECIPE, bytes_of, colourful, mixed_source, recipe_from, sample_members, write_shard

ALONE = Spread(num_workers=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three curated and packed shards."""
    folder = tmp_path_factory.mktemp("run")
    recipe = recipe_from(folder)
    curate(mixed_source(folder / "in"), folder / "curate", recipe, ALONE)
    pack(folder / "curate", folder / "pack", recipe, ALONE)
    return folder


def test_every_kept_sample_is_packed_once_in_one_series_of_all_formats(run: Path) -> None:
    manifest = read_manifest(run / "pack", "pack")
    assert (manifest.num_seen, manifest.num_kept) == (12, 12)
    assert {r.shard: r.num_kept for r in manifest.shards} == {"00000": 4, "00001": 4, "00002": 4}
    curated = {s.key for shard in sorted((run / "curate").glob("*.tar")) for s in read_samples(shard)}
    packed = [s.key for shard in sorted((run / "pack").glob("*.tar")) for s in read_samples(shard)]
    assert len(packed) == len(set(packed)) and set(packed) == curated


def test_the_index_finds_every_picture_by_offset(run: Path) -> None:
    index = read_ledger(run / "pack" / "index.parquet").to_pylist()
    assert len(index) == 12
    for row in index:
        with (run / "pack" / f"{row['shard']}.tar").open("rb") as tar:
            tar.seek(row["offset"])
            assert tar.read(100).rstrip(b"\0").decode() == f"{row['key']}.jpg"
            tar.seek(row["offset"] + 512)
            assert decode(tar.read(row["num_bytes"]), DecodeLimits()).width == row["width"]


def test_no_field_of_the_json_member_is_null_and_all_samples_have_the_same(run: Path) -> None:
    def shape(value: object) -> object:
        if isinstance(value, dict):
            return {key: shape(inner) for key, inner in value.items()}
        return [shape(value[0])] if isinstance(value, list) else type(value).__name__

    shapes = [
        json.dumps(shape(s.metadata), sort_keys=True)
        for p in sorted((run / "pack").glob("*.tar"))
        for s in read_samples(p)
    ]
    assert len(set(shapes)) == 1
    assert "NoneType" not in shapes[0]


def test_webdataset_reads_every_field(run: Path) -> None:
    import webdataset

    shards = sorted(str(path) for path in (run / "pack").glob("*.tar"))
    loaded = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False))
    expected = [sample for path in shards for sample in read_samples(Path(path))]
    assert [sample["__key__"] for sample in loaded] == [sample.key for sample in expected]
    for sample, wanted in zip(loaded, expected, strict=True):
        assert sample["jpg"] == wanted.image_bytes
        assert sample["txt"].decode() == wanted.caption == wanted.metadata["caption"]
        assert json.loads(sample["json"]) == wanted.metadata


def test_hugging_face_datasets_takes_the_folder_as_it_lies_and_every_field_equal(run: Path, tmp_path: Path) -> None:
    import datasets

    loaded = datasets.load_dataset(str(run / "pack"), split="train", cache_dir=str(tmp_path / "cache"))
    expected = [sample for path in sorted((run / "pack").glob("*.tar")) for sample in read_samples(path)]
    assert len(loaded) == len(expected) == 12
    assert {wanted.metadata["format"] for wanted in expected} == {"jpg", "png"}
    for row, wanted in zip(loaded, expected, strict=True):
        assert (row["__key__"], row["txt"], row["json"]) == (wanted.key, wanted.caption, wanted.metadata)
        assert np.array_equal(np.array(row["jpg"]), decode(wanted.image_bytes, DecodeLimits()).rgb)


@pytest.mark.slow
def test_workers_and_reruns_change_no_byte(run: Path, tmp_path: Path, ray_address: str) -> None:
    recipe, expected = recipe_from(tmp_path), bytes_of(run / "pack")
    for num_workers in (0, 2):
        target = tmp_path / f"pack{num_workers}"
        pack(run / "curate", target, recipe, Spread(num_workers, ray_address))
        assert bytes_of(target) == expected
    pack(run / "curate", run / "pack", recipe, ALONE)
    assert bytes_of(run / "pack") == expected


def test_a_picture_that_came_in_two_shards_is_packed_once_and_one_without_caption_not_at_all(tmp_path: Path) -> None:
    url = "http://example.org/same.jpg"
    write_shard(tmp_path / "in", "00000", [sample_members("a", colourful(1), url=url)])
    no_caption = sample_members("c", colourful(3))[:2]
    write_shard(tmp_path / "in", "00001", [sample_members("b", colourful(2), url=url), no_caption])
    recipe = recipe_from(tmp_path)
    curate(tmp_path / "in", tmp_path / "curate", recipe, ALONE)
    manifest = pack(tmp_path / "curate", tmp_path / "pack", recipe, ALONE)
    assert (manifest.num_seen, manifest.num_kept) == (3, 1)
    assert manifest.rejected == {"pack": {"duplicate_uid": 1, "no_caption": 1}}
    ledger = read_ledger(tmp_path / "pack" / "ledger.parquet").to_pylist()
    assert sorted((row["source_shard"], row["reason"]) for row in ledger if not row["kept"]) == [
        ("00001", "duplicate_uid"), ("00001", "no_caption"),
    ]  # fmt: skip


def test_metadata_goes_and_coded_pixels_stay_unless_the_recipe_keeps_every_byte(tmp_path: Path) -> None:
    tail = b"<html>hidden</html>"
    picture = colourful(1)
    comment = picture[:2] + b"\xff\xfe\x00\x08secret" + picture[2:] + tail
    write_shard(tmp_path / "in", "00000", [sample_members("a", comment)])
    stored = {}
    for metadata in ("strip", "keep"):
        recipe = recipe_from(tmp_path, RECIPE.replace("[pack]", f'[pack]\nmetadata = "{metadata}"'))
        curate(tmp_path / "in", tmp_path / f"curate-{metadata}", recipe, ALONE)
        pack(tmp_path / f"curate-{metadata}", tmp_path / metadata, recipe, ALONE)
        (stored[metadata],) = read_samples(tmp_path / metadata / "00000.tar")
    assert stored["keep"].image_bytes == comment
    assert b"secret" not in stored["strip"].image_bytes and tail not in stored["strip"].image_bytes
    keep, strip = (decode(stored[name].image_bytes, DecodeLimits()).rgb for name in ("keep", "strip"))
    assert np.array_equal(keep, strip)
    assert stored["strip"].metadata["source_sha256"] == stored["keep"].metadata["sha256"]


def test_only_a_finished_curate_folder_is_packed(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no manifest"):
        pack(run / "in", tmp_path / "out", recipe_from(tmp_path), ALONE)
    with pytest.raises(UsageError, match="written by 'pack'; expected the output of 'curate'"):
        pack(run / "pack", tmp_path / "out", recipe_from(tmp_path), ALONE)


def test_a_folder_decided_by_other_limits_is_refused_with_the_key_both_values_and_the_option(
    run: Path, tmp_path: Path
) -> None:
    limit = "filters.colour.keep.mean_channel_std.min"
    told = rf"{limit} is 2\.0 there and 90\.0 here; to pack it as it is, add --set {limit}=2\.0"
    with pytest.raises(UsageError, match=told):
        pack(run / "curate", tmp_path / "out", recipe_from(tmp_path, RECIPE.replace("2.0", "90.0")), ALONE)
    assert not (tmp_path / "out").exists()
    other = recipe_from(tmp_path, RECIPE.replace("[pack]", "[pack]\nshuffle_seed = 5"))
    with pytest.raises(UsageError, match=r"holds the output of other work .*shuffle_seed is absent there and 5 here"):
        pack(run / "curate", run / "pack", other, ALONE)


def test_a_curated_folder_with_a_failed_shard_is_not_packed_in_silence(tmp_path: Path) -> None:
    source, recipe = mixed_source(tmp_path / "in", 2), recipe_from(tmp_path)
    (source / "00001.tar").write_bytes(b"torn")
    curate(source, tmp_path / "curate", recipe, ALONE)
    with pytest.raises(UsageError, match=r"1 shard failed in curate \(first: 00001"):
        pack(tmp_path / "curate", tmp_path / "out", recipe, ALONE)


def test_equal_bytes_at_two_addresses_are_packed_once_with_the_most_captions(tmp_path: Path) -> None:
    def sample(key: str, seed: int, captions: int) -> list[tuple[str, bytes]]:
        picture, metadata, text = sample_members(key, colourful(seed))
        faces = [{"id": str(n), "caption": f"Face {n}.", "box": None} for n in range(captions)]
        return [picture, (metadata[0], json.dumps(json.loads(metadata[1]) | {"facecaptions": faces}).encode()), text]

    write_shard(tmp_path / "in", "00000", [sample("a", 1, 1), sample("b", 2, 0)])
    write_shard(tmp_path / "in", "00001", [sample("c", 1, 3), sample("d", 1, 2)])
    recipe = recipe_from(tmp_path)
    curate(tmp_path / "in", tmp_path / "curate", recipe, ALONE)
    manifest = pack(tmp_path / "curate", tmp_path / "pack", recipe, ALONE)
    assert manifest.rejected == {"pack": {"duplicate_bytes": 2}}
    packed = {sample.metadata["url"] for sample in read_samples(tmp_path / "pack" / "00000.tar")}
    assert packed == {"http://example.org/b.jpg", "http://example.org/c.jpg"}


@pytest.mark.parametrize("shard", ["00000", "00002"])
def test_nothing_is_packed_from_a_curated_tar_that_is_cut_behind_its_last_sample(
    run: Path, tmp_path: Path, shard: str
) -> None:
    recipe = recipe_from(tmp_path)
    shutil.copytree(run / "curate", tmp_path / "curate")
    tar = tmp_path / "curate" / f"{shard}.tar"
    last = members_of(tar)[-1]
    end = last.offset + BLOCK_BYTES + -(-last.num_bytes // BLOCK_BYTES) * BLOCK_BYTES
    tar.write_bytes(tar.read_bytes()[:end])
    packed = read_ledger(run / "pack" / "index.parquet").to_pylist()
    manifest = pack(tmp_path / "curate", tmp_path / "pack", recipe, ALONE)
    assert set(manifest.failed) == {row["shard"] for row in packed if row["source_shard"] == shard}
    why = f"{tar}: not a whole tar: cut: no end-of-archive blocks at byte {end}"
    assert all(why in error for error in manifest.failed.values())


def test_captions_licence_and_author_that_stand_in_the_json_alone_reach_the_packed_json_and_the_index(
    tmp_path: Path,
) -> None:
    def sample(key: str, seed: int, **told: object) -> list[tuple[str, bytes]]:
        picture, metadata, _ = sample_members(key, colourful(seed))
        return [picture, (metadata[0], json.dumps(json.loads(metadata[1]) | told).encode())]

    told = {"caption": "of the json", "LICENSE": "CC BY 2.0", "Author": "Ann"}
    write_shard(tmp_path / "in", "00000", [sample("a", 1, **told), sample("b", 2, caption=None, TEXT="in text")])
    recipe = recipe_from(tmp_path)
    curate(tmp_path / "in", tmp_path / "curate", recipe, ALONE)
    assert pack(tmp_path / "curate", tmp_path / "pack", recipe, ALONE).num_kept == 2
    packed = {s.metadata["url"][-5:]: s for s in read_samples(tmp_path / "pack" / "00000.tar")}
    index = {row["url"][-5:]: row for row in read_ledger(tmp_path / "pack" / "index.parquet").to_pylist()}
    a, b = (packed[key] for key in ("a.jpg", "b.jpg"))
    assert (a.caption, b.caption) == ("of the json", "in text")
    assert (a.metadata["license"], a.metadata["author"]) == ("CC BY 2.0", "Ann")
    assert json.loads(a.metadata["rights_json"]) == {"Author": "Ann", "LICENSE": "CC BY 2.0"}
    assert (b.metadata["license"], b.metadata["author"], b.metadata["rights_json"]) == ("unknown", "unknown", "{}")
    assert [index["a.jpg"][name] for name in ("license", "author")] == ["CC BY 2.0", "Ann"]
    assert [index["b.jpg"][name] for name in ("license", "author", "rights_json")] == [None] * 3

import io
import os
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from curation.commands.curate.stage import curate
from curation.commands.pack.stage import pack
from curation.dataset.tar import read_samples
from curation.dataset.tombstones import Tombstones, write_tombstones
from curation.errors import SafetyError, UsageError
from curation.images.containers import sniff_format
from curation.run.derived import derived_of
from curation.run.runner import Spread
from curation.storage.paths import location
from facemakeup.data.index import TarIndex, build_index
from facemakeup.data.members import read_members
from facemakeup.data.shards import ShardStore, find_shards
from facemakeup.faults import DataError, count
from tests.curation.shards import mixed_source, recipe_from
from tests.facemakeup.tars import packed_sample, write_packed


def index_of(folder: Path, pattern: str = "*.tar") -> tuple[TarIndex, ShardStore]:
    store = ShardStore(folder / "work/shards", 1 << 30)
    return build_index(find_shards([f"{folder}/{pattern}"]), store, folder / "work/scans"), store


def contents(index: TarIndex, store: ShardStore) -> list[tuple[str, dict[str, bytes]]]:
    keys = [index.key(row) for row in range(len(index))]
    return [(key, read_members(store, *index.where(row), key)) for row, key in enumerate(keys)]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pack` really writes: two series of several tars, an index and a manifest."""
    folder = tmp_path_factory.mktemp("packed")
    recipe = recipe_from(folder)
    curate(mixed_source(folder / "in"), folder / "curate", recipe, Spread(0))
    pack(folder / "curate", folder / "pack", recipe, Spread(0))
    return folder / "pack"


def test_the_index_of_pack_and_a_scan_lead_to_the_same_bytes_of_all_formats(packed: Path, tmp_path: Path) -> None:
    index, store = index_of(packed)
    assert not list((packed / "work/scans").iterdir())
    expected = [
        (sample.key, sample.image_bytes) for path in sorted(packed.glob("*.tar")) for sample in read_samples(path)
    ]
    found = contents(index, store)
    assert [(key, members["jpg"]) for key, members in found] == expected
    assert {sniff_format(picture) for _, picture in expected} == {"jpg", "png"}
    for path in packed.glob("*.tar"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    scanned, other = index_of(tmp_path)
    assert contents(scanned, other) == found
    for name in ("shard", "offset", "width", "height"):
        assert getattr(scanned.rows, name).tolist() == getattr(index.rows, name).tolist()


def test_a_scan_is_done_once_and_again_when_the_tar_has_changed(tmp_path: Path) -> None:
    (path,) = write_packed(tmp_path, [packed_sample(n) for n in range(3)])
    assert len(index_of(tmp_path)[0]) == 3
    (scan,) = (tmp_path / "work/scans").glob("*.parquet")
    before = scan.stat().st_mtime_ns
    assert len(index_of(tmp_path)[0]) == 3 and scan.stat().st_mtime_ns == before
    write_packed(tmp_path, [packed_sample(n) for n in range(5)])
    os.utime(path, ns=(1, 1))
    assert len(index_of(tmp_path)[0]) == 5


def _rewritten(path: Path, members: Sequence[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def test_what_a_scan_cannot_use_is_counted_by_reason_and_the_rest_is_read(tmp_path: Path) -> None:
    good, again, bare, blind, double, twins = (packed_sample(n) for n in range(6))
    key = again[0][0].partition(".")[0]
    members = [*good, *again, *bare[:1], *blind[1:], *double, (double[0][0].replace(".jpg", ".png"), b"x")]
    members += [*twins, twins[0], (f"{key}.jpg", b"second"), (f"{key}.json", b"{}")]
    _rewritten(tmp_path / "foreign-0.tar", members)
    index, store = index_of(tmp_path)
    assert [key for key, _ in contents(index, store)] == [m[0][0].partition(".")[0] for m in (good, again)]
    assert count(index.faults) == {
        "duplicate_key": 1, "duplicate_member": 1, "no_image": 1, "no_metadata": 1, "several_images": 1,
    }  # fmt: skip
    assert all("foreign-0.tar" in str(fault) for fault in index.faults)


def test_strays_and_keys_with_dots_are_read_as_curate_reads_them(tmp_path: Path) -> None:
    dotted = [(f"22.05{name[name.index('.') :]}", content) for name, content in packed_sample(0)]
    for form in (tarfile.USTAR_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / "foreign-0.tar", "w", format=form) as tar:
            for name, content in [(".DS_Store", b"x"), *dotted, ("README", b"x"), ("._22.06.jpg", b"x")]:
                info = tarfile.TarInfo(name)
                info.size, info.mtime = len(content), 1.5
                tar.addfile(info, io.BytesIO(content))
        index, store = index_of(tmp_path)
        ((key, members),) = contents(index, store)
        assert (key, index.faults, members["jpg"]) == ("22.05", (), dict(dotted)["22.05.jpg"])


@pytest.mark.parametrize("cut", [0.3, 0.55, 0.8, 0.999])
def test_a_tar_that_is_cut_anywhere_gives_its_whole_samples_and_one_named_fault(tmp_path: Path, cut: float) -> None:
    (path,) = write_packed(tmp_path, [packed_sample(n) for n in range(4)])
    whole = index_of(tmp_path)[0]
    end = int(whole.rows.offset[-1] + whole.rows.num_bytes[-1])
    path.write_bytes(path.read_bytes()[: int(end * cut)])
    index, store = index_of(tmp_path)
    read = contents(index, store)
    before = [row for row in range(4) if whole.rows.offset[row] + whole.rows.num_bytes[row] < int(end * cut)]
    assert [key for key, _ in read] == [whole.key(row) for row in before]
    assert count(index.faults) == {"torn_tar": 1}


def test_samples_that_the_index_of_pack_promised_and_a_cut_tar_lacks_are_each_named(
    packed: Path, tmp_path: Path
) -> None:
    for path in packed.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    whole = index_of(packed, "00000.tar")[0]
    tar = tmp_path / "00000.tar"
    tar.write_bytes(tar.read_bytes()[: int(whole.rows.offset[2]) + 100])
    index, _ = index_of(tmp_path, "00000.tar")
    assert len(index) in (1, 2)
    assert {index.key(row) for row in range(len(index))} | {fault.key for fault in index.faults} == {
        whole.key(row) for row in range(4)
    }
    assert {fault.reason for fault in index.faults} == {"torn_tar"}


def test_a_header_that_is_spoilt_in_the_middle_is_not_taken_for_the_end(tmp_path: Path) -> None:
    (path,) = write_packed(tmp_path, [packed_sample(n) for n in range(4)])
    whole = index_of(tmp_path)[0]
    content = bytearray(path.read_bytes())
    content[int(whole.rows.offset[2]) + 148] ^= 0xFF
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    index, _ = index_of(tmp_path)
    assert len(index) < 3 and count(index.faults) == {"torn_tar": 1}


def test_a_pattern_without_tars_and_tars_without_samples_are_errors_that_name_them(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing-\*\.tar"):
        find_shards([f"{tmp_path}/nothing-*.tar"])
    (tmp_path / "empty-0.tar").write_bytes(b"")
    with pytest.raises(DataError, match=r"empty-0\.tar"):
        index_of(tmp_path)
    write_packed(tmp_path / "raw", [packed_sample(n)[:1] for n in range(3)])
    with pytest.raises(DataError, match=r"none of 3 samples in 1 tars[\s\S]*no_metadata: 3, there is no \.json member"):
        index_of(tmp_path / "raw")


def test_remote_tars_come_through_a_folder_that_stays_within_its_bound(tmp_path: Path) -> None:
    import fsspec

    paths = write_packed(tmp_path / "local", [packed_sample(n) for n in range(12)], per_shard=2)
    memory = fsspec.filesystem("memory")
    for path in paths:
        memory.pipe_file(f"/packed/{path.name}", path.read_bytes())
    bound = 3 * paths[0].stat().st_size
    store = ShardStore(tmp_path / "cache", bound)
    index = build_index(find_shards(["memory://packed/*.tar"]), store, tmp_path / "scans")
    local, _ = index_of(tmp_path / "local")
    for _ in range(2):
        assert [key for key, _ in contents(index, store)] == [local.key(row) for row in range(12)]
        assert sum(path.stat().st_size for path in (tmp_path / "cache").glob("*.tar")) <= bound
    store.close()
    memory.rm("/packed", recursive=True)


def test_a_tar_that_another_process_pushes_out_of_the_folder_stays_readable_where_it_is_open(tmp_path: Path) -> None:
    import fsspec

    paths = write_packed(tmp_path / "local", [packed_sample(n) for n in range(6)], per_shard=2)
    memory = fsspec.filesystem("memory")
    for path in paths:
        memory.pipe_file(f"/shared/{path.name}", path.read_bytes())
    shards = find_shards(["memory://shared/*.tar"])
    one, other = (ShardStore(tmp_path / "cache", paths[0].stat().st_size) for _ in range(2))
    expected = [path.read_bytes() for path in paths]
    assert one.read(shards[0], 0, 1 << 20) == expected[0]
    assert [other.read(shard, 0, 1 << 20) for shard in shards[1:]] == expected[1:]
    assert len(list((tmp_path / "cache").glob("*.tar"))) == 1
    assert one.read(shards[0], 0, 1 << 20) == expected[0]
    assert one.read(shards[1], 0, 1 << 20) == expected[1]
    for store in (one, other):
        store.close()
    memory.rm("/shared", recursive=True)


def test_tars_that_hold_what_their_run_forgot_are_refused(tmp_path: Path) -> None:
    samples = [packed_sample(n) for n in range(4)]
    write_packed(tmp_path / "run" / "pack", samples, per_shard=2)
    uid = samples[3][0][0].partition(".")[0]
    write_tombstones(tmp_path / "run", Tombstones(uid=frozenset({"0" * 32})))
    assert len(index_of(tmp_path / "run" / "pack")[0]) == 4
    write_tombstones(tmp_path / "run", Tombstones(uid=frozenset({uid})))
    (tmp_path / "run" / "pack" / "work" / "scans").rename(tmp_path / "scanned before")
    with pytest.raises(SafetyError, match=f"holds {uid}, which was forgotten") as raised:
        index_of(tmp_path / "run" / "pack")
    assert raised.value.exit_code == 6
    (scanned,) = (tmp_path / "run" / "pack" / "work" / "scans").glob("*.parquet")
    assert uid.encode() not in scanned.read_bytes()
    (tmp_path / "scanned before").rename(tmp_path / "run" / "pack" / "work" / "kept")
    store = ShardStore(tmp_path / "work", 1 << 30)
    with pytest.raises(SafetyError, match=f"{uid}, which was forgotten"):
        build_index(find_shards([f"{tmp_path}/run/pack/*.tar"]), store, tmp_path / "run" / "pack" / "work" / "kept")


def test_no_copy_is_kept_of_a_remote_tar_that_holds_what_was_forgotten(tmp_path: Path) -> None:
    import fsspec

    (path,) = write_packed(tmp_path / "local", [packed_sample(n) for n in range(2)])
    memory = fsspec.filesystem("memory")
    memory.pipe_file(f"/gone/pack/{path.name}", path.read_bytes())
    (shard,) = find_shards(["memory://gone/pack/*.tar"])
    store = ShardStore(tmp_path / "copies", 1 << 30)
    write_tombstones(location("memory://gone"), Tombstones(uid=frozenset({packed_sample(1)[0][0].partition(".")[0]})))
    with pytest.raises(SafetyError, match="which was forgotten"):
        store.path(shard)
    assert not list((tmp_path / "copies").rglob("*.tar*"))
    memory.rm("/gone", recursive=True)


def test_what_is_made_from_a_pack_leaves_its_card_there_and_foreign_tars_stay_as_they_are_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_packed(tmp_path / "foreign", [packed_sample(0)])
    index_of(tmp_path / "foreign")
    assert not (tmp_path / "foreign" / "_derived").exists()
    assert f"{tmp_path / 'foreign'}: `forget` will not find" in caplog.text and "--also" in caplog.text
    caplog.clear()
    write_packed(tmp_path / "pack", [packed_sample(0)])
    (tmp_path / "pack" / "manifest.json").write_text("{}")
    index_of(tmp_path / "pack")
    made = {(derived.stage, derived.folder.name) for derived in derived_of(tmp_path / "pack")}
    assert made == {("work", "scans"), ("work", "shards")}
    assert caplog.text == ""


def test_links_to_the_tars_of_a_pack_count_as_its_tars(tmp_path: Path) -> None:
    (tar,) = write_packed(tmp_path / "run" / "pack", [packed_sample(0)])
    (tmp_path / "run" / "pack" / "work.json").write_text("{}")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "a.tar").symlink_to(tar)
    index_of(tmp_path / "linked")
    assert {derived.stage for derived in derived_of(tmp_path / "run")} == {"work"}
    uid = packed_sample(0)[0][0].partition(".")[0]
    write_tombstones(tmp_path / "run", Tombstones(uid=frozenset({uid})))
    with pytest.raises(SafetyError, match="forgotten"):
        index_of(tmp_path / "linked")


def test_a_pack_that_cannot_be_written_to_is_read_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_packed(tmp_path / "pack", [packed_sample(0)])
    (tmp_path / "pack" / "manifest.json").write_text("{}")
    (tmp_path / "pack" / "_derived").write_text("no folder, so no card can lie in it")
    assert len(index_of(tmp_path / "pack")[0]) == 1
    assert "--also" in caplog.text

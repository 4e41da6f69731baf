import io
import tarfile
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curation.dataset.tar import TarWriter, read_samples, write_tar
from curation.errors import ShardError

MEMBERS = [
    ("a.jpg", b"picture a" * 100),
    ("a.json", b'{"url": "http://a.org/a.jpg"}'),
    ("a.txt", b"a face"),
    ("b.png", b"picture b"),
    ("b.txt", "é".encode()),
]


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    path = tmp_path / "00000.tar"
    write_tar(path, MEMBERS)
    return path


def test_what_is_written_is_read_back(shard: Path) -> None:
    a, b = read_samples(shard)
    assert (a.key, a.image_bytes, a.caption, a.url) == ("a", b"picture a" * 100, "a face", "http://a.org/a.jpg")
    assert (b.key, b.image_bytes, b.caption, dict(b.metadata)) == ("b", b"picture b", "é", {})


def test_the_same_members_give_the_same_bytes(shard: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.tar"
    write_tar(again, MEMBERS)
    assert again.read_bytes() == shard.read_bytes()


@given(
    st.lists(st.text(st.sampled_from("a/.é\udce9\n "), max_size=70).map(lambda name: f"{name}x"), max_size=4),
    st.binary(max_size=1200),
)
@example(["x" * 100, "x" * 90 + "/" + "y" * 100, "é" * 50], b"z" * 512)
def test_tars_have_the_bytes_that_tarfile_gives_them(names: list[str], content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours.tar"), Path(folder, "theirs.tar")
        with closing(TarWriter(ours)) as writer, tarfile.open(theirs, "w", format=tarfile.USTAR_FORMAT) as tar:
            for number, name in enumerate(names):
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(content), 0o644
                tar.addfile(info, io.BytesIO(content))
                if number % 2:
                    writer.add(name, content)
                else:
                    writer.add_from(name, io.BytesIO(content), len(content))
        assert ours.read_bytes() == theirs.read_bytes()


def test_a_member_that_is_shorter_than_was_said_is_an_error(tmp_path: Path) -> None:
    with closing(TarWriter(tmp_path / "x.tar")) as writer, pytest.raises(OSError, match="2 bytes of a member"):
        writer.add_from("a", io.BytesIO(b"abc"), 5)


def test_the_returned_offsets_point_at_the_members(shard: Path, tmp_path: Path) -> None:
    content = shard.read_bytes()
    for member, (name, expected) in zip(write_tar(tmp_path / "x.tar", MEMBERS), MEMBERS, strict=True):
        assert member.name == name
        assert content[member.offset + 512 : member.offset + 512 + member.num_bytes] == expected


def test_only_the_wanted_keys_are_read(shard: Path) -> None:
    assert [sample.key for sample in read_samples(shard, {"b"})] == ["b"]


def test_a_tar_cut_anywhere_is_an_error_that_names_it(shard: Path) -> None:
    content = shard.read_bytes()
    end = sum(512 + -(-len(data) // 512) * 512 for _, data in MEMBERS) + 1024
    for length in {*range(0, end, 37), *range(0, end, 512), end - 1}:
        shard.write_bytes(content[:length])
        with pytest.raises(ShardError, match=r"00000\.tar"):
            list(read_samples(shard))


def test_a_missing_tar_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"gone\.tar: no such file"):
        list(read_samples(tmp_path / "gone.tar"))


@pytest.mark.parametrize(
    "apart", [("a.jpg", "b.jpg", "a.txt"), ("a.json", "b.jpg", "a.jpg"), ("a.jpg", "b.txt", "a.json")]
)
def test_a_sample_whose_members_stand_apart_is_refused_with_the_command_that_mends_it(
    tmp_path: Path, apart: tuple[str, ...]
) -> None:
    write_tar(tmp_path / "bad.tar", [(name, b"1") for name in apart])
    with pytest.raises(ShardError, match=r"bad\.tar: the members of sample 'a' stand apart.*facecaptionhq repair"):
        list(read_samples(tmp_path / "bad.tar"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_a_recorded_reason_and_cost_no_other_sample(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "odd.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("a.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
        tar.addfile(_info("b.jpg", 7), io.BytesIO(b"picture"))
    assert [(s.key, s.image_bytes, s.problem) for s in read_samples(path)] == [
        ("a", b"", "not_a_file"), ("b", b"picture", None),
    ]  # fmt: skip


def _info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    return info


def test_a_member_that_claims_gigabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.tar"
    info = tarfile.TarInfo("a.jpg")
    info.size = 5 << 30
    path.write_bytes(info.tobuf() + bytes(2048))
    with pytest.raises(ShardError, match="claims 5368709120 bytes"):
        list(read_samples(path))


@pytest.mark.parametrize(
    ("members", "problem"),
    [
        ([("a.txt", b"x")], "no_image"),
        ([("a.jpg", b"1"), ("a.png", b"2")], "several_images"),
        ([("a.jpg", b"1"), ("a.txt", b"\xff\xfe")], "broken_caption"),
        ([("a.jpg", b"1"), ("a.json", b"{")], "broken_metadata"),
        ([("a.jpg", b"1"), ("a.json", b"[1]")], "broken_metadata"),
        ([("a.jpg", b"1"), ("a.json", b"[" * 100_000)], "broken_metadata"),
    ],
)
def test_a_sample_that_is_not_whole_says_so(tmp_path: Path, members: list[tuple[str, bytes]], problem: str) -> None:
    write_tar(tmp_path / "x.tar", members)
    assert {sample.problem for sample in read_samples(tmp_path / "x.tar")} == {problem}


def test_tars_that_img2dataset_wrote_are_read(tmp_path: Path) -> None:
    from webdataset import TarWriter

    path = tmp_path / "00000.tar"
    with path.open("wb") as file, TarWriter(file) as writer:
        writer.write({"__key__": "000000001", "jpg": b"picture", "txt": "caption", "json": {"url": "http://a.org/"}})
    (sample,) = read_samples(path)
    assert (sample.key, sample.image_bytes, sample.caption) == ("000000001", b"picture", "caption")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_an_extended_header_that_claims_much_is_refused_before_it_is_read(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "bomb.tar"
    info = tarfile.TarInfo("bomb")
    info.type, info.size = kind, 64 << 20
    with path.open("wb") as file:
        file.write(info.tobuf())
        file.truncate(512 + (64 << 20) + 1024)
    with pytest.raises(ShardError, match=r"bomb\.tar: not a whole tar: an extended header claims 67108864 bytes"):
        list(read_samples(path))


def test_long_names_are_read_all_the_same(tmp_path: Path) -> None:
    path, name = tmp_path / "long.tar", f"{'k' * 300}.jpg"
    for form in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT):
        with tarfile.open(path, "w", format=form) as tar:
            tar.addfile(tarfile.TarInfo(name))
        assert [sample.key for sample in read_samples(path)] == ["k" * 300]

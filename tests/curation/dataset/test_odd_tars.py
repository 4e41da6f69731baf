"""Tars that nobody here made: every picture is a row, and what is missing is said."""

import io
import itertools
import json
import random
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.dataset.tar import IMAGE_SUFFIXES, read_samples, write_tar
from curation.dataset.tar.headers import archive
from curation.dataset.tar.limits import (
    MAX_CHAINED_HEADERS,
    MAX_INTEGER_DIGITS,
    MAX_JSON_DEPTH,
    MAX_NAME_BYTES,
    MAX_SOURCE_TEXT_BYTES,
)
from curation.dataset.tar.read import layout_of, samples_of
from curation.errors import ShardError


def keys(path: Path) -> list[tuple[str, str | None]]:
    return [(sample.key, sample.problem) for sample in read_samples(path)]


def tar(folder: Path, names: list[str]) -> Path:
    path = folder / "00000.tar"
    write_tar(path, [(name, b"{}" if name.endswith("json") else name.encode()) for name in names])
    return path


def test_a_key_ends_where_the_last_known_suffix_begins(tmp_path: Path) -> None:
    path = tar(tmp_path, ["22.05.jpg", "22.05.txt", "22.06.jpg", "a.b/22.JPG", "a.b/22.json"])
    assert keys(path) == [("22.05", None), ("22.06", None), ("a.b/22", None)]
    assert next(read_samples(path)).caption == "22.05.txt"


def test_extras_by_webdatasets_convention_are_no_samples_of_their_own(tmp_path: Path) -> None:
    extras = ["1.face.json", "1.emb.npy", "1.cls", "1.face.txt"]
    assert keys(tar(tmp_path, ["1.jpg", *extras, "1.json", "1.txt", "2.jpg"])) == [("1", None), ("2", None)]


def test_a_text_that_names_its_picture_in_full_is_its_text_unless_it_has_another(tmp_path: Path) -> None:
    first, second = read_samples(tar(tmp_path, ["a.jpg", "a.jpg.txt", "b.jpg", "b.jpg.txt", "b.txt"]))
    assert (first.caption, second.caption) == ("a.jpg.txt", "b.txt")


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "pjpeg", "JPG", "JPEG", "Jfif"])
def test_every_name_of_jpeg_is_a_picture(tmp_path: Path, suffix: str) -> None:
    assert keys(tar(tmp_path, [f"a.{suffix}", "a.txt"])) == [("a", None)]


STRAYS = [
    ".DS_Store", "._a.jpg", "sub/._a.jpg", "README", "__MACOSX/a.jpg", "__MACOSX/._a.jpg", "PaxHeader/a.jpg",
    "PaxHeaders.7/a.jpg", ".git/config.txt", "Thumbs.db", "desktop.ini", "Makefile", "a.",
]  # fmt: skip


@pytest.mark.parametrize("stray", STRAYS)
@pytest.mark.parametrize("place", [0, 1, 2, 4])
def test_strays_are_skipped_and_counted_wherever_they_stand(tmp_path: Path, stray: str, place: int) -> None:
    names = ["a.jpg", "a.txt", "b.jpg", "b.txt"]
    names.insert(place, stray)
    assert keys(tar(tmp_path, names)) == [("a", None), ("b", None)]
    assert sum(layout_of(tmp_path / "00000.tar").skipped.values()) == 1


def test_of_a_repeated_key_the_first_is_the_sample_and_the_rest_are_counted(tmp_path: Path) -> None:
    path = tar(tmp_path, ["a.jpg", "a.txt", "a.jpg", "b.jpg", "a.jpg", "a.txt", "b.jpg"])
    assert keys(path) == [
        ("a", None), ("a", "duplicate_key"), ("b", None), ("a", "duplicate_key"), ("b", "duplicate_key"),
    ]  # fmt: skip


def test_each_of_several_pictures_under_one_key_is_a_row(tmp_path: Path) -> None:
    samples = list(read_samples(tar(tmp_path, ["a.jpg", "a.png", "a.txt"])))
    assert [(s.image_bytes, s.problem) for s in samples] == [(b"a.jpg", "several_images"), (b"a.png", "several_images")]


PARTS = st.sampled_from(["a", "b", "22.05", "22.06", "22", "a.face"])
SUFFIXES = st.sampled_from(["jpg", "JPG", "jfif", "png", "txt", "json", "cls", "seg.png", "face.json", "jpg.json"])
NAMES = st.one_of(st.builds("{}.{}".format, PARTS, SUFFIXES), st.sampled_from(STRAYS))


@pytest.mark.slow
@settings(deadline=None, max_examples=300)
@given(st.lists(NAMES, max_size=12))
def test_as_many_pictures_as_go_in_are_rows_or_the_shard_is_refused(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    path = tar(tmp_path_factory.mktemp("odd"), names)
    try:
        samples = list(read_samples(path))
    except ShardError as error:
        assert "facecaptionhq repair" in str(error)
        return
    pictures = [n for n in names if n not in STRAYS and n.rpartition(".")[2].lower() in IMAGE_SUFFIXES]
    assert sorted(sample.image_bytes.decode() for sample in samples if sample.image_bytes) == sorted(pictures)


def whole(folder: Path, name: str, count: int) -> bytes:
    path = folder / name
    write_tar(path, [(f"{name}{n}.jpg", bytes([n + 1]) * 3000) for n in range(count)])
    return path.read_bytes()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda content: content + content, "more follows it"),
        (lambda content: content[: len(content) // 2] + bytes(len(content) // 2), "zeros follow its 8 pictures"),
        (lambda content: bytes(len(content)), "zeros follow its 0 pictures"),
        (lambda content: content + b"garbage", "more follows it"),
        (lambda content: content + bytes(70_000) + b"x", "more follows it"),
        (lambda content: content[:7168] + bytes(512) + content[7680:], "cut"),
        (lambda content: content[:512] + b"\x1f" * 2000, "cut"),
        (lambda content: b"", "cut"),
        (lambda content: content[: len(content) - 10240 - 5000], "cut"),
    ],
)
def test_a_tar_that_ends_before_its_end_is_refused_with_the_command_that_saves_the_rest(
    tmp_path: Path, damage: object, says: str
) -> None:
    content = whole(tmp_path, "a", 12)
    (tmp_path / "a").write_bytes(damage(content))  # type: ignore[operator]
    with pytest.raises(ShardError, match=rf"a: not a whole tar: .*{says}.*facecaptionhq repair"):
        list(read_samples(tmp_path / "a"))


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_are_read_as_tarfile_reads_them(tmp_path: Path, form: int) -> None:
    dice, path = random.Random(form), tmp_path / "x.tar"
    with tarfile.open(path, "w", format=form) as file:
        for number in range(40):
            name = "/".join(dice.choice("äbc") * dice.randint(1, 40) for _ in range(dice.randint(1, 4)))
            info = tarfile.TarInfo(f"{name}{number}.jpg")
            info.size, info.mtime = dice.choice([0, 1, 511, 512, 513, 5000]), dice.choice([0, 1.5, 2**34])
            info.type = dice.choice([tarfile.REGTYPE, tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
            info.size *= info.isreg()
            info.linkname = "l" * dice.choice([1, 200 if form != tarfile.USTAR_FORMAT else 90])
            if form == tarfile.USTAR_FORMAT:
                info.name, info.mtime = info.name[-90:], int(min(info.mtime, 2**30))
            file.addfile(info, io.BytesIO(bytes(info.size)))
    with tarfile.open(path) as file:
        expected = [(m.name, m.offset, m.offset_data, m.size) for m in file]
    members, _ = archive(path, path)
    assert [(m.name.rstrip("/"), m.offset, m.start, m.num_bytes) for m in members] == expected


@pytest.mark.parametrize("form", ["ustar", "gnu", "posix", "v7"])
def test_tars_that_tar_itself_writes_are_read_strays_and_all(tmp_path: Path, form: str) -> None:
    folder = tmp_path / "in" / "sub"
    folder.mkdir(parents=True)
    for name in ("a.jpg", "a.txt", ".DS_Store", "b.jfif"):
        (folder / name).write_bytes(b"content")
    path = tmp_path / "x.tar"
    subprocess.run(["tar", "-cf", path, f"--format={form}", "--sort=name", "-C", tmp_path / "in", "."], check=True)
    assert keys(path) == [("./sub/a", None), ("./sub/b", None)]


def sparse(path: Path, form: str, members: int, size: int) -> None:
    """Write a tar whose members claim much and hold nothing, as GNU tar writes holes."""
    with path.open("wb") as file:
        for number in range(members):
            info = tarfile.TarInfo(f"a.{sorted(IMAGE_SUFFIXES)[number]}")
            if form == "gnu":
                info.type = tarfile.GNUTYPE_SPARSE
                block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
                block[483:495] = b"%011o\0" % size
                block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:512]))
                file.write(block)
                continue
            info.pax_headers = {
                "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": info.name,
                "GNU.sparse.realsize": str(size),
            }  # fmt: skip
            info.size = 512
            file.write(info.tobuf(tarfile.PAX_FORMAT) + b"0\n".ljust(512, b"\0"))
        file.write(bytes(1024))


@pytest.mark.parametrize("form", ["gnu", "pax"])
def test_sparse_members_are_a_reason_and_never_read(tmp_path: Path, form: str) -> None:
    sparse(tmp_path / "s.tar", form, 12, 250 << 20)
    assert [problem for _, problem in keys(tmp_path / "s.tar")] == ["several_images"] * 12
    assert all(not sample.image_bytes for sample in read_samples(tmp_path / "s.tar"))


READ = """
import resource, sys
from pathlib import Path
from curation.dataset.sources import TarShard, source_samples
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
problems = [sample.problem for sample in source_samples(TarShard("x", Path(sys.argv[1])), Path(sys.argv[1]))]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, problems)
"""


def test_what_a_tar_makes_us_remember_does_not_grow_with_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "big.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as file, (tmp_path / "hole").open("wb+") as hole:
        hole.truncate(600 << 20)
        for name, size in (("a.jpg", 9), ("a.json", 50 << 20), ("a.cls", 300 << 20), ("b.jpg", 300 << 20)):
            info = tarfile.TarInfo(name)
            info.size = size
            file.addfile(info)  # the header alone: the content is a hole
            file.offset += -(-size // 512) * 512
            file.fileobj.seek(file.offset)
    done = subprocess.run([sys.executable, "-c", READ, path], capture_output=True, text=True, check=True)
    grown, problems = done.stdout.split(maxsplit=1)
    assert problems.strip() == "['metadata_too_large', 'image_too_large']"
    assert int(grown) < 50 << 10  # KiB


def chained(path: Path, count: int) -> None:
    with path.open("wb") as file:
        for _ in range(count):
            info = tarfile.TarInfo("x")
            info.type, info.size = tarfile.XHDTYPE, 10
            file.write(info.tobuf() + b"10 a=bcde\n".ljust(512, b"\0"))
        file.write(_plain("a.jpg") + bytes(1024))


def _plain(name: str) -> bytes:
    return tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT)


def test_chained_headers_are_read_up_to_a_limit_of_our_own(tmp_path: Path) -> None:
    chained(tmp_path / "x.tar", MAX_CHAINED_HEADERS)
    assert keys(tmp_path / "x.tar") == [("a", None)]
    for count in (MAX_CHAINED_HEADERS + 1, 300, 2000):
        chained(tmp_path / "x.tar", count)
        with pytest.raises(ShardError, match=f"more than {MAX_CHAINED_HEADERS} extended headers in a row"):
            list(read_samples(tmp_path / "x.tar"))


def problem_of(folder: Path, metadata: bytes) -> str | None:
    write_tar(folder / "x.tar", [("a.jpg", b"1"), ("a.json", metadata)])
    (sample,) = samples_of(layout_of(folder / "x.tar"), folder / "x.tar", folder)
    return sample.problem


@pytest.mark.parametrize("pair", [(b"[", b"]"), (b'{"a":', b"}"), (b'[{"]":', b"}]")])
def test_json_is_judged_by_its_own_depth_and_not_by_the_stack(tmp_path: Path, pair: tuple[bytes, bytes]) -> None:
    left, right = pair
    levels = left.count(b"[") + left.count(b"{")
    fits = (MAX_JSON_DEPTH - 1) // levels
    strings = b'"' + b"[" * 5000 + b'"'

    def nested(times: int) -> bytes:
        return b'{"s": %s, "a": %s%s%s}' % (strings, left * times, b"1", right * times)

    def deep(frames: int, times: int) -> str | None:
        return deep(frames - 1, times) if frames else problem_of(tmp_path, nested(times))

    for frames in (0, 600):
        assert deep(frames, fits) is None
        assert deep(frames, fits + 1) == "broken_metadata"


def test_json_is_judged_by_its_size_and_digits(tmp_path: Path) -> None:
    empty = len(b'{"a": ""}')
    assert problem_of(tmp_path, b'{"a": "%s"}' % (b"x" * (MAX_SOURCE_TEXT_BYTES - empty))) is None
    assert problem_of(tmp_path, b'{"a": "%s"}' % (b"x" * (MAX_SOURCE_TEXT_BYTES - empty + 1))) == "metadata_too_large"
    assert problem_of(tmp_path, b'{"a": -%s}' % (b"9" * MAX_INTEGER_DIGITS)) is None
    assert problem_of(tmp_path, b'{"a": %s}' % (b"9" * (MAX_INTEGER_DIGITS + 1))) == "broken_metadata"


@pytest.mark.parametrize("hostile", [b'{"a": "' + b'\\"' * 500_000, b"[" * 1_000_000, b'"' * 1_000_000])
def test_hostile_json_is_looked_through_once(tmp_path: Path, hostile: bytes) -> None:
    assert problem_of(tmp_path, hostile) == "broken_metadata"


def test_rewritten_json_of_any_sample_that_was_let_in_is_read_again(tmp_path: Path) -> None:
    worst = ["\x7f", "é", "\U0001f600", 1e15]
    for value in worst:
        one = json.dumps([value], ensure_ascii=False).encode()[1:-1]
        content = b'{"a":[' + b",".join([one] * (MAX_SOURCE_TEXT_BYTES // (len(one) + 1) - 4)) + b"]}"
        assert problem_of(tmp_path, content) is None
        write_tar(tmp_path / "own.tar", [("a.jpg", b"1"), ("a.json", json.dumps(json.loads(content)).encode())])
        assert keys(tmp_path / "own.tar") == [("a", None)]


def test_names_beyond_the_limit_are_shortened_and_stay_apart(tmp_path: Path) -> None:
    names = [f"{'k' * (MAX_NAME_BYTES + 9)}{number}.jpg" for number in range(3)]
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as file:
        for name in names:
            file.addfile(tarfile.TarInfo(name))
    found = [key for key, problem in keys(tmp_path / "x.tar") if problem is None]
    assert len(set(found)) == 3 and all(len(key) <= MAX_NAME_BYTES for key in found)


def test_every_order_of_a_samples_members_gives_the_same_sample(tmp_path: Path) -> None:
    for order in itertools.permutations(["a.jpg", "a.txt", "a.json"]):
        assert keys(tar(tmp_path, list(order))) == [("a", None)]

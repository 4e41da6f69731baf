"""Lists as people and programs write them: what they hold is found, and what they cannot mean is an error by number."""

import codecs
import random
from pathlib import Path

import pytest

from curation.commands.fetch.hash_lists import HashList
from curation.commands.forget.takedowns import KINDS, read_list
from curation.commands.rank.gates import read_blocklist
from curation.dataset.lists import read_entries, read_lines
from curation.dataset.urls import address_of
from curation.errors import SafetyError, UsageError
from curation.measure.fingerprint import Fingerprint

UID, SHA256, MD5, PHASH = "0a" * 16, "0b" * 32, "0c" * 16, "00ff" * 4
ENTRIES = {
    "url": "http://a.org/x y#z", "uid": UID, "sha256": SHA256, "phash": f"phash:{PHASH}",
    "domain": "photos.example.org", "key": "000000123",
}  # fmt: skip
MEANT = {**ENTRIES, "url": "http://a.org/x y", "phash": PHASH}


def write(folder: Path, content: bytes) -> Path:
    path = folder / "list.txt"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("seed", range(40))
def test_a_list_means_the_same_however_its_file_was_written(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    lines, places = [], []
    for kind in draw.sample(list(ENTRIES), len(ENTRIES)):
        lines += draw.choices(["", "  ", "# http://never.org/", "\t# x"], k=draw.randrange(3))
        text = draw.choice(["{}", "{}", "  {}\t", '"{}"', "'{}' ", "<{}>", "\ufeff{}", "\u00a0{}\u200b"]).format(
            ENTRIES[kind].upper() if kind in ("uid", "sha256", "phash") and draw.random() < 0.5 else ENTRIES[kind]
        )
        lines.append(text + draw.choice(["", " # a remark", "\t#", ' # "quoted"']))
        places.append((kind, MEANT[kind], len(lines)))
    text = draw.choice(["\n", "\r\n", "\r"]).join(lines) + draw.choice(["", "\n", "\r\n\r\n"])
    listed = write(tmp_path, draw.choice([b"", codecs.BOM_UTF8]) + text.encode())
    assert [(request.kind, request.value, request.line) for request in read_list(listed)] == places


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_a_list_that_is_no_utf_8_is_an_error_that_says_so(tmp_path: Path, encoding: str) -> None:
    listed = write(tmp_path, f"{UID}\nhttp://a.org/é\n".encode(encoding))
    for read in (read_list, lambda path: read_blocklist([path]), HashList):
        with pytest.raises((UsageError, SafetyError), match=r"list\.txt: cannot be read as text: .*UTF-8"):
            read(listed)


def test_the_line_is_named_that_holds_another_encoding(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line 3 is no UTF-8"):
        read_lines(write(tmp_path, b"a.org\r\n\r\nhttp://a.org/\xe9\r\n"))
    with pytest.raises(UsageError, match="line 2 holds a zero byte"):
        read_lines(write(tmp_path, b"a.org\rb\0"))


def test_every_kind_of_list_is_read_by_the_same_rules(tmp_path: Path) -> None:
    text = f"\ufeff# all\r\n\r\n'{SHA256.upper()}' # one\r\n{MD5.upper()}\r\n"
    hashes = write(tmp_path, f"{text}PHASH:{PHASH.upper()}\r\n".encode())
    assert HashList(hashes).match(Fingerprint("f" * 64, MD5))
    assert HashList(hashes).match(Fingerprint(SHA256, "f" * 32))
    assert HashList(hashes).match(Fingerprint("f" * 64, "f" * 32, PHASH))
    listed = read_blocklist([write(tmp_path, f"{text}a.org/x# # y\r\n*.Bücher.example\r\n".encode())])
    assert listed.hashes == {SHA256, MD5}
    assert listed.addresses == {"//a.org/x"} and listed.domains == {"xn--bcher-kva.example"}


@pytest.mark.parametrize("line", ["no dots", "abc", "http://", "x" * 40, "phash:" + PHASH, "uid:" + UID, "a.org b.org"])
def test_a_line_that_a_blocklist_cannot_place_stops_everything(tmp_path: Path, line: str) -> None:
    with pytest.raises(UsageError, match=r"list\.txt: line 2"):
        read_blocklist([write(tmp_path, f"a.org\n{line}\n".encode())])


@pytest.mark.parametrize(
    "line",
    [
        "{}\tasked by mail", "url:{}\tasked by mail", "{}\u00a0mail", "{},", "{};", "{} ,", "{}, asked by mail",
        "{},mail", "{};" + SHA256, "{} asked by mail on 2024-01-02", "{}  mail", "{} | mail", "{} - mail",
        "{} http://a.org/2.jpg", "{},http://a.org/2.jpg", '{} "mail"', "{} (mail)",
    ],
)  # fmt: skip
@pytest.mark.parametrize("url", ["http://a.org/1.jpg", "a.org/my photo.PNG", "https://a.org/a b/1.jpeg"])
def test_a_line_that_holds_more_than_a_url_is_refused_by_every_list(tmp_path: Path, url: str, line: str) -> None:
    listed = write(tmp_path, f"a.org\n{line.format(url)}\n".encode())
    for read in (read_list, lambda path: read_blocklist([path])):
        with pytest.raises(UsageError, match=r"list\.txt: line 2"):
            read(listed)


@pytest.mark.parametrize("line", ["http://a.org mail", "http://a.org/ mail", "http://a.org/x/\tmail", "//a.org,b/x"])
def test_a_host_or_a_folder_with_words_after_it_is_no_url(tmp_path: Path, line: str) -> None:
    with pytest.raises(UsageError, match=r"list\.txt: line 1"):
        read_blocklist([write(tmp_path, line.encode())])


@pytest.mark.parametrize("line", ["http:/a.org/x", "https:a.org", "HTTP//a.org/x", "http:\\\\a.org\\x", "s3:/a/x"])
def test_a_url_with_a_broken_scheme_is_no_key(tmp_path: Path, line: str) -> None:
    with pytest.raises(UsageError, match=r"list\.txt: line 1"):
        read_list(write(tmp_path, line.encode()))


@pytest.mark.parametrize(
    "url",
    [
        "http://a.org/x y", "http://a.org/my photo.jpg", "http://a.org/a - b.jpg", "http://a.org/1.jpg (2).jpg",
        "http://a.org/x, y.jpg", "http://a.org/1.jpg,w_100", "http://a.org/1.jpg;w=100", "http://a.org/a,b;c",
        "http://a.org/?q=red car", "a.org/x.jpg?a=1,2",
    ],
)  # fmt: skip
def test_blanks_and_commas_within_a_url_are_part_of_it(tmp_path: Path, url: str) -> None:
    listed = read_blocklist([write(tmp_path, f"{url} # {url}, mail".encode())])
    assert listed.addresses == {address_of(url)}


@pytest.mark.parametrize("url", ["http://a.org/1.jpg,", "http://a.org/1.jpg of mine", "http://a.org/f,http://b.org/x"])
def test_a_url_that_looks_like_more_is_named_by_its_prefix(tmp_path: Path, url: str) -> None:
    assert read_blocklist([write(tmp_path, f"url: {url}".encode())]).addresses == {address_of(url)}


@pytest.mark.parametrize("line", ["0a", "0g" * 16, "http://a.org/", f"{MD5} {SHA256}", "phash:0a", "a.org"])
def test_a_line_that_a_hash_list_cannot_place_stops_everything(tmp_path: Path, line: str) -> None:
    with pytest.raises(SafetyError, match=r"list\.txt: line 2"):
        HashList(write(tmp_path, f"{MD5}\n{line}\n".encode()))


def test_a_key_with_blanks_is_named_by_its_prefix() -> None:
    (entry,) = read_entries(["key: my photo.2 # of mine"], "list", KINDS)
    assert (entry.kind, entry.value) == ("key", "my photo.2")

from pathlib import Path

import pytest

from curation.commands.forget.takedowns import Request, read_list, read_requests
from curation.dataset.sample import uid_of_url
from curation.errors import UsageError

UID, SHA256 = "0a" * 16, "0b" * 32


@pytest.mark.parametrize(
    ("line", "kind", "value"),
    [
        ("HTTP://Example.org:80/a.jpg#x", "url", "http://example.org/a.jpg"),
        ("url:https://example.org/a b", "url", "https://example.org/a b"),
        (UID.upper(), "uid", UID),
        (SHA256, "sha256", SHA256),
        ("sha256:" + SHA256.upper(), "sha256", SHA256),
        ("000000123", "key", "000000123"),
        ("key:" + UID, "key", UID),
        ("domain:Example.ORG.", "domain", "example.org"),
        ("photos.example.org", "domain", "photos.example.org"),
        ("domain:bücher.example", "domain", "xn--bcher-kva.example"),
        ("bücher.example", "domain", "xn--bcher-kva.example"),
        ("*.example.org", "domain", "example.org"),
        ("example.org/a.jpg", "url", "http://example.org/a.jpg"),
        ("SHA256: " + SHA256, "sha256", SHA256),
        (f"{UID}# a remark", "uid", UID),
        (f"  '{UID}'  # a remark", "uid", UID),
        ("<http://example.org/a#b>", "url", "http://example.org/a"),
        ('"http://example.org/a #b"', "url", "http://example.org/a "),
        ("http://example.org/a\t#b", "url", "http://example.org/a"),
        ("22.05", "key", "22.05"),
        ("phash:00FF00FF00FF00FF", "phash", "00ff" * 4),
    ],
)
def test_a_request_is_known_by_its_form_or_its_prefix(line: str, kind: str, value: str) -> None:
    assert read_requests([line], "list") == (Request(kind, value),)


def test_blank_lines_comments_and_repetitions_say_nothing() -> None:
    lines = ["", "# from a letter", "http://a.org/1", "HTTP://A.org/1", " http://a.org/2 "]
    assert [request.uid for request in read_requests(lines, "list")] == [
        uid_of_url("http://a.org/1"), uid_of_url("http://a.org/2"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        "ftp://a.org/1",
        "uid:xyz",
        "sha256:12",
        "domain:",
        "domain:a b.org",
        "domain:a.org/x",
        "domain:" + "ü" * 70,
        "key:",
        "please forget me",
        f"{UID},{SHA256}",
        "http://[bad",
        "md5:" + UID,
    ],
)
def test_a_line_that_is_no_request_is_refused_by_number_and_not_repeated(line: str) -> None:
    with pytest.raises(UsageError, match="list: line 2") as raised:
        read_requests(["http://a.org/1", line], "list")
    said = str(raised.value).partition("line 2")[2]
    assert line.endswith(":") or (line.rpartition(":")[2] not in said and line not in said)


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(UsageError, match="no request"):
        read_requests(["# nothing"], "list")


def test_a_list_is_read_from_a_file_and_one_that_is_no_text_is_named(tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("000000123\ndomain:bücher.example\n", encoding="utf-8")
    assert [request.kind for request in read_list(listed)] == ["key", "domain"]
    listed.write_bytes(b"\xff\xfe\x00")
    for path in (listed, tmp_path / "nowhere.txt"):
        with pytest.raises(UsageError, match=f"{path.name}: cannot be read as text"):
            read_list(path)

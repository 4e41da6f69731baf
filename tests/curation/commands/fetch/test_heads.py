"""Heads of responses: whatever a server sends, they say what the standard library reads in them."""

import http.client
import io

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curation.commands.fetch.heads import MAX_FIELDS, read_headers

NAMES = st.sampled_from(
    ["X-Robots-Tag", "x-robots-tag", "Content-Length", "tdm-reservation", "A B", "", " ", "é", "From "]
)
VALUES = st.text(st.sampled_from("noai:;, \t\r\x00\x0b\x0c\x1c\x85\xa0\xe9"), max_size=8)
LINES = st.one_of(
    st.builds("{}:{}{}".format, NAMES, VALUES, st.sampled_from(["\r\n", "\n", "\r\r\n"])),
    st.sampled_from([" noai\r\n", "\tnoai\r\n", "no colon\r\n", ":\r\n", "a:b\r"]),
)


@given(st.lists(LINES, max_size=6), st.sampled_from(["\r\n", "\n", ""]))
@example(["X-Robots-Tag: none\r\n", " , noai\r\n"], "\r\n")
@example(["A: b\rX-Robots-Tag: noai\r\n"], "\r\n")
@example(["no colon\r\n", "X-Robots-Tag: noai\r\n"], "\r\n")
def test_a_head_says_what_the_standard_library_reads_in_it(lines: list[str], end: str) -> None:
    head = ("".join(lines) + end + "body").encode("iso-8859-1")
    ours, theirs = io.BytesIO(head), io.BytesIO(head)
    found, expected = read_headers(ours), http.client.parse_headers(theirs)
    assert ours.read() == theirs.read()
    for name in expected:
        assert list(found.get_all(name.lower())) == expected.get_all(name)
        assert found.get(name.lower()) == expected.get(name)
    for name in ("x-robots-tag", "content-length", "tdm-reservation", "a"):
        assert (name in found) == (name in expected)


@pytest.mark.parametrize("head", [b"A: b\r\n" * (MAX_FIELDS + 1) + b"\r\n", b"A: " + b"b" * (1 << 16) + b"\r\n\r\n"])
def test_a_head_without_measure_is_no_answer(head: bytes) -> None:
    with pytest.raises(http.client.HTTPException):
        read_headers(io.BytesIO(head))

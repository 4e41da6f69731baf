"""A host has one name here, however a URL spells it."""

import pytest

from curation.dataset.tombstones import Tombstones, hashed
from curation.dataset.urls import above, ascii_host, host_of, spellings

BUCHER = "xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("bücher.example", BUCHER),
        ("BÜCHER.Example.", BUCHER),
        ("bu\u0308cher.example", BUCHER),
        ("XN--BCHER-KVA.example", BUCHER),
        ("bücher。example", BUCHER),
        ("Example.ORG", "example.org"),
        ("a_b.example.org", "a_b.example.org"),
        ("ü" * 70 + ".org", "ü" * 70 + ".org"),
        ("ü..org", "ü..org"),
        ("::1", "::1"),
        ("", ""),
    ],
)
def test_a_host_is_spelled_in_ascii_where_that_works(host: str, expected: str) -> None:
    assert ascii_host(host) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://bücher.example/a", BUCHER),
        (f"https://user:pass@{BUCHER}:8080/a", BUCHER),
        ("http://x@y@blocked.example/", "blocked.example"),
        ("http://good.example#@blocked.example/", "good.example"),
        ("http://[::1]:80/", "::1"),
        ("http://[bad/", ""),
        ("nothing", ""),
        (None, ""),
    ],
)
def test_the_host_of_a_url_is_what_would_be_asked(url: str | None, expected: str) -> None:
    assert host_of(url) == expected


def test_a_host_lies_below_every_domain_in_its_name() -> None:
    assert above("a.b.org") == ["a.b.org", "b.org", "org"]


def test_a_url_has_one_spelling_for_each_name_of_its_host() -> None:
    both = {"http://u@bücher.example:81/b?ü", f"http://u@{BUCHER}:81/b?ü"}
    assert spellings("HTTP://u@BÜCHER.example:81/b?ü#x") == spellings(f"http://u@{BUCHER}:81/b?ü") == both
    assert spellings("http://a.org:80/x") == {"http://a.org/x"}
    assert spellings("http://[::1]/x") == {"http://[::1]/x"}
    with pytest.raises(ValueError, match="not an absolute"):
        spellings("ftp://a.org/")


@pytest.mark.parametrize("domain", ["xn--bcher-kva.example"])
def test_a_tombstone_of_a_domain_covers_every_spelling(domain: str) -> None:
    stones = Tombstones(domain=frozenset({hashed(domain)}))
    for url in ("http://bücher.example/", "http://img.BÜCHER.example./", f"http://u@{BUCHER}:8/"):
        assert stones.hold(None, url), url
    assert not stones.hold(None, "http://bucher.example/")

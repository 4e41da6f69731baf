"""A host and an address have one name here, however a URL spells it."""

from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.dataset.tombstones import Tombstones, hashed
from curation.dataset.urls import above, address_of, addresses_of, ascii_host, domain_of, host_of

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


ONE_ADDRESS = (
    "http://a.org/x%3Ay/3%20c/%C3%A9.jpg?q=%22",
    "https://a.org/x:y/3 c/é.jpg?q=%22",
    'HTTP://User:Secret@A.ORG.:80/x%3ay/%33%20c/%c3%A9.jpg?q="',
    "a.org/x:y/3 c/é.jpg?q=%22#part",
    "//a.org:443/./no/../x:y/%2E/3 c/é.jpg?q=%22",
    " https://%61.org/x:y/3 c/%C3%A9%2ejpg?q=%22\n",
)
OTHERS = (
    "http://a.org/x:y/3 c/é.jpg", "http://a.org/X:y/3 c/é.jpg?q=%22", "http://a.org:81/x:y/3 c/é.jpg?q=%22",
    "http://b.a.org/x:y/3 c/é.jpg?q=%22", "http://a.org/x:y/3+c/é.jpg?q=%22", "http://a.org/x:y/3 c/é.jpg/?q=%22",
    "http://a.org/x:y/3 c/e\u0301.jpg?q=%22", "http://a.org/x:y/3 c/%E9.jpg?q=%22",
    "http://a.org/x:y%2F3 c/é.jpg?q=%22",
)  # fmt: skip


def test_what_would_be_sent_is_one_address_however_it_is_spelled() -> None:
    (address,) = {address_of(url) for url in ONE_ADDRESS}
    assert address == "//a.org/x:y/3%20c/%C3%A9.jpg?q=%22"
    assert address not in {address_of(url) for url in OTHERS}
    assert len({address_of(url) for url in OTHERS}) == len(OTHERS)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://a.org", "//a.org/"),
        ("http://a.org/?", "//a.org/"),
        ("http://a.org?x=1&y=%2b", "//a.org/?x=1&y=%2B"),
        ("http://a.org/a/../../b/..", "//a.org/"),
        ("http://a.org/a/./b/.", "//a.org/a/b/"),
        ("http://a.org/.../.b", "//a.org/.../.b"),
        ("http://bücher。example。/", f"//{BUCHER}/"),
        ("http://0x7f.1:8080/", "//127.0.0.1:8080/"),
        ("http://[0:0::1]:80/", "//[::1]/"),
        ("http://[::ffff:127.0.0.1]/", "//127.0.0.1/"),
        ("http://localhost/x", "//localhost/x"),
        ("UNKNOWN", None), ("", None), (None, None), ("no/domain", None), ("ftp://a.org/", None),
        ("http://[bad", None), ("http://a.org:99999/", None),
    ],
)  # fmt: skip
def test_an_address_is_in_one_form(url: str | None, address: str | None) -> None:
    assert address_of(url) == address


PIECES = st.text(st.sampled_from("aZ09 é%./?#:@~+&='()[]|<>\\\t\u3002ü"), max_size=12)
URLS = st.builds(
    lambda scheme, host, path: f"{scheme}{host}/{path}",
    st.sampled_from(["http://", "HTTPS://", "//", "", "ftp://"]),
    st.sampled_from(["a.org", "A.org.", "u@b.example:80", "bücher.example", "1.2.3.4"]) | PIECES,
    PIECES,
)


@given(URLS)
def test_an_address_is_its_own_address_and_names_the_host_that_is_asked(url: str) -> None:
    address = address_of(url)
    assert address_of(address) == address
    if address is not None and url.startswith("http"):
        assert host_of(f"http:{address}") == host_of(url)


@given(st.lists(st.none() | URLS | st.sampled_from([*ONE_ADDRESS, *OTHERS]), max_size=8))
def test_a_column_of_urls_has_the_addresses_that_each_of_them_has(urls: list[str | None]) -> None:
    column = pa.chunked_array([pa.array(urls, pa.string())])
    assert addresses_of(column).to_pylist() == [address_of(url) for url in urls]


@pytest.mark.parametrize(
    ("text", "domain"),
    [
        ("*.Example.org.", "example.org"), (".example.org", "example.org"), ("http://example.org/", "example.org"),
        ("bücher.example", BUCHER), ("192.0.2.7", "192.0.2.7"), ("[::1]", "::1"), ("example.org:80", "example.org"),
        ("example", None), ("a b.org", None), ("a.org/x", None), ("", None), ("a@b.org", None), ("[bad", None),
    ],
)  # fmt: skip
def test_a_domain_is_known_however_it_is_written(text: str, domain: str | None) -> None:
    assert domain_of(text) == domain


@pytest.mark.parametrize("domain", ["xn--bcher-kva.example"])
def test_a_tombstone_of_a_domain_covers_every_spelling(domain: str) -> None:
    stones = Tombstones(domain=frozenset({hashed(domain)}))
    for url in ("http://bücher.example/", "http://img.BÜCHER.example./", f"http://u@{BUCHER}:8/"):
        assert stones.hold(None, url), url
    assert not stones.hold(None, "http://bucher.example/")


RESTS = r"""
    : / // /a.jpg :80/ :/ :x/ ?a@b #c :80@evil.org/ :pw@evil.org @evil.org/ &@evil.org \@evil.org
    %2e/ . ./ .:80 é/ [ 1/ .1.2.3/ -/ _x.org/
"""


@pytest.mark.parametrize("before", ["", " ", "\n", "HTTP", "ftp"])
@pytest.mark.parametrize("rest", [*RESTS.split(), "", "\n", "\n/", "\t.uk/", "\n@evil.org"])
def test_the_host_of_a_usual_url_is_that_of_every_other_way_to_write_it(before: str, rest: str) -> None:
    scheme = before if before.isalpha() else f"{before}http"
    url = f"{scheme}://a-b.example.org{rest}"
    try:
        known = ascii_host(unquote(urlsplit(url.strip()).hostname or ""))
    except ValueError:
        known = ""
    assert host_of(url) == known

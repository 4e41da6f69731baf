import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.dataset.sample import Sample, normalise_url, uid_of_bytes, uid_of_url


@pytest.mark.parametrize(
    ("url", "normalised"),
    [
        ("HTTP://Example.ORG/A.jpg", "http://example.org/A.jpg"),
        ("https://example.org:443/a.jpg", "https://example.org/a.jpg"),
        ("http://example.org:80/a.jpg", "http://example.org/a.jpg"),
        ("http://example.org:8080/a.jpg", "http://example.org:8080/a.jpg"),
        ("http://example.org/a.jpg#top", "http://example.org/a.jpg"),
        ("http://example.org/a?B=c%20D&e=", "http://example.org/a?B=c%20D&e="),
        ("  http://example.org/a.jpg\n", "http://example.org/a.jpg"),
        ("http://User:Pass@example.org/a", "http://User:Pass@example.org/a"),
        ("http://[2001:DB8::1]:80/a", "http://[2001:db8::1]/a"),
    ],
)
def test_equal_addresses_have_one_form(url: str, normalised: str) -> None:
    assert normalise_url(url) == normalised


@pytest.mark.parametrize("url", ["", "UNKNOWN", "ftp://a/b", "file:///etc/passwd", "http://", "http://a:x/", "data:,x"])
def test_what_is_no_web_address_is_refused_with_the_address_named(url: str) -> None:
    with pytest.raises(ValueError, match=r"http|port|Port"):
        normalise_url(url)


@given(
    st.from_regex(
        r"https?://[a-z]{1,8}\.org(:[1-9][0-9]{1,3})?/[A-Za-z0-9%/._-]{0,20}(\?[a-z=&]{1,9})?", fullmatch=True
    )
)
def test_normalising_twice_changes_nothing(url: str) -> None:
    assert normalise_url(normalise_url(url)) == normalise_url(url)


def test_the_uid_is_the_first_half_of_the_sha256_of_the_normalised_url() -> None:
    assert uid_of_url("HTTP://Example.org:80/a#b") == uid_of_bytes(b"http://example.org/a")
    assert uid_of_bytes(b"") == "e3b0c44298fc1c149afbf4c8996fb924"


def test_a_sample_without_url_is_known_by_its_bytes_and_one_without_bytes_by_its_place() -> None:
    assert Sample("k", b"picture", None, {}).uid("00000") == uid_of_bytes(b"picture")
    assert Sample("k", b"", None, {}).uid("00000") == uid_of_bytes(b"00000/k")
    assert Sample("k", b"picture", None, {"url": "http://a.org/x"}).uid("00000") == uid_of_url("http://a.org/x")

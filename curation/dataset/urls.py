"""What the host of a URL is called: one spelling for blocklists, tombstones and politeness, whatever alphabet it is in.

A name in another script and its `xn--` form (RFC 5890) are one host to the network, so they are one here. The uid of an
image knows the address as it was written: there the two spellings stay two. Names are mapped as Python's codec and
the downloader's do it (IDNA 2003: `ß` is `ss`).
"""

from urllib.parse import urlsplit, urlunsplit

from curation.dataset.sample import normalise_url


def ascii_host(host: str) -> str:
    """Return a host in lower case without a last dot, names in other scripts as `xn--` (RFC 5890) where that works."""
    plain = host.lower().rstrip(".")
    try:
        return plain if plain.isascii() else plain.encode("idna").decode()
    except UnicodeError:
        return plain


def host_of(url: str | None) -> str:
    """Return the host of a URL as `ascii_host` spells it; an empty text where there is none."""
    try:
        return ascii_host(urlsplit((url or "").strip()).hostname or "")
    except ValueError:
        return ""


def above(host: str) -> list[str]:
    """Return a host and every domain above it."""
    parts = host.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]


def spellings(url: str) -> set[str]:
    """Return a URL in normal form, with its host as it was written, as `xn--`, and in its own script.

    Raises:
        ValueError: it is not an absolute http or https URL.
    """
    parts = urlsplit(normalise_url(url))
    host, (userinfo, at, place) = parts.hostname or "", parts.netloc.rpartition("@")
    names = {host} if ":" in host else {host, ascii_host(host), _own_script(host)}
    places = [f"{userinfo}{at}{place.replace(host, name, 1)}" for name in names]
    return {urlunsplit(parts._replace(netloc=netloc)) for netloc in places}


def _own_script(host: str) -> str:
    try:
        return host.encode("ascii").decode("idna") if "xn--" in host else host
    except UnicodeError:
        return host

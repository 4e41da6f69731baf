"""What a URL asks for: one spelling for takedowns, blocklists, releases and politeness, however it was written.

Two URLs are one address here if a server is asked for the same by both: the scheme (http or https), user and password,
the fragment, and the last dot of a host do not count; a host in another script and its `xn--` form (RFC 5890) are one,
mapped as Python's codec and the downloader's do it (IDNA 2003: `ß` is `ss`); a path is percent-encoded as it is sent,
and its dot segments are resolved (RFC 3986, 6.2.2). The uid of an image knows the URL as it was written: there the
spellings stay apart (`docs/decisions/0038-what-would-be-sent.md`).
"""

import ipaddress
import re
import socket
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, unquote, urlsplit

from curation.dataset.sample import DEFAULT_PORTS

if TYPE_CHECKING:
    import pyarrow as pa

BLANKS = "".join(chr(n) for n in range(0x3001) if chr(n).isspace()) + "\u200b\ufeff\x00"
"""What may stand around a URL without being part of it."""
SENT_AS_THEY_ARE = "!#$%&'()*+,/:;=?@[]~"
"""What the downloader leaves of a path and a query, beside letters, digits, `-`, `.` and `_`."""
NEVER_TOLD_APART = "-._~!$'()*,:@[]"
"""Characters that mean the same to a server whether they are percent-encoded or not, beside letters and digits."""
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
DOMAIN = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
ESCAPE = re.compile("%([0-9A-Fa-f]{2})")
USUAL = r"^https?://([a-z0-9_-]+\.)+[a-z]+/([!$&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]*[!$&'()*+,\-./0-9:;=@A-Z\[\]_a-z~])?$"
"""A URL that only loses its scheme, if it has no dot segment."""
USUAL_HOST = re.compile(r"https?://((?:[a-z0-9_-]+\.)+[a-z]+)(?::[0-9]*)?(?=[/?#]|\Z)")
"""The beginning of a URL whose host is spelled as `ascii_host` spells it."""


def ascii_host(host: str) -> str:
    """Return a host in lower case without a last dot, other scripts as `xn--`, and numbers as IP addresses."""
    plain = host.lower().rstrip(".")
    if not plain.isascii():
        try:
            plain = plain.encode("idna").decode().lower().rstrip(".")
        except UnicodeError:
            return plain
    return _ip_address(plain) or plain


def host_of(url: str | None) -> str:
    """Return the host of a URL as `ascii_host` spells it; an empty text where there is none."""
    url = url or ""
    if (usual := USUAL_HOST.match(url)) is not None:
        return usual[1]
    try:
        return _host(urlsplit(url.strip(BLANKS)))
    except ValueError:
        return ""


def above(host: str) -> list[str]:
    """Return a host and every domain above it."""
    parts = host.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]


def domain_of(text: str) -> str | None:
    """Return the domain that a text names, as `ascii_host` spells it, else None.

    `*.` and `.` before it say nothing, since a domain stands for its subdomains too; a URL of no more than a host names
    that host.
    """
    try:
        parts = urlsplit(text if "://" in text else f"//{text}")
        host = _host(parts).removeprefix("*.").removeprefix(".")
    except ValueError:
        return None
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
        return None
    return host if DOMAIN.fullmatch(host) or ":" in host else None


def with_scheme(text: str) -> str:
    """Return a URL as it is, or with `http` before it where it has no scheme."""
    text = text.strip(BLANKS)
    return text if _has_scheme(text) else f"http://{text.lstrip('/')}"


def is_address(text: str) -> bool:
    """Whether a text has the form of a URL: with a scheme, or a domain and what is asked of it."""
    text = text.strip(BLANKS)
    if _has_scheme(text) or text.startswith("//"):
        return True
    place = re.split(r"[/?]", text, maxsplit=1)[0]
    return place != text and domain_of(place) is not None


def address_of(url: str | None) -> str | None:
    """Return what a URL asks for, as `//host/path?query`; None where it is no http or https URL.

    A URL without a scheme is one of http, if its host has the form of a domain. Ports 80 and 443 are left out.

    Example:
        address_of("HTTPS://Me@a.org.:443/./b%3A%33 c#d") == "//a.org/b:3%20c"
    """
    url = (url or "").strip(BLANKS)
    try:
        parts = urlsplit(with_scheme(url))
        host, port = _host(parts), parts.port
    except ValueError:
        return None
    is_given = _has_scheme(url) or url.startswith("//")
    if parts.scheme.lower() not in DEFAULT_PORTS or not (host if is_given else DOMAIN.fullmatch(host)):
        return None
    place = f"[{host}]" if ":" in host else host
    if port is not None and port not in DEFAULT_PORTS.values():
        place = f"{place}:{port}"
    query = f"?{_sent(parts.query)}" if parts.query else ""
    return f"//{place}{_without_dots(_sent(parts.path))}{query}"


def addresses_of(urls: "pa.Array | pa.ChunkedArray") -> "pa.Array":
    """Return `address_of` of every URL of a column, null where there is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    column = urls.combine_chunks() if isinstance(urls, pa.ChunkedArray) else urls
    column = column.cast(pa.string())
    usual = pc.and_(pc.match_substring_regex(column, USUAL), pc.invert(pc.match_substring(column, "/.")))
    usual = pc.fill_null(usual, True)
    addresses = pc.replace_substring_regex(column, "^https?:", "", max_replacements=1)
    others = [address_of(url) for url in column.filter(pc.invert(usual)).to_pylist()]
    return pc.replace_with_mask(addresses, pc.invert(usual), pa.array(others, pa.string()))


def _has_scheme(text: str) -> bool:
    scheme = SCHEME.match(text)
    return scheme is not None and text.startswith("//", scheme.end())


def _host(parts: SplitResult) -> str:
    return ascii_host(unquote(parts.hostname or ""))


def _ip_address(host: str) -> str | None:
    """Return the usual form of a host that is a number, as a resolver reads it; None where it is a name."""
    if ":" in host:
        try:
            address = ipaddress.IPv6Address(host)
        except ValueError:
            return None
        return str(address.ipv4_mapped or address)
    if not host.rpartition(".")[2][:1].isdigit():
        return None
    try:
        return socket.inet_ntoa(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def _sent(text: str) -> str:
    """Return a path or a query as the downloader sends it, with one spelling of every escape."""

    def one_spelling(escape: re.Match[str]) -> str:
        character = chr(int(escape[1], 16))
        is_plain = character in NEVER_TOLD_APART or (character.isascii() and character.isalnum())
        return character if is_plain else escape[0].upper()

    return ESCAPE.sub(one_spelling, quote(text, safe=SENT_AS_THEY_ARE, errors="surrogatepass"))


def _without_dots(path: str) -> str:
    """Return an absolute path without `.` and `..` (RFC 3986, 5.2.4)."""
    kept: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments and segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)

"""A picture with its caption and source metadata on its way through the pipeline, and the identity it carries.

Identity is the `uid`, never the key: a key depends on how somebody cut shards, the uid only on the URL.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit, urlunsplit

NUM_UID_BYTES = 16
DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Sample:
    """One picture as it lies in a shard: still encoded, its bytes never changed."""

    key: str
    """Name in the source shard, without the suffix that says what a member is."""
    image_bytes: bytes
    """The encoded picture; empty where the shard holds none (see `problem`)."""
    caption: str | None
    """Text of the `.txt` member, or None where there is none."""
    metadata: Mapping[str, Any]
    """Content of the `.json` member; empty where there is none."""
    problem: str | None = None
    """Why it is not used (`no_image`, `several_images`, `duplicate_key`, `not_a_file`, `image_too_large`; `broken_` or
    `_too_large` with `caption` or `metadata`), else None."""

    @cached_property
    def url(self) -> str | None:
        """Where the picture came from, or None where the metadata names no http(s) URL."""
        url = self.metadata.get("url")
        return url if isinstance(url, str) and _is_web_url(url) else None

    def uid(self, shard: str) -> str:
        """Return the stable identity: of the URL, else of the bytes, else of the place in the shard."""
        if self.url is not None:
            return uid_of_url(self.url)
        return uid_of_bytes(self.image_bytes or f"{shard}/{self.key}".encode("utf-8", "surrogateescape"))


def normalise_url(url: str) -> str:
    """Return `url` with scheme and host in lower case and without default port and fragment; query untouched.

    Raises:
        ValueError: `url` is not an absolute http or https URL.
    """
    parts = urlsplit(url.strip())
    scheme = parts.scheme.lower()
    host = parts.hostname
    if scheme not in DEFAULT_PORTS or not host:
        raise ValueError(f"not an absolute http(s) URL: {url!r}")
    port = parts.port
    userinfo, at, _ = parts.netloc.rpartition("@")
    place = f"[{host}]" if ":" in host else host
    if port is not None and port != DEFAULT_PORTS[scheme]:
        place = f"{place}:{port}"
    return urlunsplit((scheme, f"{userinfo}{at}{place}", parts.path, parts.query, ""))


def uid_of_url(url: str) -> str:
    """Return 32 hex digits: the first 16 bytes of SHA-256 over the normalised URL.

    Raises:
        ValueError: `url` is not an absolute http or https URL.
    """
    return uid_of_bytes(normalise_url(url).encode("utf-8", "surrogatepass"))


def uid_of_bytes(content: bytes) -> str:
    """Return 32 hex digits: the first 16 bytes of SHA-256 over `content`."""
    return hashlib.sha256(content).hexdigest()[: 2 * NUM_UID_BYTES]


def _is_web_url(url: str) -> bool:
    try:
        normalise_url(url)
    except ValueError:
        return False
    return True

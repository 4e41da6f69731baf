"""What people ask to be forgotten: one request a line, known by its form or by a prefix."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from curation.dataset.sample import normalise_url, uid_of_url
from curation.dataset.tombstones import hashed
from curation.dataset.urls import ascii_host
from curation.errors import UsageError

KINDS = ("url", "key", "uid", "sha256", "domain")
DOMAIN = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
FORMS = {"uid": re.compile(r"[0-9a-f]{32}"), "sha256": re.compile(r"[0-9a-f]{64}"), "domain": DOMAIN}


@dataclass(frozen=True)
class Request:
    """One thing to forget, in its normal form; what is written of it anywhere is its hash."""

    kind: str
    value: str

    @property
    def hash(self) -> str:
        """The sha256 of the value in hex."""
        return hashed(self.value)

    @property
    def uid(self) -> str | None:
        """The uid that a URL or a uid names."""
        return uid_of_url(self.value) if self.kind == "url" else self.value if self.kind == "uid" else None


def read_list(path: Path) -> tuple[Request, ...]:
    """Return the requests of a file.

    Raises:
        UsageError: it cannot be read, or a line is none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as text: {error}") from error
    return read_requests(lines, str(path))


def read_requests(lines: Iterable[str], where: str) -> tuple[Request, ...]:
    """Return the requests of a list, each once; blank lines and those that begin with `#` say nothing.

    Raises:
        UsageError: a line is none; named by its number, since what it holds is nobody's business.
    """
    requests: dict[Request, None] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text and not text.startswith("#"):
            requests[_request(text, f"{where}, line {number}")] = None
    if not requests:
        raise UsageError(f"{where}: no request in it; one a line: a URL, a uid, a sha256, a key, or domain:NAME")
    return tuple(requests)


def _request(text: str, where: str) -> Request:
    prefix, colon, rest = text.partition(":")
    if colon and prefix in KINDS and not rest.startswith("//"):
        return _normal(prefix, rest.strip(), where)
    if "://" in text:
        return _normal("url", text, where)
    for kind, form in FORMS.items():
        if form.fullmatch(text.lower()):
            return _normal(kind, text, where)
    return _normal("key", text, where)


def _normal(kind: str, text: str, where: str) -> Request:
    if kind == "url":
        try:
            return Request("url", normalise_url(text))
        except ValueError:
            raise UsageError(f"{where}: not an absolute http or https URL") from None
    if kind == "domain":
        text = (urlsplit(f"//{text}").hostname or "") if "/" not in text else ""
        text = ascii_host(text)
    if kind in FORMS:
        text = text.lower()
        if FORMS[kind].fullmatch(text) is None:
            raise UsageError(f"{where}: not a {kind}")
    if not text:
        raise UsageError(f"{where}: says {kind}: and nothing after it")
    return Request(kind, text)

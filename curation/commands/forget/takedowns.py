"""What people ask to be forgotten: one request a line, known by its form or by a prefix."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from curation.dataset.lists import ListEntry, read_entries, read_lines
from curation.dataset.tombstones import hashed
from curation.errors import UsageError

KINDS = ("url", "uid", "sha256", "phash", "domain", "key")


@dataclass(frozen=True)
class Request(ListEntry):
    """One thing to forget, in its normal form; what is written of it anywhere is its hash."""

    @property
    def hash(self) -> str:
        """The sha256, in hex, of the value; of a URL, of the address that it asks for."""
        return hashed(self.address or self.value)


def read_list(path: Path) -> tuple[Request, ...]:
    """Return the requests of a file.

    Raises:
        UsageError: it cannot be read, or a line is none.
    """
    return read_requests(read_lines(path), str(path))


def read_requests(lines: Iterable[str], where: str) -> tuple[Request, ...]:
    """Return the requests of a list, each once; blank lines and remarks say nothing.

    Raises:
        UsageError: a line is none; named by its number, since what it holds is nobody's business.
    """
    entries = read_entries(lines, where, KINDS)
    requests = tuple(dict.fromkeys(Request(entry.kind, entry.value, entry.line, entry.shown) for entry in entries))
    if not requests:
        raise UsageError(f"{where}: no request in it; one a line: a URL, a uid, a sha256, a key, or domain:NAME")
    return requests

"""The head of a response: usual ones by one expression, all others by the standard library, with one outcome."""

import http.client
import io
import re
from collections.abc import Sequence, Set
from typing import IO

MAX_LINE_BYTES = 65536
MAX_FIELDS = 100
"""Limits of `http.client`, which hold here too; what passes them is no answer."""
FIELD = re.compile(r"^([0-9A-Za-z!#$%&'*+.^_`|~-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)\r?\n", re.MULTILINE)
"""A line of a usual head (RFC 9112, 5), which `email.parser` reads the same way."""


MAX_LENGTH_DIGITS = 18
"""Of a body's length; nobody has more."""


class Headers:
    """Fields of a response by their names in lower case, each with its values in order."""

    def __init__(self, fields: Sequence[tuple[str, str]]) -> None:
        """Gather fields of one name."""
        self._values = {name.lower(): [value] for name, value in fields}
        if len(self._values) < len(fields):
            self._values = {name: [] for name in self._values}
            for name, value in fields:
                self._values[name.lower()].append(value)

    def __contains__(self, name: str) -> bool:
        """Whether there is a field of that name, in lower case."""
        return name in self._values

    def among(self, names: Set[str]) -> Set[str]:
        """Return which of some names, in lower case, there are fields of."""
        return self._values.keys() & names

    def get(self, name: str) -> str | None:
        """Return the first value of a field, named in lower case; None where there is none."""
        values = self._values.get(name)
        return None if values is None else values[0]

    def get_all(self, name: str) -> Sequence[str]:
        """Return all values of a field, named in lower case."""
        return self._values.get(name, ())


def length_in(text: str) -> int | None:
    """Return the number that a `Content-Length` is; None where it is none."""
    digits = text.strip(" \t")
    is_number = digits.isascii() and digits.isdecimal() and len(digits) <= MAX_LENGTH_DIGITS
    return int(digits) if is_number else None


def read_headers(file: IO[bytes]) -> Headers:
    """Read the fields of a response up to the empty line behind them.

    Raises:
        http.client.HTTPException: a line is too long, or there are too many.
    """
    lines: list[bytes] = []
    while (line := file.readline(MAX_LINE_BYTES + 1)) not in (b"\r\n", b"\n", b""):
        if len(line) > MAX_LINE_BYTES:
            raise http.client.LineTooLong("header line")
        lines.append(line)
        if len(lines) > MAX_FIELDS:
            raise http.client.HTTPException(f"got more than {MAX_FIELDS} headers")
    return parsed(lines)


def parsed(lines: Sequence[bytes]) -> Headers:
    """Return what the lines of a head say, the empty one left out: what `http.client` would have read there."""
    head = b"".join(lines)
    return usual(head) or Headers(http.client.parse_headers(io.BytesIO(head)).items())


def usual(head: bytes) -> Headers | None:
    """Return what a head says, each line with its end, the empty one left out; None where not all are usual ones."""
    fields = FIELD.findall(head.decode("iso-8859-1"))
    is_usual = len(fields) == head.count(b"\n") <= MAX_FIELDS and (not head or head.endswith(b"\n"))
    return Headers(fields) if is_usual else None

"""Records of comma-separated (RFC 4180) and tab-separated text, as bytes: each is a row or a counted fault.

In TSV a quote is a letter like any other. In CSV a field may be quoted, and may then hold line ends. A quote that does
not close as RFC 4180 wants it is taken for a letter: its line is read without quoting, and no later line is touched.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from curation.commands.importing.faults import Faults
from curation.commands.importing.lines import MAX_LINE_BYTES, Line
from curation.errors import FaceCaptionError

QUOTE, COMMA, TAB = b'"', b",", b"\t"
BLANK, TOO_LONG, QUOTE_BROKEN, ROW_BROKEN = "blank", "row_too_long", "quote_broken", "row_broken"
Fields = list[bytes | None]
"""Fields of one record: None where nothing stands between two delimiters, empty bytes for an empty text in quotes."""


@dataclass(frozen=True)
class Record:
    """What one line holds, or several where a quoted field spans them; `number` is the first one's."""

    number: int
    fields: Fields
    num_lines: int = 1
    problem: str | None = None


def records_of(source: Iterator[Line], delimiter: bytes) -> Iterator[Record]:
    """Yield a record for every line that no earlier record holds.

    Raises:
        FaceCaptionError: the records do not account for every line, which is a bug.
    """
    lines = _Lines(source)
    num_lines = 0
    while (line := lines.take()) is not None:
        record = _record(line, lines, delimiter)
        num_lines += record.num_lines
        yield record
    if num_lines != lines.num_read:
        raise FaceCaptionError(f"{lines.num_read} lines were read, but records account for {num_lines}")


def rows_of(records: Iterator[Record], file: str, num_fields: int, faults: Faults) -> Iterator[Record]:
    """Yield the records that are rows of `num_fields` fields; count the others."""
    for record in records:
        problem, place = record.problem, f"{file} line {record.number}"
        if problem == TOO_LONG:
            faults.lose(TOO_LONG, place)
        elif problem != BLANK and len(record.fields) != num_fields:
            faults.lose(ROW_BROKEN, place)
        elif problem != BLANK:
            if problem is not None:
                faults.note(problem, place)
            yield record


class _Lines:
    """Lines of which some may be given back, to be taken once more."""

    def __init__(self, source: Iterator[Line]) -> None:
        self._source = source
        self._waiting: deque[Line] = deque()
        self.num_read = 0

    def take(self) -> Line | None:
        """Return the next line; None at the end."""
        if self._waiting:
            return self._waiting.popleft()
        line = next(self._source, None)
        self.num_read += line is not None
        return line

    def give_back(self, lines: Sequence[Line]) -> None:
        """Put lines in front of those that are still to come."""
        self._waiting.extendleft(reversed(lines))


def _record(line: Line, more: _Lines, delimiter: bytes) -> Record:
    content = line.content
    if content is None:
        return Record(line.number, [], problem=TOO_LONG)
    if not content.strip():
        return Record(line.number, [], problem=BLANK)
    plain: Fields = [field or None for field in content.split(delimiter)]
    if delimiter != COMMA or QUOTE not in content:
        return Record(line.number, plain)
    quoted = _Quoted()
    taken: list[Line] = []
    following: Line | None = line
    num_bytes = 0
    while following is not None and following.content is not None and num_bytes <= MAX_LINE_BYTES:
        state = quoted.feed(following.content)
        if state is None:
            break
        if state:
            return Record(line.number, quoted.fields, 1 + len(taken))
        quoted.keep(following.end)
        num_bytes += len(following.content)
        following = more.take()
        taken += [] if following is None else [following]
    more.give_back(taken)
    return Record(line.number, plain, problem=QUOTE_BROKEN)


class _Quoted:
    """Splits a record with quotes, line by line."""

    def __init__(self) -> None:
        self.fields: Fields = []
        self._open: list[bytes] | None = None

    def keep(self, end: bytes) -> None:
        """Let a line end be part of the open field."""
        if self._open is not None:
            self._open.append(end)

    def feed(self, text: bytes) -> bool | None:
        """Take one line: True where the record ends with it, False where a quote is open, None where one is broken."""
        place = 0
        while True:
            if self._open is None and not text.startswith(QUOTE, place):
                stop = text.find(COMMA, place)
                self.fields.append((text[place:] if stop < 0 else text[place:stop]) or None)
                if stop < 0:
                    return True
                place = stop + 1
                continue
            if self._open is None:
                self._open, place = [], place + 1
            end = self._close(text, place)
            if end < 0:
                return False
            if end == len(text):
                return True
            if not text.startswith(COMMA, end):
                return None
            place = end + 1

    def _close(self, text: bytes, place: int) -> int:
        """Read an open field from `place` on; return the place after its last quote, or -1 where that is not here."""
        pieces = self._open or []
        while (stop := text.find(QUOTE, place)) >= 0:
            pieces.append(text[place:stop])
            if not text.startswith(QUOTE, stop + 1):
                self.fields.append(b"".join(pieces))
                self._open = None
                return stop + 1
            pieces.append(QUOTE)
            place = stop + 2
        pieces.append(text[place:])
        self._open = pieces
        return -1

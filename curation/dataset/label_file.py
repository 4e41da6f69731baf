"""A file of labels that lines are added to while others may do the same, or take lines out of it.

Whoever adds holds the file alone for that moment, and every line is durable before anybody hears that it was taken. A
line without an end is what a power cut left of one that was never taken: the next one takes its place.
"""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from curation.dataset.labels import Label, Retraction, line_of, parse_lines
from curation.errors import StorageError, UsageError

LABELS_NAME = "labels.jsonl"
REVIEW_FOLDER = "review"
"""Lies in a run, beside the stages' folders, and holds its labels, lists of pictures and recipes that were written."""
Entry = Label | Retraction


@contextmanager
def held(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that nobody else adds to or rewrites until the block ends; it is made where it is not there.

    Raises:
        StorageError: it cannot be opened.
    """
    try:
        file = _opened(path)
    except OSError as error:
        raise StorageError(f"{path}: cannot be added to: {error.strerror}") from error
    with file:
        yield file


def _opened(path: Path) -> IO[bytes]:
    while True:
        file = path.open("ab+")
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()  # it was replaced while we waited


def add(path: Path, entries: Sequence[Entry], require: Callable[[], None] = lambda: None) -> None:
    """Add lines to a file of labels; when this returns, they are durable.

    `require` may refuse by an error of its own, while nobody can take lines out of the file.

    Raises:
        StorageError: the disk refuses.
    """
    with held(path) as file:
        require()
        try:
            _cut_torn_line(file)
            file.write("".join(map(line_of, entries)).encode())
            file.flush()
            os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(f"{path}: the label was not taken: {error.strerror}") from error


def whole_lines(content: bytes, name: str) -> list[Entry]:
    """Return the entries of a file's content, without a line at its end that was never finished.

    Raises:
        UsageError: it is no UTF-8, or another line is no entry.
    """
    lines, _, rest = content.rpartition(b"\n")
    try:
        return parse_lines([*lines.decode().split("\n"), *([rest.decode()] if _is_entry(rest) else [])], name)
    except UnicodeDecodeError as error:
        raise UsageError(f"{name}: no labels can be read: {error}") from error


def without(content: bytes, tells: Callable[[bytes], bool]) -> bytes:
    """Return the content of a file of labels without the lines that tell of somebody, and what took those back."""
    lines = content.splitlines(keepends=True)
    gone = {_id_of(line) for line in lines if tells(line)} - {None}
    return b"".join(line for line in lines if not tells(line) and _undone_by(line) not in gone)


def _cut_torn_line(file: IO[bytes]) -> None:
    file.seek(0)
    content = file.read()
    rest = content.rpartition(b"\n")[2]
    if rest and _is_entry(rest):
        file.write(b"\n")
    elif rest:
        file.truncate(len(content) - len(rest))


def _is_entry(line: bytes) -> bool:
    try:
        return bool(parse_lines([line.decode()]))
    except (UnicodeDecodeError, UsageError):
        return False


def _id_of(line: bytes) -> str | None:
    entries = parse_lines([line.decode()]) if _is_entry(line) else []
    return entries[0].id if entries and isinstance(entries[0], Label) else None


def _undone_by(line: bytes) -> str | None:
    entries = parse_lines([line.decode()]) if _is_entry(line) else []
    return entries[0].undo if entries and isinstance(entries[0], Retraction) else None

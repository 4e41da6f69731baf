"""What comes from the world and goes to a terminal or a log: nobody's key, path or message may move the cursor there.

`say` and the handler of `talk` are the edge: no control character passes them but the line breaks of our own texts.
Those are made by `joined` alone, in which a line stays one line whatever a value in it holds.
"""

import logging
import sys
import traceback
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FORMAT = "%(levelname)s %(name)s: %(message)s"
SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: object) -> str:
    """Return text as one line: what has no shape of its own, or turns the direction of writing, as its code."""
    return "".join(char if char.isprintable() else SHORT.get(char) or _escape(char) for char in str(text))


def joined(lines: Iterable[str]) -> str:
    """Return lines as one text of as many lines."""
    return "\n".join(map(printable, lines))


def counted(number: int, noun: str) -> str:
    """Return a number with what it counts, in its plural where there is not one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def say(text: object, *, err: bool = False) -> None:
    """Print a text of ours to stdout, or to stderr; a path is one line."""
    import typer

    typer.echo(printable(text) if isinstance(text, Path) else joined(str(text).split("\n")), err=err)


def told_bug(error: BaseException) -> str:
    """Return a traceback, each line of it indented, so that none looks like one of ours."""
    return indented("".join(traceback.format_exception(error)))


def indented(text: str) -> str:
    """Return a text of somebody else's with every line of it indented."""
    return joined(f"  {line}" for line in text.splitlines())


def talk() -> None:
    """Send warnings, of the libraries too, to stderr, a line each; and let no stream fail on a letter it lacks."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(FORMAT))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.captureWarnings(True)
    warnings.formatwarning = _warning


class OneLine(logging.Formatter):
    """A record as one line, and under it the traceback that it may hold."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  the name that logging gives it
        """Return the line."""
        return printable(super().formatMessage(record))

    def formatException(self, ei: Any) -> str:  # noqa: N802
        """Return the traceback."""
        return indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        """Return the stack."""
        return indented(super().formatStack(stack_info))


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"{filename}:{lineno}: {category.__name__}: {message}"


def _escape(char: str) -> str:
    number = ord(char)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"

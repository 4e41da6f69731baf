"""What the documentation shows in fenced blocks and what may be done with it: parse a command, resolve imports."""

import ast
import importlib
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile

import typer
from typer.core import TyperGroup
from typer.main import get_command

from cli import app
from tests.places import PAGES, ROOT

TEXTS = {page: page.read_text() for page in PAGES}
FENCED = re.compile(r"^ *```([^\n`]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"^(?:facecaptionhq|accelerate launch .*--module cli) (.*)$", re.MULTILINE)
INLINE = re.compile(r"`facecaptionhq ([^`]+)`")


@dataclass(frozen=True)
class Block:
    """One fenced block; `kind` is its language, and behind it, where Python cannot run here, why not."""

    place: str
    kind: str
    text: str


def blocks(language: str) -> list[Block]:
    """Return every fenced block of a language; `` are those that name none."""
    return [
        Block(f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}", match[1].strip(), match[2])
        for page, text in TEXTS.items()
        for match in FENCED.finditer(text)
        if match[1].strip().partition(" ")[0] == language
    ]


def calls(text: str) -> Iterator[list[str]]:
    """Yield the arguments of every call of the program in a block: up to a comment, a pipe or a redirection."""
    for line in CALL.findall(text.replace("\\\n", " ")):
        words = shlex.shlex(line, posix=True, punctuation_chars=True)
        words.whitespace_split = True
        yield list(takewhile(lambda word: not set(word) <= set("();<>|&"), words))


def names_in_prose() -> Iterator[tuple[str, list[str]]]:
    """Yield the page and the arguments of every call that stands in a line of prose, as in `facecaptionhq gc`."""
    for page, text in TEXTS.items():
        for words in INLINE.findall(FENCED.sub("", text)):
            yield str(page.relative_to(ROOT)), shlex.split(words)


def parse(words: Sequence[str], *, is_prose: bool = False) -> None:
    """Give arguments to the program's own parser and run nothing; in prose a command may stand by its bare name.

    Raises:
        TyperException: the program would not take them.
    """
    command, rest = get_command(app), [word for word in words if word != "--help"]
    may_be_bare = is_prose or len(rest) < len(words)
    while isinstance(command, TyperGroup) and rest:
        name = rest.pop(0)
        if name not in command.commands:
            raise typer.BadParameter(f"no such command: {name}")
        command = command.commands[name]
    if rest or not may_be_bare:
        command.make_context(words[0], rest)


def require_imports(source: str) -> None:
    """Compile a piece of Python, and import what it imports.

    Raises:
        SyntaxError: it is none.
        ImportError: a module is not there, or a name not in it.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            module = importlib.import_module(node.module)
            for alias in node.names:
                if not hasattr(module, alias.name):
                    importlib.import_module(f"{node.module}.{alias.name}")

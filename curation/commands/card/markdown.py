"""Values in Markdown: a number is a number, and whatever came from the world stays text, whatever it says."""

import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from curation.commands.card.wording import pictures
from curation.printable import printable

TEMPLATE = "readme.md.j2"
MAX_CHARACTERS = 120
NOT_KNOWN = "not known"
STRUCTURE = re.compile(r"[&<>\[\]()`|*_#~!\\$:@]")
"""What could begin markup; as a reference to its code it begins nothing (CommonMark 6.2)."""


class Safe(str):
    """Markdown of our own."""


def shown(value: Any) -> str:
    """Return a value as Markdown; the environment asks this of everything that the template shows."""
    if isinstance(value, Safe):
        return value
    if value is None:
        return NOT_KNOWN
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:.12g}"
    return code(str(value))


def code(text: str) -> Safe:
    """Return a text of the world as a span of code on one line, cut where it is very long."""
    plain = printable(text)
    plain = plain if len(plain) <= MAX_CHARACTERS else f"{plain[:MAX_CHARACTERS]}..."
    if not plain.strip():
        return Safe("(empty)")
    fence = "`" * (1 + max((len(run) for run in re.findall(r"`+", plain)), default=0))
    pad = " " if len(fence) > 1 else ""
    return Safe(f"{fence}{pad}{plain.replace('|', chr(92) + '|')}{pad}{fence}")


def prose(text: str) -> Safe:
    """Return what somebody stated as running text without any markup."""
    return Safe(STRUCTURE.sub(lambda found: f"&#{ord(found[0])};", printable(text)))


def _counted(value: Any, noun: str) -> Safe:
    return Safe(f"{shown(value)} {noun}{'' if value == 1 else 's'}")


def _pictures(value: Any) -> Safe:
    return Safe(pictures(value).replace(str(value), shown(value), 1))


def render(**values: Any) -> str:
    """Return the card's Markdown."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        finalize=shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters |= {"prose": prose, "own": Safe, "counted": _counted, "pictures": _pictures}
    return re.sub(r"\n{3,}", "\n\n", environment.get_template(TEMPLATE).render(**values))

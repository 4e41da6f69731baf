"""What the command line takes for a path of this disk; a command that reads object stores, too, takes text instead."""

from pathlib import Path

import typer

THIS_DISK = ("file", "local")


def place(text: str) -> str:
    """Return a path of this disk, or what is no path at all (a name, `-`), as text.

    Raises:
        BadParameter: it is an address of somewhere else.
    """
    return str(path(text)) if "://" in text else text


def path(text: str) -> Path:
    """Return a path of this disk, by its name or as `file://`.

    Raises:
        BadParameter: it is an address of somewhere else; the parser of the command line adds the name of the argument.
    """
    scheme, separator, rest = str(text).partition("://")
    if not separator:
        return Path(text)
    if scheme.lower() in THIS_DISK:
        return Path(rest)
    raise typer.BadParameter(
        f"{text} is an address, and this is read and written on a disk of this machine alone; copy it here first, or "
        f"mount it, and give that path"
    )

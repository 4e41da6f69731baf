"""Which files of a folder hold rows, and which are left alone and why: nothing of a folder is passed over unsaid."""

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from curation.commands.importing.lines import suffix_of

TAR, LIST = ".tar", ".txt"


@dataclass(frozen=True)
class Listing:
    """The files to read in order of their names, and what else lies there."""

    files: list[Path]
    left_out: dict[str, str] = field(default_factory=dict)
    """Name -> why it is not read."""


def listing(folder: Path, suffixes: Collection[str], beside: Path | None = None) -> Listing:
    """List the files of a folder whose suffix is one of `suffixes`, in any case.

    `beside` is a file that is about to be written, and so no source. Tars are read where no other table lies there, or
    where they are img2dataset's, whose tables bear their names; of such a pair the tar is read. Lists of URLs are read
    where nothing else lies there: beside tables, a `.txt` is more likely a note.
    """
    found = Listing([])
    for path in sorted(folder.iterdir()):
        if why := _unread(path, suffixes, beside):
            found.left_out[path.name] = why
        else:
            found.files.append(path)
    tars = {path.stem for path in found.files if suffix_of(path)[0] == TAR}
    tables = {path.stem for path in found.files if suffix_of(path)[0] not in (TAR, LIST)}
    for path in found.files[:]:
        is_tar, is_list = (suffix_of(path)[0] == suffix for suffix in (TAR, LIST))
        if is_list and (tars or tables):
            found.left_out[path.name] = "a text beside tables; give it on its own if it lists URLs"
        elif is_tar and tables and not tars & tables:
            found.left_out[path.name] = "a tar beside tables that are not its own"
        elif not is_tar and path.stem in tars:
            found.left_out[path.name] = "its rows stand in the tar of the same name"
        else:
            continue
        found.files.remove(path)
    return found


def _unread(path: Path, suffixes: Collection[str], beside: Path | None) -> str | None:
    if path.name.startswith((".", "_")):
        return "hidden, or a mark of the program that wrote the folder"
    if path.is_dir():
        return "a folder: give it on its own"
    if suffix_of(path)[0] not in suffixes:
        return "no table by its suffix"
    if beside is not None and beside.exists() and path.samefile(beside):
        return "the file that is to be written"
    return None

"""The files of a folder that is a source: all that lie in it or below, but for what is nobody's, or ours."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from curation.dataset.manifest import WORK_NAME
from curation.dataset.tar.names import stray
from curation.errors import UsageError, VerificationError
from curation.storage.paths import filesystem, is_local, location, resolved
from curation.storage.publish import read_sealed

log = logging.getLogger(__name__)

REPAIR_NAME = "repair.json"
"""Says what `repair` did to the tars of a folder, and whether it came to its end."""
LOST_AND_FOUND = "lost+found"
"""What a file system keeps for itself, and lets nobody read."""


def files_of(source: Path) -> list[str]:
    """Return the path below a folder of every file, in order: not of strays, a stage's output, or a repair of the rest.

    Raises:
        UsageError: a folder cannot be read, or its repair was interrupted.
    """
    files = sorted(file for file in _files_below(source) if not stray(file))
    copies = tuple(
        file.removesuffix(REPAIR_NAME)
        for file in files
        if file.rpartition("/")[2] == REPAIR_NAME and _is_copy(source, file)
    )
    for copy in copies:
        log.warning("%s: a repair of what lies in %s already, and is left out", source / copy, source)
    return [file for file in files if not file.startswith(copies)]


def _is_copy(source: Path, file: str) -> bool:
    """Whether a folder holds a repair of what is in this source too."""
    try:
        record = read_sealed(source / file)
    except VerificationError:
        if file == REPAIR_NAME:
            raise
        return False  # the text of a picture of that name
    if not record["is_finished"]:
        raise UsageError(f"{(source / file).parent}: its repair was interrupted; run the same `repair` again first")
    origin = f"{resolved(location(record['source']))}/"
    return file != REPAIR_NAME and origin.startswith(f"{resolved(source)}/")


def _files_below(source: Path) -> Iterator[str]:
    """Yield the path of every file below a folder, but for folders that a stage of ours wrote."""
    if not is_local(source):
        files, root = filesystem(source)
        found = [name.strip("/").removeprefix(root.strip("/")).strip("/") for name in files.find(root)]
        ours = tuple(file.removesuffix(WORK_NAME) for file in found if file.endswith("/" + WORK_NAME))
        yield from (file for file in found if not file.startswith(ours))
        return
    seen = set[str]()
    for folder, folders, files in os.walk(source, onerror=_refuse, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen or (WORK_NAME in files and folder != str(source)):
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if name != LOST_AND_FOUND and not stray(f"{name}/any.jpg"))
        below = Path(folder).relative_to(source).as_posix()
        yield from (name if below == "." else f"{below}/{name}" for name in files)


def _refuse(error: OSError) -> None:
    raise UsageError(f"{error.filename}: cannot be read: {error.strerror}") from error

"""Where folders lie: on a disk, or in an object store behind fsspec; the rest of the code sees pathlib either way.

A path with a scheme (`s3://bucket/run`) is a `UPath`, which has pathlib's interface. What differs between the two
(how bytes become visible, who wins a race) is decided here and in `curation.storage.publish`, nowhere else.
"""

import os
import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from curation.errors import UsageError


def location(text: str | Path) -> Path:
    """Return the path that a command line names: plain ones as `Path`, `scheme://...` through fsspec.

    Slashes in a row count as one, as on a disk, and `file://` is this disk.

    Raises:
        UsageError: no filesystem is known for the scheme, or its package is not installed.
    """
    if not isinstance(text, str) or "://" not in text:
        return Path(text)
    scheme, _, rest = text.partition("://")
    if scheme.lower() in ("file", "local"):
        return Path(rest)
    from upath import UPath

    try:
        path = UPath(f"{scheme}://{_plain(rest)}")
        _ = path.fs
    except (ImportError, ValueError) as error:
        raise UsageError(f"{text}: {error}; for s3:// install facecaptionhq[s3]") from error
    return cast("Path", path)


def _plain(rest: str) -> str:
    """Return what follows `scheme://` without empty steps, `.` and `..`, which a store would take for names."""
    bucket, _, name = re.sub("/{2,}", "/", rest).partition("/")
    name = posixpath.normpath(f"/{name}").strip("/")
    return f"{bucket}/{name}" if name not in ("", ".") else bucket


def resolved(path: Path) -> Path:
    """Return the one name of a folder, however it is spelled: absolute, links followed; in a store, its address."""
    return path.resolve() if is_local(path) else in_same_store(path, cast("Any", path).path)


def in_same_store(path: Path, name: str) -> Path:
    """Return another path of the store that a path lies in, by its name there."""
    here = cast("Any", path)
    return cast("Path", type(here)(f"{here.protocol}://{_plain(name.lstrip('/'))}", **here.storage_options))


def named(path: Path) -> Path:
    """Return a folder's name from anywhere: absolute, without `.` and `..`; a link stays one if it is the last step."""
    if not is_local(path):
        return resolved(path)
    return path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name


def spellings(path: Path) -> tuple[Path, ...]:
    """Return a folder as it is named from here, and as it is named where its links lead, if that is elsewhere.

    A stage's folder may be a link to another disk, or be reached by one from anywhere: what belongs to its run lies
    beside either.
    """
    return tuple(dict.fromkeys((named(path), resolved(path))))


def is_local(path: Path) -> bool:
    """Whether a path lies on a filesystem of this machine, where renaming is atomic and fsync means something."""
    return isinstance(path, Path)


def filesystem(path: Path) -> tuple[Any, str]:
    """Return the fsspec filesystem of a path that is not local, and the path's name in it, with fresh listings."""
    remote = cast("Any", path)
    remote.fs.invalidate_cache()
    return remote.fs, remote.path


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """Yield a local file with the bytes of `path`: itself, or a download that goes when the block ends."""
    if is_local(path):
        yield path
        return
    folder = tempfile.mkdtemp(prefix="fchq-copy-")
    try:
        copy = Path(folder, path.name)
        files, name = filesystem(path)
        files.get_file(name, str(copy))
        yield copy
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_ahead(path: Path | None) -> None:
    """Ask the kernel to have a file's bytes at hand soon, and return at once.

    A hint, so nothing that is wrong with the file is said here. In an object store it does nothing.
    """
    if path is None or not is_local(path):
        return
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(handle)

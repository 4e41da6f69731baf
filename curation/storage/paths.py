"""Where folders lie: on a disk, or in an object store behind fsspec; the rest of the code sees pathlib either way.

A path with a scheme (`s3://bucket/run`) is a `UPath`, which has pathlib's interface. What differs between the two
(how bytes become visible, who wins a race) is decided here and in `curation.storage.publish`, nowhere else.
"""

import os
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

    Slashes in a row count as one, as on a disk.

    Raises:
        UsageError: no filesystem is known for the scheme, or its package is not installed.
    """
    if not isinstance(text, str) or "://" not in text:
        return Path(text)
    from upath import UPath

    scheme, _, rest = text.partition("://")
    try:
        path = UPath(f"{scheme}://{re.sub('/{2,}', '/', rest)}")
        _ = path.fs
    except (ImportError, ValueError) as error:
        raise UsageError(f"{text}: {error}; for s3:// install facecaptionhq[s3]") from error
    return cast("Path", path)


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

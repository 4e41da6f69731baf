"""Where folders lie: on a disk, or in an object store behind fsspec; the rest of the code sees pathlib either way.

A path with a scheme (`s3://bucket/run`) is a `UPath`, which has pathlib's interface. What differs between the two
(how bytes become visible, who wins a race) is decided here and in `curation.storage.publish`, nowhere else.
"""

import errno
import os
import posixpath
import re
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from curation.errors import DiskFullError, StorageError, UsageError
from curation.storage.scratch import scratch_folder

CLIENTS = frozenset({"adlfs", "aiobotocore", "aiohttp", "azure", "botocore", "fsspec", "gcsfs", "google", "s3fs"})
"""Packages whose errors say what an object store, or the way to it, has against a request."""
MAX_LINKS = 40
"""A file behind more links than this cannot be opened."""
HINTS = {
    "NoCredentialsError": "no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile",
    "PartialCredentialsError": "half of the credentials is missing; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "ProfileNotFound": "AWS_PROFILE names a profile that is not in the AWS configuration",
    "EndpointConnectionError": "nobody answers there; is AWS_ENDPOINT_URL right, and the network up?",
    "ConnectTimeoutError": "nobody answers there; is AWS_ENDPOINT_URL right, and the network up?",
    "PermissionError": "these credentials may not do that there, or the store does not know them",
}
"""What is wrong and what would be right, by the name of an error."""


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


def folders_of(files: Iterable[Path]) -> tuple[Path, ...]:
    """Return every folder that files lie in, each once, in order: that of their names, and those that links lead to."""
    return tuple(dict.fromkeys(link.parent for file in files for link in _along_links(file)))


def _along_links(file: Path) -> Iterator[Path]:
    yield file
    for _ in range(MAX_LINKS):
        if not is_local(file) or not file.is_symlink():
            return
        file = file.parent / file.readlink()
        yield file


def is_local(path: Path) -> bool:
    """Whether a path lies on a filesystem of this machine, where renaming is atomic and fsync means something."""
    return isinstance(path, Path)


def filesystem(path: Path) -> tuple[Any, str]:
    """Return the fsspec filesystem of a path that is not local, and the path's name in it, with fresh listings."""
    remote = cast("Any", path)
    remote.fs.invalidate_cache()
    return remote.fs, remote.path


def uncached(path: Path) -> Path:
    """Return a path that always asks the store: what another thread of this process listed before is not believed."""
    if is_local(path):
        return path
    here = cast("Any", path)
    return cast("Path", type(here)(str(path), **{**here.storage_options, "use_listings_cache": False}))


def content_of(path: Path) -> bytes:
    """Read a small file with one request, so that it is of one moment although others replace it."""
    if is_local(path):
        return path.read_bytes()
    files, name = filesystem(path)
    return bytes(files.cat_file(name))


@contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """Yield a local file with the bytes of `path`: itself, or a download that goes when the block ends."""
    if is_local(path):
        yield path
        return
    with scratch_folder("copy") as folder:
        files, name = filesystem(path)
        files.get_file(name, str(folder / path.name))
        yield folder / path.name


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


def refusal_of(error: BaseException) -> StorageError | None:
    """Return what a disk or an object store has against a request, as an error of ours in one line; else None."""
    kinds = type(error).__mro__
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFullError(f"no room: {_said(error)}; what is committed stays")
    modules = [kind.__module__ for kind in kinds] + ([_raised_in(error)] if isinstance(error, ValueError) else [])
    if isinstance(error, OSError) or any(module.partition(".")[0] in CLIENTS for module in modules):
        hint = next((HINTS[kind.__name__] for kind in kinds if kind.__name__ in HINTS), "what is committed stays")
        return StorageError(f"{_said(error)}; {hint}")
    return None


def _raised_in(error: BaseException) -> str:
    """Return the module that raised an error: of a client, a setting of the environment that makes no sense to it."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return str(frames[-1].f_globals.get("__name__", "")) if frames else ""


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"

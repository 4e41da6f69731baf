"""The only place that makes files appear: whole or not at all, and never claimed before they are durable.

On a disk: a temporary file beside the target, fsync, read back, rename, fsync of the folder. In an object store: the
finished local file is put as one object (a multipart upload shows nothing before it is completed) and read back.
In a folder that somebody holds, nothing appears and nothing goes but by its holder.
"""

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.errors import DiskFullError, ShardError, StorageError, VerificationError
from curation.storage.fence import passing
from curation.storage.paths import content_of, filesystem, is_local, uncached
from curation.storage.scratch import scratch_folder
from curation.storage.store import put

TEMP_FOLDER = "_tmp"
SEAL = "seal"
"""Key of a sealed record: the sha256 of all the rest."""


@dataclass(frozen=True)
class FileRecord:
    """What a done record says of a file: its sha256 in hex and its size in bytes."""

    sha256: str
    num_bytes: int


def publish(path: Path, write: Callable[[Path], object]) -> FileRecord:
    """Let `write` fill a temporary local file, then make its bytes appear at `path`, whole or not at all.

    Returns the record of the bytes that were read back. A crash at any point leaves either the old file or the
    new one at `path`, never a part; what is left in the temporary folder goes when the stage finishes.

    Raises:
        ShardError: what lies at `path` afterwards is not what was written.
        LeaseError: another run took the folder over (`curation.storage.fence`); nothing appeared then.
        DiskFullError: there is no room; nothing appeared then.
        StorageError: the disk or store refused otherwise; nothing was claimed then.
    """
    with staged(path) as file, refusing(path):
        write(file.temp)
        return file.publish()


@dataclass(frozen=True)
class Staged:
    """A local file that is being filled, and the place where its bytes are to appear."""

    temp: Path
    path: Path

    def publish(self) -> FileRecord:
        """Make the bytes appear at `path`, whole and durable; they must have been written and closed.

        Raises:
            ShardError: what lies at `path` afterwards is not what was written.
            DiskFullError, StorageError: as `publish`.
        """
        with refusing(self.path):
            with self.temp.open("rb+") as file:
                os.fsync(file.fileno())
            record = record_of(self.temp)
            if is_local(self.path):
                with passing(self.path):
                    self.temp.replace(self.path)
                sync_folder(self.path.parent)
            else:
                _upload(self.temp, self.path, record)
        return record


@contextmanager
def staged(path: Path) -> Iterator[Staged]:
    """Yield the name of a local file to fill; it goes when the block ends, unless it was published."""
    with ExitStack() as stack:
        with refusing(path):
            temp = stack.enter_context(_temporary(path))
        yield Staged(temp, path)


def publish_alone(path: Path, write: Callable[[Path], object]) -> FileRecord:
    """Publish a file into a folder that is no stage's: nothing of ours but the file is left there.

    Raises:
        ShardError, DiskFullError, StorageError: as `publish`.
    """
    record = publish(path, write)
    if is_local(path):
        with suppress(OSError):
            (path.parent / TEMP_FOLDER).rmdir()
    return record


def publish_json(path: Path, value: Any) -> FileRecord:
    """Publish `value` as canonical JSON: sorted keys, two spaces, one newline at the end."""
    return publish(path, lambda temp: temp.write_bytes(json_bytes(value)))


def publish_sealed(path: Path, value: dict[str, Any]) -> FileRecord:
    """Publish a record that carries the digest of its own content, so that a changed byte is noticed on reading."""
    return publish(path, lambda temp: temp.write_bytes(sealed_bytes(value)))


def sealed_bytes(value: dict[str, Any]) -> bytes:
    """Return a record with its own seal, as it lies on disk."""
    return json_bytes({**value, SEAL: digest(value)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Read a record that `publish_sealed` wrote.

    Raises:
        VerificationError: a byte of it has changed since.
    """
    return unsealed(content_of(path), str(path))


def unsealed(content: bytes, name: str) -> dict[str, Any]:
    """Return what a sealed record says; `name` is its own in errors.

    Raises:
        VerificationError: it is none, or a byte of it has changed since it was sealed.
    """
    try:
        value = json.loads(content)
        seal = value.pop(SEAL)
        is_whole = seal == digest(value) and content == json_bytes({**value, SEAL: seal})
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        is_whole = False
    if not is_whole:
        raise VerificationError(f"{name}: not as it was written: its content does not match its own seal")
    return dict(value)


def create(path: Path, value: dict[str, Any]) -> bool:
    """Publish a sealed record only if nothing lies at `path`; of many that try at once, exactly one gets True.

    Raises:
        StorageError: as `publish`.
    """
    content = sealed_bytes(value)
    with refusing(path):
        return _create_local(path, content) if is_local(path) else _create_remote(path, content)


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_of(path: Path) -> FileRecord:
    """Return the record of a file as it lies there."""
    return FileRecord(sha256=sha256_of(path), num_bytes=path.stat().st_size)


def is_there(path: Path, record: FileRecord) -> bool:
    """Whether `path` holds what `record` says: every byte on a disk; the size in a store, whose objects never tear."""
    if not path.is_file() or path.stat().st_size != record.num_bytes:
        return False
    return not is_local(path) or sha256_of(path) == record.sha256


def digest(value: Any) -> str:
    """Return the sha256 of `value` as canonical JSON, in hex: how recipes, settings and work are named."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the names in a local folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Yield the name of a local file to write, beside a local target or in a folder of its own; it goes afterwards."""
    with scratch_folder("put") if not is_local(path) else nullcontext(path.parent / TEMP_FOLDER) as folder:
        folder.mkdir(parents=True, exist_ok=True)
        temp = folder / f"{path.name}.{uuid.uuid4().hex}"
        try:
            yield temp
        finally:
            with suppress(FileNotFoundError):
                temp.unlink()


def _create_local(path: Path, content: bytes) -> bool:
    with _temporary(path) as temp:
        temp.write_bytes(content)
        with temp.open("rb+") as file:
            os.fsync(file.fileno())
        try:
            os.link(temp, path)
        except FileExistsError:
            return False
    sync_folder(path.parent)
    return True


def _create_remote(path: Path, content: bytes) -> bool:
    files, name = filesystem(path)
    try:
        files.pipe_file(name, content, mode="create")
    except FileExistsError:
        return False
    return True


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Name the file in whatever the system says against writing it.

    Raises:
        DiskFullError: there is no room.
        LeaseError: another run took a folder on a disk over, and may have tidied up behind this one.
        StorageError: the system says anything else.
    """
    try:
        yield
    except OSError as error:
        with passing(path) if is_local(path) else nullcontext():
            pass
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFullError(
                f"{path}: no room to write it ({error.strerror}); nothing is lost: free some space where "
                f"{path.parent} lies and run the same command again"
            ) from error
        raise StorageError(f"{path}: could not be written: {error}") from error


def _upload(temp: Path, path: Path, record: FileRecord) -> None:
    put(temp, path)
    if record_of(uncached(path)) != record:
        raise ShardError(f"{path}: what the store gives back is not what was put there")


def remove(path: Path) -> None:
    """Remove a file, if it is there.

    Raises:
        LeaseError: another run took its folder over.
    """
    with passing(path):
        path.unlink(missing_ok=True)


def remove_folder(folder: Path) -> None:
    """Remove a local folder with all that lies in it, as far as that can be done.

    Raises:
        LeaseError: another run took over the folder that it lies in.
    """
    with passing(folder):
        shutil.rmtree(folder, ignore_errors=True)


def json_bytes(value: Any) -> bytes:
    """Return canonical JSON: sorted keys, two spaces, one newline at the end."""
    return (json.dumps(value, sort_keys=True, indent=2, allow_nan=False) + "\n").encode()

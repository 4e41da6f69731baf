"""Where tars lie and how their bytes come here: folders or fsspec addresses, remote ones through a bounded cache."""

import fcntl
import hashlib
import os
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from curation.errors import UsageError
from curation.storage.publish import TEMP_FOLDER, digest, publish
from facemakeup.data.takedowns import remembering, require_remembered_tar
from facemakeup.faults import DataError

MAX_OPEN_TARS = 32


@dataclass(frozen=True)
class Shard:
    """One tar: its address, and what changes when its content does."""

    address: str
    """A path, or an fsspec URL such as s3://bucket/jpg-00000.tar."""
    num_bytes: int
    version: str
    """Modification time, ETag or the like; empty where the store tells nothing."""

    @property
    def name(self) -> str:
        """The tar's name without folder and suffix."""
        return self.address.rpartition("/")[2].removesuffix(".tar")

    @property
    def folder(self) -> str:
        """The address of the folder that it lies in."""
        return self.address.rpartition("/")[0]

    @property
    def identity(self) -> str:
        """Hex digest of address, size and version."""
        return digest([self.address, self.num_bytes, self.version])


def find_shards(patterns: Sequence[str]) -> tuple[Shard, ...]:
    """Return every tar that a glob pattern names, in order of address, each once.

    Raises:
        UsageError: a pattern names none.
    """
    import fsspec

    shards: dict[str, Shard] = {}
    for pattern in patterns:
        filesystem, path = fsspec.core.url_to_fs(pattern)
        names = sorted(name for name in filesystem.glob(path) if name.endswith(".tar"))
        if not names:
            raise UsageError(f"{pattern}: names no tar; give a glob such as 'packed/*.tar'")
        for name in names:
            info = filesystem.info(name)
            address = name if _is_local(filesystem) else filesystem.unstrip_protocol(name)
            shards[address] = Shard(address, int(info["size"]), _version(info))
    return tuple(shards[address] for address in sorted(shards))


def read_text(address: str) -> str | None:
    """Return the text of a small file beside the tars, or None where there is none."""
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(address)
    return str(filesystem.cat_file(path).decode("utf-8")) if filesystem.exists(path) else None


class ShardStore:
    """Reads ranges of tars; remote ones are fetched whole into a folder that never holds more than it may.

    Several processes may share the folder. A tar that is removed while another process reads it stays readable there.
    """

    def __init__(self, cache: Path, max_cache_bytes: int) -> None:
        """Keep where to cache; nothing is opened yet."""
        self.cache = cache
        self._max_cache_bytes = max_cache_bytes
        self._open: OrderedDict[str, BinaryIO] = OrderedDict()

    def read(self, shard: Shard, offset: int, num_bytes: int) -> bytes:
        """Return up to `num_bytes` bytes from `offset`; fewer where the tar ends."""
        return os.pread(self._file(shard).fileno(), num_bytes, offset)

    def path(self, shard: Shard) -> Path:
        """Return a local path of the tar, fetched if need be.

        Raises:
            DataError: it cannot be fetched, or is not as large as it was.
            SafetyError: it holds what was forgotten.
        """
        import fsspec

        filesystem, path = fsspec.core.url_to_fs(shard.address)
        if _is_local(filesystem):
            return Path(path)
        target = self.cache / f"{shard.identity[:32]}.tar"
        with self._lock():
            if target.is_file():
                os.utime(target)
                return target
        with remembering(self.cache, [shard.address]) as forgotten:
            publish(target, lambda temp: _fetch(filesystem, path, temp, shard, forgotten))
        with self._lock():
            self._evict(target)
        return target

    def close(self) -> None:
        """Close what is open."""
        while self._open:
            self._open.popitem()[1].close()

    def __getstate__(self) -> dict[str, Any]:
        """Open files do not travel to other processes."""
        return {**self.__dict__, "_open": OrderedDict()}

    def _file(self, shard: Shard) -> BinaryIO:
        file = self._open.pop(shard.address, None) or self._opened(shard)
        self._open[shard.address] = file
        if len(self._open) > MAX_OPEN_TARS:
            self._open.popitem(last=False)[1].close()
        return file

    def _opened(self, shard: Shard) -> BinaryIO:
        try:
            return self.path(shard).open("rb")
        except FileNotFoundError:  # another process made room between fetching and opening
            return self.path(shard).open("rb")

    def _evict(self, newest: Path) -> None:
        tars = sorted(self.cache.glob("*.tar"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        room = self._max_cache_bytes - newest.stat().st_size
        for path in tars:
            if path == newest:
                continue
            room -= path.stat().st_size
            if room < 0:
                path.unlink(missing_ok=True)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        (self.cache / TEMP_FOLDER).mkdir(parents=True, exist_ok=True)
        with (self.cache / TEMP_FOLDER / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def sha256_hex(content: bytes) -> str:
    """Return the sha256 of `content` in hex."""
    return hashlib.sha256(content).hexdigest()


def _fetch(filesystem: Any, path: str, target: Path, shard: Shard, forgotten: Collection[str]) -> None:
    try:
        filesystem.get_file(path, str(target))
    except OSError as error:
        raise DataError(f"{shard.address}: cannot be fetched: {error}") from error
    if target.stat().st_size != shard.num_bytes:
        raise DataError(f"{shard.address}: {target.stat().st_size} bytes came, {shard.num_bytes} were announced")
    require_remembered_tar(shard.address, target, forgotten)


def _is_local(filesystem: Any) -> bool:
    protocol = filesystem.protocol
    return "file" in ((protocol,) if isinstance(protocol, str) else protocol)


def _version(info: dict[str, Any]) -> str:
    for name in ("ETag", "etag", "mtime", "LastModified", "created"):
        if info.get(name) is not None:
            return str(info[name])
    return ""

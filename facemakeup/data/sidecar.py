"""Sidecar tars: arrays that were costly to compute, beside the shards they belong to, known by content.

`FOLDER/{kind}-{digest}/{shard}.tar` holds members `{uid}.{variant}.{key}.npy`. The digest is of what computed them
(VAE or recogniser, precision); the key of what was looked at. A uid whose key is another is stale; one that is not
there is missing. Either way the array is computed anew: a cache changes speed alone.
"""

import io
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import numpy.typing as npt

from curation.dataset.tar import write_tar
from curation.dataset.tar.headers import TarFaultError, Walk
from curation.errors import ShardError
from curation.storage.publish import digest, publish, publish_json

FORMAT_VERSION = 1
SETTINGS_NAME = "cache.json"
MAX_LOADED_TARS = 64

Array = npt.NDArray[np.generic]
Status = Literal["hit", "missing", "stale"]
Entry = tuple[str, int, int]
"""Key, offset and size in bytes of an array."""


@dataclass(frozen=True)
class Name:
    """Whose array it is: a sample, and which of its variants (0 as it is, 1 mirrored)."""

    uid: str
    variant: int


@dataclass(frozen=True)
class _Tar:
    """A tar that is open, and where its arrays lie; it is closed when nobody has it any more."""

    file: BinaryIO | None
    entries: dict[Name, Entry]


class Sidecar:
    """One kind of array for all shards."""

    def __init__(self, folder: Path, kind: str, made_by: Mapping[str, Any]) -> None:
        """Name the folder by what makes the arrays; nothing is read or written yet."""
        self.kind = kind
        self._made_by = {"kind": kind, "format_version": FORMAT_VERSION, **made_by}
        self.folder = folder / f"{kind}-{digest(self._made_by)[:16]}"
        self._loaded: OrderedDict[str, _Tar] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """What was read of the tars does not travel to other processes."""
        return {**self.__dict__, "_loaded": OrderedDict()}

    def find(self, shard: str, uid: str, variant: int, key: str) -> tuple[Status, Array | None]:
        """Return the array of a sample, as it is kept and not to be changed, or why there is none."""
        tar = self._tar(shard)
        entry = tar.entries.get(Name(uid, variant))
        if entry is None or entry[0] != key:
            return ("missing" if entry is None else "stale"), None
        return "hit", self._read(tar, entry)

    def keys(self, shard: str) -> dict[Name, str]:
        """Return name -> key of all that a shard's tar holds."""
        return {name: key for name, (key, _, _) in self._tar(shard).entries.items()}

    def write(self, shard: str, arrays: Iterable[tuple[Name, str, Array]]) -> None:
        """Write a shard's tar of (name, key, array) in the order given, whole or not at all."""
        publish_json(self.folder / SETTINGS_NAME, self._made_by)
        members = ((f"{name.uid}.{name.variant}.{key}.npy", _npy(array)) for name, key, array in arrays)
        publish(self._path(shard), lambda temp: write_tar(temp, members))
        self._loaded.pop(shard, None)

    def _path(self, shard: str) -> Path:
        return self.folder / f"{shard}.tar"

    def _tar(self, shard: str) -> _Tar:
        if shard in self._loaded:
            self._loaded.move_to_end(shard)
        else:
            self._loaded[shard] = self._opened(self._path(shard))
        if len(self._loaded) > MAX_LOADED_TARS:
            self._loaded.popitem(last=False)
        return self._loaded[shard]

    def _opened(self, path: Path) -> _Tar:
        if not path.is_file():
            return _Tar(None, {})
        file, entries = path.open("rb"), dict[Name, Entry]()
        walk = Walk(file, path.stat().st_size)
        try:
            for header in walk.members():
                uid, variant, key, _ = header.name.rsplit(".", 3)
                entries[Name(uid, int(variant))] = (key, header.start, header.num_bytes)
            walk.require_end()
        except (TarFaultError, ValueError) as error:
            raise ShardError(
                f"{path}: no whole sidecar tar: {error}; remove it, and `facecaptionhq cache` makes it anew"
            ) from error
        return _Tar(file, entries)

    def _read(self, tar: _Tar, entry: Entry) -> Array:
        assert tar.file is not None, "a tar without a file has no entries"
        content = os.pread(tar.file.fileno(), entry[2], entry[1])
        dtype, shape, start = _npy_header(content[: 10 + int.from_bytes(content[8:10], "little")])
        return np.frombuffer(content, dtype, offset=start).reshape(shape)


def _npy(array: Array) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=(1, 0), allow_pickle=False)
    return file.getvalue()


@lru_cache(maxsize=64)
def _npy_header(header: bytes) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Return what the header of an .npy file of version 1.0 says, and where the numbers begin; few are different."""
    file = io.BytesIO(header)
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an .npy file of another version than 1.0")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if is_fortran or dtype.hasobject:
        raise ValueError(f"an .npy file of {dtype}, in the order of Fortran or of objects")
    return dtype, shape, file.tell()

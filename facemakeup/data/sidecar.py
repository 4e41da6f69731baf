"""Sidecar tars: arrays that were costly to compute, beside the shards they belong to, known by content.

`FOLDER/{kind}-{digest}/{shard}.tar` holds members `{uid}.{variant}.{key}.npy`. The digest is of what computed them
(VAE or recogniser, precision); the key of what was looked at. A uid whose key is another is stale; one that is not
there is missing. Either way the array is computed anew: a cache changes speed alone.
"""

import io
import tarfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from curation.dataset.tar import write_tar
from curation.storage.publish import digest, publish, publish_json

FORMAT_VERSION = 1
SETTINGS_NAME = "cache.json"
MAX_LOADED_TARS = 64

Floats = npt.NDArray[np.float32]
Status = Literal["hit", "missing", "stale"]
Entry = tuple[str, int, int]
"""Key, offset and size in bytes of an array."""


@dataclass(frozen=True)
class Name:
    """Whose array it is: a sample, and which of its variants (0 as it is, 1 mirrored)."""

    uid: str
    variant: int


class Sidecar:
    """One kind of array for all shards."""

    def __init__(self, folder: Path, kind: str, made_by: Mapping[str, Any]) -> None:
        """Name the folder by what makes the arrays; nothing is read or written yet."""
        self._made_by = {"kind": kind, "format_version": FORMAT_VERSION, **made_by}
        self.folder = folder / f"{kind}-{digest(self._made_by)[:16]}"
        self._loaded: OrderedDict[str, dict[Name, Entry]] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        """What was read of the tars does not travel to other processes."""
        return {**self.__dict__, "_loaded": OrderedDict()}

    def find(self, shard: str, uid: str, variant: int, key: str) -> tuple[Status, Floats | None]:
        """Return the array of a sample as float32, or why there is none."""
        entry = self._entries(shard).get(Name(uid, variant))
        if entry is None or entry[0] != key:
            return ("missing" if entry is None else "stale"), None
        with self._path(shard).open("rb") as file:
            file.seek(entry[1])
            array = np.load(io.BytesIO(file.read(entry[2])), allow_pickle=False)
        return "hit", np.asarray(array, dtype=np.float32)

    def write(self, shard: str, arrays: Iterable[tuple[Name, str, npt.NDArray[np.floating]]]) -> None:
        """Write a shard's tar of (name, key, array), whole or not at all."""
        publish_json(self.folder / SETTINGS_NAME, self._made_by)
        members = (
            (f"{name.uid}.{name.variant}.{key}.npy", _npy(array))
            for name, key, array in sorted(arrays, key=lambda entry: (entry[0].uid, entry[0].variant))
        )
        publish(self._path(shard), lambda temp: write_tar(temp, members))
        self._loaded.pop(shard, None)

    def arrays(self, shard: str) -> Iterator[tuple[Name, str, npt.NDArray[np.floating]]]:
        """Yield name, key and array of all that a shard's tar holds, in the precision that they are stored in."""
        entries = self._entries(shard)
        if not entries:
            return
        with self._path(shard).open("rb") as file:
            for name, (key, offset, num_bytes) in entries.items():
                file.seek(offset)
                yield name, key, np.load(io.BytesIO(file.read(num_bytes)), allow_pickle=False)

    def _path(self, shard: str) -> Path:
        return self.folder / f"{shard}.tar"

    def _entries(self, shard: str) -> dict[Name, Entry]:
        if shard in self._loaded:
            self._loaded.move_to_end(shard)
            return self._loaded[shard]
        entries: dict[Name, Entry] = {}
        if self._path(shard).is_file():
            with tarfile.open(self._path(shard), "r:") as tar:
                for info in tar:
                    uid, variant, key, _ = info.name.rsplit(".", 3)
                    entries[Name(uid, int(variant))] = (key, info.offset_data, info.size)
        self._loaded[shard] = entries
        if len(self._loaded) > MAX_LOADED_TARS:
            self._loaded.popitem(last=False)
        return entries


def _npy(array: npt.NDArray[np.floating]) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()

"""Fills the caches of one shard: an ordinary function of one frozen job, wherever it runs.

Every sample is opened once. What the caches lack is computed, latents in batches, and spooled to a file without a name;
then each kind's tar is written anew, whole, if anything in it is new.
"""

import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

import numpy as np
import torch

from curation.dataset.manifest import ShardReport
from facemakeup.data import floats
from facemakeup.data.caches import caches_of
from facemakeup.data.members import read_members
from facemakeup.data.prepare import Plan, Preparer, View, face_key, identity_key, view_of
from facemakeup.data.raw_sample import Opened, raw_sample
from facemakeup.data.shards import Shard, ShardStore
from facemakeup.data.sidecar import Array, Name, Sidecar
from facemakeup.data.takedowns import remembering
from facemakeup.faults import SampleFault, SampleFaultError, count
from facemakeup.model.base import BaseLatents
from facemakeup.model.bases import base_of
from facemakeup.model.finite import NonFiniteError
from facemakeup.train_config import GIB, TrainConfig
from filters.base import RgbImage
from filters.loading import single_thread, single_thread_torch, torch_device

STAGE = "cache"


@dataclass(frozen=True)
class FillJob:
    """All that one shard's work depends on, small enough to travel."""

    shard: str
    tar: Shard
    samples: tuple[tuple[str, int, int], ...]
    """Key, offset and number of bytes of each."""
    config: TrainConfig
    work: Path
    """Where remote tars are fetched to."""
    device: str
    clip_side: int


def fill_shard(job: FillJob) -> ShardReport:
    """Compute what the caches of a shard lack, in a process that loads what it needs once."""
    return _filler(job.config.model_dump_json(), job.work, job.device, job.clip_side).fill(job)


@lru_cache(maxsize=1)
def _filler(config_json: str, work: Path, device: str, clip_side: int) -> "Filler":
    single_thread()
    single_thread_torch()
    config = TrainConfig.model_validate_json(config_json)
    return Filler(config, work, base_of(config.model).latents(torch_device(device)), clip_side)


class Filler:
    """Fills the caches of one shard after the other."""

    def __init__(self, config: TrainConfig, work: Path, base: BaseLatents, clip_side: int) -> None:
        """Keep what computes; the recogniser is loaded when a vector is first missing."""
        model = config.model
        self._config, self._base = config, base
        self._store = ShardStore(work / "shards", int(config.data.cache_gib * GIB))
        self._caches = caches_of(config, base.vae, clip_side)
        self._preparer = Preparer(Plan(config.crop, config.faces, model.recogniser, clip_side, model.clip_crop))

    def fill(self, job: FillJob) -> ShardReport:
        """Write the caches of one shard, unless they hold everything already.

        The report's `run` says under `counts` how many arrays of each kind were there (`latents_hit`) and how many were
        computed (`latents_computed`), and under `faults` who cannot be used.
        """
        counts: Counter[str] = Counter()
        faults: list[SampleFault] = []
        with tempfile.TemporaryFile() as spool:
            caches, common = self._caches, (job.shard, spool, counts)
            latents = _Arrays(caches.latents, *common, "latents")
            identities = _Arrays(caches.identities, *common, "identity")
            faces = None if caches.aligned is None else _Arrays(caches.aligned, *common, "face")
            waiting = _Waiting(self._base, latents, self._config)
            for key, offset, num_bytes in job.samples:
                try:
                    raw = raw_sample(read_members(self._store, job.tar, offset, num_bytes, key), key)
                    self._fill_one(Opened(raw, self._config.data.decode), identities, faces, waiting)
                except SampleFaultError as error:
                    faults.append(error.at(job.tar.address, key))
            waiting.flush()
            for arrays in filter(None, (latents, identities, faces)):
                arrays.write(job.tar)
        num = len(job.samples)
        rejected = {STAGE: count(faults)} if faults else {}
        run = {"counts": dict(counts), "faults": [asdict(fault) for fault in faults]}
        return ShardReport(job.shard, "", num, num - len(faults), rejected, {}, run)

    def _fill_one(self, opened: Opened, identities: "_Arrays", faces: "_Arrays | None", waiting: "_Waiting") -> None:
        raw = opened.raw
        if faces is not None and not faces.has(Name(raw.uid, 0), face_key(raw)):
            faces.add(Name(raw.uid, 0), face_key(raw), self._preparer.face(opened))
        if not identities.has(Name(raw.uid, 0), identity_key(raw)):
            identities.add(Name(raw.uid, 0), identity_key(raw), self._preparer.embed(opened))
        chance = self._config.crop.flip_probability
        for flipped in [False] * (chance < 1) + [True] * (chance > 0):
            waiting.view(opened, view_of(raw, self._config.crop, flipped))


class _Arrays:
    """One kind of array of one shard: those that its tar holds and are still right, and those that are new."""

    def __init__(self, sidecar: Sidecar, shard: str, spool: IO[bytes], counts: Counter[str], what: str) -> None:
        self._sidecar, self._shard, self._spool = sidecar, shard, spool
        self._counts, self._what = counts, what
        self._old = sidecar.keys(shard)
        self._keys: dict[Name, str] = {}
        self._new: dict[Name, tuple[int, np.dtype[np.generic], tuple[int, ...]]] = {}

    def has(self, name: Name, key: str) -> bool:
        """Whether the array is there; it stays then."""
        if self._old.get(name) != key:
            return False
        self._keys[name] = key
        self._counts[f"{self._what}_hit"] += 1
        return True

    def add(self, name: Name, key: str, array: Array) -> None:
        """Keep an array that was computed."""
        self._keys[name] = key
        self._counts[f"{self._what}_computed"] += 1
        self._spool.seek(0, 2)
        self._new[name] = (self._spool.tell(), array.dtype, array.shape)
        self._spool.write(np.ascontiguousarray(array).tobytes())

    def write(self, tar: Shard) -> None:
        """Write the sidecar of a tar anew, unless it holds all of it already and nothing else.

        What was forgotten since the tar was read is left out.
        """
        with remembering(self._sidecar.folder, [tar.address]) as forgotten:
            keys = {name: key for name, key in self._keys.items() if name.uid not in forgotten}
            if keys != self._old:
                self._sidecar.write(self._shard, ((name, key, self._array(name, key)) for name, key in keys.items()))

    def _array(self, name: Name, key: str) -> Array:
        if name not in self._new:
            _, array = self._sidecar.find(self._shard, name.uid, name.variant, key)
            assert array is not None, "`has` saw it"
            return array
        place, dtype, shape = self._new[name]
        self._spool.seek(place)
        content = self._spool.read(dtype.itemsize * int(np.prod(shape)))
        return np.frombuffer(content, dtype).reshape(shape)


class _Waiting:
    """Views whose latents are to be computed, until there are as many of one size as the VAE takes at once."""

    def __init__(self, base: BaseLatents, latents: _Arrays, config: TrainConfig) -> None:
        self._base, self._latents = base, latents
        self._most, self._dtype = config.cache.batch, config.cache.latent_dtype
        self._views: dict[tuple[int, ...], list[tuple[Name, str, RgbImage]]] = {}

    def view(self, opened: Opened, view: View) -> None:
        """Take in a view, unless its latents are there."""
        name, key = Name(opened.raw.uid, int(view.flipped)), view.key(opened.raw)
        if self._latents.has(name, key):
            return
        shown = view.pixels(opened.rgb)
        alike = self._views.setdefault(shown.shape, [])
        alike.append((name, key, shown))
        if len(alike) == self._most:
            self._encode(self._views.pop(shown.shape))

    def flush(self) -> None:
        """Compute what is left."""
        while self._views:
            self._encode(self._views.popitem()[1])

    def _encode(self, alike: list[tuple[Name, str, RgbImage]]) -> None:
        bytes_BHWC = torch.from_numpy(np.stack([shown for _, _, shown in alike]))
        mean, logvar = self._base.moments(floats.signed(bytes_BHWC))
        exact = torch.cat([mean, logvar], dim=1).cpu().numpy()
        with np.errstate(over="ignore"):  # told below
            stacked = exact.astype(self._dtype)
        _require_finite(stacked, exact, [name for name, _, _ in alike])
        for (name, key, _), moments_CHW in zip(alike, stacked, strict=True):
            self._latents.add(name, key, moments_CHW)


def _require_finite(kept_BCHW: Array, exact_BCHW: Array, names: list[Name]) -> None:
    """Refuse latents that would make every step with them one that is left out."""
    for kept, exact, name in zip(kept_BCHW, exact_BCHW, names, strict=True):
        if not np.isfinite(kept).all():
            why = "look at the VAE" if not np.isfinite(exact).all() else "set cache.latent_dtype to float32"
            raise NonFiniteError(f"{name.uid}: its latents are not finite in {kept.dtype}; {why}")

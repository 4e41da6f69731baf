"""`facecaptionhq cache`: computes latents and identity vectors once, into sidecar tars that training then reads."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from curation.errors import UsageError
from facemakeup.data.index import TarIndex, build_index
from facemakeup.data.members import read_members
from facemakeup.data.prepare import Plan, Preparer, View, identity_key, view_of
from facemakeup.data.raw_sample import RawSample, raw_sample
from facemakeup.data.shards import ShardStore, find_shards
from facemakeup.data.sidecar import Name, Sidecar
from facemakeup.data.takedowns import CACHE, leave_cards
from facemakeup.faults import FaultLimit, SampleFault, SampleFaultError, count
from facemakeup.model.encoders import Encoders
from facemakeup.train_config import GIB, TrainConfig
from filters.base import RgbImage

Array = npt.NDArray[np.floating]
Found = dict[Name, tuple[str, Array]]


@dataclass(frozen=True)
class CacheReport:
    """What became of the samples of all shards."""

    counts: dict[str, int]
    """`latents_hit`, `latents_computed`, and the same of `identity`; a stale array is computed again."""
    faults: tuple[SampleFault, ...]


def weights_sha256(network: torch.nn.Module) -> str:
    """Return the sha256 of a network's weights in hex: names, shapes and float32 values, whatever file they lay in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        values = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
        digest.update(f"{name} {values.shape} ".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()


def plan_of(config: TrainConfig, encoders: Encoders) -> Plan:
    """Return what preparing samples depends on, with the caches where the configuration names a folder."""
    latents, identities = sidecars(config, encoders.base.vae) if config.cache.folder else (None, None)
    model = config.model
    return Plan(config.crop, config.faces, model.recogniser, encoders.clip_side, model.clip_crop, latents, identities)


def sidecars(config: TrainConfig, vae: torch.nn.Module) -> tuple[Sidecar, Sidecar]:
    """Return the caches of latents and of identity vectors."""
    folder = Path(config.cache.folder or ".")
    latents = {"vae_sha256": weights_sha256(vae), "dtype": config.cache.latent_dtype}
    recogniser = config.model.recogniser.model_dump(mode="json")
    return Sidecar(folder, "latents", latents), Sidecar(folder, "identities", recogniser)


def fill_cache(
    config: TrainConfig, patterns: Sequence[str], encoders: Encoders, work: Path, on_shard: Callable[[str], None]
) -> CacheReport:
    """Compute what the caches lack, shard by shard, and keep what they hold; stopping and going on loses one shard.

    Under `accelerate launch` every process takes its share of the shards; `on_shard` hears the name of each
    that is done.

    Example:
        config = load_config(Path("mine.toml"))
        report = fill_cache(config, ["packed/*.tar"], Encoders.load(config.model), Path("runs/mine/work"), print)

    Raises:
        UsageError: the configuration names no folder, or two shards have one name.
        DataError: too many samples cannot be used.
    """
    from accelerate import PartialState

    if config.cache.folder is None:
        raise UsageError(
            "cache.folder is not set: it says where the sidecar tars go, and where training looks for them"
        )
    state = PartialState()
    store = ShardStore(work / "shards", int(config.data.cache_gib * GIB))
    index = build_index(find_shards(patterns), store, work / "scans")
    _require_distinct([shard.name for shard in index.shards])
    leave_cards(index.shards, [(CACHE, Path(config.cache.folder))])
    filler = _Filler(config, index, store, encoders)
    for number in range(state.process_index, len(index.shards), state.num_processes):
        filler.fill(number)
        on_shard(index.shards[number].name)
    return CacheReport(dict(sorted(filler.counts.items())), tuple(filler.faults))


class _Filler:
    """Fills the caches of one shard after the other."""

    def __init__(self, config: TrainConfig, index: TarIndex, store: ShardStore, encoders: Encoders) -> None:
        self._config, self._index, self._store, self._encoders = config, index, store, encoders
        self._latents, self._identities = sidecars(config, encoders.base.vae)
        self._preparer = Preparer(replace(plan_of(config, encoders), latents=None, identities=None))
        self._limit = FaultLimit(config.data.max_fault_fraction, config.data.min_faults)
        self._num_seen = 0
        self.counts: Counter[str] = Counter()
        self.faults: list[SampleFault] = list(index.faults)

    def fill(self, number: int) -> None:
        """Write the caches of one shard, unless they hold everything already."""
        shard = self._index.shards[number].name
        old_latents, old_identities = _stored(self._latents, shard), _stored(self._identities, shard)
        latents: Found = {}
        identities: Found = {}
        for raw in self._samples(number):
            self._identity(raw, old_identities, identities)
            self._moments(raw, old_latents, latents)
        self._limit.require(count(self.faults), self._num_seen, self.faults)
        for sidecar, old, new in (
            (self._latents, old_latents, latents),
            (self._identities, old_identities, identities),
        ):
            if {name: key for name, (key, _) in new.items()} != {name: key for name, (key, _) in old.items()}:
                sidecar.write(shard, ((name, key, array) for name, (key, array) in new.items()))

    def _samples(self, number: int) -> Iterator["_Opened"]:
        for row in np.flatnonzero(self._index.rows.shard == number).tolist():
            self._num_seen += 1
            shard, offset, num_bytes = self._index.where(row)
            key = self._index.key(row)
            try:
                raw = raw_sample(read_members(self._store, shard, offset, num_bytes, key), key)
                yield _Opened(raw, self._config)
            except SampleFaultError as error:
                self.faults.append(error.at(shard.address, key))

    def _identity(self, opened: "_Opened", old: Found, new: Found) -> None:
        name, key = Name(opened.raw.uid, 0), identity_key(opened.raw)
        if name in old and old[name][0] == key:
            new[name] = old[name]
            self.counts["identity_hit"] += 1
            return
        new[name] = (key, self._preparer.embed(opened.rgb(), opened.raw.landmarks_52))
        self.counts["identity_computed"] += 1

    def _moments(self, opened: "_Opened", old: Found, new: Found) -> None:
        for view in opened.views():
            name, key = Name(opened.raw.uid, int(view.flipped)), view.key(opened.raw)
            if name in old and old[name][0] == key:
                new[name] = old[name]
                self.counts["latents_hit"] += 1
                continue
            mean, logvar = self._encoders.base.moments(torch.from_numpy(view.pixels(opened.rgb()))[None])
            stacked = torch.cat([mean, logvar], dim=1)[0].cpu().numpy()
            new[name] = (key, stacked.astype(self._config.cache.latent_dtype))
            self.counts["latents_computed"] += 1


class _Opened:
    """One sample whose pixels are decoded when they are first asked for."""

    def __init__(self, raw: RawSample, config: TrainConfig) -> None:
        self.raw = raw
        self._config = config
        self._rgb: RgbImage | None = None

    def rgb(self) -> RgbImage:
        """Return the pixels."""
        if self._rgb is None:
            self._rgb = self.raw.decoded(self._config.data.decode)
        return self._rgb

    def views(self) -> list[View]:
        """Return every view that training may ask for."""
        chance = self._config.crop.flip_probability
        ways = [False] * (chance < 1) + [True] * (chance > 0)
        return [view_of(self.raw, self._config.crop, flipped) for flipped in ways]


def _stored(sidecar: Sidecar, shard: str) -> Found:
    return {name: (key, array) for name, key, array in sidecar.arrays(shard)}


def _require_distinct(names: Sequence[str]) -> None:
    twice: list[Any] = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise UsageError(f"two shards are named {twice[0]!r}: sidecar tars go by that name; fill them one by one")

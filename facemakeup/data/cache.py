"""`facecaptionhq cache`: computes latents, identity vectors and aligned faces once, into sidecar tars for training."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from curation.errors import UsageError
from curation.run.derived import CACHE
from curation.run.runner import Outcome, ShardFailure, Spread, run_shards
from facemakeup.data.fill import Filler, FillJob, fill_shard
from facemakeup.data.index import TarIndex, build_index
from facemakeup.data.shards import ShardStore, find_shards
from facemakeup.data.takedowns import leave_cards
from facemakeup.faces.recognisers import require_usable
from facemakeup.faults import FaultLimit, SampleFault, count
from facemakeup.model.encoders import CacheEncoders
from facemakeup.train_config import GIB, TrainConfig

HERE = Spread(num_workers=0)


@dataclass(frozen=True)
class CacheReport:
    """What became of the samples of all shards."""

    counts: dict[str, int]
    """`latents_hit`, `latents_computed`, and the same of `identity` and `face`; a stale array is computed again."""
    faults: tuple[SampleFault, ...]
    failed: tuple[ShardFailure, ...] = ()
    """Shards whose caches could not be filled, and why; the same call again goes on with them."""


def fill_cache(
    config: TrainConfig,
    patterns: Sequence[str],
    encoders: CacheEncoders,
    work: Path,
    on_shard: Callable[[str], None],
    spread: Spread = HERE,
) -> CacheReport:
    """Compute what the caches lack, shard by shard, and keep what they hold; stopping and going on loses one shard.

    `on_shard` hears the name of each that is done. `LatentEncoders` hold what is needed, `Encoders` more. With workers,
    each loads its own on a device of that kind. Under `accelerate launch` every process takes its share of the shards.

    Example:
        config = load_config(Path("mine.toml"))
        report = fill_cache(config, ["packed/*.tar"], Encoders.load(config.model), Path("runs/mine/work"), print)

    Raises:
        UsageError: the configuration names no folder, or two shards have one name.
        DataError: too many samples cannot be used.
        RecogniserError: the terms of the recogniser are not accepted.
        WeightsError: its weights are not here.
        DiskFullError: there is no room for more; what is written stays.
    """
    from accelerate import PartialState

    if config.cache.folder is None:
        raise UsageError(
            "cache.folder is not set: it says where the sidecar tars go, and where training looks for them"
        )
    require_usable(config.model.recogniser.name, config.faces.accept_noncommercial)
    state = PartialState()
    store = ShardStore(work / "shards", int(config.data.cache_gib * GIB))
    index = build_index(find_shards(patterns), store, work / "scans")
    _require_distinct([shard.name for shard in index.shards])
    leave_cards([shard.address for shard in index.shards], [(CACHE, Path(config.cache.folder))])
    jobs = _Jobs(index, config, work, encoders, state.process_index, state.num_processes)
    fill = fill_shard if spread.num_workers else Filler(config, work, encoders.base, encoders.clip_side).fill
    limit = FaultLimit(config.data.max_fault_fraction, config.data.min_faults)
    return _report(run_shards(jobs, fill, spread), index, limit, on_shard)


def _report(
    outcomes: Iterator[Outcome], index: TarIndex, limit: FaultLimit, on_shard: Callable[[str], None]
) -> CacheReport:
    """Add up what became of the shards, as they come; too many samples that cannot be used stop them."""
    counts: Counter[str] = Counter()
    faults, failed, num_seen = list(index.faults), list[ShardFailure](), 0
    for outcome in outcomes:
        if isinstance(outcome, ShardFailure):
            failed.append(outcome)
            continue
        counts.update(outcome.run["counts"])
        faults += [SampleFault(**fault) for fault in outcome.run["faults"]]
        num_seen += outcome.num_seen
        limit.require(count(faults), num_seen, faults)
        on_shard(outcome.shard)
    return CacheReport(dict(sorted(counts.items())), tuple(faults), tuple(failed))


def gpus_per_worker(device: str, num_workers: int, ray_address: str | None) -> float:
    """Return the share of a GPU that each worker takes: all of this machine's, cut alike, or one on a cluster.

    Raises:
        UsageError: workers are asked for and a certain GPU; Ray hands them out.
    """
    if num_workers == 0 or not device.startswith("cuda"):
        return 0.0
    if device != "cuda":
        raise UsageError(f"--device {device}: with --workers say cuda; every worker is given its GPU by Ray")
    import torch

    return 1.0 if ray_address else min(1.0, torch.cuda.device_count() / num_workers)


class _Jobs(Sequence[FillJob]):
    """A job for each shard of one process, made when it is asked for: millions of rows are not held twice."""

    def __init__(
        self, index: TarIndex, config: TrainConfig, work: Path, encoders: CacheEncoders, rank: int, world: int
    ) -> None:
        self._index, self._config, self._work, self._clip_side = index, config, work, encoders.clip_side
        self._device = encoders.device.type
        self._numbers = range(rank, len(index.shards), world)

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, place: int) -> FillJob: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[FillJob]: ...

    def __getitem__(self, place: int | slice) -> FillJob | Sequence[FillJob]:
        numbers = self._numbers[place]
        return self._job(numbers) if isinstance(numbers, int) else [self._job(number) for number in numbers]

    def _job(self, number: int) -> FillJob:
        rows, shard = self._index.rows, self._index.shards[number]
        first, last = np.searchsorted(rows.shard, [number, number + 1]).tolist()
        part = slice(first, last)
        columns = (rows.key[part].to_pylist(), rows.offset[part].tolist(), rows.num_bytes[part].tolist())
        samples = tuple(zip(*columns, strict=True))
        return FillJob(shard.name, shard, samples, self._config, self._work, self._device, self._clip_side)


def _require_distinct(names: Sequence[str]) -> None:
    twice: list[Any] = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise UsageError(f"two shards are named {twice[0]!r}: sidecar tars go by that name; fill them one by one")

"""What a sample costs whoever reads it: bytes that it hands over, CPU milliseconds, with caches and without.

Called by `benchmarks.training.train_speed`. The sizes are the real ones (512 px, CLIP's 224, latents of 64 x 64), the
pictures drawn, JPEG of 1024 x 768; the networks are tiny, so the seconds of `cache` are those of everything but them.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.training import world
from facemakeup.data.dataset import TarDataset, open_dataset
from facemakeup.model.encoders import Encoders
from facemakeup.train_config import TrainConfig

try:
    from facemakeup.data.caches import plan_of
except ImportError:  # up to 0.2.0, against which it is measured
    from facemakeup.data.cache import plan_of  # type: ignore[attr-defined, no-redef]
from facemakeup.data.cache import fill_cache

NUM_SAMPLES, ROUNDS, CLIP_SIDE = 24, 3, 224


def measured() -> dict[str, Any]:
    """Return bytes and CPU milliseconds per sample, online and cached, and samples/s of `cache`."""
    with own_folder() as folder:
        pattern = world.write_tars(folder / "tars", NUM_SAMPLES)
        model = world.tiny_model(folder / "base", world.random_recogniser(folder), CLIP_SIDE)
        encoders = Encoders.load(model)
        online, cached = world.config_of(model, None), world.config_of(model, folder / "cache")
        filled_s = [cpu_s(lambda: fill_cache(cached, [pattern], encoders, folder / "work", _silent)) for _ in range(2)]
        return {
            "pictures": {**world.PICTURE, "format": "jpg", "drawn": True, "num_samples": NUM_SAMPLES},
            "online": _read(online, pattern, encoders, folder),
            "cached": _read(cached, pattern, encoders, folder),
            "cache_samples_per_cpu_s": {
                "empty": round(NUM_SAMPLES / filled_s[0], 1), "full": round(NUM_SAMPLES / filled_s[1], 1),
            },
        }  # fmt: skip


@contextmanager
def own_folder() -> Iterator[Path]:
    """Yield a folder that is gone afterwards, in which user settings lie meanwhile, too."""
    import os

    before = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory() as name:
        os.environ["XDG_CACHE_HOME"] = str(Path(name) / "user")
        try:
            yield Path(name)
        finally:
            os.environ.pop("XDG_CACHE_HOME")
            if before is not None:
                os.environ["XDG_CACHE_HOME"] = before


def cpu_s(act: Any) -> float:
    """Return the CPU seconds that a call takes in this process."""
    started = time.process_time()
    act()
    return time.process_time() - started


def _read(config: TrainConfig, pattern: str, encoders: Encoders, folder: Path) -> dict[str, Any]:
    dataset, _ = open_dataset([pattern], config, plan_of(config, encoders), folder / "work")
    items = range((NUM_SAMPLES - config.validation.num_samples) // config.data.micro_batch)
    num = len(items) * config.data.micro_batch
    size = sum(num_bytes(dataset[item].batch) for item in items)
    rounds = [cpu_s(lambda: _all(dataset, items)) * 1000 / num for _ in range(ROUNDS)]
    return {
        "bytes_per_sample": round(size / num),
        "cpu_ms_per_sample": round(statistics.median(rounds), 2),
        "cpu_ms_range": [round(min(rounds), 2), round(max(rounds), 2)],
    }


def _all(dataset: TarDataset, items: range) -> None:
    for item in items:
        dataset[item]


def num_bytes(batch: Any) -> int:
    """Return the bytes of a batch's tensors: what a reading process hands over, and what goes to the device."""
    return sum(value.nbytes for value in vars(batch).values() if isinstance(value, torch.Tensor))


def _silent(_: str) -> None:
    """Say nothing of a shard."""

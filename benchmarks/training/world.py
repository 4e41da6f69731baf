"""What the benchmarks of the trainer train on where there is nothing: drawn faces in tars, a random recogniser.

A tiny base takes pictures of any size that its VAE can halve three times, so bytes and readers' costs are those of the
real sizes while its networks cost next to nothing.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from facemakeup.config import ModelConfig, Recogniser
from facemakeup.faces.recognisers import INSIGHTFACE
from facemakeup.model import tiny_base
from facemakeup.train_config import TrainConfig
from filters.weights import add
from tests.facemakeup.tars import packed_sample, tiny_recogniser, write_packed

PICTURE = {"width": 1024, "height": 768}
"""Size of the drawn pictures, pixels."""
IDENTITY_WIDTH = 512


def write_tars(folder: Path, num_samples: int, per_shard: int = 32) -> str:
    """Write drawn faces in tars, and return their pattern."""
    write_packed(folder, (packed_sample(n, **PICTURE) for n in range(num_samples)), per_shard)
    return f"{folder}/*.tar"


def random_recogniser(folder: Path) -> Recogniser:
    """Confirm a random network under the name of insightface's; `XDG_CACHE_HOME` must be a folder of this run's own."""
    path = folder / "recogniser.onnx"
    path.write_bytes(tiny_recogniser(IDENTITY_WIDTH, seed=0))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    add(path, INSIGHTFACE, sha256)
    return Recogniser(name=INSIGHTFACE, width=IDENTITY_WIDTH, sha256=sha256)


def tiny_model(folder: Path, recogniser: Recogniser, clip_side: int) -> ModelConfig:
    """Write a tiny base whose image encoder takes pictures of `clip_side`, and return an adapter's configuration."""
    tiny_base.write_base(folder)
    if clip_side != tiny_base.CLIP_SIDE:
        _resize_clip(folder / "image_encoder", clip_side)
    return ModelConfig(
        base=str(folder), image_encoder=str(folder), image_encoder_subfolder="image_encoder",
        clip_width=tiny_base.CLIP_WIDTH, recogniser=recogniser, lora_rank=8, pose_channels=(8, 16, 16, 16),
    )  # fmt: skip


def _resize_clip(folder: Path, side: int) -> None:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    CLIPVisionModelWithProjection(CLIPVisionConfig(**{**settings, "image_size": side})).save_pretrained(folder)


def config_of(model: ModelConfig, cache: Path | None, **tables: dict[str, Any]) -> TrainConfig:
    """Return a training configuration that reads in its own process; `tables` changes its tables."""
    given: dict[str, dict[str, Any]] = {
        "data": {"global_batch": 4, "micro_batch": 4, "block": 16, "window": 2, "num_workers": 0},
        "crop": {"size": 512},
        "faces": {"accept_noncommercial": True},
        "cache": {"folder": None if cache is None else str(cache)},
        "validation": {"num_samples": 4, "num_references": 0},
    }
    changed = {name: {**given.get(name, {}), **tables.get(name, {})} for name in {*given, *tables}}
    return TrainConfig.model_validate({"name": "speed", "model": model.model_dump(), **changed})

"""Does one trainer teach every kind of base: parameters of the real sizes, and the curve of a tiny one that overfits?

    python -m benchmarks.training.bases [--steps 100]

For each base: parameters counted on the meta device, without weights, in its real sizes; then a tiny random one of the
same kind, trained by `facemakeup.training` on eight drawn faces with nothing hidden, and its mean training loss over
every ten steps. It shows that the parts learn together, and nothing about pictures.
Writes benchmarks/results/bases.json.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.provenance import RESULTS, commit, machine
from benchmarks.training import sample_cost, world
from facemakeup.config import DropTable, ModelConfig, Recogniser
from facemakeup.data.cache import fill_cache
from facemakeup.model import skeleton
from facemakeup.model.encoders import Encoders
from facemakeup.model.tiny_base import CLIP_WIDTH, SIDE, write_base
from facemakeup.model.tiny_flux import write_flux
from facemakeup.model.tiny_sdxl import write_sdxl
from facemakeup.training.train import train
from tests.facemakeup.tars import packed_sample, write_packed

Write = Callable[[Path], Path]
BASES: dict[str, tuple[Path, Write, tuple[int, ...]]] = {
    "sd15": (skeleton.SD15, write_base, (8, 16, 16, 16)),
    "sdxl": (skeleton.SDXL, write_sdxl, (8, 16, 16, 16)),
    "flux": (skeleton.FLUX, write_flux, (16, 16, 16, 16)),
}
"""Sizes of the real one, how the tiny one is written, and the channels of its pose embedding."""
NUM_SAMPLES, EVERY = 8, 10


def main() -> None:
    """Count and train all of them, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100, help="optimiser steps of each tiny base")
    steps = parser.parse_args().steps
    torch.set_num_threads(1)
    result: dict[str, Any] = {"commit": commit(), "machine": machine(), "bases": {}}
    with sample_cost.own_folder() as folder:
        recogniser = world.random_recogniser(folder)
        for name, (sizes, write, channels) in BASES.items():
            curve = overfit(write(folder / name), channels, recogniser, folder, steps)
            result["bases"][name] = {"parameters": parameters(sizes), "tiny_training_loss": curve}
            print(name, json.dumps(result["bases"][name]))
    (RESULTS / "bases.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def parameters(sizes: Path) -> dict[str, int]:
    """Return numbers of parameters of a base in its real sizes, and of each trained part."""
    config = skeleton.sd15_config(sizes)
    frozen = {"network": skeleton.network(config), **skeleton.encoders(config)}
    trained = skeleton.face_makeup(config).trainable_named_parameters()
    parts = {"projector": "projector.", "lora": ".lora_", "face_attentions": "_ip.", "posenet": "posenet."}
    numbers = {part: sum(p.numel() for name, p in trained.items() if word in name) for part, word in parts.items()}
    whole = sum(p.numel() for p in trained.values())
    assert sum(numbers.values()) == whole, "every trained parameter belongs to one part"
    counted = {name: skeleton.num_parameters(network) for name, network in frozen.items()}
    return {**counted, **{f"trained_{part}": number for part, number in numbers.items()}, "trained": whole}


def overfit(
    base: Path, channels: tuple[int, ...], recogniser: Recogniser, folder: Path, steps: int
) -> dict[str, float]:
    """Return step -> mean training loss of the steps since the one before, of a training on a few samples."""
    model = ModelConfig(
        base=str(base), image_encoder=str(base), image_encoder_subfolder="image_encoder", clip_width=CLIP_WIDTH,
        recogniser=recogniser, lora_rank=8, pose_channels=channels,
    )  # fmt: skip
    tables: dict[str, Any] = {
        "crop": {"size": SIDE}, "data": {"global_batch": NUM_SAMPLES, "micro_batch": NUM_SAMPLES},
        "optim": {"num_steps": steps, "num_warmup_steps": 5, "learning_rate": 3e-3, "ema_decay": 0.0},
        "run": {"precision": "fp32", "log_every": EVERY}, "checkpoint": {"every": steps},
        "validation": {"every": steps, "num_samples": 1, "num_references": 0},
    }  # fmt: skip
    hidden = DropTable(text=0, image=0, both=0, clip=0, pose=0)
    config = world.config_of(model, folder / f"{base.name}-cache", **tables).model_copy(update={"drop": hidden})
    out, tars = folder / f"{base.name}-run", folder / f"{base.name}-tars"
    write_packed(tars, (packed_sample(number) for number in range(NUM_SAMPLES + 1)))
    fill_cache(config, [f"{tars}/*.tar"], Encoders.load(model), out / "work", lambda _: None)
    train(config, [f"{tars}/*.tar"], out, False, lambda _: None)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return {str(line["step"]): round(line["train/loss"], 4) for line in lines if "train/loss" in line}


if __name__ == "__main__":
    main()

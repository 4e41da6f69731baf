"""Short real training runs on drawn faces, in this process or in another."""

import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facemakeup.config import Recogniser
from facemakeup.data.caches import plan_of
from facemakeup.data.dataset import TarDataset, open_dataset
from facemakeup.model.encoders import Encoders
from facemakeup.model.facemakeup import FaceMakeUp
from facemakeup.train_config import TrainConfig
from facemakeup.training.checkpoint import Checkpoint
from facemakeup.training.loop import Progress
from facemakeup.training.train import train
from facemakeup.training.trainer import Trainer
from tests.facemakeup import tiny
from tests.facemakeup.tars import packed_sample, write_packed

POISON = "~"
"""A caption that `poisoned` bases make a gradient of that is not finite."""

TABLES: dict[str, dict[str, Any]] = {
    "data": {"global_batch": 4, "micro_batch": 2, "block": 4, "window": 2, "num_workers": 0},
    "crop": {"size": 64, "flip_probability": 0.5},
    "faces": {"accept_noncommercial": True},
    "cache": {},
    "optim": {"learning_rate": 1e-3, "num_steps": 6, "num_warmup_steps": 2, "ema_decay": 0.9},
    "run": {"precision": "fp32", "log_every": 1},
    "checkpoint": {"every": 2, "keep": 2},
    "validation": {
        "every": 100, "num_samples": 4, "num_timesteps": 2, "num_references": 0, "num_inference_steps": 2,
    },
}  # fmt: skip


def run_config(base: Path, recogniser: Recogniser, **changes: dict[str, Any]) -> TrainConfig:
    """Return the configuration of a short run, with `changes` to its tables."""
    tables = {name: {**table, **changes.get(name, {})} for name, table in TABLES.items()}
    model = tiny.tiny_config(base, recogniser=recogniser, **changes.get("model", {}))
    return TrainConfig.model_validate({"name": "short", "seed": 5, "model": model.model_dump(), **tables})


def write_tars(folder: Path, num_samples: int = 20, poison: Collection[int] = ()) -> str:
    """Write drawn faces, some with a caption that is poison, and return the pattern of their tars."""
    samples = (packed_sample(n, caption=POISON) if n in poison else packed_sample(n) for n in range(num_samples))
    write_packed(folder, samples)
    return f"{folder}/*.tar"


def poisoned(base: Path, folder: Path) -> Path:
    """Write the base once more, with weights of the text encoder that are not finite for one letter."""
    from transformers import CLIPTextModel, CLIPTokenizer

    shutil.copytree(base, folder)
    tokenizer, encoder = (
        kind.from_pretrained(folder / name)
        for kind, name in ((CLIPTokenizer, "tokenizer"), (CLIPTextModel, "text_encoder"))
    )
    letters = [n for n in tokenizer(POISON).input_ids if n not in (tokenizer.bos_token_id, tokenizer.eos_token_id)]
    with torch.no_grad():
        encoder.get_input_embeddings().weight[letters] = float("nan")
    encoder.save_pretrained(folder / "text_encoder")
    return folder


def nothing(_: Progress) -> None:
    """Show no progress."""


def run(
    config: TrainConfig,
    pattern: str,
    out: Path,
    resume: bool = False,
    on_step: Callable[[Progress], None] = nothing,
    checkpoints: Path | None = None,
) -> Checkpoint:
    """Train."""
    return train(config, [pattern], out, resume, on_step, checkpoints)


def trainer_of(config: TrainConfig, pattern: str, work: Path, device: str = "cpu") -> tuple[Trainer, TarDataset]:
    """Return a trainer and its data, as `train` puts them together."""
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    set_seed(config.seed)
    encoders = Encoders.load(config.model, device)
    dataset, _ = open_dataset([pattern], config, plan_of(config, encoders), work)
    model = FaceMakeUp.from_config(config.model)
    return Trainer(config, model, encoders, Accelerator(cpu=device == "cpu")), dataset


def stepped(trainer: Trainer, dataset: TarDataset, num_steps: int) -> list[Tensor]:
    """Do some steps, and return the losses of each."""
    losses = []
    for step in range(num_steps):
        items = iter(range(step * dataset.accumulation, (step + 1) * dataset.accumulation))
        result = trainer.step(step, lambda items=items: dataset[next(items)].batch, dataset.accumulation)  # type: ignore[misc]
        losses.append(result.per_sample_B)
    return losses


def largest_difference(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    """Return the largest difference of any number of two states of the same names."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two states are equal bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)

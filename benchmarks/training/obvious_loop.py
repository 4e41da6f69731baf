"""The same model in a training loop of the obvious kind: what a reader of diffusers' examples writes.

Called by `benchmarks.training.train_speed`. Trainables in float32 under bfloat16 autocast, `torch.optim.AdamW` as it
comes, a `DataLoader` that hands over float32 pictures and pose maps, VAE, CLIP and text encoded for every batch, and
the loss read after every step for the progress bar.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facemakeup.data.batch import Loaded
from facemakeup.model.base import Frame
from facemakeup.model.encoders import Encoders
from facemakeup.model.facemakeup import FaceMakeUp
from facemakeup.train_config import OptimSettings


class ObviousLoop:
    """One optimiser step after the other."""

    def __init__(self, model: FaceMakeUp, encoders: Encoders, device: torch.device) -> None:
        """Take a model on a device; its frozen weights stay in float32, as the examples keep a U-Net with LoRA."""
        self._model, self._encoders, self._device = model, encoders, device
        self._autocast = device.type == "cuda"
        self._optimizer = torch.optim.AdamW(model.trainable_named_parameters().values(), lr=1e-4)
        self._objective: Any = encoders.base.objective(OptimSettings())

    def step(self, shown: dict[str, Any]) -> float:
        """Train on a batch of `as_floats`, and return its loss."""
        pixels, clip, pose, identity = (
            shown[name].to(self._device) for name in ("pixels", "clip_pixels", "pose", "identity")
        )
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._autocast):
            with torch.no_grad():
                base = self._encoders.base
                mean, logvar = base.moments(pixels)
                latents = base.sample(mean, logvar, torch.randn_like(mean))
                text = base.prompt(shown["captions"], [Frame.whole(*pixels.shape[2:])] * len(pixels))
                seen = self._encoders.clip_hidden(clip)
            noise = torch.randn_like(latents)
            timesteps = torch.randint(0, int(self._objective.end), (len(latents),), device=self._device)
            noisy = self._objective.noisy(latents, noise, timesteps)
            predicted = self._model(noisy, timesteps, identity, seen, pose, **text)
            loss = torch.nn.functional.mse_loss(predicted.float(), noise.float())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._model.trainable_named_parameters().values(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return float(loss.detach().item())


def as_floats(loaded: Loaded) -> dict[str, Any]:
    """Return a batch as float32 tensors: what a transform in a `Dataset` gives."""
    batch = loaded.batch
    return {
        "pixels": batch.pixels, "clip_pixels": batch.clip_pixels, "pose": batch.pose, "identity": batch.identity_BD,
        "captions": batch.captions,
    }  # fmt: skip


class Floats(torch.utils.data.IterableDataset[dict[str, Any]]):
    """The micro batches of one of our data sets as float32, cut among reading processes."""

    def __init__(self, dataset: Any) -> None:
        """Keep the data set."""
        self._dataset = dataset

    def __iter__(self) -> Iterator[dict[str, Any]]:
        info = torch.utils.data.get_worker_info()
        first, step = (info.id, info.num_workers) if info else (0, 1)
        number = first
        while True:
            yield as_floats(self._dataset[number])
            number += step


def matrix_tflops(device: torch.device, side: int = 8192, rounds: int = 20) -> float:
    """Return the rate of bfloat16 matrix products that a device reaches, in 1e12 operations a second."""
    one, other = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    out: Tensor = one @ other
    started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    started.record()
    for _ in range(rounds):
        torch.mm(one, other, out=out)
    ended.record()
    ended.synchronize()
    return float(np.float64(2 * side**3 * rounds) / (started.elapsed_time(ended) / 1000) / 1e12)

"""What training takes at once: samples of one shape, stacked.

Shapes: B samples of one rank's micro batch, C channels, H and W pixels, D numbers of an identity vector.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facemakeup.data.prepare import Prepared
from facemakeup.faults import SampleFault
from facemakeup.model.send import send


@dataclass(frozen=True)
class Batch:
    """Samples of one shape."""

    pixels_BCHW: Tensor
    """float32 in -1..1."""
    clip_pixels_BCHW: Tensor
    """float32, aligned faces, CLIP's mean and deviation taken out."""
    identity_BD: Tensor
    """float32, rows of length 1."""
    pose_BCHW: Tensor
    """float32 in 0..1."""
    captions: tuple[str, ...]
    uids: tuple[str, ...]
    positions: tuple[int, ...]
    """Where the samples stand in the endless stream: their random numbers are drawn by it."""
    moments_BCHW: Tensor
    """float32, mean and log variance of the latents stacked on channels; empty where no sample has them."""
    has_moments_B: Tensor
    """bool: whose latents came from the cache; always on the CPU, where asking waits for nobody."""

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with its tensors on a device, but `has_moments_B`."""
        return self._each(lambda tensor: send(tensor, device))

    def pin_memory(self) -> "Batch":
        """Return the batch in locked memory, from where copies to a GPU run beside everything else."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, made: Callable[[Tensor], Tensor]) -> "Batch":
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        moved: dict[str, Any] = {name: made(value) for name, value in tensors.items() if name != "has_moments_B"}
        return replace(self, **moved)


@dataclass(frozen=True)
class Loaded:
    """A micro batch, with what was passed over on the way to it."""

    batch: Batch
    faults: tuple[SampleFault, ...]
    notes: dict[str, int]
    """What the caches said, with counts."""

    def pin_memory(self) -> "Loaded":
        """Return the same with its batch in locked memory; a DataLoader calls it."""
        return replace(self, batch=self.batch.pin_memory())


def collate(samples: Sequence[Prepared], positions: Sequence[int]) -> Batch:
    """Return the batch of samples of one shape."""
    moments = [sample.moments_CHW for sample in samples]
    known = next((array for array in moments if array is not None), None)
    stacked = np.zeros((0,), np.float32)
    if known is not None:
        stacked = np.stack([np.zeros_like(known) if array is None else array for array in moments])
    return Batch(
        pixels_BCHW=_stack([sample.pixels_CHW for sample in samples]),
        clip_pixels_BCHW=_stack([sample.clip_pixels_CHW for sample in samples]),
        identity_BD=_stack([sample.identity_D for sample in samples]),
        pose_BCHW=_stack([sample.pose_CHW for sample in samples]),
        captions=tuple(sample.caption for sample in samples),
        uids=tuple(sample.uid for sample in samples),
        positions=tuple(positions),
        moments_BCHW=torch.from_numpy(stacked),
        has_moments_B=torch.tensor([array is not None for array in moments]),
    )


def _stack(arrays: list[Any]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))

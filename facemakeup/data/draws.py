"""Every random number of training, as a pure function of (seed, position in the stream, purpose).

So a sample meets the same noise whichever rank, worker or accumulation step it falls to, and resuming needs no
generator's state. Counter-based generation: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from facemakeup.model.loss import NUM_DROP_DRAWS

Purpose = Literal["drop", "timestep", "noise", "posterior", "flip", "reference", "view", "validation"]


@dataclass(frozen=True)
class Draws:
    """The random numbers of a batch, on the CPU."""

    drop_B3: Tensor
    """Uniform in 0..1, float32."""
    timesteps_B: Tensor
    """As the base's objective draws them."""
    noise_BCHW: Tensor
    """Standard normal, float32: what is added to the latents."""
    posterior_BCHW: Tensor
    """Standard normal, float32: which latents are drawn from the VAE's posterior."""


def generator(seed: int, position: int, purpose: Purpose) -> np.random.Generator:
    """Return the generator of one sample's numbers for one purpose."""
    return np.random.Generator(np.random.Philox(key=np.array([_key(seed, purpose), position], dtype=np.uint64)))


def draws_of(
    seed: int,
    positions: Sequence[int],
    latent_shape: tuple[int, int, int],
    timestep: Callable[[np.random.Generator], float],
) -> Draws:
    """Return the draws of the samples at these positions.

    `latent_shape` is (channels, height, width); `timestep` draws a sample's timestep with its own generator.
    """
    return Draws(
        drop_B3=_stacked([generator(seed, p, "drop").random(NUM_DROP_DRAWS, np.float32) for p in positions]),
        timesteps_B=torch.tensor([timestep(generator(seed, p, "timestep")) for p in positions]),
        noise_BCHW=_stacked([_normal(seed, p, "noise", latent_shape) for p in positions]),
        posterior_BCHW=_stacked([_normal(seed, p, "posterior", latent_shape) for p in positions]),
    )


def _normal(seed: int, position: int, purpose: Purpose, shape: tuple[int, ...]) -> np.ndarray:
    return generator(seed, position, purpose).standard_normal(shape, np.float32)


def _stacked(arrays: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays))


@lru_cache(maxsize=256)
def _key(seed: int, purpose: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}/{purpose}".encode(), digest_size=8).digest(), "big")

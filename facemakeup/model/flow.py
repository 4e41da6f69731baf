"""Rectified flow, for bases that predict the velocity from pictures to noise: what they are taught, and Euler's steps.

A time t in 0..1 is the sigmoid of a normal number (SD3, arXiv 2403.03206: logit-normal sampling, here of deviation 1).
Its mean m moves times towards noise: with s = exp(m), t' = s t / (1 + (s - 1) t), which is that paper's
resolution-dependent shift. FLUX.1's schedule lets m grow linearly with the number of tokens of a picture, and its
makers train so (FLUX.1 Kontext, arXiv 2506.15742: logit-normal times whose mode depends on the resolution).

Shapes: B batch, C latent channels, H and W latent size.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curation.errors import UsageError
from facemakeup.train_config import OptimSettings

TokensOf = Callable[[int, int], int]
"""Height and width of latents -> number of tokens that the network makes of them."""


@dataclass(frozen=True)
class RectifiedFlow:
    """The objective: timesteps count from 0 (pictures) to `end` (noise), and every error weighs alike."""

    end: float
    mean_of: Callable[[int, int], float] | None
    """Mean of the normal number for latents of a height and width; None draws times uniformly."""

    def draw(self, chance: np.random.Generator, height: int, width: int) -> float:
        """Return a timestep for latents of a size."""
        if self.mean_of is None:
            return self.end * float(chance.random())
        return self.end / (1 + math.exp(-self.mean_of(height, width) - float(chance.standard_normal())))

    def at(self, share: float) -> float:
        """Return the timestep at a share of the way from clean to noise."""
        return share * self.end

    def noisy(self, latents_BCHW: Tensor, noise_BCHW: Tensor, timesteps_B: Tensor) -> Tensor:
        """Return the latents at their timesteps: (1 - t) x + t noise."""
        return torch.lerp(latents_BCHW, noise_BCHW, (timesteps_B / self.end).reshape(-1, 1, 1, 1))

    def target(self, latents_BCHW: Tensor, noise_BCHW: Tensor, timesteps_B: Tensor) -> Tensor:
        """Return the velocity: noise - x."""
        return noise_BCHW - latents_BCHW

    def weights(self, timesteps_B: Tensor) -> Tensor | None:
        """Return None."""
        return None


def flow(scheduler: Any, optim: OptimSettings, tokens_of: TokensOf) -> RectifiedFlow:
    """Return the objective of a base whose scheduler is a `FlowMatchEulerDiscreteScheduler`.

    Raises:
        UsageError: the settings ask for what a flow has not.
    """
    if optim.min_snr_gamma is not None:
        raise UsageError("optim.min_snr_gamma: this base is taught a flow, which min-SNR does not speak of")
    end = float(scheduler.config.num_train_timesteps)
    if optim.timesteps == "uniform":
        if optim.timestep_mean is not None:
            raise UsageError("optim.timestep_mean: uniform timesteps have none; leave it out, or say logit-normal")
        return RectifiedFlow(end, None)
    given = optim.timestep_mean
    return RectifiedFlow(
        end, partial(_mean, scheduler.config, tokens_of) if given is None else lambda height, width: given
    )


def euler(scheduler: Any, num_steps: int, num_tokens: int, device: torch.device) -> Any:
    """Return the schedule of a base's scheduler for pictures of a number of tokens, set to a number of steps."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    made = FlowMatchEulerDiscreteScheduler.from_config(scheduler.config)
    times = np.linspace(1.0, 1 / num_steps, num_steps)
    made.set_timesteps(sigmas=times, mu=_shift(scheduler.config, num_tokens), device=device)
    return made


def _mean(config: Any, tokens_of: TokensOf, height: int, width: int) -> float:
    shift = _shift(config, tokens_of(height, width))
    return shift if config.use_dynamic_shifting and config.time_shift_type == "exponential" else math.log(shift)


def _shift(config: Any, num_tokens: int) -> float:
    """Return what a scheduler shifts times by, in its own terms."""
    if not config.use_dynamic_shifting:
        return float(config.shift)
    share = (num_tokens - config.base_image_seq_len) / (config.max_image_seq_len - config.base_image_seq_len)
    return float(config.base_shift + share * (config.max_shift - config.base_shift))

"""Diffusion in discrete steps, for bases that predict noise or velocity: what they are taught, and DDIM.

Shapes: B batch, C latent channels, H and W latent size, T steps.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class NoiseSchedule:
    """The objective of a base of this kind: how much signal is left at each step, and what the network predicts."""

    signal_T: Tensor
    """Cumulative product of alphas, float32 (T,)."""
    predicts: Literal["noise", "velocity"]
    gamma: float | None = None
    """Weighs timesteps by min-SNR with this gamma; None weighs them alike, as published."""

    @property
    def end(self) -> int:
        """Number of steps T."""
        return len(self.signal_T)

    def draw(self, chance: np.random.Generator, height: int, width: int) -> int:
        """Return any step, all alike, whatever the size."""
        return int(chance.integers(self.end))

    def at(self, share: float) -> int:
        """Return the step at a share of the way from clean to noise."""
        return int(share * self.end)

    def noisy(self, latents_BCHW: Tensor, noise_BCHW: Tensor, timesteps_B: Tensor) -> Tensor:
        """Return the latents at their timesteps: sqrt(a) x + sqrt(1 - a) noise."""
        signal = self._signal(timesteps_B)
        return signal.sqrt() * latents_BCHW + (1 - signal).sqrt() * noise_BCHW

    def target(self, latents_BCHW: Tensor, noise_BCHW: Tensor, timesteps_B: Tensor) -> Tensor:
        """Return what the network should say: the noise, or the velocity sqrt(a) noise - sqrt(1 - a) x."""
        if self.predicts == "noise":
            return noise_BCHW
        signal = self._signal(timesteps_B)
        return signal.sqrt() * noise_BCHW - (1 - signal).sqrt() * latents_BCHW

    def weights(self, timesteps_B: Tensor) -> Tensor | None:
        """Return (B,) weights min(snr, gamma) / snr for noise, / (snr + 1) for velocity (arXiv 2303.09556).

        At a step that leaves no signal (snr 0, as in schedules that end in pure noise) they are 1 and 0.
        """
        if self.gamma is None:
            return None
        signal = self.signal_T.to(timesteps_B.device)[timesteps_B]
        snr = signal / (1 - signal)
        least = snr.clamp(max=self.gamma)
        return torch.where(snr > 0, least / snr, 1.0) if self.predicts == "noise" else least / (snr + 1)

    def _signal(self, timesteps_B: Tensor) -> Tensor:
        return self.signal_T.to(timesteps_B.device)[timesteps_B].reshape(-1, 1, 1, 1)


def ddim(scheduler: Any, num_steps: int, device: torch.device) -> Any:
    """Return the DDIM schedule of a base's scheduler, set to a number of steps; it neither clips nor ends at one."""
    from diffusers import DDIMScheduler

    made = DDIMScheduler.from_config(scheduler.config, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    made.set_timesteps(num_steps, device=device)
    return made

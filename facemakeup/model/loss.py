"""The objective: which conditions are dropped, what is predicted, how errors are weighed.

Shapes: B batch, C latent channels, H and W latent size.
"""

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from facemakeup.config import DropTable

NUM_DROP_DRAWS = 3
"""Uniform draws per sample that `drop` takes."""


@dataclass(frozen=True)
class Drops:
    """What each sample of a batch loses; bool (B,), True is dropped."""

    text_B: Tensor
    identity_B: Tensor
    clip_B: Tensor
    pose_B: Tensor


def drop(uniforms_B3: Tensor, table: DropTable) -> Drops:
    """Return what is dropped, given `NUM_DROP_DRAWS` draws in 0..1 per sample: a pure function of them."""
    which, clip, pose = uniforms_B3.unbind(-1)
    image = which < table.image
    text = (which >= table.image) & (which < table.image + table.text)
    both = (which >= table.image + table.text) & (which < table.image + table.text + table.both)
    identity = image | both
    return Drops(
        text_B=text | both, identity_B=identity, clip_B=identity | (clip < table.clip), pose_B=pose < table.pose
    )


@dataclass(frozen=True)
class NoiseSchedule:
    """The base model's diffusion: how much signal is left at each step, and what the network predicts."""

    signal_T: Tensor
    """Cumulative product of alphas, float32 (T,)."""
    prediction_type: str

    @classmethod
    def of(cls, scheduler: Any) -> Self:
        """Return the schedule of a diffusers scheduler.

        Raises:
            ValueError: the base predicts something else than noise (`epsilon`) or velocity (`v_prediction`).
        """
        kind = scheduler.config.prediction_type
        if kind not in {"epsilon", "v_prediction"}:
            raise ValueError(f"prediction_type {kind!r} of the base: epsilon or v_prediction can be trained")
        return cls(scheduler.alphas_cumprod.float(), kind)

    @property
    def num_timesteps(self) -> int:
        """Number of steps T."""
        return len(self.signal_T)

    def noisy(self, latents_BCHW: Tensor, noise_BCHW: Tensor, timesteps_B: Tensor) -> Tensor:
        """Return the latents at their timesteps: sqrt(a) x + sqrt(1 - a) noise."""
        signal = self._signal(timesteps_B)
        return signal.sqrt() * latents_BCHW + (1 - signal).sqrt() * noise_BCHW

    def target(self, latents_BCHW: Tensor, noise_BCHW: Tensor, timesteps_B: Tensor) -> Tensor:
        """Return what the network should say: the noise, or the velocity sqrt(a) noise - sqrt(1 - a) x."""
        if self.prediction_type == "epsilon":
            return noise_BCHW
        signal = self._signal(timesteps_B)
        return signal.sqrt() * noise_BCHW - (1 - signal).sqrt() * latents_BCHW

    def min_snr_weights(self, timesteps_B: Tensor, gamma: float) -> Tensor:
        """Return (B,) weights min(snr, gamma) / snr for noise, / (snr + 1) for velocity (arXiv 2303.09556)."""
        signal = self.signal_T.to(timesteps_B.device)[timesteps_B]
        snr = signal / (1 - signal)
        return snr.clamp(max=gamma) / (snr if self.prediction_type == "epsilon" else snr + 1)

    def _signal(self, timesteps_B: Tensor) -> Tensor:
        return self.signal_T.to(timesteps_B.device)[timesteps_B].reshape(-1, 1, 1, 1)


def training_loss(
    prediction_BCHW: Tensor,
    latents_BCHW: Tensor,
    noise_BCHW: Tensor,
    timesteps_B: Tensor,
    schedule: NoiseSchedule,
    gamma: float | None = None,
) -> Tensor:
    """Return the weighted mean squared error of each sample, float32 (B,); its mean is the loss.

    `gamma` weighs by min-SNR; None weighs all timesteps alike, as published.
    """
    target = schedule.target(latents_BCHW, noise_BCHW, timesteps_B)
    error_B = (prediction_BCHW.float() - target.float()).square().mean(dim=(1, 2, 3))
    return error_B if gamma is None else error_B * schedule.min_snr_weights(timesteps_B, gamma)


def bucket_losses(
    per_sample_B: Tensor, timesteps_B: Tensor, num_timesteps: int, num_buckets: int = 10
) -> tuple[Tensor, Tensor]:
    """Return sums of losses and counts per bucket of timesteps, both (num_buckets,), for logging over many steps."""
    bucket_B = torch.div(timesteps_B * num_buckets, num_timesteps, rounding_mode="floor")
    counts = torch.bincount(bucket_B, minlength=num_buckets)
    sums = torch.zeros(num_buckets, device=per_sample_B.device).index_add(0, bucket_B, per_sample_B.detach().float())
    return sums, counts

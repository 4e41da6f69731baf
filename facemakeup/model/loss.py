"""The loss: which conditions are dropped, and what errors cost; what is predicted is the base's objective.

Shapes: B batch, C latent channels, H and W latent size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from facemakeup.config import DropTable
from facemakeup.model.base import Objective

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


def training_loss(
    prediction_BCHW: Tensor,
    latents_BCHW: Tensor,
    noise_BCHW: Tensor,
    timesteps_B: Tensor,
    objective: Objective,
    places_BHW: Tensor | None = None,
) -> Tensor:
    """Return the weighted mean squared error of each sample, float32 (B,); its mean is the loss.

    `places_BHW` is what errors are multiplied with, place by place.
    """
    target = objective.target(latents_BCHW, noise_BCHW, timesteps_B)
    error_BCHW = (prediction_BCHW.float() - target.float()).square()
    error_BCHW = error_BCHW if places_BHW is None else error_BCHW * places_BHW[:, None]
    error_B = error_BCHW.mean(dim=(1, 2, 3))
    weights_B = objective.weights(timesteps_B)
    return error_B if weights_B is None else error_B * weights_B


def place_weights(shares_BHW: Tensor, weight: float) -> Tensor:
    """Return what errors are multiplied with where a face has a share of each place; the mean of a picture is 1."""
    weights = 1 + (weight - 1) * shares_BHW
    return weights / weights.mean(dim=(1, 2), keepdim=True)


def clean_latents(prediction_BCHW: Tensor, noisy_BCHW: Tensor, timesteps_B: Tensor, objective: Objective) -> Tensor:
    """Return the latents that a prediction takes noisy ones for.

    Noisy latents and targets of every objective here are sums of a share of the latents and one of the noise, so the
    shares are asked for, and two equations solved: noisy = a x + b n, target = c x + d n.
    """
    one = torch.ones(len(noisy_BCHW), 1, 1, 1, device=noisy_BCHW.device)
    none = torch.zeros_like(one)
    a, b = (objective.noisy(x, n, timesteps_B) for x, n in ((one, none), (none, one)))
    c, d = (objective.target(x, n, timesteps_B) for x, n in ((one, none), (none, one)))
    return (d * noisy_BCHW - b * prediction_BCHW) / (a * d - b * c)


def bucket_losses(
    per_sample_B: Tensor, timesteps_B: Tensor, end: float, num_buckets: int = 10
) -> tuple[Tensor, Tensor]:
    """Return sums of losses and counts per bucket of timesteps, both (num_buckets,), for logging over many steps.

    `end` is the objective's: the buckets cut 0..end into equal parts.
    """
    bucket_B = torch.div(timesteps_B * num_buckets, end, rounding_mode="floor").long().clamp(max=num_buckets - 1)
    losses_B = per_sample_B.detach().float()
    empty = torch.zeros(num_buckets, device=per_sample_B.device)  # torch.bincount would make the host wait for a GPU
    return empty.index_add(0, bucket_B, losses_B), empty.index_add(0, bucket_B, torch.ones_like(losses_B))

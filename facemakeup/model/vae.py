"""Latents of the autoencoders with a Gaussian posterior that several bases have (diffusers' `AutoencoderKL`).

Shapes: B batch, C latent channels, H and W sizes.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from curation.errors import UsageError
from facemakeup.config import ModelConfig
from facemakeup.model.base import BaseLatents
from facemakeup.model.pretrained import load_config, load_part, settle

DECISIVE = {"latent_channels": 4, "scaling_factor": 0.18215, "shift_factor": None}
"""What latents mean -> what diffusers takes where a configuration does not say."""


def load_vae(config: ModelConfig) -> Any:
    """Return the base's VAE, or the other one that the configuration names.

    Raises:
        UsageError: it is not there, or latents of the other one mean something else than the base's.
    """
    from diffusers import AutoencoderKL

    if config.vae is None:
        return load_part(AutoencoderKL, config.base, "vae", config.base_revision, torch.float32)
    other = load_part(AutoencoderKL, config.vae, "", None, torch.float32)
    try:
        said = load_config(config.base, "vae", config.base_revision)
    except OSError:  # the base has none of its own
        return other
    for key, unsaid in DECISIVE.items():
        own = said.get(key, unsaid)
        if other.config[key] != own:
            raise UsageError(
                f"vae {config.vae}: its {key} is {other.config[key]}, that of {config.base} is {own}; name one that "
                f"was made for this base, or leave it out"
            )
    return other


@dataclass(frozen=True)
class VaeLatents(BaseLatents):
    """Latents of a VAE, which stays in float32: in half precision some overflow."""

    vae: Any

    @property
    def latent_channels(self) -> int:
        """Channels of the latents."""
        return int(self.vae.config.latent_channels)

    @property
    def latent_stride(self) -> int:
        """Pixels per latent."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @torch.no_grad()
    def moments(self, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the latents, float32, unscaled, of pixels in -1..1."""
        posterior = self.vae.encode(pixels_BCHW.to(self.vae.device, torch.float32)).latent_dist
        return posterior.mean, posterior.logvar

    def sample(self, mean_BCHW: Tensor, logvar_BCHW: Tensor, noise_BCHW: Tensor) -> Tensor:
        """Return latents drawn from the posterior with the given standard normal noise, shifted and scaled."""
        latents = mean_BCHW + torch.exp(0.5 * logvar_BCHW) * noise_BCHW
        return (latents - self._shift) * float(self.vae.config.scaling_factor)

    def decode(self, latents_BCHW: Tensor) -> Tensor:
        """Return pixels in -1..1, float32, of scaled latents."""
        latents = latents_BCHW.float() / self.vae.config.scaling_factor + self._shift
        pixels: Tensor = self.vae.decode(latents).sample
        return pixels.clamp(-1, 1)

    @property
    def _shift(self) -> float:
        return float(self.vae.config.shift_factor or 0.0)


def vae_latents(config: ModelConfig, device: torch.device) -> VaeLatents:
    """Return the latents of a configuration's VAE on a device.

    Raises:
        UsageError: as `load_vae`.
    """
    return VaeLatents(settle(load_vae(config), device))

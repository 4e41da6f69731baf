"""The frozen encoders that trainer and pipeline share: VAE, text encoder, CLIP vision model, and the base's schedule.

Shapes: B batch, C latent channels, H and W sizes, L text tokens, E their width, N CLIP tokens, D their width.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from curation.errors import UsageError
from facemakeup.config import ModelConfig
from filters.loading import torch_device


def load_unet(config: ModelConfig) -> Any:
    """Return the base's U-Net in float32 on the CPU, in eval mode.

    Raises:
        UsageError: it is not there.
    """
    from diffusers import UNet2DConditionModel

    return _load(UNet2DConditionModel, config.base, "unet", config.base_revision).eval()


@dataclass(frozen=True)
class Encoders:
    """Frozen networks and the schedule around the U-Net; every method runs without gradient."""

    vae: Any
    text_encoder: Any
    tokenizer: Any
    image_encoder: Any
    scheduler: Any
    """The base's noise schedule as a `DDPMScheduler`; `scheduler.config.prediction_type` says what is predicted."""
    _zero_image: dict[torch.device, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, config: ModelConfig, device: str = "cpu", dtype: torch.dtype = torch.float32) -> "Encoders":
        """Return the encoders of a configuration; the VAE stays in float32, where half precision overflows.

        Raises:
            UsageError: a part is not there, or the image encoder has another width than the configuration says.
            DeviceError: torch sees no such device.
        """
        from diffusers import AutoencoderKL, DDPMScheduler
        from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModelWithProjection

        base, revision = config.base, config.base_revision
        vae = _load(AutoencoderKL, config.vae or base, "" if config.vae else "vae", None if config.vae else revision)
        text_encoder = _load(CLIPTextModel, base, "text_encoder", revision)
        tokenizer = _load(CLIPTokenizer, base, "tokenizer", revision)
        image_encoder = _load(
            CLIPVisionModelWithProjection,
            config.image_encoder,
            config.image_encoder_subfolder,
            config.image_encoder_revision,
        )
        scheduler = _load(DDPMScheduler, base, "scheduler", revision)
        if image_encoder.config.hidden_size != config.clip_width:
            raise UsageError(
                f"{config.image_encoder}: its hidden states are {image_encoder.config.hidden_size} wide; "
                f"clip_width says {config.clip_width}"
            )
        place = torch_device(device)
        for network in (vae, text_encoder.to(dtype), image_encoder.to(dtype)):
            network.to(place).requires_grad_(False).eval()
        return cls(vae, text_encoder, tokenizer, image_encoder, scheduler)

    @property
    def device(self) -> torch.device:
        """Where the encoders are."""
        device: torch.device = self.vae.device
        return device

    @property
    def clip_side(self) -> int:
        """Side of the square picture that the image encoder takes, pixels."""
        return int(self.image_encoder.config.image_size)

    @property
    def latent_stride(self) -> int:
        """Pixels per latent."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @torch.no_grad()
    def moments(self, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the latents, float32, unscaled, of pixels in -1..1."""
        posterior = self.vae.encode(pixels_BCHW.to(self.device, torch.float32)).latent_dist
        return posterior.mean, posterior.logvar

    def sample(self, mean_BCHW: Tensor, logvar_BCHW: Tensor, noise_BCHW: Tensor) -> Tensor:
        """Return scaled latents drawn from the posterior with the given standard normal noise."""
        latents = mean_BCHW + torch.exp(0.5 * logvar_BCHW) * noise_BCHW
        return latents * float(self.vae.config.scaling_factor)

    @torch.no_grad()
    def decode(self, latents_BCHW: Tensor) -> Tensor:
        """Return pixels in -1..1, float32, of scaled latents."""
        pixels: Tensor = self.vae.decode(latents_BCHW.float() / self.vae.config.scaling_factor).sample
        return pixels.clamp(-1, 1)

    @torch.no_grad()
    def text(self, captions: Sequence[str]) -> Tensor:
        """Return the last hidden states (B, L, E) of captions, padded or cut to the tokenizer's length."""
        tokens = self.tokenizer(
            list(captions),
            padding="max_length",
            truncation=True,
            max_length=self.tokenizer.model_max_length,
            return_tensors="pt",
        )
        states: Tensor = self.text_encoder(tokens.input_ids.to(self.device)).last_hidden_state
        return states

    @torch.no_grad()
    def clip_hidden(self, clip_pixels_BCHW: Tensor, dropped_B: Tensor | None = None) -> Tensor:
        """Return the image encoder's penultimate hidden states (B, N, D).

        `clip_pixels_BCHW` is normalised as CLIP wants it. A dropped row is that of the all-zero picture, which is
        encoded once per device and remembered; the others alone go through the encoder. With `dropped_B` on the CPU,
        nothing waits for a GPU.
        """
        if dropped_B is None:
            return self._penultimate(clip_pixels_BCHW)
        states = self.zero_hidden().expand(len(clip_pixels_BCHW), -1, -1).clone()
        kept_K = torch.nonzero(~dropped_B).flatten()
        if len(kept_K):
            seen_KCHW = clip_pixels_BCHW[kept_K.to(clip_pixels_BCHW.device)]
            states[kept_K.to(self.device)] = self._penultimate(seen_KCHW)
        return states

    @torch.no_grad()
    def zero_hidden(self) -> Tensor:
        """Return the hidden states (1, N, D) of the all-zero picture: CLIP's share of "no face"."""
        if self.device not in self._zero_image:
            zeros = torch.zeros(1, 3, self.clip_side, self.clip_side)
            self._zero_image[self.device] = self._penultimate(zeros)
        return self._zero_image[self.device]

    def _penultimate(self, clip_pixels_BCHW: Tensor) -> Tensor:
        pixels = clip_pixels_BCHW.to(self.device, self.image_encoder.dtype)
        states: Tensor = self.image_encoder(pixels, output_hidden_states=True).hidden_states[-2]
        return states


def _load(kind: Any, source: str, subfolder: str, revision: str | None) -> Any:
    """Return a pretrained part from a folder or from the hub; `subfolder` may be empty."""
    options = {"revision": revision} if revision else {}
    is_folder = Path(source).is_dir()
    if is_folder and not (Path(source) / subfolder).is_dir():
        raise UsageError(f"{source}: no folder {subfolder!r} in it, where diffusers keeps {kind.__name__}")
    try:
        return kind.from_pretrained(source, subfolder=subfolder, local_files_only=is_folder, **options)
    except (OSError, ValueError) as error:
        where = f"{source}/{subfolder}" if subfolder else source
        raise UsageError(f"{where}: no {kind.__name__} could be loaded from it: {error}") from error

"""The frozen encoders that trainer and pipeline share: what the base brings, and the CLIP vision model.

Shapes: B batch, C channels, H and W sizes, N CLIP tokens, D their width.
"""

from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from curation.errors import UsageError
from facemakeup.config import ModelConfig
from facemakeup.model.base import BaseEncoders, BaseLatents
from facemakeup.model.bases import base_of
from facemakeup.model.pretrained import load_part, settle
from facemakeup.model.send import send
from filters.loading import torch_device


class CacheEncoders(Protocol):
    """What filling caches needs of the encoders: `Encoders` have it, and so have `LatentEncoders`, which are small."""

    @property
    def base(self) -> BaseLatents:
        """What turns pixels into latents."""
        ...

    @property
    def clip_side(self) -> int:
        """Side of the square picture that the image encoder takes, pixels."""
        ...

    @property
    def device(self) -> torch.device:
        """Where latents are computed."""
        ...


@dataclass(frozen=True)
class LatentEncoders:
    """The part of the encoders that caches are filled with: no text encoder and no image encoder is in memory."""

    base: BaseLatents
    clip_side: int
    device: torch.device

    @classmethod
    def load(cls, config: ModelConfig, device: str = "cpu") -> "LatentEncoders":
        """Return what a configuration's caches are filled with.

        Raises:
            UsageError, DeviceError: as `Encoders.load`.
        """
        from transformers import CLIPVisionConfig

        place = torch_device(device)
        said = _of_image_encoder(CLIPVisionConfig, config)
        _require_width(said, config)
        return cls(base_of(config).latents(place), int(said.image_size), place)


@dataclass(frozen=True)
class Encoders:
    """Frozen networks around the one that is adapted; every method runs without gradient.

    Example:
        encoders = Encoders.load(load_config(Path("mine.toml")).model, "cuda")
    """

    base: BaseEncoders
    """Latents, texts and noise, as the base has them."""
    image_encoder: Any
    _zero_image: dict[torch.device, Tensor] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(cls, config: ModelConfig, device: str = "cpu", dtype: torch.dtype = torch.float32) -> "Encoders":
        """Return the encoders of a configuration; what must be exact stays in float32 whatever `dtype` says.

        Raises:
            UsageError: a part is not there, or the image encoder has another width than the configuration says.
            DeviceError: torch sees no such device.
        """
        from transformers import CLIPVisionModelWithProjection

        place = torch_device(device)
        base = base_of(config).encoders(place, dtype)
        image_encoder = _of_image_encoder(CLIPVisionModelWithProjection, config, dtype)
        _require_width(image_encoder.config, config)
        return cls(base, settle(image_encoder, place, dtype))

    @property
    def device(self) -> torch.device:
        """Where the encoders are."""
        device: torch.device = self.image_encoder.device
        return device

    @property
    def clip_side(self) -> int:
        """Side of the square picture that the image encoder takes, pixels."""
        return int(self.image_encoder.config.image_size)

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
            seen_KCHW = clip_pixels_BCHW[send(kept_K, clip_pixels_BCHW.device)]
            states[send(kept_K, self.device)] = self._penultimate(seen_KCHW)
        return states

    @torch.no_grad()
    def zero_hidden(self) -> Tensor:
        """Return the hidden states (1, N, D) of the all-zero picture: CLIP's share of "no face"."""
        if self.device not in self._zero_image:
            zeros = torch.zeros(1, 3, self.clip_side, self.clip_side)
            self._zero_image[self.device] = self._penultimate(zeros)
        return self._zero_image[self.device]

    def _penultimate(self, clip_pixels_BCHW: Tensor) -> Tensor:
        return penultimate(self.image_encoder, clip_pixels_BCHW)


@torch.no_grad()
def penultimate(image_encoder: Any, clip_pixels_BCHW: Tensor) -> Tensor:
    """Return a CLIP vision model's hidden states (B, N, D) before its last layer."""
    pixels = clip_pixels_BCHW.to(image_encoder.device, image_encoder.dtype)
    states: Tensor = image_encoder(pixels, output_hidden_states=True).hidden_states[-2]
    return states


def _of_image_encoder(kind: Any, config: ModelConfig, dtype: torch.dtype | None = None) -> Any:
    place = (config.image_encoder, config.image_encoder_subfolder, config.image_encoder_revision)
    return load_part(kind, *place, dtype)


def _require_width(said: Any, config: ModelConfig) -> None:
    if said.hidden_size != config.clip_width:
        raise UsageError(
            f"{config.image_encoder}: its hidden states are {said.hidden_size} wide; "
            f"clip_width says {config.clip_width}"
        )

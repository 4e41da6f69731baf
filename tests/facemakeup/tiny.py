"""Adapters of a tiny random Stable Diffusion (`facemakeup.model.tiny_base`), for tests on one core."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facemakeup.config import ModelConfig, Recogniser
from facemakeup.model.facemakeup import FaceMakeUp
from facemakeup.model.tiny_base import (
    CLIP_SIDE,
    CLIP_WIDTH,
    LATENT_SIDE,
    SCHEDULE,
    SIDE,
    TEXT_LENGTH,
    UNET,
    WIDTH,
    seeded,
    write_base,
)

__all__ = [
    "CLIP_SIDE",
    "CLIP_TOKENS",
    "CLIP_WIDTH",
    "IDENTITY_WIDTH",
    "LATENT_SIDE",
    "NUM_TRAINABLE",
    "SCHEDULE",
    "SIDE",
    "TEXT_LENGTH",
    "UNET",
    "WIDTH",
    "seeded",
    "tiny_config",
    "tiny_inputs",
    "tiny_model",
    "trained",
    "write_base",
]

IDENTITY_WIDTH = 512
CLIP_TOKENS = 17
NUM_TRAINABLE = 1_464_632


def tiny_config(folder: Path, **changes: Any) -> ModelConfig:
    """Return the configuration of an adapter on the base in `folder`."""
    settings: dict[str, Any] = {
        "base": str(folder),
        "image_encoder": str(folder),
        "image_encoder_subfolder": "image_encoder",
        "clip_width": CLIP_WIDTH,
        "recogniser": Recogniser(name="tiny", width=IDENTITY_WIDTH, sha256="0" * 64),
        "lora_rank": 8,
        "pose_channels": (8, 16, 16, 16),
    }
    return ModelConfig(**{**settings, **changes})


def tiny_model(config: ModelConfig, seed: int = 1) -> FaceMakeUp:
    """Return a fresh model; the same seed gives the same weights."""
    with seeded(seed):
        return FaceMakeUp.from_config(config)


def tiny_inputs(batch: int = 2, seed: int = 2, identity_width: int = IDENTITY_WIDTH) -> dict[str, Tensor]:
    """Return random inputs of `FaceMakeUp.predict` by name."""
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    return {
        "noisy_latents_BCHW": normal(batch, 4, LATENT_SIDE, LATENT_SIDE),
        "timesteps_B": torch.randint(0, 1000, (batch,), generator=draw),
        "text_BLE": normal(batch, TEXT_LENGTH, WIDTH),
        "identity_BD": torch.nn.functional.normalize(normal(batch, identity_width), dim=-1),
        "clip_hidden_BNC": normal(batch, CLIP_TOKENS, CLIP_WIDTH),
        "pose_BCHW": torch.rand(batch, 3, SIDE, SIDE, generator=draw),
    }


def trained(model: FaceMakeUp, seed: int = 3, spread: float = 0.05) -> FaceMakeUp:
    """Move every trainable parameter at random, as training would, and return the model."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.trainable_named_parameters().values():
            parameter.add_(torch.randn(parameter.shape, generator=draw) * spread)
    return model

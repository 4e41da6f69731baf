"""Networks without weights, on the meta device, from a base's JSON files alone: to be counted, or filled."""

from pathlib import Path
from typing import Any

import torch

import configs
from facemakeup.config import ModelConfig, Recogniser
from facemakeup.model.bases import base_of
from facemakeup.model.facemakeup import FaceMakeUp
from facemakeup.model.pretrained import load_config

CONFIGS = Path(next(iter(configs.__path__)))
SD15 = CONFIGS / "sd15"
"""Sizes of Stable Diffusion 1.5 and of the CLIP ViT-H that the published adapter looks through."""
SDXL, FLUX = CONFIGS / "sdxl", CONFIGS / "flux"
"""Sizes of Stable Diffusion XL (base, 1.0) and of FLUX.1 dev."""
UNKNOWN_SHA256 = "0" * 64


def sd15_config(base: Path = SD15) -> ModelConfig:
    """Return the published adapter's configuration on Stable Diffusion 1.5 or another base (no weights lie there)."""
    recogniser = Recogniser(name="insightface_512d", width=512, sha256=UNKNOWN_SHA256)
    return ModelConfig(
        base=str(base), image_encoder=str(SD15), image_encoder_subfolder="image_encoder", recogniser=recogniser
    )


def network(config: ModelConfig) -> Any:
    """Return the base's network on the meta device."""
    return base_of(config).skeleton()


def face_makeup(config: ModelConfig) -> FaceMakeUp:
    """Return the whole model on the meta device."""
    return FaceMakeUp.skeleton(config)


def encoders(config: ModelConfig) -> dict[str, Any]:
    """Return what stands frozen around the network, and `image_encoder`, on the meta device."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    settings = load_config(config.image_encoder, config.image_encoder_subfolder)
    with torch.device("meta"):
        image_encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**settings))
    return {**base_of(config).frozen_skeletons(), "image_encoder": image_encoder}


def num_parameters(network: Any) -> int:
    """Return how many numbers a network holds, trained or not."""
    return sum(parameter.numel() for parameter in network.parameters())

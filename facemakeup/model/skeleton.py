"""Networks without weights, on the meta device, from a base's JSON files alone: for counting, not for computing."""

import json
from pathlib import Path
from typing import Any

import torch

import configs
from facemakeup.config import ModelConfig, Recogniser
from facemakeup.model.facemakeup import FaceMakeUp

SD15 = Path(next(iter(configs.__path__))) / "sd15"
"""Sizes of Stable Diffusion 1.5 and of the CLIP ViT-H that the published adapter looks through."""
UNKNOWN_SHA256 = "0" * 64


def sd15_config() -> ModelConfig:
    """Return the published adapter's configuration on Stable Diffusion 1.5 (no weights lie there)."""
    recogniser = Recogniser(name="insightface_512d", width=512, sha256=UNKNOWN_SHA256)
    return ModelConfig(
        base=str(SD15), image_encoder=str(SD15), image_encoder_subfolder="image_encoder", recogniser=recogniser
    )


def unet(base: Path) -> Any:
    """Return the base's U-Net on the meta device."""
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        return UNet2DConditionModel.from_config(_json(base / "unet" / "config.json"))


def face_makeup(config: ModelConfig) -> FaceMakeUp:
    """Return the whole model on the meta device; `config.base` is a folder."""
    with torch.device("meta"):
        return FaceMakeUp.from_config(config, unet(Path(config.base)))


def encoders(base: Path) -> dict[str, Any]:
    """Return `vae`, `text_encoder` and `image_encoder` on the meta device."""
    from diffusers import AutoencoderKL
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

    with torch.device("meta"):
        return {
            "vae": AutoencoderKL.from_config(_json(base / "vae" / "config.json")),
            "text_encoder": CLIPTextModel(CLIPTextConfig(**_json(base / "text_encoder" / "config.json"))),
            "image_encoder": CLIPVisionModelWithProjection(
                CLIPVisionConfig(**_json(base / "image_encoder" / "config.json"))
            ),
        }


def num_parameters(network: Any) -> int:
    """Return how many numbers a network holds, trained or not."""
    return sum(parameter.numel() for parameter in network.parameters())


def _json(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded

"""A tiny Stable Diffusion 1.5 as diffusers writes pipelines (`facemakeup.model.tiny_sdxl` writes an XL so)."""

import json
from pathlib import Path

from facemakeup.model import tiny_base

POSE_CHANNELS = (8, 16, 16, 16)
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def write_sd15(folder: Path) -> Path:
    """Write a base that a pipeline of diffusers loads, with a CLIP vision model in `image_encoder`."""
    tiny_base.write_base(folder)
    (folder / "model_index.json").write_text(json.dumps(INDEX), encoding="utf-8")
    return folder

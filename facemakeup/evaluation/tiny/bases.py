"""Tiny Stable Diffusion 1.5 and XL, as diffusers writes pipelines."""

import json
from pathlib import Path
from typing import Any

from facemakeup.model import tiny_base
from facemakeup.model.tiny_base import LATENT_SIDE, VAE, seeded, tokenizer

XL_TEXT_WIDTH = 64
XL_POOLED_WIDTH = 32
XL_TIME_WIDTH = 8
XL_WIDTH = 2 * XL_TEXT_WIDTH
XL_UNET: dict[str, Any] = {
    "sample_size": LATENT_SIDE,
    "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "transformer_layers_per_block": (1, 2),
    "cross_attention_dim": XL_WIDTH,
    "attention_head_dim": (2, 4),
    "norm_num_groups": 8,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": XL_TIME_WIDTH,
    "projection_class_embeddings_input_dim": 6 * XL_TIME_WIDTH + XL_POOLED_WIDTH,
}
XL_SCHEDULE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
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


def write_sdxl(folder: Path, seed: int = 0) -> Path:
    """Write a base of the XL kind: two text encoders, pooled text and sizes as conditions."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    with seeded(seed):
        words = tokenizer()
        pipe = StableDiffusionXLPipeline(
            vae=AutoencoderKL(**VAE),
            text_encoder=CLIPTextModel(_text_config(words)),
            text_encoder_2=CLIPTextModelWithProjection(_text_config(words)),
            tokenizer=words,
            tokenizer_2=words,
            unet=UNet2DConditionModel(**XL_UNET),
            scheduler=EulerDiscreteScheduler(**XL_SCHEDULE),
            add_watermarker=False,
        )
    pipe.save_pretrained(folder)
    return folder


def _text_config(words: Any) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=XL_TEXT_WIDTH,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=XL_POOLED_WIDTH,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )

"""A tiny random Stable Diffusion XL with the parts and folders of the real one; text tokens 2 x 64 wide.

python -m facemakeup.model.tiny_sdxl build/tiny-sdxl
"""

import sys
from pathlib import Path
from typing import Any

from facemakeup.model.tiny_base import LATENT_SIDE, VAE, image_encoder, seeded, tokenizer

TEXT_WIDTH = 64
POOLED_WIDTH = 32
TIME_WIDTH = 8
WIDTH = 2 * TEXT_WIDTH
UNET: dict[str, Any] = {
    "sample_size": LATENT_SIDE,
    "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "layers_per_block": 1,
    "transformer_layers_per_block": (1, 2),
    "cross_attention_dim": WIDTH,
    "attention_head_dim": (2, 4),
    "norm_num_groups": 8,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": TIME_WIDTH,
    "projection_class_embeddings_input_dim": 6 * TIME_WIDTH + POOLED_WIDTH,
}
SCHEDULE: dict[str, Any] = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def write_sdxl(folder: Path, seed: int = 0) -> Path:
    """Write what `StableDiffusionXLPipeline` loads, and image_encoder beside it, and return the folder."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    with seeded(seed):
        words = tokenizer()
        pipe = StableDiffusionXLPipeline(
            vae=AutoencoderKL(**VAE),
            text_encoder=CLIPTextModel(text_config(words, TEXT_WIDTH, POOLED_WIDTH)),
            text_encoder_2=CLIPTextModelWithProjection(text_config(words, TEXT_WIDTH, POOLED_WIDTH)),
            tokenizer=words,
            tokenizer_2=words,
            unet=UNet2DConditionModel(**UNET),
            scheduler=EulerDiscreteScheduler(**SCHEDULE),
            add_watermarker=False,
        )
        pipe.save_pretrained(folder)
        image_encoder().save_pretrained(folder / "image_encoder")
    return folder


def text_config(words: Any, width: int, pooled_width: int) -> Any:
    """Return the sizes of a CLIP text encoder for a tokenizer."""
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=width,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=pooled_width,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )


if __name__ == "__main__":
    write_sdxl(Path(sys.argv[1]))

"""A tiny random FLUX.1 with the parts and folders of the real one; two double and two single blocks, 64 wide.

python -m facemakeup.model.tiny_flux build/tiny-flux
"""

import sys
from pathlib import Path
from typing import Any

from facemakeup.model.tiny_base import CORPUS, SIDE, VAE, image_encoder, seeded, tokenizer
from facemakeup.model.tiny_sdxl import text_config

WIDTH = 64
POOLED_WIDTH = 32
TEXT_LENGTH = 24
TRANSFORMER: dict[str, Any] = {
    "in_channels": 16,
    "num_layers": 2,
    "num_single_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 4,
    "joint_attention_dim": WIDTH,
    "pooled_projection_dim": POOLED_WIDTH,
    "guidance_embeds": True,
    "axes_dims_rope": (4, 6, 6),
}
LATENTS: dict[str, Any] = {
    "scaling_factor": 0.3611, "shift_factor": 0.1159, "use_quant_conv": False, "use_post_quant_conv": False,
}  # fmt: skip
SCHEDULE: dict[str, Any] = {"shift": 3.0, "use_dynamic_shifting": True}


def write_flux(folder: Path, seed: int = 0, is_told_guidance: bool = True) -> Path:
    """Write what `FluxPipeline` loads, and image_encoder beside it, and return the folder."""
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel

    with seeded(seed):
        words, pieces = tokenizer(), t5_tokenizer()
        pipe = FluxPipeline(
            vae=AutoencoderKL(**{**VAE, **LATENTS, "sample_size": SIDE}),
            text_encoder=CLIPTextModel(text_config(words, POOLED_WIDTH, POOLED_WIDTH)),
            text_encoder_2=_t5(pieces),
            tokenizer=words,
            tokenizer_2=pieces,
            transformer=FluxTransformer2DModel(**{**TRANSFORMER, "guidance_embeds": is_told_guidance}),
            scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULE),
        )
        pipe.save_pretrained(folder)
        image_encoder().save_pretrained(folder / "image_encoder")
    return folder


def t5_tokenizer() -> Any:
    """Return a T5 tokenizer whose pieces are the letters of a few sentences, and their words."""
    from transformers import T5TokenizerFast

    words = sorted({f"\u2581{word}" for line in CORPUS for word in line.split()})
    letters = sorted({"\u2581", *"abcdefghijklmnopqrstuvwxyz,.0123456789"})
    special = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    vocab = special + [(word, -4.0) for word in words] + [(letter, -8.0) for letter in letters]
    return T5TokenizerFast(vocab=vocab, extra_ids=0, model_max_length=TEXT_LENGTH)


def _t5(pieces: Any) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(
            vocab_size=len(pieces), d_model=WIDTH, d_kv=16, d_ff=96, num_layers=2, num_heads=4,
            feed_forward_proj="gated-gelu", pad_token_id=0, eos_token_id=1,
        )
    )  # fmt: skip


if __name__ == "__main__":
    write_flux(Path(sys.argv[1]))

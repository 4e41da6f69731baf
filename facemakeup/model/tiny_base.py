"""A tiny random Stable Diffusion with the parts and folders of the real one: what `configs/train/tiny.toml` trains on.

64-pixel pictures, 8 x 8 latents, text tokens 64 wide; a trained adapter of it has 1.46 million parameters.

    python -m facemakeup.model.tiny_base build/tiny-base

`facemakeup.model.tiny_sdxl` and `facemakeup.model.tiny_flux` write those of the other kinds.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

SIDE = 64
LATENT_SIDE = 8
WIDTH = 64
CLIP_WIDTH = 48
CLIP_SIDE = 32
TEXT_LENGTH = 77

UNET: dict[str, Any] = {
    "sample_size": LATENT_SIDE,
    "block_out_channels": (32, 64),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "layers_per_block": 1,
    "cross_attention_dim": WIDTH,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
VAE: dict[str, Any] = {
    "block_out_channels": (8, 16, 16, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "sample_size": SIDE,
}
SCHEDULE: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "steps_offset": 1,
}
CORPUS = (
    "a person wearing a red hat and glasses, standing in a park",
    "a woman with long dark hair smiles at the camera near a sunny beach",
    "a man in a white shirt holding a cup of coffee under streetlights",
)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from a seed inside, and leave the outer generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def write_base(folder: Path, prediction_type: str = "epsilon", seed: int = 0) -> Path:
    """Write unet, vae, text_encoder, tokenizer, scheduler and image_encoder, and return the folder."""
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

    with seeded(seed):
        UNet2DConditionModel(**UNET).save_pretrained(folder / "unet")
        AutoencoderKL(**VAE).save_pretrained(folder / "vae")
        words = tokenizer()
        words.save_pretrained(folder / "tokenizer")
        _text_encoder(words).save_pretrained(folder / "text_encoder")
        image_encoder().save_pretrained(folder / "image_encoder")
    schedule = DDIMScheduler(**SCHEDULE, set_alpha_to_one=False, prediction_type=prediction_type)
    schedule.save_pretrained(folder / "scheduler")
    return folder


def tokenizer() -> Any:
    """Return a CLIP tokenizer whose byte pairs were learned from a few sentences."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import CLIPTokenizer

    start, end = "<|startoftext|>", "<|endoftext|>"
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator((word for line in CORPUS for word in line.split()), trainer)
    learned = json.loads(learner.to_str())["model"]
    words = {*learned["vocab"], *alphabet, *(f"{letter}</w>" for letter in alphabet)}
    vocab = {word: index for index, word in enumerate([*sorted(words), start, end])}
    merges = [tuple(pair) for pair in learned["merges"]]
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=TEXT_LENGTH)


def _text_encoder(tokenizer: Any) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TEXT_LENGTH,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )


def image_encoder() -> Any:
    """Return a CLIP vision model."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=CLIP_WIDTH,
            intermediate_size=96,
            projection_dim=32,
            num_hidden_layers=3,
            num_attention_heads=4,
            image_size=CLIP_SIDE,
            patch_size=8,
        )
    )


if __name__ == "__main__":
    write_base(Path(sys.argv[1]))

"""Tiny random networks of the published classes, in folders as transformers writes them."""

import json
from pathlib import Path
from typing import Any

from facemakeup.model import tiny_base
from tests.facemakeup import tiny

SIDE = 32
CLIP_PROCESSOR: dict[str, Any] = {
    "crop_size": {"height": SIDE, "width": SIDE},
    "do_center_crop": True,
    "do_resize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": {"shortest_edge": SIDE},
}
DINO_PROCESSOR: dict[str, Any] = {
    "do_resize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "resample": 3,
    "size": SIDE,
}


def write_clip(folder: Path) -> Path:
    from transformers import CLIPConfig, CLIPModel

    tokenizer = tiny_base._tokenizer()
    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = CLIPConfig(
        text_config={**shape, **ends, "vocab_size": len(tokenizer), "max_position_embeddings": tiny.TEXT_LENGTH},
        vision_config={**shape, "image_size": SIDE, "patch_size": 8},
        projection_dim=12,
    )
    with tiny.seeded(5):
        CLIPModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(CLIP_PROCESSOR))
    return folder


def write_dino(folder: Path) -> Path:
    from transformers import ViTConfig, ViTModel

    config = ViTConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=8
    )
    with tiny.seeded(6):
        ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(DINO_PROCESSOR))
    return folder

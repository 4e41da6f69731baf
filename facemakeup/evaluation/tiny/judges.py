"""Tiny random judges of the published classes, in folders as transformers writes them; two are of the full size."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from facemakeup.model.tiny_base import TEXT_LENGTH, seeded, tokenizer

SIDE = 32
SHAPE: Mapping[str, int] = MappingProxyType(
    {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
)
CLIP_PROCESSOR: Mapping[str, Any] = MappingProxyType(
    {
        "crop_size": {"height": SIDE, "width": SIDE},
        "do_center_crop": True,
        "do_resize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": {"shortest_edge": SIDE},
    }
)
DINO_PROCESSOR: Mapping[str, Any] = MappingProxyType(
    {
        "do_resize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "resample": 3,
        "size": SIDE,
    }
)
NUM_NUMBERS = 65_536
"""At least inputs and outputs of the largest layer of the judges."""
VLM_SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>",
    "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
)  # fmt: skip
VLM_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_clip(folder: Path) -> Path:
    """Write a CLIP of the class of `openai/clip-vit-base-patch16`."""
    from transformers import CLIPConfig, CLIPModel

    words = tokenizer()
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    config = CLIPConfig(
        text_config={**SHAPE, **ends, "vocab_size": len(words), "max_position_embeddings": TEXT_LENGTH},
        vision_config={**SHAPE, "image_size": SIDE, "patch_size": 8},
        projection_dim=12,
    )
    with seeded(5):
        CLIPModel(config).save_pretrained(folder)
    words.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(dict(CLIP_PROCESSOR)))
    return folder


def write_dino(folder: Path) -> Path:
    """Write a ViT of the class of `facebook/dino-vits16`."""
    from transformers import ViTConfig, ViTModel

    with seeded(6):
        ViTModel(ViTConfig(**SHAPE, image_size=SIDE, patch_size=8), add_pooling_layer=False).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(dict(DINO_PROCESSOR)))
    return folder


def write_vlm(folder: Path) -> Path:
    """Write a Qwen2-VL; what it replies is noise."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    learner = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.decoder = decoders.ByteLevel()
    words = PreTrainedTokenizerFast(
        tokenizer_object=learner, eos_token=VLM_SPECIAL[2], pad_token=VLM_SPECIAL[0],
        additional_special_tokens=[VLM_SPECIAL[1], *VLM_SPECIAL[3:]],
    )  # fmt: skip
    named = {name: words.convert_tokens_to_ids(name) for name in VLM_SPECIAL}
    config = Qwen2VLConfig(
        text_config={
            **SHAPE, "num_key_value_heads": 1, "vocab_size": len(words), "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
            "bos_token_id": named[VLM_SPECIAL[0]], "eos_token_id": named[VLM_SPECIAL[2]],
        },
        vision_config={
            "depth": 2, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14,
        },
        image_token_id=named[VLM_SPECIAL[5]], video_token_id=named[VLM_SPECIAL[6]],
        vision_start_token_id=named[VLM_SPECIAL[3]], vision_end_token_id=named[VLM_SPECIAL[4]],
    )  # fmt: skip
    with seeded(7):
        Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    images = Qwen2VLImageProcessorPil(min_pixels=56 * 56, max_pixels=112 * 112)
    videos = Qwen2VLVideoProcessor(min_pixels=56 * 56, max_pixels=112 * 112)
    Qwen2VLProcessor(images, words, videos, chat_template=VLM_TEMPLATE).save_pretrained(folder)
    return folder


def write_inception(path: Path) -> Path:
    """Write weights for FID's Inception, of the published size."""
    from facemakeup.evaluation.inception import fid_inception

    return _write_weights(path, fid_inception())


def write_attributes(path: Path) -> Path:
    """Write weights for the classifier of CelebA's attributes, of the published size."""
    from torchvision.models import resnet50

    from facemakeup.evaluation.attributes import NUM_ATTRIBUTES

    return _write_weights(path, resnet50(num_classes=NUM_ATTRIBUTES))


def _write_weights(path: Path, network: nn.Module) -> Path:
    """Write random weights that are views of few numbers, so that the file is small; norms stay as they are made."""
    with seeded(8):
        noise = torch.randn(NUM_NUMBERS)
    torch.save({name: _view(noise, tensor) for name, tensor in network.state_dict().items()}, path)
    return path


def _view(noise: Tensor, tensor: Tensor) -> Tensor:
    """Return a tensor of this shape whose rows are the same noise, each one number further on."""
    if tensor.ndim < 2:
        return tensor
    num_inputs = tensor[0].numel()
    numbers = noise[: num_inputs + len(tensor) - 1] * (2 / num_inputs) ** 0.5
    rows: Tensor = numbers.as_strided(tensor.shape, (1, *_inner_strides(tensor.shape[1:])))
    return rows


def _inner_strides(shape: torch.Size) -> tuple[int, ...]:
    strides, step = [], 1
    for side in reversed(shape):
        strides.append(step)
        step *= side
    return tuple(reversed(strides))

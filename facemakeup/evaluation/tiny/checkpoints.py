"""Tiny checkpoints of the five methods, with the names of tensors that the published files have."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facemakeup.config import ModelConfig, Recogniser
from facemakeup.evaluation.generators.attention import face_layout, lora_layout
from facemakeup.evaluation.generators.checkpoints import Layout
from facemakeup.evaluation.generators.eva import VISUAL, network_like
from facemakeup.evaluation.generators.instantid import FaceTokens
from facemakeup.evaluation.generators.photomaker_encoder import IdEncoder
from facemakeup.evaluation.generators.pulid import ADAPTER, ATTENTIONS
from facemakeup.evaluation.generators.pulid_encoders import MlpEncoder, PerceiverEncoder
from facemakeup.evaluation.tiny.bases import POSE_CHANNELS
from facemakeup.evaluation.tiny.recognition import IDENTITY_WIDTH
from facemakeup.inference.export import export
from facemakeup.model.attention import PROCESSOR_SUFFIX
from facemakeup.model.facemakeup import FaceMakeUp
from facemakeup.model.projector import Projector
from facemakeup.model.tiny_base import CLIP_SIDE, CLIP_WIDTH, WIDTH, seeded
from facemakeup.model.tiny_sdxl import WIDTH as XL_WIDTH

RANK = 4
HIDDEN = 64
EVA_FEATURES, EVA_DEPTH, EVA_PATCH, EVA_SIDE, EVA_INNER = 32, 6, 14, 56, 96
SPREAD = 0.2


def write_adapter(folder: Path, base: Path, recogniser: Recogniser, seed: int = 1) -> Path:
    """Write an adapter of Face-MakeUp whose every weight was moved at random."""
    config = ModelConfig(
        base=str(base), image_encoder=str(base), image_encoder_subfolder="image_encoder", clip_width=CLIP_WIDTH,
        recogniser=recogniser, lora_rank=RANK, pose_channels=POSE_CHANNELS,
    )  # fmt: skip
    with seeded(seed), torch.no_grad():
        model = FaceMakeUp.from_config(config)
        for parameter in model.trainable_named_parameters().values():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    export(model, folder, {"step": 0, "weights": "tiny and random", "crop_mode": "face", "crop_factor": 1.5})
    return folder


def write_face_id_plus(path: Path, unet: Any, seed: int = 2) -> Path:
    """Write IP-Adapter FaceID-Plus."""
    with seeded(seed):
        projector = Projector(IDENTITY_WIDTH, CLIP_WIDTH, WIDTH)
        attentions = _drawn({**face_layout(unet), **lora_layout(unet, RANK)})
        torch.save({"image_proj": projector.state_dict(), "ip_adapter": attentions}, path)
    return path


def write_instantid(folder: Path, unet: Any, seed: int = 3) -> Path:
    """Write InstantID: `ip-adapter.bin` and `ControlNetModel`."""
    from diffusers import ControlNetModel

    folder.mkdir(parents=True, exist_ok=True)
    with seeded(seed):
        tokens = FaceTokens(IDENTITY_WIDTH, HIDDEN, XL_WIDTH)
        parts = {"image_proj": tokens.state_dict(), "ip_adapter": _drawn(face_layout(unet))}
        torch.save(parts, folder / "ip-adapter.bin")
        controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=POSE_CHANNELS)
        with torch.no_grad():
            for parameter in controlnet.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    controlnet.save_pretrained(folder / "ControlNetModel")
    return folder


def write_photomaker(path: Path, unet: Any, version: str, seed: int = 4) -> Path:
    """Write PhotoMaker, v1 or v2."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=HIDDEN, intermediate_size=96, num_hidden_layers=2, num_attention_heads=1, image_size=CLIP_SIDE,
        patch_size=8, projection_dim=XL_WIDTH // 2,
    )  # fmt: skip
    with seeded(seed):
        clip = CLIPVisionModelWithProjection(config)
        encoder = IdEncoder(clip, XL_WIDTH, IDENTITY_WIDTH if version == "v2" else None)
        lora = _drawn(_old_lora_layout(unet))
    torch.save({"id_encoder": encoder.state_dict(), "lora_weights": lora}, path)
    return path


def write_pulid(path: Path, unet: Any, version: str, seed: int = 5) -> Path:
    """Write PuLID, v1 as `.bin` or v1.1 as `.safetensors`, flat as published."""
    from safetensors.torch import save_file

    identity = IDENTITY_WIDTH + EVA_FEATURES
    with seeded(seed):
        encoder: Any = (
            MlpEncoder(identity, HIDDEN, HIDDEN, XL_WIDTH)
            if version == "v1"
            else PerceiverEncoder(identity, HIDDEN, HIDDEN, HIDDEN, XL_WIDTH, num=8)
        )
        attentions = _drawn(face_layout(unet, "id_to_k", "id_to_v"))
    parts = {ADAPTER: encoder.state_dict(), ATTENTIONS: attentions}
    flat = {f"{part}.{name}": tensor.contiguous() for part, state in parts.items() for name, tensor in state.items()}
    if version == "v1":
        torch.save(flat, path)
    else:
        save_file(flat, path)
    return path


def write_eva(path: Path, seed: int = 6) -> Path:
    """Write EVA02-CLIP's visual part with the names of its makers."""
    with seeded(seed):
        network = network_like(_eva_sizes())
        state = {f"{VISUAL}.{_makers_name(name)}": tensor for name, tensor in network.state_dict().items()}
    torch.save(state, path)
    return path


def _eva_sizes() -> dict[str, Tensor]:
    places = (EVA_SIDE // EVA_PATCH) ** 2 + 1
    shapes = {
        "pos_embed": (1, places, HIDDEN), "patch_embed.proj.weight": (HIDDEN, 3, EVA_PATCH, EVA_PATCH),
        "blocks.0.mlp.w1.weight": (EVA_INNER, HIDDEN), "head.weight": (EVA_FEATURES, HIDDEN),
        **{f"blocks.{number}.norm1.weight": (HIDDEN,) for number in range(EVA_DEPTH)},
    }  # fmt: skip
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def _makers_name(name: str) -> str:
    """Return the name that EVA-CLIP's makers give to a tensor of timm's network."""
    for ours, theirs in (
        ("mlp.norm", "mlp.ffn_ln"), ("attn.norm", "attn.inner_attn_ln"), ("mlp.fc1_g", "mlp.w1"),
        ("mlp.fc1_x", "mlp.w2"), ("mlp.fc2", "mlp.w3"), ("q_proj.bias", "q_bias"), ("v_proj.bias", "v_bias"),
    ):  # fmt: skip
        name = name.replace(ours, theirs)
    return name


def _old_lora_layout(unet: Any) -> Layout:
    """Return the layout of a low-rank change as diffusers once named it, and PhotoMaker's files do."""
    numbered = lora_layout(unet, RANK)
    names = [name.removesuffix(PROCESSOR_SUFFIX) for name in unet.attn_processors]
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in numbered.items():
        number, _, rest = name.partition(".")
        found[f"unet.{names[int(number)]}.processor.{rest}"] = shape
    return found


def _drawn(layout: Layout) -> Mapping[str, Tensor]:
    return {name: torch.randn(shape) * SPREAD for name, shape in layout.items()}

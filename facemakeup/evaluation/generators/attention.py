"""How published adapters name the attentions of a U-Net: by their number in the order of its attention processors."""

from collections.abc import Iterator
from typing import Any

from facemakeup.evaluation.generators.checkpoints import Layout
from facemakeup.model.attention import PROCESSOR_SUFFIX

CROSS = "attn2"


def cross_attentions(unet: Any) -> Iterator[tuple[int, str, Any]]:
    """Yield number, processor's name and module of every attention to the text."""
    for number, name in enumerate(unet.attn_processors):
        path = name.removesuffix(PROCESSOR_SUFFIX)
        if path.endswith(CROSS):
            yield number, name, unet.get_submodule(path)


def face_layout(unet: Any, key: str = "to_k_ip", value: str = "to_v_ip") -> Layout:
    """Return the layout of a face's key and value layers, as wide as those of the text."""
    return {
        f"{number}.{name}.weight": (attention.to_k.out_features, attention.to_k.in_features)
        for number, _, attention in cross_attentions(unet)
        for name in (key, value)
    }


def lora_layout(unet: Any, rank: int) -> Layout:
    """Return the layout of a low-rank change of every attention's q, k, v and out."""
    found: dict[str, tuple[int, ...]] = {}
    for number, name in enumerate(unet.attn_processors):
        attention = unet.get_submodule(name.removesuffix(PROCESSOR_SUFFIX))
        for target in ("to_q", "to_k", "to_v", "to_out"):
            layer = attention.to_out[0] if target == "to_out" else getattr(attention, target)
            found[f"{number}.{target}_lora.down.weight"] = (rank, layer.in_features)
            found[f"{number}.{target}_lora.up.weight"] = (layer.out_features, rank)
    return found

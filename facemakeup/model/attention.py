"""Lets a U-Net of diffusers attend to face tokens beside its text (decoupled cross-attention), and adapts it by LoRA.

Every cross-attention computes `Attn(Q, K_text, V_text) + scale * Attn(Q, K_face, V_face)`, where the face's key and
value layers start as copies of the text's. Every attention's q, k, v and out get a low-rank change through PEFT;
that of k and v acts on the text alone. After IP-Adapter (arXiv 2308.06721) and its FaceID variants.

Shapes: B batch, S queries, L text tokens, T face tokens, E width of tokens, W width of the attention.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from facemakeup.config import NUM_TOKENS

LORA_NAME = "face"
LORA_TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""Layers of diffusers' `Attention`."""
PROCESSOR_SUFFIX = ".processor"


class FaceAttention(nn.Module):
    """Attention processor of a cross-attention; its context ends with the face tokens."""

    def __init__(self, context_width: int, width: int) -> None:
        """Make the face's key and value layers."""
        super().__init__()
        self.to_k_ip = nn.Linear(context_width, width, bias=False)
        self.to_v_ip = nn.Linear(context_width, width, bias=False)
        self.scale = 1.0
        self.listens = False
        """Whether passes with a gradient compute how attention to the text is spread."""
        self.keeps = False
        """Whether they keep it: not where activations are computed once more, after it was heard."""
        self.spread_BHSL: Tensor | None = None

    def forward(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Return the attention's output (B, S, W); the parameters' names are diffusers'.

        `encoder_hidden_states` is (B, L + T, E). A plain transformer block calls its attentions with a sequence,
        without a mask, a residual or a norm of their own: `install` refuses others.
        """
        text_BLE, face_BTE = encoder_hidden_states[:, :-NUM_TOKENS], encoder_hidden_states[:, -NUM_TOKENS:]
        query = _split(attn.to_q(hidden_states), attn.heads)
        key = attn.to_k(text_BLE)
        if self.listens and torch.is_grad_enabled():
            spread_BHSL = _spread(query, key)  # again, too: what is computed again must be the same
            self.spread_BHSL = spread_BHSL if self.keeps else None
        out_BSW = _attend(query, key, attn.to_v(text_BLE))
        if self.scale != 0:
            out_BSW = out_BSW + self.scale * _attend(query, self.to_k_ip(face_BTE), self.to_v_ip(face_BTE))
        out: Tensor = attn.to_out[1](attn.to_out[0](out_BSW))
        return out


def _split(tokens: Tensor, num_heads: int) -> Tensor:
    return tokens.reshape(*tokens.shape[:2], num_heads, -1).transpose(1, 2)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    num_heads = query.shape[1]
    out = scaled_dot_product_attention(query, _split(key, num_heads), _split(value, num_heads))
    return out.transpose(1, 2).flatten(2)


def _spread(query: Tensor, key: Tensor) -> Tensor:
    """Return the share of its attention that each query gives to each key, float32."""
    likeness = query @ _split(key, query.shape[1]).transpose(2, 3)
    spread: Tensor = (likeness.float() / query.shape[3] ** 0.5).softmax(dim=-1)
    return spread


def listen(unet: Any) -> None:
    """From now on keep how attention to the text is spread, in passes with a gradient, until it is heard."""
    faced = list(face_attentions(unet).values())

    def begin(*_: object) -> None:
        for processor in faced:
            processor.listens = processor.keeps = True

    unet.register_forward_pre_hook(begin)  # blocks that are computed again in the backward pass do not come by here


def heard(unet: Any) -> list[Tensor]:
    """Return how the attentions of the last pass were spread, (B, heads, S, L) each, and forget it."""
    spread = [each.spread_BHSL for each in face_attentions(unet).values() if each.spread_BHSL is not None]
    for processor in face_attentions(unet).values():
        processor.spread_BHSL, processor.keeps = None, False
    return spread


def install(unet: Any, sees_text: Callable[[str], bool], lora_rank: int) -> None:
    """Freeze a U-Net, then add face attentions and LoRA, both trainable.

    `sees_text` says by its name whether an attention processor is that of a cross-attention.

    Raises:
        ValueError: a cross-attention computes more than a face attention does.
    """
    unet.requires_grad_(False)
    processors = dict(unet.attn_processors)
    for name in processors:
        if sees_text(name):
            processors[name] = _face_attention(unet.get_submodule(name.removesuffix(PROCESSOR_SUFFIX)), name)
    unet.set_attn_processor(processors)
    add_lora(unet, lora_rank)
    for processor in face_attentions(unet).values():
        processor.requires_grad_(True)


def add_lora(network: Any, rank: int) -> None:
    """Give every attention of a network of diffusers a low-rank change, which is trained and begins at nothing.

    It is in float32, whatever the network is in.
    """
    from peft import LoraConfig

    with _shown_in_float32([module for module in network.modules() if isinstance(module, nn.Linear)]):
        network.add_adapter(
            LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=list(LORA_TARGETS)),
            adapter_name=LORA_NAME,
        )


@contextmanager
def _shown_in_float32(layers: Sequence[nn.Linear]) -> Iterator[None]:
    """Show PEFT, which rounds what it draws to the precision of the layers that it changes, layers in float32.

    What stands in for their weights holds one number each.
    """
    own = [(layer, layer.weight.data) for layer in layers if layer.weight.dtype != torch.float32]
    for layer, weight in own:
        layer.weight.data = weight.new_zeros((), dtype=torch.float32).expand(weight.shape)
    try:
        yield
    finally:
        for layer, weight in own:
            layer.weight.data = weight


def _face_attention(attn: Any, name: str) -> FaceAttention:
    odd = (attn.spatial_norm, attn.group_norm, attn.norm_cross, attn.norm_q, attn.norm_k)
    if any(odd) or attn.residual_connection or attn.rescale_output_factor != 1 or attn.to_k.bias is not None:
        raise ValueError(
            f"{name}: has a norm, a residual, a scale or a bias of its own, which a face attention would leave out; "
            f"Face-MakeUp adapts plain attentions, as those of Stable Diffusion 1.x and 2.x are"
        )
    made = FaceAttention(attn.to_k.in_features, attn.to_k.out_features)
    made.to(attn.to_k.weight.device)
    with torch.no_grad():
        made.to_k_ip.weight.copy_(attn.to_k.weight)
        made.to_v_ip.weight.copy_(attn.to_v.weight)
    return made


def face_attentions(unet: Any) -> dict[str, FaceAttention]:
    """Return name of the processor -> face attention, in the U-Net's order of processors."""
    return {name: each for name, each in unet.attn_processors.items() if isinstance(each, FaceAttention)}


def set_scales(unet: Any, face: float, lora: float) -> None:
    """Set how strongly the face is attended to, and how much of the low-rank change is applied; 1 and 1 in training.

    Both 0 is exactly the base U-Net; face 0 alone is not, once LoRA is trained.
    """
    for processor in face_attentions(unet).values():
        processor.scale = face
    set_lora_scale(unet, lora)


def set_lora_scale(network: Any, scale: float) -> None:
    """Set how much of a network's low-rank change is applied."""
    from peft.tuners.lora import LoraLayer

    for module in network.modules():
        if isinstance(module, LoraLayer):
            module.set_scale(LORA_NAME, scale)

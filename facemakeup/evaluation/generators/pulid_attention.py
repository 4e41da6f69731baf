"""PuLID's attention: beside the text to tokens of the person and of nothing, less what lies along the text's.

The published inference adds two measures to the parallel attention of the paper: tokens of zeros, which give attention
somewhere else to go, and taking out of the person's contribution its projection on the text's, over all places of the
picture, wholly (`v1`) or as far as attention goes to other tokens than the first five (`v2`).

Shapes: B batch, H heads, S places, T tokens, E their width, W width of the attention.
"""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from facemakeup.evaluation.generators.attention import cross_attentions

NUM_FIRST = 5


class IdentityAttention(nn.Module):
    """Attention processor of a cross-attention."""

    def __init__(self, context_width: int, width: int) -> None:
        """Make the person's key and value layers."""
        super().__init__()
        self.id_to_k = nn.Linear(context_width, width, bias=False)
        self.id_to_v = nn.Linear(context_width, width, bias=False)
        self.tokens_BTE: Tensor | None = None
        """Of the person, as many rows as the batch; None leaves the base alone."""
        self.scale, self.num_zero, self.orthogonal = 1.0, 0, "off"

    def forward(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        """Return the attention's output (B, S, W); the parameters' names are diffusers'."""
        query = _split(attn.to_q(hidden_states), attn.heads)
        key, value = attn.to_k(encoder_hidden_states), attn.to_v(encoder_hidden_states)
        text_BSW = _joined(scaled_dot_product_attention(query, _split(key, attn.heads), _split(value, attn.heads)))
        out_BSW = text_BSW if self.tokens_BTE is None or self.scale == 0 else self._with_person(query, text_BSW)
        out: Tensor = attn.to_out[1](attn.to_out[0](out_BSW))
        return out

    def _with_person(self, query_BHSW: Tensor, text_BSW: Tensor) -> Tensor:
        assert self.tokens_BTE is not None
        tokens = nn.functional.pad(self.tokens_BTE, (0, 0, 0, self.num_zero)).to(query_BHSW.dtype)
        num_heads = query_BHSW.shape[1]
        key, value = _split(self.id_to_k(tokens), num_heads), _split(self.id_to_v(tokens), num_heads)
        person = _joined(scaled_dot_product_attention(query_BHSW, key, value)).float()
        if self.orthogonal != "off":
            share = 1.0 if self.orthogonal == "v1" else 1.0 - _share_of_first(query_BHSW, key)
            person = person - share * _along(text_BSW.float(), person)
        return text_BSW + self.scale * person.to(text_BSW.dtype)


def install(unet: Any) -> list[IdentityAttention]:
    """Put a fresh attention processor into every cross-attention, and return them in the U-Net's order."""
    processors = dict(unet.attn_processors)
    made = []
    for _, name, attention in cross_attentions(unet):
        weight = attention.to_k.weight
        processors[name] = IdentityAttention(weight.shape[1], weight.shape[0]).to(weight.device, weight.dtype)
        made.append(processors[name])
    unet.set_attn_processor(processors)
    return made


def _share_of_first(query_BHSW: Tensor, key_BHTW: Tensor) -> Tensor:
    """Return how much of the attention goes to the first tokens, (B, S, 1); unscaled, as published."""
    attended = (query_BHSW @ key_BHTW.transpose(-2, -1)).float().softmax(dim=-1).mean(dim=1)
    return attended[:, :, :NUM_FIRST].sum(dim=-1, keepdim=True)


def _along(onto_BSW: Tensor, of_BSW: Tensor) -> Tensor:
    """Return the projection of one on the other, channel by channel over all places."""
    dot = (onto_BSW * of_BSW).sum(dim=-2, keepdim=True)
    return dot / (onto_BSW * onto_BSW).sum(dim=-2, keepdim=True) * onto_BSW


def _split(tokens: Tensor, num_heads: int) -> Tensor:
    return tokens.reshape(*tokens.shape[:2], num_heads, -1).transpose(1, 2)


def _joined(heads: Tensor) -> Tensor:
    return heads.transpose(1, 2).flatten(2)

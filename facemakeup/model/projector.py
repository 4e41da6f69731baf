"""Turns a face, seen by a recogniser and by CLIP, into a few tokens that a U-Net attends to.

The design is IP-Adapter-FaceID-PlusV2's; the names of the parameters are those of its files, so that a state dict is
what stock diffusers reads.

Shapes: B batch, D identity width, N CLIP tokens, C CLIP width, T face tokens, E width of text tokens, H heads.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from facemakeup.config import HEAD_WIDTH, NUM_RESAMPLER_LAYERS, NUM_TOKENS

IDENTITY_RATIO = 2
FEED_FORWARD_RATIO = 4
FEATURE_WIDTH = 1024
"""Of what `TokenProjector` computes before its last layer."""


class Projector(nn.Module):
    """Identity MLP, whose tokens are then refined by what CLIP saw: `tokens = identity + s * resampled`."""

    def __init__(self, identity_width: int, clip_width: int, width: int) -> None:
        """Make the layers; `width` is the text tokens' and must be a multiple of the heads' width."""
        super().__init__()
        hidden = identity_width * IDENTITY_RATIO
        self.proj = nn.Sequential(nn.Linear(identity_width, hidden), nn.GELU(), nn.Linear(hidden, width * NUM_TOKENS))
        self.norm = nn.LayerNorm(width)
        self.perceiver_resampler = Resampler(clip_width, width)

    def forward(self, identity_BD: Tensor, clip_hidden_BNC: Tensor, clip_scale: float = 1.0) -> Tensor:
        """Return face tokens (B, T, E); `clip_scale` weighs what CLIP adds to the bare identity, 1 in training."""
        tokens_BTE: Tensor = self.norm(self.proj(identity_BD).reshape(len(identity_BD), NUM_TOKENS, -1))
        refined_BTE: Tensor = self.perceiver_resampler(tokens_BTE, clip_hidden_BNC)
        return tokens_BTE + clip_scale * refined_BTE


class TokenProjector(nn.Module):
    """The same at a width of its own, then one layer and a norm that make tokens as wide as a base's text.

    For bases whose text is so wide that the resampler would be most of the adapter (FLUX.1's T5: 4096).
    """

    def __init__(self, identity_width: int, clip_width: int, width: int) -> None:
        """Make the layers; `width` is the text tokens'."""
        super().__init__()
        inner = min(width, FEATURE_WIDTH)
        self.features = Projector(identity_width, clip_width, inner)
        self.proj = nn.Linear(NUM_TOKENS * inner, NUM_TOKENS * width)
        self.norm = nn.LayerNorm(width)

    def forward(self, identity_BD: Tensor, clip_hidden_BNC: Tensor, clip_scale: float = 1.0) -> Tensor:
        """Return face tokens (B, T, E), as `Projector` does."""
        features = self.features(identity_BD, clip_hidden_BNC, clip_scale).flatten(1)
        tokens_BTE: Tensor = self.norm(self.proj(features).unflatten(1, (NUM_TOKENS, -1)))
        return tokens_BTE


class Resampler(nn.Module):
    """Perceiver whose first latents are given, not learned."""

    def __init__(self, clip_width: int, width: int, out_width: int | None = None, head_width: int = HEAD_WIDTH) -> None:
        """Make the layers; without `out_width` tokens leave as wide as they are inside."""
        super().__init__()
        out_width = width if out_width is None else out_width
        self.proj_in = nn.Linear(clip_width, width)
        self.layers = nn.ModuleList(perceiver_layer(width, head_width) for _ in range(NUM_RESAMPLER_LAYERS))
        self.proj_out = nn.Linear(width, out_width)
        self.norm_out = nn.LayerNorm(out_width)

    def forward(self, latents_BTE: Tensor, clip_hidden_BNC: Tensor) -> Tensor:
        """Return the latents (B, T, E) after looking at the CLIP tokens."""
        clip_BNE = self.proj_in(clip_hidden_BNC)
        for layer in self.layers:
            attention, feed_forward = cast(nn.ModuleList, layer)
            latents_BTE = latents_BTE + attention(clip_BNE, latents_BTE)
            latents_BTE = latents_BTE + feed_forward(latents_BTE)
        out: Tensor = self.norm_out(self.proj_out(latents_BTE))
        return out


class PerceiverAttention(nn.Module):
    """Latents attend to the CLIP tokens and to themselves."""

    def __init__(self, width: int, head_width: int = HEAD_WIDTH) -> None:
        """Make the layers, all without bias."""
        super().__init__()
        self.num_heads = width // head_width
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_kv = nn.Linear(width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, clip_BNE: Tensor, latents_BTE: Tensor) -> Tensor:
        """Return what the latents gather, (B, T, E)."""
        latents_BTE = self.norm2(latents_BTE)
        seen = torch.cat([self.norm1(clip_BNE), latents_BTE], dim=1)
        key, value = self.to_kv(seen).chunk(2, dim=-1)
        query = self.to_q(latents_BTE)
        heads = (t.reshape(*t.shape[:2], self.num_heads, -1).transpose(1, 2) for t in (query, key, value))
        gathered = scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        out: Tensor = self.to_out(gathered)
        return out


def perceiver_layer(width: int, head_width: int = HEAD_WIDTH) -> nn.ModuleList:
    """Return attention and feed-forward of one layer; both are added to the latents."""
    return nn.ModuleList([PerceiverAttention(width, head_width), _feed_forward(width)])


def _feed_forward(width: int) -> nn.Sequential:
    hidden = width * FEED_FORWARD_RATIO
    return nn.Sequential(
        nn.LayerNorm(width), nn.Linear(width, hidden, bias=False), nn.GELU(), nn.Linear(hidden, width, bias=False)
    )

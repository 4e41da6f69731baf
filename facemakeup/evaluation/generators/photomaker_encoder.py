"""What PhotoMaker sees of a person, and how it is fused with a word; parameters are named as in its files.

Shapes: B persons, D identity width, N CLIP tokens, C their width, T tokens per person, E width of the text.
"""

from typing import Any

import torch
from torch import Tensor, nn

from facemakeup.evaluation.generators.checkpoints import State
from facemakeup.model.projector import Resampler

IDENTITY_RATIO = 4
NUM_IDENTITY_TOKENS = 2
HEAD_WIDTH = 128
CLIP_HEAD_WIDTH = 64


class IdEncoder(nn.Module):
    """CLIP's look at a photo; v1 projects it to one token, v2 refines two tokens of the identity by it."""

    def __init__(self, clip: Any, out_width: int, identity_width: int | None) -> None:
        """Take the networks of a CLIP vision model; `identity_width` is of v2 alone."""
        super().__init__()
        width, first = clip.config.hidden_size, clip.config.projection_dim
        self.side = int(clip.config.image_size)
        self.vision_model = clip.vision_model
        self.visual_projection = clip.visual_projection
        self.visual_projection_2 = nn.Linear(width, out_width - first, bias=False)
        self.fuse_module = Fuse(out_width)
        if identity_width is not None:
            self.qformer_perceiver = IdentityTokens(identity_width, width, out_width)

    @classmethod
    def like(cls, state: State, version: str) -> "IdEncoder":
        """Return an empty one of the sizes of a state, whose forward pass is that of CLIP ViT.

        Raises:
            KeyError: the state has no such tensors.
        """
        from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

        patch = state["vision_model.embeddings.patch_embedding.weight"]
        num_places, width = state["vision_model.embeddings.position_embedding.weight"].shape
        layers = {name.split(".")[3] for name in state if name.startswith("vision_model.encoder.layers.")}
        config = CLIPVisionConfig(
            hidden_size=width,
            intermediate_size=state["vision_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
            num_hidden_layers=len(layers),
            num_attention_heads=width // CLIP_HEAD_WIDTH,
            image_size=round((num_places - 1) ** 0.5) * patch.shape[-1],
            patch_size=patch.shape[-1],
            projection_dim=state["visual_projection.weight"].shape[0],
        )
        identity = state["qformer_perceiver.token_proj.0.weight"].shape[1] if version == "v2" else None
        return cls(CLIPVisionModelWithProjection(config), state["fuse_module.layer_norm.weight"].shape[0], identity)

    def forward(self, pixels_BCHW: Tensor, identity_BD: Tensor | None = None) -> Tensor:
        """Return tokens (B, T, E); pixels are as CLIP takes them."""
        seen = self.vision_model(pixels_BCHW)
        if identity_BD is not None:
            tokens: Tensor = self.qformer_perceiver(identity_BD, seen.last_hidden_state)
            return tokens
        pooled = seen.pooler_output
        return torch.cat([self.visual_projection(pooled), self.visual_projection_2(pooled)], dim=-1)[:, None]


class IdentityTokens(nn.Module):
    """Tokens of an identity vector, refined by CLIP's hidden states and added to what they were."""

    def __init__(self, identity_width: int, clip_width: int, width: int) -> None:
        """Make the layers."""
        super().__init__()
        hidden = identity_width * IDENTITY_RATIO
        self.token_proj = nn.Sequential(
            nn.Linear(identity_width, hidden), nn.GELU(), nn.Linear(hidden, width * NUM_IDENTITY_TOKENS)
        )
        self.token_norm = nn.LayerNorm(width)
        self.perceiver_resampler = Resampler(clip_width, width, head_width=HEAD_WIDTH)

    def forward(self, identity_BD: Tensor, clip_hidden_BNC: Tensor) -> Tensor:
        """Return tokens (B, T, E)."""
        tokens_BTE = self.token_norm(self.token_proj(identity_BD).reshape(len(identity_BD), NUM_IDENTITY_TOKENS, -1))
        refined: Tensor = tokens_BTE + self.perceiver_resampler(tokens_BTE, clip_hidden_BNC)
        return refined


class Fuse(nn.Module):
    """Joins a word with a token of the person into what stands in the word's place."""

    def __init__(self, width: int) -> None:
        """Make the layers."""
        super().__init__()
        self.mlp1 = _NormedMlp(2 * width, width)
        self.mlp2 = _NormedMlp(width, width)
        self.layer_norm = nn.LayerNorm(width)

    def forward(self, words_TE: Tensor, person_TE: Tensor) -> Tensor:
        """Return the fused tokens (T, E)."""
        joined = self.mlp1(torch.cat([words_TE, person_TE], dim=-1)) + words_TE
        fused: Tensor = self.layer_norm(self.mlp2(joined) + joined)
        return fused


class _NormedMlp(nn.Module):
    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.layernorm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, out_width)
        self.fc2 = nn.Linear(out_width, out_width)

    def forward(self, tokens: Tensor) -> Tensor:
        out: Tensor = self.fc2(nn.functional.gelu(self.fc1(self.layernorm(tokens))))
        return out

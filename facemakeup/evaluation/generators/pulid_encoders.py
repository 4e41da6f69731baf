"""How PuLID turns an identity vector and five looks of EVA-CLIP into tokens; parameters are named as in its files.

Shapes: B persons, D width of the identity (recogniser's vector, then EVA-CLIP's), V tokens of a look, W their width,
T tokens, E their width.
"""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from facemakeup.evaluation.generators.checkpoints import State
from facemakeup.model.projector import perceiver_layer

NUM_LOOKS = 5
NUM_IDENTITY_TOKENS = 5
LAYERS_PER_LOOK = 2


class MlpEncoder(nn.Module):
    """v1: tokens of the identity, then one per look, each through an MLP of its own."""

    def __init__(self, identity_width: int, look_width: int, hidden: int, out_width: int) -> None:
        """Make the layers."""
        super().__init__()
        self.body = _mlp(identity_width, hidden, out_width * NUM_IDENTITY_TOKENS)
        for number in range(NUM_LOOKS):
            self.add_module(f"mapping_{number}", _mlp(look_width, hidden, out_width))
            self.add_module(f"mapping_patch_{number}", _mlp(look_width, hidden, out_width))

    @classmethod
    def like(cls, state: State) -> "MlpEncoder":
        """Return an empty one of the sizes of a state, on the meta device."""
        hidden, identity = state["body.0.weight"].shape
        with torch.device("meta"):
            return cls(identity, state["mapping_0.0.weight"].shape[1], hidden, state["mapping_0.6.weight"].shape[0])

    def forward(self, identity_BD: Tensor, looks_BVW: Sequence[Tensor]) -> Tensor:
        """Return tokens (B, T, E)."""
        tokens = [self.body(identity_BD).reshape(len(identity_BD), NUM_IDENTITY_TOKENS, -1)]
        for number, look in enumerate(looks_BVW):
            whole = self.get_submodule(f"mapping_{number}")(look[:, :1])
            patches = self.get_submodule(f"mapping_patch_{number}")(look[:, 1:])
            tokens.append(whole + patches.mean(dim=1, keepdim=True))
        return torch.cat(tokens, dim=1)


class PerceiverEncoder(nn.Module):
    """v1.1: learned queries, with the identity's tokens beside them, look at one look after the other."""

    def __init__(self, identity_width: int, look_width: int, hidden: int, width: int, out_width: int, num: int) -> None:
        """Make the layers; `num` queries leave as tokens."""
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, num, width) * width**-0.5)
        self.proj_out = nn.Parameter(torch.randn(width, out_width) * width**-0.5)
        self.layers = nn.ModuleList(perceiver_layer(width) for _ in range(NUM_LOOKS * LAYERS_PER_LOOK))
        for number in range(NUM_LOOKS):
            self.add_module(f"mapping_{number}", _mlp(look_width, hidden, width))
        self.id_embedding_mapping = _mlp(identity_width, hidden, width * NUM_IDENTITY_TOKENS)

    @classmethod
    def like(cls, state: State) -> "PerceiverEncoder":
        """Return an empty one of the sizes of a state, on the meta device."""
        hidden, identity = state["id_embedding_mapping.0.weight"].shape
        _, num, width = state["latents"].shape
        look, out = state["mapping_0.0.weight"].shape[1], state["proj_out"].shape[1]
        with torch.device("meta"):
            return cls(identity, look, hidden, width, out, num)

    def forward(self, identity_BD: Tensor, looks_BVW: Sequence[Tensor]) -> Tensor:
        """Return tokens (B, T, E)."""
        num = self.latents.shape[1]
        own = self.id_embedding_mapping(identity_BD).reshape(len(identity_BD), NUM_IDENTITY_TOKENS, -1)
        latents = torch.cat([self.latents.expand(len(identity_BD), -1, -1), own], dim=1)
        for number, look in enumerate(looks_BVW):
            seen = torch.cat([own, self.get_submodule(f"mapping_{number}")(look)], dim=1)
            for layer in self.layers[number * LAYERS_PER_LOOK : (number + 1) * LAYERS_PER_LOOK]:
                attention, feed_forward = cast("Iterable[nn.Module]", layer)
                latents = latents + attention(seen, latents)
                latents = latents + feed_forward(latents)
        return latents[:, :num] @ self.proj_out


ENCODERS: dict[str, type[MlpEncoder | PerceiverEncoder]] = {"v1": MlpEncoder, "v1.1": PerceiverEncoder}


def _mlp(width: int, hidden: int, out_width: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width, hidden), nn.LayerNorm(hidden), nn.LeakyReLU(),
        nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.LeakyReLU(),
        nn.Linear(hidden, out_width),
    )  # fmt: skip

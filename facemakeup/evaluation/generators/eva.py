"""EVA02-CLIP's view of a face: its features, and what it thinks on five of its layers (timm's network).

The published `.pt` names its tensors otherwise than timm, which brings the translation; what is left over or missing
after it is an error.
"""

from typing import Any

import torch
from torch import Tensor

from curation.errors import UsageError
from facemakeup.evaluation.generators.checkpoints import MethodCheckpoint, State, load_strictly
from facemakeup.evaluation.generators.pulid_encoders import NUM_LOOKS

HEAD_WIDTH = 64
PRETRAINED_GRID = (16, 16)
"""Patches per side that the rotary places were learned on: 224 pixels of 14."""
VISUAL = "visual"


def load_eva(checkpoint: MethodCheckpoint) -> Any:
    """Return the network of a file, in float32 and frozen.

    Raises:
        UsageError: timm is not installed, or the file is of another network.
    """
    state = checkpoint.part(VISUAL)
    network = network_like(state)
    from timm.models.eva import checkpoint_filter_fn

    return load_strictly(network, checkpoint_filter_fn(state, network), f"{checkpoint.path}: {VISUAL}")


def network_like(state: State) -> Any:
    """Return an empty network of the sizes of a published state."""
    try:
        from timm.models.eva import Eva
    except ImportError as error:
        raise UsageError(f"PuLID needs timm for EVA02-CLIP: type `pip install timm` ({error})") from error
    try:
        _, num_places, width = state["pos_embed"].shape
        patch = state["patch_embed.proj.weight"].shape[-1]
        hidden = state["blocks.0.mlp.w1.weight"].shape[0]
        num_classes = state["head.weight"].shape[0]
    except KeyError as error:
        raise UsageError(f"no EVA02-CLIP: its visual part has no {error}") from error
    return Eva(
        img_size=round((num_places - 1) ** 0.5) * patch,
        patch_size=patch,
        embed_dim=width,
        depth=len({name.split(".")[1] for name in state if name.startswith("blocks.")}),
        num_heads=width // HEAD_WIDTH,
        mlp_ratio=(hidden + 0.5) / width,
        qkv_fused=False,
        swiglu_mlp=True,
        scale_mlp=True,
        scale_attn_inner=True,
        use_rot_pos_emb=True,
        ref_feat_shape=PRETRAINED_GRID,
        global_pool="token",
        num_classes=num_classes,
    )


@torch.no_grad()
def looks(network: Any, pixels_BCHW: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return features (B, F) at length 1 and five looks (B, V, W), each with the class token first.

    A look is what enters a layer: of 24 layers, of the numbers 4, 8, 12, 16 and 20 from 0.
    """
    every = len(network.blocks) // (NUM_LOOKS + 1)
    places = [every * number - 1 for number in range(1, NUM_LOOKS + 1)]
    last, inner = network.forward_intermediates(
        pixels_BCHW, indices=places, return_prefix_tokens=True, output_fmt="NLC"
    )
    features = network.forward_head(last)
    found = [torch.cat([prefix, patches], dim=1) for patches, prefix in inner]
    return torch.nn.functional.normalize(features, dim=-1), found

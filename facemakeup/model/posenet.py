"""Makes PoseNet: a ControlNet copied from the U-Net, which reads the pose map and attends to the face.

Its cross-attention sees the face tokens only (as InstantID's IdentityNet does), or the text where the adapter is
meant for stock ControlNet pipelines; its residuals are added to the U-Net's skip connections and mid block.
"""

from typing import Any, Literal

import torch
from torch import Tensor


def posenet_from(unet: Any, pose_channels: tuple[int, ...]) -> Any:
    """Return a `ControlNetModel` with the encoder of a U-Net without adapters, all of it trainable."""
    from diffusers import ControlNetModel

    posenet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=pose_channels)
    return posenet.requires_grad_(True)


def context(kind: Literal["face", "text"], text_BLE: Tensor, face_BTE: Tensor) -> Tensor:
    """Return what PoseNet attends to."""
    return face_BTE if kind == "face" else text_BLE


def residuals(
    posenet: Any, noisy_BCHW: Tensor, timesteps_B: Tensor, context_BLE: Tensor, pose_BCHW: Tensor, scale: float
) -> tuple[list[Tensor], Tensor]:
    """Return the residuals of the skip connections and that of the mid block; `pose_BCHW` is RGB in 0..1."""
    down, mid = posenet(
        noisy_BCHW,
        timesteps_B,
        encoder_hidden_states=context_BLE,
        controlnet_cond=pose_BCHW,
        conditioning_scale=scale,
        return_dict=False,
    )
    if not torch.is_tensor(mid):
        raise TypeError(f"PoseNet returned {type(mid).__name__} for its mid block")
    return down, mid

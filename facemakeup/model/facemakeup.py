"""Face-MakeUp: a frozen U-Net with face attentions and LoRA, a projector that makes face tokens, and PoseNet.

Every trainable parameter is registered once, in float32, and named by `trainable_named_parameters`; that set is
what checkpoints and exports hold. Frozen parts may be in bfloat16; `predict` then computes under autocast.

Shapes: B batch, C latent channels, H and W latent size, L text tokens, E their width, D identity width, N CLIP tokens.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch
from torch import Tensor, nn

from facemakeup.config import HEAD_WIDTH, ModelConfig
from facemakeup.model import attention, posenet
from facemakeup.model.projector import Projector


class FaceMakeUp(nn.Module):
    """The adapted U-Net with projector and PoseNet."""

    def __init__(self, config: ModelConfig, unet: nn.Module, projector: Projector, pose: nn.Module) -> None:
        """Keep the parts; `from_config` makes them."""
        super().__init__()
        self.config = config
        self.unet: Any = unet
        self.projector = projector
        self.posenet: Any = pose
        self._autocast_dtype = torch.float32

    @classmethod
    def from_config(cls, config: ModelConfig, unet: Any) -> Self:
        """Return a model around `unet`, which is changed: frozen, with face attentions and LoRA inside.

        Raises:
            ValueError: the U-Net is not one that an adapter of this kind fits.
        """
        width = unet.config.cross_attention_dim
        if not isinstance(width, int) or width % HEAD_WIDTH:
            raise ValueError(f"cross_attention_dim must be a multiple of {HEAD_WIDTH}, not {width}")
        pose = posenet.posenet_from(unet, config.pose_channels)
        attention.install(unet, config.lora_rank)
        device = unet.conv_in.weight.device
        projector = Projector(config.recogniser.width, config.clip_width, width).to(device)
        made = cls(config, unet, projector, pose)
        for parameter in made.trainable_named_parameters().values():
            parameter.data = parameter.data.float()
        return made

    def forward(
        self,
        noisy_latents_BCHW: Tensor,
        timesteps_B: Tensor,
        text_BLE: Tensor,
        identity_BD: Tensor,
        clip_hidden_BNC: Tensor,
        pose_BCHW: Tensor | None,
        clip_scale: float = 1.0,
        pose_scale: float = 1.0,
    ) -> Tensor:
        """Return the prediction (noise or velocity, as the base was trained), float32 (B, C, H, W).

        `pose_BCHW` is the pose map, RGB in 0..1, 8 times the latents' size; None or scale 0 leaves PoseNet out.
        """
        with self._precision(noisy_latents_BCHW.device.type):
            face_BTE = self.projector(identity_BD, clip_hidden_BNC, clip_scale)
            down, mid = None, None
            if pose_BCHW is not None and pose_scale != 0:
                seen = posenet.context(self.config.posenet_context, text_BLE, face_BTE)
                down, mid = posenet.residuals(
                    self.posenet, noisy_latents_BCHW, timesteps_B, seen, pose_BCHW, pose_scale
                )
            (predicted,) = self.unet(
                noisy_latents_BCHW,
                timesteps_B,
                encoder_hidden_states=torch.cat([text_BLE.to(face_BTE.dtype), face_BTE], dim=1),
                down_block_additional_residuals=down,
                mid_block_additional_residual=mid,
                return_dict=False,
            )
        result: Tensor = predicted.float()
        return result

    predict = forward

    def _precision(self, device: str) -> AbstractContextManager[Any]:
        plain = self._autocast_dtype == torch.float32
        return nullcontext() if plain else torch.autocast(device, self._autocast_dtype)

    def trainable_named_parameters(self) -> dict[str, nn.Parameter]:
        """Return name -> parameter of all that training changes, in the order of registration."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def trainable_state(self) -> dict[str, Tensor]:
        """Return name -> detached tensor (not a copy) of all that training changes."""
        return {name: parameter.detach() for name, parameter in self.trainable_named_parameters().items()}

    def load_trainable(self, state: Mapping[str, Tensor]) -> None:
        """Copy a state into the trainable parameters.

        Raises:
            ValueError: a name is missing, unknown or of another shape; nothing is changed then.
        """
        own = self.trainable_named_parameters()
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unknown:
            raise ValueError(f"not this model's weights: missing {missing[:3]}, unknown {unknown[:3]}")
        for name, parameter in own.items():
            if parameter.shape != state[name].shape:
                raise ValueError(f"{name}: shape {tuple(state[name].shape)}, the model's is {tuple(parameter.shape)}")
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state[name])

    def freeze_in(self, dtype: torch.dtype) -> None:
        """Put the frozen weights in `dtype` (norms stay in float32) and compute under autocast to it."""
        for parameter in self.unet.parameters():
            if not parameter.requires_grad and parameter.ndim > 1:
                parameter.data = parameter.data.to(dtype)
        self._autocast_dtype = dtype

    def require_fp32_trainables(self) -> None:
        """Check that nobody cast what is trained; called at every save and after every validation.

        Raises:
            TypeError: a trainable parameter is not float32: small updates would be rounded away.
        """
        for name, parameter in self.trainable_named_parameters().items():
            if parameter.dtype != torch.float32:
                raise TypeError(f"{name} is trained and must stay float32, but somebody made it {parameter.dtype}")

    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations of U-Net and PoseNet in the backward pass, for less memory."""
        self.unet.enable_gradient_checkpointing()
        self.posenet.enable_gradient_checkpointing()

    def set_scales(self, face: float = 1.0, lora: float = 1.0) -> None:
        """Set the strength of the face attentions and of LoRA; 1 and 1 in training, 0 and 0 is the base U-Net."""
        attention.set_scales(self.unet, face, lora)

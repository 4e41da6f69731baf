"""Face-MakeUp: a frozen base with face attentions and LoRA, a projector that makes face tokens, and PoseNet.

Every trainable parameter is registered once, in float32, and named by `trainable_named_parameters`; that set is
what checkpoints and exports hold. Frozen parts may be in bfloat16; `predict` then computes under autocast.

Shapes: B batch, C latent channels, H and W latent size, D identity width, N CLIP tokens.
"""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

import torch
from torch import Tensor, nn

from facemakeup.config import ModelConfig
from facemakeup.model.base import BaseModel
from facemakeup.model.bases import base_of

MAX_KINDS_OF_BLOCK = 256
"""Shapes and types of one class of block that torch.compile may meet before it gives that class up; its 8 are few."""


class FaceMakeUp(nn.Module):
    """The adapted network of a base, with projector and PoseNet.

    Example:
        model = FaceMakeUp.from_config(load_config(Path("configs/train/sd15.toml")).model)
        num_trained = sum(weight.numel() for weight in model.trainable_named_parameters().values())
    """

    def __init__(self, base: BaseModel, network: nn.Module, projector: nn.Module, pose: nn.Module) -> None:
        """Keep the parts; `from_config` makes them."""
        super().__init__()
        self.base = base
        self.config = base.config
        self.add_module(base.network_name, network)
        self.projector = projector
        self.posenet: Any = pose
        self._autocast_dtype = torch.float32

    @classmethod
    def from_config(
        cls, config: ModelConfig, network: nn.Module | None = None, dtype: torch.dtype = torch.float32
    ) -> Self:
        """Return a model on the configuration's base, on the CPU, ready to be trained.

        `network` stands in for the base's own, and is changed: frozen, with face attentions and LoRA inside. `dtype` is
        what frozen weights will be in (`freeze_in`): no more of them is read than that, where the base allows it.

        Raises:
            UsageError: the base is not there, or of no known kind.
            ValueError: the network is not one that an adapter of this kind fits.
        """
        base = base_of(config)
        network = base.load_in(dtype) if network is None else network
        device = next(network.parameters()).device
        base.width(network)  # refuses what no adapter fits before anything is changed
        pose = base.adapt(network)
        made = cls(base, network, base.projector(network).to(device), pose)
        for parameter in made.trainable_named_parameters().values():
            parameter.data = parameter.data.float()
        return made

    @classmethod
    def skeleton(cls, config: ModelConfig) -> Self:
        """Return the model on the meta device, made of JSON files alone: to be counted, or to hold a trained state.

        Raises:
            UsageError, ValueError: as `from_config`.
        """
        with torch.device("meta"):
            return cls.from_config(config, base_of(config).skeleton())

    @property
    def network(self) -> Any:
        """The base's network with face attentions and LoRA inside."""
        return self.get_submodule(self.base.network_name)

    def forward(
        self,
        noisy_latents_BCHW: Tensor,
        timesteps_B: Tensor,
        identity_BD: Tensor,
        clip_hidden_BNC: Tensor,
        pose_BCHW: Tensor | None,
        clip_scale: float = 1.0,
        pose_scale: float = 1.0,
        **prompt: Tensor,
    ) -> Tensor:
        """Return the prediction (what it is, the base's objective says), float32 (B, C, H, W).

        `pose_BCHW` is the pose map, RGB in 0..1, as large as the picture; None or scale 0 leaves PoseNet out.
        `prompt` is what the base's `BaseEncoders.prompt` made of the captions.
        """
        with self._precision(noisy_latents_BCHW.device.type):
            face_BTE = self.projector(identity_BD, clip_hidden_BNC, clip_scale)
            told = (noisy_latents_BCHW, timesteps_B, prompt, face_BTE)
            extra = None
            if pose_BCHW is not None and pose_scale != 0:
                extra = self.base.residuals(self.posenet, *told, pose_BCHW, pose_scale)
            predicted = self.base.predict(self.network, *told, extra)
        return predicted.float()

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
        """Copy a state into the trainable parameters; on the meta device it takes their place.

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
        if any(parameter.is_meta for parameter in own.values()):
            self.load_state_dict({name: state[name] for name in own}, strict=False, assign=True)
            return
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(state[name])

    def freeze_in(self, dtype: torch.dtype) -> None:
        """Put the frozen weights in `dtype` and compute under autocast to it.

        Norms are in float32, but for RMS norms, which are computed in the type of what comes in.
        """
        for module in self.network.modules():
            for parameter in module.parameters(recurse=False):
                if not parameter.requires_grad:
                    is_narrow = parameter.ndim > 1 or isinstance(module, nn.RMSNorm)
                    parameter.data = parameter.data.to(dtype if is_narrow else torch.float32)
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
        """Recompute activations of network and PoseNet in the backward pass, for less memory."""
        self.network.enable_gradient_checkpointing()
        self.posenet.enable_gradient_checkpointing()

    def compile_parts(self, by_block: bool = False, **options: Any) -> None:
        """Hand network and PoseNet to torch.compile: whole, or every block that repeats by itself.

        Blocks of one kind and shape share what was compiled. `options` are those of `torch.compile`.
        """
        parts: tuple[nn.Module, ...] = (self.network, self.posenet)
        if by_block:
            torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MAX_KINDS_OF_BLOCK)
            parts = tuple(block for part in parts for block in self.base.blocks(part))
        for part in parts:
            part.compile(**({"dynamic": False} if by_block else {}), **options)

    def keep_channels_last(self, frozen_only: bool) -> None:
        """Lay the weights of convolutions out with their channels innermost; values and names stay.

        `frozen_only` leaves what is trained as it is, for FSDP takes contiguous parameters only.
        """
        for parameter in self.parameters():
            if parameter.ndim == 4 and not (frozen_only and parameter.requires_grad):
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def set_scales(self, face: float = 1.0, lora: float = 1.0) -> None:
        """Set the strength of the face attentions and of LoRA; 1 and 1 in training, 0 and 0 is the base."""
        self.base.set_scales(self.network, face, lora)

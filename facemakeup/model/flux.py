"""FLUX.1 and networks of its form: all that is particular to them, behind the seam of `facemakeup.model.base`.

A base has the parts that diffusers keeps: `transformer`, `vae`, `text_encoder` and `tokenizer` (CLIP, whose pooled
state is told with the time), `text_encoder_2` and `tokenizer_2` (T5, whose states are the text), `scheduler`. Image
tokens attend to the face in the double blocks alone, by diffusers' own processor; LoRA changes the attentions of all
blocks. PoseNet is a ControlNet of the network's first blocks that takes the pose map as a picture.

Shapes: B batch, C latent channels, H and W latent size, L text tokens, T face tokens, E width of both, P width of the
pooled state.
"""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from facemakeup.config import HEAD_WIDTH, ModelConfig
from facemakeup.model import flux_ip_adapter
from facemakeup.model.attention import PROCESSOR_SUFFIX, add_lora, set_lora_scale
from facemakeup.model.base import BaseEncoders, BaseModel, ConfigReader, Frame, Prompt
from facemakeup.model.flow import RectifiedFlow, euler, flow
from facemakeup.model.pretrained import load_config, load_part, settle
from facemakeup.model.projector import TokenProjector
from facemakeup.model.token_ids import token_ids
from facemakeup.model.vae import VaeLatents, vae_latents
from facemakeup.train_config import OptimSettings

TRANSFORMER_CLASS = "FluxTransformer2DModel"
DOUBLE_BLOCKS = "transformer_blocks."
PATCH = 2
"""Latents on a side of what becomes one token."""
POSENET_BLOCKS = 2
"""Double blocks and single blocks of PoseNet, copied from the first of the network."""
POSE_CHANNELS = (16, 16, 16, 16)
"""The embedding of a pose map in diffusers' `FluxControlNetModel`; it has no other."""
TEXT, POOLED, GUIDANCE = "text_BLE", "pooled_BP", "guidance_B"


class Flux(BaseModel):
    """FLUX.1 dev, schnell, Krea or Kontext."""

    description = f"FLUX.1: transformer/config.json says {TRANSFORMER_CLASS}, with as many channels out as in"
    network_name = "transformer"
    block_classes = ("FluxTransformerBlock", "FluxSingleTransformerBlock")

    @classmethod
    def recognises(cls, config_of: ConfigReader) -> bool:
        """Whether there is a transformer of FLUX.1 that takes nothing but noisy latents, as Fill and Control do not."""
        transformer = config_of("transformer")
        if transformer is None or transformer.get("_class_name") != TRANSFORMER_CLASS:
            return False
        return (transformer.get("out_channels") or transformer.get("in_channels")) == transformer.get("in_channels")

    def load(self) -> nn.Module:
        """Return the transformer."""
        return self.load_in(torch.float32)

    def load_in(self, dtype: torch.dtype) -> nn.Module:
        """Return the transformer in `dtype`: its weights are published in bfloat16."""
        from diffusers import FluxTransformer2DModel

        base, revision = self.config.base, self.config.base_revision
        network: nn.Module = load_part(FluxTransformer2DModel, base, "transformer", revision, dtype)
        return network.eval()

    def encoders(self, device: torch.device, dtype: torch.dtype) -> "FluxEncoders":
        """Return VAE, text encoders and schedule; the VAE stays in float32."""
        from diffusers import FlowMatchEulerDiscreteScheduler
        from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

        base, revision = self.config.base, self.config.base_revision
        return FluxEncoders(
            vae=self.latents(device).vae,
            text_encoder=settle(load_part(CLIPTextModel, base, "text_encoder", revision, dtype), device, dtype),
            tokenizer=load_part(CLIPTokenizer, base, "tokenizer", revision),
            text_encoder_2=settle(load_part(T5EncoderModel, base, "text_encoder_2", revision, dtype), device, dtype),
            tokenizer_2=load_part(T5TokenizerFast, base, "tokenizer_2", revision),
            scheduler=load_part(FlowMatchEulerDiscreteScheduler, base, "scheduler", revision),
            guidance_embeds=bool(self._says("transformer").get("guidance_embeds", False)),
        )

    def latents(self, device: torch.device) -> VaeLatents:
        """Return the VAE's: no text encoder is read."""
        return vae_latents(self.config, device)

    def skeleton(self) -> nn.Module:
        """Return the transformer on the meta device."""
        from diffusers import FluxTransformer2DModel

        with torch.device("meta"):
            network: nn.Module = FluxTransformer2DModel.from_config(self._says("transformer"))
        return network

    def frozen_skeletons(self) -> dict[str, nn.Module]:
        """Return `vae`, `text_encoder` and `text_encoder_2` on the meta device."""
        from diffusers import AutoencoderKL
        from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

        with torch.device("meta"):
            return {
                "vae": AutoencoderKL.from_config(self._says("vae")),
                "text_encoder": CLIPTextModel(CLIPTextConfig(**self._says("text_encoder"))),
                "text_encoder_2": T5EncoderModel(T5Config(**self._says("text_encoder_2"))),
            }

    def width(self, network: Any) -> int:
        """Return the width of T5's states, which face tokens share."""
        width = int(network.config.joint_attention_dim)
        if width % HEAD_WIDTH:
            raise ValueError(f"joint_attention_dim must be a multiple of {HEAD_WIDTH}, not {width}")
        return width

    def adapt(self, network: Any) -> nn.Module:
        """Return a ControlNet of the first blocks of the transformer, which gets face attentions and LoRA then."""
        _require_pose_channels(self.config)
        posenet = _posenet(network)
        network.requires_grad_(False)
        faced = flux_ip_adapter.face_processors(network, self.layout(network))
        network.set_attn_processor({**network.attn_processors, **faced})
        add_lora(network, self.config.lora_rank)
        for processor in faced.values():
            processor.requires_grad_(True)
        return posenet.requires_grad_(True)

    def projector(self, network: nn.Module) -> nn.Module:
        """Return a projector that ends with the layer and the norm that diffusers' loader for FLUX knows."""
        return TokenProjector(self.config.recogniser.width, self.config.clip_width, self.width(network))

    def set_scales(self, network: Any, face: float, lora: float) -> None:
        """Set the strength of the face attentions and of LoRA."""
        for name in self.layout(network):
            network.attn_processors[name].scale = [face]
        set_lora_scale(network, lora)

    def residuals(
        self, posenet: Any, noisy_BCHW: Tensor, timesteps_B: Tensor, prompt: Prompt, face_BTE: Tensor,
        pose_BCHW: Tensor, scale: float,
    ) -> tuple[list[Tensor], list[Tensor]]:  # fmt: skip
        """Return the residuals of double and of single blocks; the pose map is brought to -1..1, as pictures are."""
        context = face_BTE if self.config.posenet_context == "face" else prompt[TEXT].to(face_BTE.dtype)
        double, single = posenet(
            controlnet_cond=pose_BCHW * 2 - 1,
            conditioning_scale=scale,
            return_dict=False,
            **_told(posenet, noisy_BCHW, timesteps_B, prompt, context),
        )
        return double, single

    def predict(
        self, network: Any, noisy_BCHW: Tensor, timesteps_B: Tensor, prompt: Prompt, face_BTE: Tensor,
        residuals: tuple[list[Tensor], list[Tensor]] | None,
    ) -> Tensor:  # fmt: skip
        """Return the velocity from pictures to noise."""
        double, single = residuals or (None, None)
        (said_BNC,) = network(
            joint_attention_kwargs={"ip_hidden_states": [face_BTE]},
            controlnet_block_samples=double,
            controlnet_single_block_samples=single,
            controlnet_blocks_repeat=True,
            return_dict=False,
            **_told(network, noisy_BCHW, timesteps_B, prompt, prompt[TEXT].to(face_BTE.dtype)),
        )
        height, width = noisy_BCHW.shape[2] // PATCH, noisy_BCHW.shape[3] // PATCH
        return pixel_shuffle(said_BNC.transpose(1, 2).unflatten(2, (height, width)), PATCH)

    def flat_names(self, network: nn.Module, trained: Sequence[str]) -> dict[str, str]:
        """Return the names that diffusers' loaders for FLUX's IP-Adapter and LoRA know."""
        return flux_ip_adapter.flat_names(self.network_name, self.layout(network), trained)

    def file_of(self, flat_name: str) -> str:
        """Return the file of an IP-Adapter or that of LoRA."""
        return flux_ip_adapter.file_of(flat_name)

    def layout(self, network: Any) -> list[str]:
        """Return the names of the attention processors of the double blocks."""
        return [f"{DOUBLE_BLOCKS}{i}.attn{PROCESSOR_SUFFIX}" for i in range(network.config.num_layers)]

    def usage(self) -> str:
        """Return what stock diffusers does with the files."""
        return flux_ip_adapter.usage(self.config)

    def _says(self, part: str) -> Mapping[str, Any]:
        return load_config(self.config.base, part, self.config.base_revision)


@dataclass(frozen=True)
class FluxEncoders(VaeLatents, BaseEncoders):
    """The VAE, the text encoders and the schedule around the transformer."""

    text_encoder: Any
    tokenizer: Any
    text_encoder_2: Any
    tokenizer_2: Any
    scheduler: Any
    guidance_embeds: bool

    @property
    def is_told_guidance(self) -> bool:
        """Whether the transformer has an embedding for guidance, as dev has and schnell has not."""
        return self.guidance_embeds

    @property
    def guidance_scale(self) -> float:
        """What FLUX.1 dev is told where nobody says otherwise; schnell is told nothing, and drawn without guidance."""
        return 3.5 if self.guidance_embeds else 1.0

    @property
    def num_inference_steps(self) -> int:
        """In how many steps dev is drawn where nobody says otherwise, and schnell, which was distilled to few."""
        return 28 if self.guidance_embeds else 4

    @property
    def side_step(self) -> int:
        """Pixels on a side of a token."""
        return PATCH * self.latent_stride

    @torch.no_grad()
    def prompt(self, captions: Sequence[str], frames: Sequence[Frame], guidance: float = 1.0) -> dict[str, Tensor]:
        """Return T5's states (B, L, E), CLIP's pooled state (B, P), and guidance (B,)."""
        place = self.vae.device
        return {
            TEXT: self.text_encoder_2(token_ids(self.tokenizer_2, captions, place)).last_hidden_state,
            POOLED: self.text_encoder(token_ids(self.tokenizer, captions, place)).pooler_output,
            GUIDANCE: torch.full((len(captions),), guidance, device=place),
        }

    def objective(self, optim: OptimSettings) -> RectifiedFlow:
        """Return the flow that the base was taught, its times drawn as the settings say."""
        return flow(self.scheduler, optim, _num_tokens)

    def sampler(self, num_steps: int, height: int, width: int) -> Any:
        """Return Euler's method on the base's schedule, which knows the size."""
        stride = self.latent_stride
        return euler(self.scheduler, num_steps, _num_tokens(height // stride, width // stride), self.vae.device)


def _num_tokens(height: int, width: int) -> int:
    return (height // PATCH) * (width // PATCH)


def _told(network: Any, noisy_BCHW: Tensor, timesteps_B: Tensor, prompt: Prompt, context_BLE: Tensor) -> dict[str, Any]:
    """Return what transformer and PoseNet both take: tokens with their places, time, context and guidance."""
    grid = pixel_unshuffle(noisy_BCHW, PATCH)
    number = partial(torch.arange, device=grid.device, dtype=torch.float32)
    rows, columns = torch.meshgrid(number(grid.shape[2]), number(grid.shape[3]), indexing="ij")
    places_HW3 = torch.stack([torch.zeros_like(rows), rows, columns], dim=-1)
    return {
        "hidden_states": grid.flatten(2).transpose(1, 2),
        "encoder_hidden_states": context_BLE,
        "pooled_projections": prompt[POOLED].to(context_BLE.dtype),
        "timestep": timesteps_B / 1000,
        "img_ids": places_HW3.flatten(0, 1),
        "txt_ids": places_HW3.new_zeros(context_BLE.shape[1], 3),
        "guidance": prompt[GUIDANCE] if network.config.guidance_embeds else None,
    }


def _require_pose_channels(config: ModelConfig) -> None:
    if config.pose_channels not in (ModelConfig.model_fields["pose_channels"].default, POSE_CHANNELS):
        raise ValueError(
            f"pose_channels {config.pose_channels}: with this base they are {POSE_CHANNELS}; leave them out"
        )


def _posenet(network: Any) -> nn.Module:
    """Return a ControlNet on the pose map as a picture, its blocks copies of the transformer's first ones."""
    from diffusers import FluxControlNetModel

    said = network.config
    alike = (
        "in_channels", "attention_head_dim", "num_attention_heads", "joint_attention_dim", "pooled_projection_dim",
        "guidance_embeds", "axes_dims_rope",
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # diffusers' own ControlNet takes a class that it calls old
        posenet = FluxControlNetModel(
            **{name: said[name] for name in alike},
            num_layers=min(POSENET_BLOCKS, said.num_layers),
            num_single_layers=min(POSENET_BLOCKS, said.num_single_layers),
            patch_size=PATCH,
            conditioning_embedding_channels=said.in_channels // PATCH**2,
        )
    own = posenet.state_dict()
    posenet.load_state_dict({n: value for n, value in network.state_dict().items() if n in own}, strict=False)
    placed: nn.Module = posenet.to(network.device)
    return placed

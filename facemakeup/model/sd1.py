"""Stable Diffusion 1.x and 2.x: all that is particular to them, behind the seam of `facemakeup.model.base`.

A base is a folder or a repository of the hub with the parts that diffusers keeps: `unet`, `vae`, `text_encoder`,
`tokenizer`, `scheduler`. PoseNet is a ControlNet copied from the U-Net; its cross-attention sees the face tokens only
(as InstantID's IdentityNet does), or the text where the adapter is meant for stock ControlNet pipelines.

Shapes: B batch, C latent channels, H and W sizes, L text tokens, T face tokens, E width of both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from curation.errors import UsageError
from facemakeup.config import HEAD_WIDTH
from facemakeup.model import attention, ip_adapter
from facemakeup.model.base import BaseEncoders, BaseModel, ConfigReader, Frame, Prompt
from facemakeup.model.diffusion import NoiseSchedule, ddim
from facemakeup.model.pretrained import load_config, load_part, settle
from facemakeup.model.token_ids import token_ids, token_spans
from facemakeup.model.vae import VaeLatents, vae_latents
from facemakeup.train_config import OptimSettings

UNET_CLASS = "UNet2DConditionModel"
CROSS_ATTENTION = "attn2.processor"
"""What the names of processors end with whose attentions see the text."""
TEXT = "text_BLE"
PREDICTIONS: Mapping[str, Literal["noise", "velocity"]] = MappingProxyType(
    {"epsilon": "noise", "v_prediction": "velocity"}
)
"""What a scheduler's configuration calls a prediction -> what it is."""


class StableDiffusion(BaseModel):
    """Stable Diffusion 1.x or 2.x."""

    description = f"Stable Diffusion 1.x/2.x: unet/config.json says {UNET_CLASS} and no addition_embed_type"
    network_name = "unet"
    block_classes = ("ResnetBlock2D", "BasicTransformerBlock")

    @classmethod
    def recognises(cls, config_of: ConfigReader) -> bool:
        """Whether there is a U-Net that is conditioned on one text alone."""
        unet = config_of("unet")
        if unet is None or unet.get("addition_embed_type"):
            return False
        return bool(unet.get("_class_name", UNET_CLASS) == UNET_CLASS)

    def load(self) -> nn.Module:
        """Return the U-Net."""
        from diffusers import UNet2DConditionModel

        unet: nn.Module = load_part(UNet2DConditionModel, self.config.base, "unet", self.config.base_revision)
        return unet.eval()

    def encoders(self, device: torch.device, dtype: torch.dtype) -> "StableDiffusionEncoders":
        """Return VAE, text encoder and schedule; the VAE stays in float32, where half precision overflows."""
        from diffusers import DDPMScheduler
        from transformers import CLIPTextModel, CLIPTokenizer

        base, revision = self.config.base, self.config.base_revision
        vae = self.latents(device).vae
        text_encoder = load_part(CLIPTextModel, base, "text_encoder", revision, dtype)
        return StableDiffusionEncoders(
            vae=vae,
            text_encoder=settle(text_encoder, device, dtype),
            tokenizer=load_part(CLIPTokenizer, base, "tokenizer", revision),
            scheduler=load_part(DDPMScheduler, base, "scheduler", revision),
        )

    def latents(self, device: torch.device) -> VaeLatents:
        """Return the VAE's."""
        return vae_latents(self.config, device)

    def skeleton(self) -> nn.Module:
        """Return the U-Net on the meta device."""
        from diffusers import UNet2DConditionModel

        with torch.device("meta"):
            unet: nn.Module = UNet2DConditionModel.from_config(self._says("unet"))
        return unet

    def frozen_skeletons(self) -> dict[str, nn.Module]:
        """Return `vae` and `text_encoder` on the meta device."""
        from diffusers import AutoencoderKL
        from transformers import CLIPTextConfig, CLIPTextModel

        with torch.device("meta"):
            return {
                "vae": AutoencoderKL.from_config(self._says("vae")),
                "text_encoder": CLIPTextModel(CLIPTextConfig(**self._says("text_encoder"))),
            }

    def width(self, network: Any) -> int:
        """Return the width of text tokens, which face tokens share."""
        width = network.config.cross_attention_dim
        if not isinstance(width, int) or width % HEAD_WIDTH:
            raise ValueError(f"cross_attention_dim must be a multiple of {HEAD_WIDTH}, not {width}")
        return width

    def adapt(self, network: Any) -> nn.Module:
        """Return a ControlNet with the encoder of the U-Net, which gets face attentions and LoRA then."""
        from diffusers import ControlNetModel

        posenet: nn.Module = ControlNetModel.from_unet(
            network, conditioning_embedding_out_channels=self.config.pose_channels
        )
        attention.install(network, lambda name: name.endswith(CROSS_ATTENTION), self.config.lora_rank)
        return posenet.requires_grad_(True)

    def set_scales(self, network: nn.Module, face: float, lora: float) -> None:
        """Set the strength of the face attentions and of LoRA."""
        attention.set_scales(network, face, lora)

    def listen(self, network: nn.Module) -> None:
        """Let the cross-attentions keep how they are spread over the text."""
        attention.listen(network)

    def heard(self, network: nn.Module) -> list[Tensor]:
        """Return it."""
        return attention.heard(network)

    def residuals(
        self, posenet: nn.Module, noisy_BCHW: Tensor, timesteps_B: Tensor, prompt: Prompt, face_BTE: Tensor,
        pose_BCHW: Tensor, scale: float,
    ) -> tuple[list[Tensor], Tensor]:  # fmt: skip
        """Return the residuals of the skip connections and that of the mid block."""
        down, mid = posenet(
            noisy_BCHW,
            timesteps_B,
            encoder_hidden_states=face_BTE if self.config.posenet_context == "face" else prompt[TEXT],
            controlnet_cond=pose_BCHW,
            conditioning_scale=scale,
            return_dict=False,
            **self._added(prompt),
        )
        if not torch.is_tensor(mid):
            raise TypeError(f"PoseNet returned {type(mid).__name__} for its mid block")
        return down, mid

    def predict(
        self, network: nn.Module, noisy_BCHW: Tensor, timesteps_B: Tensor, prompt: Prompt, face_BTE: Tensor,
        residuals: tuple[list[Tensor], Tensor] | None,
    ) -> Tensor:  # fmt: skip
        """Return noise or velocity, as the base was trained; the context is the text's tokens, then the face's."""
        down, mid = residuals or (None, None)
        (predicted,) = network(
            noisy_BCHW,
            timesteps_B,
            encoder_hidden_states=torch.cat([prompt[TEXT].to(face_BTE.dtype), face_BTE], dim=1),
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
            return_dict=False,
            **self._added(prompt),
        )
        out: Tensor = predicted
        return out

    def _added(self, prompt: Prompt) -> dict[str, Any]:
        """Return what U-Net and ControlNet are told beside the text; this base has nothing more to say."""
        return {}

    def flat_names(self, network: nn.Module, trained: Sequence[str]) -> dict[str, str]:
        """Return the names of IP-Adapter's flat form."""
        return ip_adapter.flat_names(network, self.network_name, trained)

    def layout(self, network: Any) -> list[str]:
        """Return the names of the U-Net's attention processors."""
        return list(network.attn_processors)

    def usage(self) -> str:
        """Return what stock diffusers does with the files."""
        return ip_adapter.usage("StableDiffusionPipeline", self.config)

    def _says(self, part: str) -> Mapping[str, Any]:
        return load_config(self.config.base, part, self.config.base_revision)


@dataclass(frozen=True)
class StableDiffusionEncoders(VaeLatents, BaseEncoders):
    """The VAE, the text encoder and the schedule around the U-Net."""

    text_encoder: Any
    tokenizer: Any
    scheduler: Any
    """The base's noise schedule as a `DDPMScheduler`; `scheduler.config.prediction_type` says what is predicted."""

    @torch.no_grad()
    def prompt(self, captions: Sequence[str], frames: Sequence[Frame], guidance: float = 1.0) -> dict[str, Tensor]:
        """Return the last hidden states (B, L, E) of captions, padded or cut to the tokenizer's length."""
        ids = token_ids(self.tokenizer, captions, self.vae.device)
        return {TEXT: self.text_encoder(ids).last_hidden_state}

    def spans(self, captions: Sequence[str]) -> Tensor:
        """Return which characters each token of the captions stands for."""
        return token_spans(self.tokenizer, captions)

    def objective(self, optim: OptimSettings) -> NoiseSchedule:
        """Return the base's own schedule, weighed as the settings say, where the encoders are."""
        if optim.timesteps == "logit-normal" or optim.timestep_mean is not None:
            raise UsageError(
                "optim.timesteps, optim.timestep_mean: this base knows whole steps, which it meets uniformly"
            )
        schedule = noise_schedule(self.scheduler, optim.min_snr_gamma)
        return replace(schedule, signal_T=schedule.signal_T.to(self.vae.device))

    def sampler(self, num_steps: int, height: int, width: int) -> Any:
        """Return DDIM on the base's schedule, the same for pictures of any size."""
        return ddim(self.scheduler, num_steps, self.vae.device)


def noise_schedule(scheduler: Any, gamma: float | None = None) -> NoiseSchedule:
    """Return the schedule of a diffusers scheduler.

    Raises:
        ValueError: the base predicts something else than noise (`epsilon`) or velocity (`v_prediction`).
    """
    kind = scheduler.config.prediction_type
    if kind not in PREDICTIONS:
        raise ValueError(f"prediction_type {kind!r} of the base: epsilon or v_prediction can be trained")
    return NoiseSchedule(scheduler.alphas_cumprod.float(), PREDICTIONS[kind], gamma)

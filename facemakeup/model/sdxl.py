"""Stable Diffusion XL: all in which it differs from Stable Diffusion 1.x, behind the seam of `facemakeup.model.base`.

A base has the parts of 1.x, and `text_encoder_2` and `tokenizer_2`. The text is what both encoders say before their
last layer, side by side; beside it U-Net and PoseNet are told the second one's pooled state, and six sizes, by which
the network knows small and cut-off photos from others (SDXL, arXiv 2307.01952, section 2.2).

Shapes: B batch, L text tokens, E width of both texts together, P width of the pooled state.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from curation.errors import UsageError
from facemakeup.model import ip_adapter
from facemakeup.model.base import ConfigReader, Frame, Prompt
from facemakeup.model.pretrained import load_part, settle
from facemakeup.model.sd1 import TEXT, UNET_CLASS, StableDiffusion, StableDiffusionEncoders
from facemakeup.model.send import send
from facemakeup.model.token_ids import token_ids
from facemakeup.model.vae import VaeLatents

POOLED = "pooled_BP"
SIZES = "sizes_B6"


class StableDiffusionXL(StableDiffusion):
    """Stable Diffusion XL, not its refiner."""

    description = (
        f"Stable Diffusion XL: unet/config.json says {UNET_CLASS} and addition_embed_type text_time, "
        f"and there is a text_encoder beside text_encoder_2"
    )

    @classmethod
    def recognises(cls, config_of: ConfigReader) -> bool:
        """Whether there is a U-Net that is told of sizes, and two text encoders of the usual kind."""
        unet = config_of("unet")
        if unet is None or unet.get("_class_name", UNET_CLASS) != UNET_CLASS:
            return False
        if unet.get("addition_embed_type") != "text_time" or unet.get("encoder_hid_dim_type"):
            return False
        return config_of("text_encoder") is not None and config_of("text_encoder_2") is not None

    def encoders(self, device: torch.device, dtype: torch.dtype) -> "StableDiffusionXLEncoders":
        """Return VAE, both text encoders and schedule; the VAE stays in float32, where half precision overflows."""
        from transformers import CLIPTextModelWithProjection, CLIPTokenizer

        base, revision = self.config.base, self.config.base_revision
        text_encoder_2 = load_part(CLIPTextModelWithProjection, base, "text_encoder_2", revision, dtype)
        return StableDiffusionXLEncoders(
            **vars(super().encoders(device, dtype)),
            text_encoder_2=settle(text_encoder_2, device, dtype),
            tokenizer_2=load_part(CLIPTokenizer, base, "tokenizer_2", revision),
        )

    def latents(self, device: torch.device) -> VaeLatents:
        """Return the VAE's.

        Raises:
            UsageError: it is not there, or has means of its own for latents.
        """
        made = super().latents(device)
        if getattr(made.vae.config, "latents_mean", None) is not None:
            raise UsageError(
                f"{self.config.base}: its VAE has means of its own for latents, which Stable Diffusion XL has not"
            )
        return made

    def frozen_skeletons(self) -> dict[str, nn.Module]:
        """Return `vae`, `text_encoder` and `text_encoder_2` on the meta device."""
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection

        with torch.device("meta"):
            second = CLIPTextModelWithProjection(CLIPTextConfig(**self._says("text_encoder_2")))
        return {**super().frozen_skeletons(), "text_encoder_2": second}

    def _added(self, prompt: Prompt) -> dict[str, Any]:
        return {"added_cond_kwargs": {"text_embeds": prompt[POOLED], "time_ids": prompt[SIZES]}}

    def usage(self) -> str:
        """Return what stock diffusers does with the files.

        Its pipeline takes zeros where there is no negative prompt; the adapter learns with an empty caption instead.
        """
        return ip_adapter.usage("StableDiffusionXLPipeline", self.config, 'negative_prompt="", ')


@dataclass(frozen=True)
class StableDiffusionXLEncoders(StableDiffusionEncoders):
    """The VAE, two text encoders and the schedule around the U-Net."""

    text_encoder_2: Any
    tokenizer_2: Any

    @property
    def guidance_scale(self) -> float:
        """What diffusers' pipeline of it takes where nobody says otherwise."""
        return 5.0

    @torch.no_grad()
    def prompt(self, captions: Sequence[str], frames: Sequence[Frame], guidance: float = 1.0) -> dict[str, Tensor]:
        """Return the texts (B, L, E), the second one's pooled state (B, P), and the sizes (B, 6).

        These are the photo's, what was cut off of it, and the picture's, each the vertical one first, in pixels.
        """
        pairs = ((self.tokenizer, self.text_encoder), (self.tokenizer_2, self.text_encoder_2))
        said = [
            encoder(token_ids(tokenizer, captions, self.vae.device), output_hidden_states=True)
            for tokenizer, encoder in pairs
        ]
        return {
            TEXT: torch.cat([each.hidden_states[-2] for each in said], dim=-1),
            POOLED: said[1].text_embeds,
            SIZES: send(torch.tensor([_sizes(frame) for frame in frames], dtype=torch.float32), self.vae.device),
        }


def _sizes(frame: Frame) -> tuple[int, ...]:
    return frame.original_height, frame.original_width, frame.top, frame.left, frame.height, frame.width

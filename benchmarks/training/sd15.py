"""Stable Diffusion 1.5 and CLIP ViT-H in their real sizes, random weights made on the device: nothing is downloaded.

Called by `benchmarks.training.train_speed`. Captions are told to the text encoder by the tiny base's tokenizer.
"""

from typing import Any

import torch

from facemakeup.config import ModelConfig, Recogniser
from facemakeup.model import skeleton
from facemakeup.model.bases import base_of
from facemakeup.model.encoders import Encoders
from facemakeup.model.facemakeup import FaceMakeUp
from facemakeup.model.pretrained import settle
from facemakeup.model.sd1 import StableDiffusionEncoders
from facemakeup.model.tiny_base import SCHEDULE, tokenizer


def model_config(recogniser: Recogniser) -> ModelConfig:
    """Return the published adapter's configuration with another recogniser of its width."""
    return skeleton.sd15_config().model_copy(update={"recogniser": recogniser})


def network(config: ModelConfig, device: torch.device) -> FaceMakeUp:
    """Return the whole model with random weights on a device."""
    return FaceMakeUp.from_config(config, _random(base_of(config).skeleton(), device))


def encoders(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> Encoders:
    """Return what stands frozen around it likewise; the VAE stays in float32."""
    from diffusers import DDPMScheduler

    parts = {name: _random(part, device) for name, part in skeleton.encoders(config).items()}
    base = StableDiffusionEncoders(
        vae=settle(parts["vae"], device),
        text_encoder=settle(parts["text_encoder"], device, dtype),
        tokenizer=tokenizer(),
        scheduler=DDPMScheduler(**SCHEDULE),
    )
    return Encoders(base, settle(parts["image_encoder"], device, dtype))


def _random(part: Any, device: torch.device) -> Any:
    """Give a module of the meta device weights: small normal numbers, ones for what scales, zeros for what shifts."""
    part = part.to_empty(device=device)
    with torch.no_grad():
        for name, value in part.named_parameters():
            if value.ndim > 1:
                value.normal_(std=0.02)
            else:
                value.fill_(1.0 if name.endswith("weight") else 0.0)
        for name, buffer in part.named_buffers():
            if name.endswith("position_ids"):
                buffer.copy_(torch.arange(buffer.shape[-1], device=device).expand(buffer.shape))
            else:
                buffer.zero_()
    return part

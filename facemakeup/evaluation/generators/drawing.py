"""What the methods on stock pipelines of diffusers share: loading a base, its sampler, and one picture."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from curation.errors import UsageError
from facemakeup.evaluation.generators.base import Facts
from facemakeup.evaluation.generators.settings import DrawingSettings
from facemakeup.evaluation.networks import NetworkSource
from facemakeup.inference.model_card import LICENCES
from facemakeup.model.diffusion import ddim
from facemakeup.model.pretrained import FAR, hub_answers, load_part, settle
from filters.base import RgbImage
from filters.loading import torch_device
from filters.weights import sha256_of

UNET_NAME = "unet/diffusion_pytorch_model.safetensors"


def load_pipeline(kind: Any, how: DrawingSettings, device: str, **parts: Any) -> Any:
    """Return a base in a pipeline of diffusers, with its sampler; frozen.

    Raises:
        UsageError: it is not there, or not of this kind.
        DeviceError: torch sees no such device.
    """
    place, dtype = torch_device(device), dtype_of(how, device)
    if how.vae is not None:
        from diffusers import AutoencoderKL

        parts["vae"] = load_part(AutoencoderKL, how.vae.source, "", how.vae.revision).to(dtype)
    is_folder = Path(how.base.source).is_dir()
    is_near = is_folder or not hub_answers()
    options = {"revision": how.base.revision} if how.base.revision else {}
    try:
        pipe = kind.from_pretrained(
            how.base.source, dtype=dtype, local_files_only=is_near, **options, **parts
        )  # fmt: skip
    except (OSError, ValueError) as error:
        why = str(error) if is_folder or not is_near else f"{FAR}; {offer_of(how.base.source)}"
        raise UsageError(f"{how.base.source}: no {kind.__name__} could be loaded from it: {why}") from error
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = SAMPLERS[how.sampler](pipe.scheduler)
    for network in pipe.components.values():
        if isinstance(network, torch.nn.Module):
            settle(network, place)
    return pipe


def offer_of(repository: str) -> str:
    """Say where a model of the hub is had, and on which terms."""
    return f"it is offered at https://huggingface.co/{repository} (licence: {LICENCES.get(repository, 'see there')})"


def dtype_of(how: DrawingSettings, device: str) -> torch.dtype:
    """Return the arithmetic of the base."""
    named = how.dtype if how.dtype != "auto" else ("float32" if device == "cpu" else "float16")
    dtype: torch.dtype = getattr(torch, named)
    return dtype


def fed(prompt: str, quality: str) -> str:
    """Return a prompt with what is put behind it."""
    return ", ".join(part for part in (prompt, quality) if part)


def draw(pipe: Any, how: DrawingSettings, seed: int, **call: Any) -> RgbImage:
    """Return one picture; the noise comes from the CPU, so that it is the same on every device."""
    (picture,) = pipe(
        num_inference_steps=how.steps,
        guidance_scale=how.guidance,
        height=how.height,
        width=how.width,
        generator=torch.Generator("cpu").manual_seed(seed),
        output_type="np",
        **call,
    ).images
    return np.ascontiguousarray((np.clip(picture, 0, 1) * 255).round().astype(np.uint8))


def is_guided(how: DrawingSettings) -> bool:
    """Whether the pipelines draw a second, negative branch."""
    return how.guidance > 1


def facts_of(how: DrawingSettings, pipe: Any) -> Facts:
    """Return what a table says of how pictures are drawn."""
    return {
        "base": told_place(how.base),
        "base_unet_sha256": _digest(Path(how.base.source) / UNET_NAME),
        "vae": "of the base" if how.vae is None else told_place(how.vae),
        "native_size": f"{how.width}x{how.height}",
        "sampler": f"{how.sampler}: {type(pipe.scheduler).__name__}",
        "steps": how.steps,
        "guidance": how.guidance,
        "negative_prompt": how.negative_prompt,
        "dtype": str(pipe.unet.dtype).removeprefix("torch."),
    }


def told_place(place: NetworkSource) -> str:
    """Return a network's place in words."""
    return f"{place.source}@{place.revision}" if place.revision else Path(place.source).name


def _digest(path: Path) -> str:
    return sha256_of(path.resolve()) if path.is_file() else "by its commit"


def _trailing(scheduler: Any) -> Any:
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler.from_config(scheduler.config, timestep_spacing="trailing")


def _karras(scheduler: Any) -> Any:
    from diffusers import DPMSolverMultistepScheduler

    return DPMSolverMultistepScheduler.from_config(scheduler.config, use_karras_sigmas=True)


def _euler(scheduler: Any) -> Any:
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler.from_config(scheduler.config)


SAMPLERS: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "base": lambda scheduler: scheduler,
        "ddim": lambda scheduler: ddim(scheduler, 1, torch.device("cpu")),
        "euler": _euler,
        "dpmpp-2m-trailing": _trailing,
        "dpmpp-2m-karras": _karras,
    }
)
"""Name -> what makes the sampler from the base's own."""

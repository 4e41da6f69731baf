"""Which arrays are cached for a configuration, and what each kind is made by; a change of it asks for other folders."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from facemakeup.data.prepare import Plan
from facemakeup.data.sidecar import Sidecar
from facemakeup.model.encoders import Encoders
from facemakeup.train_config import LossSettings, TrainConfig


@dataclass(frozen=True)
class Caches:
    """The sidecar tars of a configuration."""

    latents: Sidecar
    """Mean and log variance, by picture, window, size and mirroring; variant 1 is mirrored."""
    identities: Sidecar
    """Vectors of length 1, float32."""
    aligned: Sidecar | None
    """Faces as CLIP takes them, uint8 (S, S, 3); None where they are not to be kept."""


def caches_of(config: TrainConfig, vae: torch.nn.Module, clip_side: int) -> Caches:
    """Return the caches in the folder that the configuration names; nothing is read yet."""
    folder, cache, model = Path(config.cache.folder or "."), config.cache, config.model
    latents = {"vae_sha256": weights_sha256(vae), "dtype": cache.latent_dtype}
    faces = {"side": clip_side, "clip_crop": model.clip_crop, "decode": config.data.decode.model_dump(mode="json")}
    return Caches(
        latents=Sidecar(folder, "latents", latents),
        identities=Sidecar(folder, "identities", model.recogniser.model_dump(mode="json")),
        aligned=Sidecar(folder, "faces", faces) if cache.faces else None,
    )


def plan_of(config: TrainConfig, encoders: Encoders) -> Plan:
    """Return what preparing samples depends on, with the caches where the configuration names a folder."""
    model = config.model
    losses = config.losses
    plan = Plan(
        config.crop, config.faces, model.recogniser, encoders.clip_side, model.clip_crop,
        with_geometry=losses != LossSettings(),
        with_masks=losses.region is not None and losses.region.shape == "mask",
    )  # fmt: skip
    if not config.cache.folder:
        return plan
    caches = caches_of(config, encoders.base.vae, encoders.clip_side)
    return Plan(**{**vars(plan), **vars(caches)})


def weights_sha256(network: torch.nn.Module) -> str:
    """Return the sha256 of a network's weights in hex: names, shapes and float32 values, whatever file they lay in."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        values = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
        digest.update(f"{name} {values.shape} ".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()

"""A base of another kind than Stable Diffusion, small and random: a network of patch tokens that is taught a flow.

It has what the seam must bear and Stable Diffusion has not: real-valued timesteps that are not drawn alike, a velocity
from pictures to noise, several named conditions (the picture's size and guidance among them), and another sampler.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, scaled_dot_product_attention

from facemakeup.config import ModelConfig
from facemakeup.model.base import BaseEncoders, BaseModel, ConfigReader, Frame, Prompt
from facemakeup.model.pretrained import load_config, load_part, settle
from facemakeup.train_config import OptimSettings
from tests.facemakeup.tiny import seeded

WIDTH, CHANNELS, STRIDE, LENGTH = 64, 3, 4, 16


class PatchNetwork(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Tokens of 2 x 2 latents attend to themselves, to bytes of the caption, and to the face, and are told the time."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, width: int = WIDTH, channels: int = CHANNELS) -> None:
        super().__init__()
        self.into = nn.Conv2d(channels, width, 2, stride=2)
        self.told = nn.Linear(4, width)
        self.to_q, self.to_kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.ConvTranspose2d(width, channels, 2, stride=2)
        self.face_kv: nn.Linear | None = None
        self.face_scale = 1.0

    def forward(self, noisy: Tensor, told_B4: Tensor, text: Tensor, face: Tensor, extra: Tensor | None) -> Tensor:
        grid = self.into(noisy) + self.told(told_B4)[:, :, None, None]
        grid = grid if extra is None else grid + extra
        tokens = grid.flatten(2).transpose(1, 2)
        query = self.to_q(tokens)
        seen = torch.cat([tokens, text], dim=1)
        tokens = tokens + scaled_dot_product_attention(query, *self.to_kv(seen).chunk(2, dim=-1))
        if self.face_kv is not None and self.face_scale != 0:
            key, value = self.face_kv(face).chunk(2, dim=-1)
            tokens = tokens + self.face_scale * scaled_dot_product_attention(query, key, value)
        out: Tensor = self.out(tokens.transpose(1, 2).reshape(grid.shape))
        return out


class PatchPose(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """One convolution from the pose map to the grid of tokens; it begins at zero."""

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(self, width: int = WIDTH) -> None:
        super().__init__()
        self.into = nn.Conv2d(3, width, 2 * STRIDE, stride=2 * STRIDE)
        nn.init.zeros_(self.into.weight)

    def forward(self, pose: Tensor) -> Tensor:
        out: Tensor = self.into(pose)
        return out


@dataclass(frozen=True)
class Flow:
    """Straight lines from pictures (time 0) to noise (time 1); times cluster in the middle (logit-normal)."""

    end: float = 1.0

    def draw(self, chance: np.random.Generator, height: int, width: int) -> float:
        return 1 / (1 + float(np.exp(-chance.standard_normal())))

    def at(self, share: float) -> float:
        return share

    def noisy(self, latents_BCHW: Tensor, noise_BCHW: Tensor, timesteps_B: Tensor) -> Tensor:
        return torch.lerp(latents_BCHW, noise_BCHW, timesteps_B.reshape(-1, 1, 1, 1))

    def target(self, latents_BCHW: Tensor, noise_BCHW: Tensor, timesteps_B: Tensor) -> Tensor:
        return noise_BCHW - latents_BCHW

    def weights(self, timesteps_B: Tensor) -> Tensor | None:
        return None


class Euler:
    """Equal steps along the flow, from noise to pictures."""

    def __init__(self, num_steps: int) -> None:
        self.timesteps = torch.linspace(1, 0, num_steps + 1)[:-1]

    def step(self, predicted_BCHW: Tensor, timestep: Tensor, latents_BCHW: Tensor, *, return_dict: bool) -> Any:
        return (latents_BCHW - predicted_BCHW / len(self.timesteps),)


class Pooling(nn.Module):
    """Stands where a VAE stands: pictures of a stride-th of the size, with a little noise of its own."""

    logvar: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("logvar", torch.tensor(-6.0))


@dataclass(frozen=True)
class PatchEncoders(BaseEncoders):
    """Means over squares, bytes, and the flow."""

    vae: Pooling
    letters: nn.Embedding
    latent_channels: int = CHANNELS
    latent_stride: int = STRIDE
    is_told_guidance: bool = True

    def moments(self, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        mean = avg_pool2d(pixels_BCHW, STRIDE)
        return mean, self.vae.logvar.expand_as(mean)

    def sample(self, mean_BCHW: Tensor, logvar_BCHW: Tensor, noise_BCHW: Tensor) -> Tensor:
        return mean_BCHW + torch.exp(0.5 * logvar_BCHW) * noise_BCHW

    def decode(self, latents_BCHW: Tensor) -> Tensor:
        return interpolate(latents_BCHW, scale_factor=STRIDE).clamp(-1, 1)

    @torch.no_grad()
    def prompt(self, captions: Sequence[str], frames: Sequence[Frame], guidance: float = 1.0) -> dict[str, Tensor]:
        padded = [text.encode()[:LENGTH].ljust(LENGTH) for text in captions]
        return {
            "letters_BLE": self.letters(torch.tensor([list(text) for text in padded])),
            "size_B2": torch.tensor([[frame.height / 64, frame.width / 64] for frame in frames]),
            "guidance_B1": torch.full((len(captions), 1), guidance),
        }

    def objective(self, optim: OptimSettings) -> Flow:
        return Flow()

    def sampler(self, num_steps: int, height: int, width: int) -> Euler:
        return Euler(num_steps)


class Patches(BaseModel):
    """The base itself; what is trained are keys and values of the face, projector and PoseNet."""

    description = "patch tokens that are taught a flow: patches/config.json says PatchNetwork"
    network_name = "patches"

    @classmethod
    def recognises(cls, config_of: ConfigReader) -> bool:
        patches = config_of("patches")
        return patches is not None and patches["_class_name"] == PatchNetwork.__name__

    def load(self) -> nn.Module:
        network: nn.Module = load_part(PatchNetwork, self.config.base, "patches", None)
        return network.eval()

    def encoders(self, device: torch.device, dtype: torch.dtype) -> PatchEncoders:
        with seeded(7):
            letters = nn.Embedding(256, WIDTH)
        return PatchEncoders(settle(Pooling(), device), settle(letters, device, dtype))

    def skeleton(self) -> nn.Module:
        with torch.device("meta"):
            network: nn.Module = PatchNetwork.from_config(load_config(self.config.base, "patches"))
        return network

    def frozen_skeletons(self) -> dict[str, nn.Module]:
        with torch.device("meta"):
            return {"vae": Pooling(), "letters": nn.Embedding(256, WIDTH)}

    def width(self, network: Any) -> int:
        return int(network.config.width)

    def adapt(self, network: Any) -> nn.Module:
        network.requires_grad_(False)
        network.face_kv = nn.Linear(network.config.width, 2 * network.config.width)
        posenet: nn.Module = PatchPose(network.config.width)
        return posenet

    def set_scales(self, network: Any, face: float, lora: float) -> None:
        network.face_scale = face

    def residuals(
        self, posenet: nn.Module, noisy_BCHW: Tensor, timesteps_B: Tensor, prompt: Prompt, face_BTE: Tensor,
        pose_BCHW: Tensor, scale: float,
    ) -> Tensor:  # fmt: skip
        extra: Tensor = scale * posenet(pose_BCHW)
        return extra

    def predict(
        self, network: nn.Module, noisy_BCHW: Tensor, timesteps_B: Tensor, prompt: Prompt, face_BTE: Tensor,
        residuals: Tensor | None,
    ) -> Tensor:  # fmt: skip
        told_B4 = torch.cat([timesteps_B[:, None], prompt["size_B2"], prompt["guidance_B1"]], dim=1)
        said: Tensor = network(noisy_BCHW, told_B4, prompt["letters_BLE"], face_BTE, residuals)
        return said

    def flat_names(self, network: nn.Module, trained: Sequence[str]) -> dict[str, str]:
        return {name: f"adapter/{name}" for name in trained}

    def layout(self, network: nn.Module) -> list[str]:
        return ["face_kv"]

    def usage(self) -> str:
        return "## Files\n\nNo other program reads them.\n"


def write_patches(folder: Path, config: ModelConfig, seed: int = 0) -> ModelConfig:
    """Write a base, and return the configuration of an adapter on it that is otherwise as `config`."""
    with seeded(seed):
        PatchNetwork().save_pretrained(folder / "patches")
    return config.model_copy(update={"base": str(folder)})

"""The seam between the trainer and a base model: everything else knows a base through these interfaces alone.

A base is one file that implements `BaseModel`, `BaseEncoders` and, where no existing one fits, `Objective`; and one
row in `facemakeup.model.bases`. What it makes of captions travels as a mapping of named tensors that it alone reads,
so a second text encoder or a vector of picture sizes is another name in that mapping.

Shapes: B batch, C latent channels, H and W latent size, T face tokens, E their width.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import torch
from torch import Tensor, nn

from curation.errors import UsageError
from facemakeup.config import ModelConfig
from facemakeup.model.projector import Projector
from facemakeup.train_config import OptimSettings

WEIGHTS_NAME = "facemakeup.safetensors"
"""The exported file of all that has no file of its own."""

Prompt = Mapping[str, Tensor]
"""What a base makes of captions, by name, one row per caption; no name is one of `FaceMakeUp.forward`'s own."""
ConfigReader = Callable[[str], Mapping[str, Any] | None]
"""Subfolder of a base -> what its `config.json` says, or None where it has none."""


@dataclass(frozen=True)
class Frame:
    """Where a training picture comes from: its size, that of the photo, and what was cut off; all in pixels."""

    height: int
    width: int
    original_height: int
    original_width: int
    top: int = 0
    left: int = 0
    """What was cut off above and to the left, counted once the photo is resized (and mirrored) as the picture is."""

    @classmethod
    def whole(cls, height: int, width: int) -> Self:
        """Return the frame of a picture that is a whole photo in its own size."""
        return cls(height, width, height, width)


class Objective(Protocol):
    """What a network is taught: how latents are made noisy, what it should say of them, and how errors are weighed.

    Timesteps are whole numbers (int64) or times (float32), as the base counts.
    """

    @property
    def end(self) -> float:
        """Timesteps lie in 0..end, the end left out."""
        ...

    def draw(self, chance: np.random.Generator, height: int, width: int) -> float:
        """Return the timestep that a sample of a latent size is trained at, drawn with its own generator."""
        ...

    def at(self, share: float) -> float:
        """Return the timestep at a share (0..1) of the way from clean to noise."""
        ...

    def noisy(self, latents_BCHW: Tensor, noise_BCHW: Tensor, timesteps_B: Tensor) -> Tensor:
        """Return the latents at their timesteps."""
        ...

    def target(self, latents_BCHW: Tensor, noise_BCHW: Tensor, timesteps_B: Tensor) -> Tensor:
        """Return what the network should say."""
        ...

    def weights(self, timesteps_B: Tensor) -> Tensor | None:
        """Return what each sample's error is multiplied by, (B,); None leaves all alike."""
        ...


class Sampler(Protocol):
    """The way from noise to latents in a number of steps: what schedulers of diffusers are."""

    timesteps: Tensor
    """In the order of the steps."""

    def step(self, predicted_BCHW: Tensor, timestep: Tensor, latents_BCHW: Tensor, *, return_dict: bool) -> Any:
        """Return a tuple whose first is the latents after a step."""
        ...


class BaseLatents(ABC):
    """What turns pixels into a base's latents and back, on one device; all that filling caches needs of a base."""

    vae: nn.Module
    """Cached latents are known by its weights."""

    @property
    @abstractmethod
    def latent_channels(self) -> int:
        """Channels C of the latents."""

    @property
    @abstractmethod
    def latent_stride(self) -> int:
        """Pixels per latent."""

    @abstractmethod
    def moments(self, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the latents, float32, unscaled, of pixels in -1..1, without gradient."""

    @abstractmethod
    def sample(self, mean_BCHW: Tensor, logvar_BCHW: Tensor, noise_BCHW: Tensor) -> Tensor:
        """Return latents as the network takes them, drawn with the given standard normal noise."""

    @abstractmethod
    def decode(self, latents_BCHW: Tensor) -> Tensor:
        """Return pixels in -1..1, float32, of latents as the network gives them; a gradient flows through."""


class BaseEncoders(BaseLatents):
    """What stands frozen around a base's network, on one device; every method but `decode` runs without gradient."""

    @property
    def is_told_guidance(self) -> bool:
        """Whether the network takes guidance as a condition, so that no negative branch is computed beside it."""
        return False

    @property
    def guidance_scale(self) -> float:
        """What pictures are drawn with where nobody says otherwise, at least 1: what the base's makers draw with."""
        return 7.5

    @property
    def num_inference_steps(self) -> int:
        """In how many steps pictures are drawn where nobody says otherwise."""
        return 50

    @property
    def side_step(self) -> int:
        """What the sides of pictures are multiples of, pixels."""
        return self.latent_stride

    @abstractmethod
    def prompt(self, captions: Sequence[str], frames: Sequence[Frame], guidance: float = 1.0) -> dict[str, Tensor]:
        """Return what the network is told of captions, of the frame of each one's picture, and of guidance.

        `guidance` is the scale that pictures are drawn with, and in training `optim.guidance`; 1 is none.
        """

    def spans(self, captions: Sequence[str]) -> Tensor:
        """Return which characters each token of the text stands for, int64 (B, L, 2) on the CPU; alike where none.

        Tokens are those whose attention `BaseModel.heard` tells.

        Raises:
            UsageError: the base does not say.
        """
        raise UsageError(f"losses.attention: {type(self).__name__} does not say where the words of a caption are")

    @abstractmethod
    def objective(self, optim: OptimSettings) -> Objective:
        """Return what the network is taught.

        Raises:
            ValueError: the base was trained for something that cannot be taught here.
            UsageError: the settings ask for something that the base does not know.
        """

    @abstractmethod
    def sampler(self, num_steps: int, height: int, width: int) -> Sampler:
        """Return how pictures of a size in pixels are drawn in `num_steps` steps."""


class BaseModel(ABC):
    """One base model that Face-MakeUp adapts: the only object that knows how it is built."""

    description: ClassVar[str]
    """What it is and how a folder of it is recognised, for the error that lists the choices."""
    network_name: ClassVar[str]
    """What the network is called in the names of trained parameters; checkpoints hold these names."""
    block_classes: ClassVar[tuple[str, ...]] = ()
    """Names of the classes that network and PoseNet are mostly made of, which torch.compile may take one by one."""

    def __init__(self, config: ModelConfig) -> None:
        """Keep the configuration; nothing is loaded."""
        self.config = config

    def blocks(self, part: nn.Module) -> list[nn.Module]:
        """Return the blocks of network or PoseNet that repeat."""
        return [module for module in part.modules() if type(module).__name__ in self.block_classes]

    @classmethod
    @abstractmethod
    def recognises(cls, config_of: ConfigReader) -> bool:
        """Whether a base is of this kind, by what its folders say."""

    @abstractmethod
    def load(self) -> nn.Module:
        """Return the network in float32 on the CPU, in eval mode.

        Raises:
            UsageError: it is not there.
        """

    def load_in(self, dtype: torch.dtype) -> nn.Module:
        """Return the network as `load` does, for a run whose frozen parts will be in `dtype`.

        It is in `dtype` where the base's weights are published in no more digits; else in float32, since some of what
        is trained begins as a copy of them.

        Raises:
            UsageError: it is not there.
        """
        return self.load()

    def latents(self, device: torch.device) -> BaseLatents:
        """Return what turns pixels into latents, and nothing that takes memory beside it.

        Raises:
            UsageError: a part is not there.
        """
        return self.encoders(device, torch.float32)

    @abstractmethod
    def encoders(self, device: torch.device, dtype: torch.dtype) -> BaseEncoders:
        """Return what stands around the network, frozen and in eval mode.

        Raises:
            UsageError: a part is not there.
        """

    @abstractmethod
    def skeleton(self) -> nn.Module:
        """Return the network on the meta device, made from the JSON files of a folder alone."""

    @abstractmethod
    def frozen_skeletons(self) -> dict[str, nn.Module]:
        """Return what stands around the network likewise, by name."""

    @abstractmethod
    def width(self, network: nn.Module) -> int:
        """Return the width E of face tokens.

        Raises:
            ValueError: no adapter of this kind fits the network.
        """

    @abstractmethod
    def adapt(self, network: nn.Module) -> nn.Module:
        """Freeze the network, put face attentions and LoRA into it, and return a PoseNet made from what it was before.

        What training changes requires a gradient afterwards, all of PoseNet too. Both are modules of diffusers'
        `ModelMixin`: they checkpoint activations on demand, and PoseNet saves itself.

        Raises:
            ValueError: no adapter of this kind fits the network.
        """

    def projector(self, network: nn.Module) -> nn.Module:
        """Return what makes face tokens (B, T, E) of identity, CLIP's hidden states and a scale of these, untrained."""
        return Projector(self.config.recogniser.width, self.config.clip_width, self.width(network))

    @abstractmethod
    def set_scales(self, network: nn.Module, face: float, lora: float) -> None:
        """Set how strongly the face is attended to and how much of LoRA is applied; 0 and 0 is the base."""

    def listen(self, network: nn.Module) -> None:
        """From now on keep, where there are gradients, how attention to the text is spread: for losses on it.

        Raises:
            UsageError: the base does not tell.
        """
        raise UsageError(f"losses.attention: {type(self).__name__} does not tell how its attention is spread")

    def heard(self, network: nn.Module) -> list[Tensor]:
        """Return how the attentions of the last pass were spread, (B, heads, queries, L) each, and forget it."""
        raise NotImplementedError

    @abstractmethod
    def residuals(
        self, posenet: nn.Module, noisy_BCHW: Tensor, timesteps_B: Tensor, prompt: Prompt, face_BTE: Tensor,
        pose_BCHW: Tensor, scale: float,
    ) -> Any:  # fmt: skip
        """Return what PoseNet adds to the network, in the form that `predict` takes; `pose_BCHW` is RGB in 0..1."""

    @abstractmethod
    def predict(
        self, network: nn.Module, noisy_BCHW: Tensor, timesteps_B: Tensor, prompt: Prompt, face_BTE: Tensor,
        residuals: Any,
    ) -> Tensor:  # fmt: skip
        """Return what the network says, (B, C, H, W); `residuals` is None where PoseNet is left out."""

    @abstractmethod
    def flat_names(self, network: nn.Module, trained: Sequence[str]) -> dict[str, str]:
        """Return own name -> name in the exported files, of every trained parameter but PoseNet's."""

    def file_of(self, flat_name: str) -> str:
        """Return which exported file holds a name."""
        return WEIGHTS_NAME

    @abstractmethod
    def layout(self, network: nn.Module) -> list[str]:
        """Return what the exported names count, in order; recorded, and held against the base when read."""

    @abstractmethod
    def usage(self) -> str:
        """Return the card's part on the exported files: what reads each, and how, in Markdown."""

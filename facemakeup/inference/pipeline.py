"""Draws pictures of a person from a prompt, one or several faces, and a pose.

Guidance pushes away from a negative branch with its own text and the face tokens of "no face": zero identity, and
CLIP's view of the zero picture.

Shapes: B pictures, H and W their size, D identity width, N CLIP tokens, C their width.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from curation.errors import UsageError
from facemakeup.faces.condition import FaceCondition, mixed_identity, mixing_weights
from facemakeup.faces.crop import Size
from facemakeup.inference.export import read_export
from facemakeup.model.base import BaseEncoders, Frame, Prompt
from facemakeup.model.denoise import AS_TRAINED, BASE_MODEL, PUBLISHED, Conditions, Sampling, Scales, denoise
from facemakeup.model.encoders import Encoders
from facemakeup.model.facemakeup import FaceMakeUp
from filters.base import RgbImage
from filters.loading import torch_device

DEFAULT_SIZE = Size(512, 512)


class FaceMakeUpPipeline:
    """A model with its encoders; makes pictures, changes no weight."""

    def __init__(self, model: FaceMakeUp, encoders: Encoders) -> None:
        """Keep them; both are on one device."""
        self.model = model
        self.encoders = encoders
        self._enabled = True

    @classmethod
    def from_pretrained(
        cls, adapter: Path, base: str | None = None, image_encoder: str | None = None, device: str = "cpu"
    ) -> Self:
        """Return the pipeline of an exported adapter, in float32 on a CPU and mostly in bfloat16 on a GPU.

        `base` and `image_encoder` name other places than those that the adapter was trained with.

        Raises:
            UsageError: a part is not there, or does not fit.
            VerificationError: the adapter's files are damaged.
            DeviceError: torch sees no such device.
        """
        place = torch_device(device)
        dtype = torch.float32 if place.type == "cpu" else torch.bfloat16
        model = read_export(adapter, base, image_encoder, dtype)
        model.freeze_in(dtype)
        return cls(model.to(place).eval(), Encoders.load(model.config, device, dtype))

    def disable_adapter(self) -> None:
        """From now on draw exactly what the base model draws, faces and poses or not."""
        self._enabled = False

    def enable_adapter(self) -> None:
        """From now on draw faces again."""
        self._enabled = True

    @torch.no_grad()
    def __call__(
        self,
        prompts: Sequence[str],
        faces: Sequence[FaceCondition],
        mix: Sequence[float] | None = None,
        pose: RgbImage | None = None,
        scales: Scales = AS_TRAINED,
        sampling: Sampling = PUBLISHED,
        negative_prompt: str = "",
        seeds: Sequence[int] = (42,),
        size: Size = DEFAULT_SIZE,
    ) -> list[RgbImage]:
        """Return one picture per prompt, uint8 (H, W, 3).

        `faces` are mixed by `mix` into one person; `pose` is a pose map of the picture's size
        (`FaceCondition.pose`, `posemap.draw`), None for a free pose. `seeds` are one for all or one per prompt: the
        same prompt, seed and settings give the same picture whatever else is in the batch, up to rounding.

        Raises:
            UsageError: sizes, weights or numbers do not fit, a face was cut out for CLIP in another way, or the base
                has no branch for a negative prompt.
            RecogniserError: a face was seen by another recogniser than the model's.
        """
        seeds = tuple(seeds) * len(prompts) if len(seeds) == 1 else tuple(seeds)
        if len(seeds) != len(prompts) or not prompts:
            raise UsageError(f"{len(prompts)} prompts need one seed or as many, not {len(seeds)}")
        base, sampling = self.encoders.base, self.settled(sampling)
        guidance = sampling.guidance_on(base.guidance_scale)
        is_one_branch = guidance == 1 or base.is_told_guidance
        _require_taken(base, size, negative_prompt, is_one_branch)
        frame = Frame.whole(size.height, size.width)
        told = base.prompt(prompts, [frame] * len(prompts), guidance)
        positive = self._positive(told, faces, mix, self._pose_tensor(pose, size))
        negative = None
        if not is_one_branch:
            negative = self._negative(base.prompt([negative_prompt], [frame], guidance), positive)
        sampler = base.sampler(sampling.steps_on(base.num_inference_steps), size.height, size.width)
        used = scales if self._enabled else BASE_MODEL
        latents = denoise(self.model, sampler, self.start(seeds, size), positive, negative, used, sampling)
        return self._pictures(latents)

    def settled(self, sampling: Sampling) -> Sampling:
        """Return how pictures are drawn, with the base's own guidance and steps where nobody says others."""
        base = self.encoders.base
        return sampling.on(base.guidance_scale, base.num_inference_steps)

    def start(self, seeds: Sequence[int], size: Size) -> Tensor:
        """Return the noise (B, C, H, W) that each seed stands for, drawn on the CPU: the same on every device."""
        stride = self.encoders.base.latent_stride
        shape = (self.encoders.base.latent_channels, size.height // stride, size.width // stride)
        drawn = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return torch.stack(drawn).to(self.encoders.device)

    def _positive(
        self, told: Prompt, faces: Sequence[FaceCondition], mix: Sequence[float] | None, pose: Tensor | None
    ) -> Conditions:
        weights = mixing_weights(len(faces), mix)
        self._require_crop(faces)
        device, num = self.encoders.device, len(next(iter(told.values())))
        identity = torch.from_numpy(mixed_identity(faces, weights, self.model.config.recogniser)).to(device)
        hidden = self.encoders.clip_hidden(torch.from_numpy(np.stack([face.clip_pixels_3SS for face in faces])))
        share = torch.tensor(weights, dtype=hidden.dtype, device=device)
        return Conditions(
            prompt=told,
            identity_BD=identity.expand(num, -1),
            clip_hidden_BNC=torch.einsum("f,fnc->nc", share, hidden).expand(num, -1, -1),
            pose_BCHW=None if pose is None else pose.expand(num, -1, -1, -1),
        )

    def _require_crop(self, faces: Sequence[FaceCondition]) -> None:
        """Refuse faces that were cut out for CLIP in another way than the model has learned from."""
        expected = self.model.config.clip_crop
        for number, face in enumerate(faces):
            if face.clip_crop != expected:
                raise UsageError(
                    f"face {number + 1}: cut out for CLIP as {face.clip_crop!r}, but the model was trained with "
                    f"{expected!r}: prepare it anew from its photo"
                )

    def _negative(self, told: Prompt, positive: Conditions) -> Conditions:
        num = len(positive.identity_BD)
        return Conditions(
            prompt={name: row.expand(num, *row.shape[1:]) for name, row in told.items()},
            identity_BD=torch.zeros_like(positive.identity_BD),
            clip_hidden_BNC=self.encoders.zero_hidden().expand(num, -1, -1),
            pose_BCHW=positive.pose_BCHW,
        )

    def _pose_tensor(self, pose: RgbImage | None, size: Size) -> Tensor | None:
        if pose is None:
            return None
        if pose.shape != (size.height, size.width, 3):
            raise UsageError(f"a pose map must be {size.height}x{size.width}x3 as the picture, not {pose.shape}")
        return torch.from_numpy(pose.astype(np.float32) / 255).permute(2, 0, 1).to(self.encoders.device)

    def _pictures(self, latents_BCHW: Tensor) -> list[RgbImage]:
        pixels = ((self.encoders.base.decode(latents_BCHW) + 1) * 127.5).round().to(torch.uint8)
        return [np.ascontiguousarray(picture) for picture in pixels.permute(0, 2, 3, 1).cpu().numpy()]


def _require_taken(base: BaseEncoders, size: Size, negative_prompt: str, is_one_branch: bool) -> None:
    """Refuse what cannot be drawn.

    Raises:
        UsageError: sides that the base does not take, or a negative prompt where no branch is drawn for one.
    """
    step = base.side_step
    if size.height % step or size.width % step:
        raise UsageError(f"sides must be multiples of {step}, not {size.width}x{size.height}")
    if negative_prompt and base.is_told_guidance:
        raise UsageError("negative_prompt: this base is told guidance and draws no negative branch; leave it out")
    if negative_prompt and is_one_branch:
        raise UsageError(
            "negative_prompt: at a guidance of 1 no negative branch is drawn; leave it out, or guide by more"
        )

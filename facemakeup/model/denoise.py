"""From noise to latents: the base's own sampler with classifier-free guidance.

PoseNet runs on the prompt's branch and on the negative one, each with its own face tokens and the same pose map.

Shapes: B pictures, C latent channels, H and W latent size, D identity, N CLIP tokens.
"""

from dataclasses import dataclass, replace

import torch
from pydantic import Field
from torch import Tensor

from facemakeup.model.base import Prompt, Sampler
from facemakeup.model.facemakeup import FaceMakeUp
from filters.base import Settings


class Scales(Settings):
    """How strongly each part of the adapter speaks; 1 is what it was trained at."""

    face: float = Field(default=1.0, ge=0)
    """Attention to the face tokens."""
    clip: float = Field(default=1.0, ge=0)
    """What CLIP adds to the bare identity within these tokens."""
    pose: float = Field(default=1.0, ge=0)
    """PoseNet; 0 does not run it."""
    lora: float = Field(default=1.0, ge=0)
    """The low-rank change of the attentions."""


class Sampling(Settings):
    """How a picture is drawn."""

    num_steps: int | None = Field(default=None, ge=1, le=1000)
    """Steps from noise to picture; None takes as many as the base is drawn in (`BaseEncoders.num_inference_steps`)."""
    guidance_scale: float | None = Field(default=None, ge=0)
    """Weight of the difference between the prompt's branch and the negative one, or what a network that takes guidance
    is told; 1 leaves the negative one out, None takes what the base is drawn with (`BaseEncoders.guidance_scale`)."""
    pose_start: float = Field(default=0.0, ge=0, le=1)
    """Share of the steps before PoseNet sets in."""
    pose_end: float = Field(default=1.0, ge=0, le=1)
    """Share of the steps after which PoseNet is silent."""

    def on(self, usual_guidance: float, usual_steps: int) -> "Sampling":
        """Return the same on a base that is drawn by this guidance and in so many steps where nobody says otherwise."""
        said = {"guidance_scale": self.guidance_on(usual_guidance), "num_steps": self.steps_on(usual_steps)}
        return self.model_copy(update=said)

    def guidance_on(self, usual_guidance: float) -> float:
        """Return the guidance on a base that is drawn with `usual_guidance` where nobody says otherwise."""
        return usual_guidance if self.guidance_scale is None else self.guidance_scale

    def steps_on(self, usual_steps: int) -> int:
        """Return the steps on a base that is drawn in `usual_steps` where nobody says otherwise."""
        return usual_steps if self.num_steps is None else self.num_steps

    def is_posed(self, number: int, num_steps: int) -> bool:
        """Whether PoseNet speaks in this step, counted from 0: the step lies wholly within its share."""
        return number / num_steps >= self.pose_start and (number + 1) / num_steps <= self.pose_end


@dataclass(frozen=True)
class Conditions:
    """What a batch of pictures is drawn from, on the device."""

    prompt: Prompt
    """What the base made of the texts, one row per picture."""
    identity_BD: Tensor
    clip_hidden_BNC: Tensor
    pose_BCHW: Tensor | None

    def joined(self, other: "Conditions") -> "Conditions":
        """Return this batch followed by another."""
        return Conditions(
            prompt={name: torch.cat([rows, other.prompt[name]]) for name, rows in self.prompt.items()},
            identity_BD=torch.cat([self.identity_BD, other.identity_BD]),
            clip_hidden_BNC=torch.cat([self.clip_hidden_BNC, other.clip_hidden_BNC]),
            pose_BCHW=None
            if self.pose_BCHW is None or other.pose_BCHW is None
            else torch.cat([self.pose_BCHW, other.pose_BCHW]),
        )

    def without_pose(self) -> "Conditions":
        """Return the same without the pose map."""
        return replace(self, pose_BCHW=None)


AS_TRAINED = Scales()
BASE_MODEL = Scales(face=0, clip=0, pose=0, lora=0)
"""Draws what the base draws."""
PUBLISHED = Sampling()


def guided(
    model: FaceMakeUp,
    latents_BCHW: Tensor,
    timestep: Tensor,
    positive: Conditions,
    negative: Conditions | None,
    scales: Scales,
    guidance_scale: float,
) -> Tensor:
    """Return the guided prediction `n + guidance * (p - n)`; without `negative`, that of the prompt alone."""
    both = positive if negative is None else negative.joined(positive)
    repeated = latents_BCHW if negative is None else torch.cat([latents_BCHW, latents_BCHW])
    predicted = model.predict(
        repeated,
        timestep.expand(len(repeated)),
        both.identity_BD,
        both.clip_hidden_BNC,
        both.pose_BCHW,
        clip_scale=scales.clip,
        pose_scale=scales.pose,
        **both.prompt,
    )
    if negative is None:
        return predicted
    against, towards = predicted.chunk(2)
    return against + guidance_scale * (towards - against)


def denoise(
    model: FaceMakeUp,
    sampler: Sampler,
    latents_BCHW: Tensor,
    positive: Conditions,
    negative: Conditions | None,
    scales: Scales,
    sampling: Sampling,
) -> Tensor:
    """Return the latents that the noise `latents_BCHW` becomes; the model's scales are 1 again afterwards.

    Without `negative` no step is guided by a second branch; with it, `sampling` says how strongly.

    Raises:
        ValueError: `sampling` leaves that to the base, of which nothing is known here (`Sampling.on`).
    """
    timesteps, weight = sampler.timesteps, sampling.guidance_scale
    if weight is None:
        raise ValueError("sampling.guidance_scale is left to the base: say it, or take `Sampling.on`")
    model.set_scales(scales.face, scales.lora)
    try:
        for number, timestep in enumerate(timesteps):
            towards, away = positive, negative
            if not sampling.is_posed(number, len(timesteps)):
                towards, away = towards.without_pose(), away and away.without_pose()
            predicted = guided(model, latents_BCHW, timestep, towards, away, scales, weight)
            latents_BCHW = sampler.step(predicted, timestep, latents_BCHW, return_dict=False)[0]
    finally:
        model.set_scales()
    return latents_BCHW

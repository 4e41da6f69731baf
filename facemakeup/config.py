"""What makes one Face-MakeUp model: its base, the sizes of its parts, its recogniser, and what training hides from it.

Sizes that follow from the base (widths of layers, number of attentions, prediction type) are read from the base and
stand nowhere else.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, Self

from pydantic import Field, model_validator

from filters.base import Settings, TableSettings

HEAD_WIDTH = 64
"""Width of a head of the resampler; stock diffusers divides by it when it reads an adapter."""
NUM_RESAMPLER_LAYERS = 4
"""Depth of the resampler; stock diffusers builds exactly so many."""
NUM_TOKENS = 4
"""Face tokens per picture; stock diffusers assumes so many for this kind of adapter."""


class Recogniser(TableSettings):
    """Who turns a face into a vector; two recognisers' vectors have nothing in common, whatever their widths."""

    LATER = frozenset({"brought_by"})

    name: str = Field(min_length=1)
    """Its name in `facemakeup.faces.recognisers.BUILDERS`, or that of an entry point `facecaptionhq.recognisers`."""
    width: int = Field(ge=1)
    """Numbers in an identity vector."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """The sha256 of its file of weights, in hex."""
    brought_by: str | None = None
    """Distribution and version that bring it, `NAME VERSION`; None for one of ours."""


class ModelConfig(Settings):
    """One Face-MakeUp model.

    Example:
        recogniser = Recogniser(name="insightface_512d", width=512, sha256="0" * 64)
        config = ModelConfig(base="stable-diffusion-v1-5/stable-diffusion-v1-5", recogniser=recogniser)
    """

    base: str = Field(min_length=1)
    """Folder or hub name of a base model of a kind in `facemakeup.model.bases`, with subfolders as in diffusers."""
    base_revision: str | None = None
    """Commit of the hub's repository; None takes the folder or the newest."""
    vae: str | None = None
    """Folder or hub name of another VAE than the base's, such as `stabilityai/sd-vae-ft-mse`."""
    image_encoder: str = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
    """Folder or hub name of a CLIP vision model; its penultimate hidden states are the general visual evidence."""
    image_encoder_subfolder: str = ""
    """Where in it the model lies; `image_encoder` in many diffusers folders."""
    image_encoder_revision: str | None = None
    """Commit of the hub's repository; None takes the folder or the newest."""
    clip_crop: Literal["insightface-512", "ip-adapter-224", "arcface-512"] = "insightface-512"
    """How a face is cut out for CLIP (`facemakeup.faces.align.CLIP_CROPS`); an adapter works with this one."""
    clip_width: int = Field(default=1280, ge=1)
    """Width of the image encoder's hidden states; checked against the encoder."""
    recogniser: Recogniser
    """Who makes the identity vectors; an adapter works with this one only."""
    lora_rank: int = Field(default=128, ge=1)
    """Rank of the low-rank change of every attention of the base; alpha equals it."""
    posenet_context: Literal["face", "text"] = "face"
    """What PoseNet attends to: the face tokens, as published, or the text, which stock pipelines give a ControlNet."""
    pose_channels: tuple[int, ...] = Field(default=(16, 32, 96, 256), min_length=4, max_length=4)
    """Channels of PoseNet's embedding of the pose map; three strides of 2 reach the latents. FLUX.1's are fixed."""


class DropTable(Settings):
    """How often training hides a condition, so that guidance without it means something."""

    text: float = Field(default=0.05, ge=0, le=1)
    """Share of samples whose caption becomes the empty string."""
    image: float = Field(default=0.05, ge=0, le=1)
    """Share whose identity becomes zero and whose CLIP picture becomes zero."""
    both: float = Field(default=0.05, ge=0, le=1)
    """Share that loses text and image; text, image and both exclude one another."""
    clip: float = Field(default=0.5, ge=0, le=1)
    """Share whose CLIP picture becomes zero, whatever the draw above says: identity must carry the face alone."""
    pose: float = Field(default=0.1, ge=0, le=1)
    """Share whose pose map becomes black, independent of the others."""

    @model_validator(mode="after")
    def _leaves_some(self) -> Self:
        if self.text + self.image + self.both > 1:
            raise ValueError(f"text + image + both is {self.text + self.image + self.both:g}, above 1: they exclude")
        return self


DROP_TABLES: Mapping[str, DropTable] = MappingProxyType(
    {
        "recommended": DropTable(),
        "reference": DropTable(text=0, image=0, both=0, clip=0.5, pose=0),
    }
)
"""By name; `reference` is what the published training did, which never trained the branch that guidance needs."""

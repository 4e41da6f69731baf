"""What a configuration says of a method that draws, by its kind; values are those of the method's own demonstration."""

from typing import Annotated, Literal

from pydantic import Field

from facemakeup.evaluation.generators.checkpoints import CheckpointSource
from facemakeup.evaluation.networks import NetworkSource
from facemakeup.faces.recognisers import ANTELOPEV2, INSIGHTFACE
from facemakeup.model.denoise import Sampling, Scales
from filters.base import Settings

SamplerName = Literal["base", "ddim", "euler", "dpmpp-2m-trailing", "dpmpp-2m-karras"]


class IdentitySource(Settings):
    """The recogniser that conditions a method."""

    name: str
    """Of `facemakeup.faces.recognisers`; must be of the ArcFace family."""
    file: str | None = None
    """An ONNX file in the place of the weights of that name, which is recorded with its sha256."""


class DrawingSettings(Settings):
    """What every method on diffusers needs."""

    base: NetworkSource
    """A folder as diffusers writes it, or a name on the hub with its commit."""
    vae: NetworkSource | None = None
    """Another VAE than the base's."""
    sampler: SamplerName = "base"
    """`base` takes the base's own."""
    steps: int = Field(default=30, ge=1, le=1000)
    guidance: float = Field(default=7.5, ge=0)
    height: int = Field(default=512, ge=8)
    width: int = Field(default=512, ge=8)
    """Pixels."""
    quality: str = ""
    """Put behind every prompt, with a comma."""
    negative_prompt: str = ""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """`auto` is float32 on a CPU and float16 on a GPU."""


class FaceMakeUpSettings(Settings):
    """Our own adapter, as `facecaptionhq export` writes it."""

    kind: Literal["face-makeup"]
    adapter: str = Field(min_length=1)
    """Folder."""
    base: str | None = None
    image_encoder: str | None = None
    """Other places than those that the adapter was trained with."""
    recogniser_file: str | None = None
    """An ONNX file in the place of the weights of the adapter's recogniser; its sha256 must be the adapter's."""
    scales: Scales = Scales(pose=0.3)
    sampling: Sampling = Sampling()
    is_posed: bool = True
    """Whether the reference's pose is given, too."""
    height: int = Field(default=512, ge=8)
    width: int = Field(default=512, ge=8)
    quality: str = ""
    negative_prompt: str = ""


class FaceIdPlusSettings(DrawingSettings):
    """IP-Adapter FaceID-Plus for Stable Diffusion 1.5 (arXiv 2308.06721)."""

    kind: Literal["ip-adapter-faceid-plus"]
    version: Literal["plus", "plusv2"] = "plusv2"
    """`plusv2` adds what CLIP saw to the bare identity (its shortcut)."""
    checkpoint: CheckpointSource
    image_encoder: NetworkSource
    """`laion/CLIP-ViT-H-14-laion2B-s32B-b79K`."""
    image_encoder_subfolder: str = ""
    identity: IdentitySource = IdentitySource(name=INSIGHTFACE)
    scale: float = Field(default=1.0, ge=0)
    lora_scale: float = Field(default=1.0, ge=0)
    clip_scale: float = Field(default=1.0, ge=0)
    sampler: SamplerName = "ddim"
    negative_prompt: str = "monochrome, lowres, bad anatomy, worst quality, low quality"


class InstantIdSettings(DrawingSettings):
    """InstantID for Stable Diffusion XL (arXiv 2401.07519)."""

    kind: Literal["instantid"]
    checkpoint: CheckpointSource
    controlnet: NetworkSource
    controlnet_subfolder: str = ""
    """`ControlNetModel` in the published repository."""
    identity: IdentitySource = IdentitySource(name=ANTELOPEV2)
    scale: float = Field(default=0.8, ge=0)
    pose_scale: float = Field(default=0.8, ge=0)
    guidance: float = Field(default=5.0, ge=0)
    height: int = Field(default=1024, ge=8)
    width: int = Field(default=1024, ge=8)


class PhotoMakerSettings(DrawingSettings):
    """PhotoMaker for Stable Diffusion XL (arXiv 2312.04461); v2 also takes an identity vector."""

    kind: Literal["photomaker"]
    version: Literal["v1", "v2"] = "v1"
    checkpoint: CheckpointSource
    identity: IdentitySource = IdentitySource(name=INSIGHTFACE)
    """Of v2 alone."""
    scale: float = Field(default=1.0, ge=0)
    """Of the low-rank change; 0 leaves the identity out, too."""
    style_share: float = Field(default=0.2, ge=0, le=1)
    """Share of the steps that see the text alone, before the identity sets in."""
    sampler: SamplerName = "euler"
    steps: int = Field(default=50, ge=1, le=1000)
    guidance: float = Field(default=5.0, ge=0)
    height: int = Field(default=1024, ge=8)
    width: int = Field(default=1024, ge=8)


class PulidSettings(DrawingSettings):
    """PuLID for Stable Diffusion XL (arXiv 2404.16022); the values are v1.1's.

    v1 is shown with `unet` SDXL-Lightning of four steps, `steps = 4`, `guidance = 1.2`, `num_zero = 8`,
    `sampler = "dpmpp-2m-trailing"`, 768 x 1024 pixels.
    """

    kind: Literal["pulid"]
    version: Literal["v1", "v1.1"] = "v1.1"
    checkpoint: CheckpointSource
    unet: CheckpointSource | None = None
    """Weights in the place of the base's U-Net."""
    eva: CheckpointSource
    """`EVA02_CLIP_L_336_psz14_s6B.pt` of `QuanSun/EVA-CLIP`."""
    parser: CheckpointSource | None = None
    """ONNX of a face parser with the 19 classes of CelebAMask-HQ, 512 x 512; without it nothing is painted white, which
    is another input than the published one, and the table says so."""
    identity: IdentitySource = IdentitySource(name=ANTELOPEV2)
    scale: float = Field(default=0.8, ge=0)
    num_zero: int = Field(default=20, ge=0)
    """Tokens of nothing beside those of the identity, to which attention can turn away."""
    orthogonal: Literal["off", "v1", "v2"] = "v2"
    """Whether the part of the identity that lies along the text's is taken out."""
    sampler: SamplerName = "dpmpp-2m-karras"
    steps: int = Field(default=25, ge=1, le=1000)
    guidance: float = Field(default=7.0, ge=0)
    height: int = Field(default=1152, ge=8)
    width: int = Field(default=896, ge=8)


GeneratorSettings = Annotated[
    FaceMakeUpSettings | FaceIdPlusSettings | InstantIdSettings | PhotoMakerSettings | PulidSettings,
    Field(discriminator="kind"),
]

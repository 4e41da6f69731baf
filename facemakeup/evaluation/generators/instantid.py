"""InstantID on Stable Diffusion XL: an identity vector as the network makes it, 16 tokens, a ControlNet on a pose map.

Its file is one of IP-Adapter Plus, whose projection stock diffusers computes. The ControlNet attends to the face tokens
in the place of the text, which no stock pipeline does; so its context is exchanged on the way in.
"""

from typing import Any

import torch
from torch import Tensor, nn

from facemakeup.evaluation.generators.attention import face_layout
from facemakeup.evaluation.generators.base import Facts, Reference
from facemakeup.evaluation.generators.catalogue import published
from facemakeup.evaluation.generators.checkpoints import (
    Layout,
    State,
    layout_of,
    offering,
    read_checkpoint,
    require_layout,
)
from facemakeup.evaluation.generators.drawing import draw, facts_of, fed, is_guided, load_pipeline, told_place
from facemakeup.evaluation.generators.identity import identity_of, load_identity
from facemakeup.evaluation.generators.settings import InstantIdSettings
from facemakeup.faces import posemap
from facemakeup.faces.crop import Size, full_window
from facemakeup.model.pretrained import load_part, settle
from facemakeup.model.projector import Resampler
from filters.base import RgbImage

NUM_TOKENS = 16


class FaceTokens(Resampler):
    """The projection as its file names it: learned latents look at one identity vector."""

    def __init__(self, identity_width: int, width: int, out_width: int, num_tokens: int = NUM_TOKENS) -> None:
        """Make the layers."""
        super().__init__(identity_width, width, out_width)
        self.latents = nn.Parameter(torch.randn(1, num_tokens, width) * width**-0.5)

    @classmethod
    def like(cls, state: State) -> "FaceTokens":
        """Return an empty one of the sizes of a state, on the meta device."""
        _, num, width = state["latents"].shape
        with torch.device("meta"):
            return cls(state["proj_in.weight"].shape[1], width, state["proj_out.weight"].shape[0], num)

    def tokens(self, identity_BD: Tensor) -> Tensor:
        """Return tokens (B, T, E)."""
        return self(self.latents.expand(len(identity_BD), -1, -1), identity_BD[:, None])  # type: ignore[no-any-return]


def layouts(unet: Any, projection: nn.Module) -> dict[str, Layout]:
    """Return the layouts of the file's parts; everything may lie on the meta device."""
    return {"image_proj": layout_of(projection), "ip_adapter": face_layout(unet)}


class Context:
    """Lets a ControlNet attend to face tokens, whatever text it is given."""

    def __init__(self, controlnet: nn.Module) -> None:
        """Stand before the network from now on."""
        self.tokens_BTE: Tensor | None = None
        controlnet.register_forward_pre_hook(self._exchange, with_kwargs=True)

    def _exchange(self, network: nn.Module, given: Any, named: dict[str, Any]) -> Any:
        assert self.tokens_BTE is not None and "encoder_hidden_states" in named, "the pipeline names its context"
        return given, {**named, "encoder_hidden_states": self.tokens_BTE}


class InstantIdGenerator:
    """See `facemakeup.evaluation.generators.base.Generator`."""

    def __init__(self, settings: InstantIdSettings, accept_noncommercial: bool, device: str) -> None:
        """Load it; see `load_pipeline`, `load_identity` and `read_checkpoint` for what is raised."""
        from diffusers import ControlNetModel, StableDiffusionXLControlNetPipeline, StableDiffusionXLPipeline

        self._settings = settings
        known, posed = published(settings.kind, "v1"), published(settings.kind, "controlnet")
        with offering(known.offer):
            checkpoint = read_checkpoint(settings.checkpoint)
        self._recogniser = load_identity(settings.identity, accept_noncommercial, device)
        place, subfolder = settings.controlnet, settings.controlnet_subfolder
        with offering(posed.offer):
            controlnet = load_part(ControlNetModel, place.source, subfolder, place.revision)
        self._pipe = load_pipeline(
            StableDiffusionXLControlNetPipeline, settings, device, controlnet=controlnet, add_watermarker=False
        )
        settle(controlnet, self._pipe.device, self._pipe.unet.dtype)
        state = {name: checkpoint.part(name) for name in ("image_proj", "ip_adapter")}
        for name, layout in layouts(self._pipe.unet, FaceTokens.like(state["image_proj"])).items():
            require_layout(state[name], layout, f"{checkpoint.path}: {name}")
        self._pipe.load_ip_adapter([state], subfolder=[""], weight_name=[""], image_encoder_folder=None)
        self._pipe.set_ip_adapter_scale(settings.scale)
        self._context = Context(controlnet)
        parts = {name: part for name, part in self._pipe.components.items() if name != "controlnet"}
        self._bare = StableDiffusionXLPipeline(**parts, add_watermarker=False)
        self._bare.set_progress_bar_config(disable=True)
        self.recogniser = settings.identity.name
        self.facts: Facts = {
            "checkpoint": checkpoint.path.name,
            "checkpoint_sha256": checkpoint.sha256,
            "weights": known.tell(checkpoint.sha256, checkpoint.layouts),
            "controlnet": told_place(place),
            "controlnet_weights": posed.tell("", {"controlnet": layout_of(controlnet)}),
            "licence": known.licence,
            **facts_of(settings, self._pipe),
            "scales": f"face {settings.scale:g}, pose {settings.pose_scale:g}",
            "pose": "the reference's",
        }

    def fed(self, prompt: str) -> str:
        """Return the prompt with what is put behind it."""
        return fed(prompt, self._settings.quality)

    @torch.no_grad()
    def generate(self, reference: Reference, prompt: str, seed: int) -> RgbImage:
        """Return a picture of the person; see `Generator`."""
        settings = self._settings
        embeds = self._embeds(identity_of(self._recogniser, reference, "as-made"))
        self._context.tokens_BTE = self._pipe.unet.encoder_hid_proj.image_projection_layers[0](embeds[:, 0])
        return draw(
            self._pipe, settings, seed, prompt=self.fed(prompt), negative_prompt=settings.negative_prompt,
            image=self._pose(reference), controlnet_conditioning_scale=settings.pose_scale,
            ip_adapter_image_embeds=[embeds],
        )  # fmt: skip

    @torch.no_grad()
    def base_alone(self, prompt: str, seed: int) -> RgbImage:
        """Return what the base draws."""
        settings, nobody = self._settings, self._embeds(torch.zeros(1, self._recogniser.identity.width))
        self._pipe.set_ip_adapter_scale(0.0)
        try:
            return draw(
                self._bare, settings, seed, prompt=self.fed(prompt), negative_prompt=settings.negative_prompt,
                ip_adapter_image_embeds=[nobody],
            )  # fmt: skip
        finally:
            self._pipe.set_ip_adapter_scale(settings.scale)

    def _embeds(self, identity_1D: Tensor) -> Tensor:
        """Return vectors (2, 1, 1, D): nobody's for the negative branch, then the person's; (1, ...) without one."""
        unet = self._pipe.unet
        both = torch.cat([torch.zeros_like(identity_1D), identity_1D]) if is_guided(self._settings) else identity_1D
        return both[:, None, None].to(unet.device, unet.dtype)

    def _pose(self, reference: Reference) -> Any:
        """Return the pose map of the middle of the photo, float32 (1, 3, H, W) in 0..1."""
        size = Size(self._settings.height, self._settings.width)
        window = full_window(reference.rgb.shape[1], reference.rgb.shape[0], size)
        drawn = posemap.draw(window.to_target(reference.face.landmarks_52, size), (size.height, size.width))
        return torch.from_numpy(drawn).permute(2, 0, 1)[None].float() / 255

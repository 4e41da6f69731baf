"""IP-Adapter FaceID-Plus on Stable Diffusion 1.5: a unit identity vector and CLIP's look at the aligned face, 4 tokens.

Stock diffusers reads the file and computes; it is held against `Projector` and the U-Net's attentions beforehand, since
the stock loader passes over what it does not know.
"""

from typing import Any

import torch

from facemakeup.evaluation.generators.attention import face_layout, lora_layout
from facemakeup.evaluation.generators.base import Facts, Reference
from facemakeup.evaluation.generators.catalogue import published
from facemakeup.evaluation.generators.checkpoints import Layout, layout_of, offering, read_checkpoint, require_layout
from facemakeup.evaluation.generators.drawing import draw, facts_of, fed, is_guided, load_pipeline
from facemakeup.evaluation.generators.identity import identity_of, load_identity
from facemakeup.evaluation.generators.settings import FaceIdPlusSettings
from facemakeup.faces.align import clip_pixels
from facemakeup.model.encoders import penultimate
from facemakeup.model.ip_adapter import set_face, take_shortcut
from facemakeup.model.pretrained import load_part, settle
from facemakeup.model.projector import Projector
from filters.base import RgbImage

CLIP_CROP = "ip-adapter-224"
LORA = "faceid_0"
RANK_OF = "0.to_q_lora.down.weight"


def layouts(unet: Any, identity_width: int, clip_width: int, rank: int) -> dict[str, Layout]:
    """Return the layouts of the file's parts; everything may lie on the meta device."""
    with torch.device("meta"):
        projector = Projector(identity_width, clip_width, unet.config.cross_attention_dim)
    return {"image_proj": layout_of(projector), "ip_adapter": {**face_layout(unet), **lora_layout(unet, rank)}}


class FaceIdPlusGenerator:
    """See `facemakeup.evaluation.generators.base.Generator`."""

    def __init__(self, settings: FaceIdPlusSettings, accept_noncommercial: bool, device: str) -> None:
        """Load it; see `load_pipeline`, `load_identity` and `read_checkpoint` for what is raised."""
        from diffusers import StableDiffusionPipeline
        from transformers import CLIPVisionModelWithProjection

        self._settings = settings
        known = published(settings.kind, settings.version)
        with offering(known.offer):
            checkpoint = read_checkpoint(settings.checkpoint)
        self._recogniser = load_identity(settings.identity, accept_noncommercial, device)
        self._pipe = load_pipeline(
            StableDiffusionPipeline, settings, device, safety_checker=None, requires_safety_checker=False
        )
        encoder, place = settings.image_encoder, settings.image_encoder_subfolder
        network = load_part(CLIPVisionModelWithProjection, encoder.source, place, encoder.revision)
        self._encoder = settle(network, self._pipe.device, self._pipe.unet.dtype)
        state = {name: checkpoint.part(name) for name in ("image_proj", "ip_adapter")}
        width, clip_width = self._recogniser.identity.width, int(network.config.hidden_size)
        rank = state["ip_adapter"][RANK_OF].shape[0] if RANK_OF in state["ip_adapter"] else 0
        for name, layout in layouts(self._pipe.unet, width, clip_width, rank).items():
            require_layout(state[name], layout, f"{checkpoint.path}: {name}")
        self._pipe.load_ip_adapter([state], subfolder=[""], weight_name=[""], image_encoder_folder=None)
        if settings.version == "plusv2":
            take_shortcut(self._pipe)
            self._projection.shortcut_scale = settings.clip_scale
        self._set_scales(settings.scale, settings.lora_scale)
        self.recogniser = settings.identity.name
        self.facts: Facts = {
            "checkpoint": checkpoint.path.name,
            "checkpoint_sha256": checkpoint.sha256,
            "weights": known.tell(checkpoint.sha256, checkpoint.layouts),
            "licence": known.licence,
            **facts_of(settings, self._pipe),
            "scales": f"face {settings.scale:g}, lora {settings.lora_scale:g}, clip {settings.clip_scale:g}",
        }

    def fed(self, prompt: str) -> str:
        """Return the prompt with what is put behind it."""
        return fed(prompt, self._settings.quality)

    @torch.no_grad()
    def generate(self, reference: Reference, prompt: str, seed: int) -> RgbImage:
        """Return a picture of the person; see `Generator`."""
        side = int(self._encoder.config.image_size)
        pixels = torch.from_numpy(clip_pixels(reference.rgb, reference.face.landmarks_52, side, CLIP_CROP))
        identity = identity_of(self._recogniser, reference, "unit")
        return self._drawn(identity, pixels[None], prompt, seed)

    @torch.no_grad()
    def base_alone(self, prompt: str, seed: int) -> RgbImage:
        """Return what the base draws."""
        side, width = int(self._encoder.config.image_size), self._recogniser.identity.width
        self._set_scales(0.0, 0.0)
        try:
            return self._drawn(torch.zeros(1, width), torch.zeros(1, 3, side, side), prompt, seed)
        finally:
            self._set_scales(self._settings.scale, self._settings.lora_scale)

    def _drawn(self, identity_1D: torch.Tensor, pixels_13SS: torch.Tensor, prompt: str, seed: int) -> RgbImage:
        like: Any = self._pipe.unet
        hidden = penultimate(self._encoder, pixels_13SS)
        nobody = penultimate(self._encoder, torch.zeros_like(pixels_13SS)) if is_guided(self._settings) else None
        embeds = set_face(self._pipe, identity_1D.to(like.device, like.dtype), hidden, nobody)
        return draw(
            self._pipe, self._settings, seed, prompt=self.fed(prompt),
            negative_prompt=self._settings.negative_prompt, ip_adapter_image_embeds=embeds,
        )  # fmt: skip

    @property
    def _projection(self) -> Any:
        return self._pipe.unet.encoder_hid_proj.image_projection_layers[0]

    def _set_scales(self, face: float, lora: float) -> None:
        self._pipe.set_ip_adapter_scale(face)
        self._pipe.set_adapters([LORA], adapter_weights=[lora])

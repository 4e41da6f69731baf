"""PuLID on Stable Diffusion XL: a vector as the network makes it and EVA-CLIP's looks, in every cross-attention."""

from typing import Any

import torch
from torch import Tensor, nn

from facemakeup.evaluation.generators import eva
from facemakeup.evaluation.generators.attention import cross_attentions, face_layout
from facemakeup.evaluation.generators.base import Facts, Reference
from facemakeup.evaluation.generators.catalogue import published
from facemakeup.evaluation.generators.checkpoints import (
    MethodCheckpoint,
    fetch_file,
    layout_of,
    load_strictly,
    offering,
    read_checkpoint,
    require_layout,
)
from facemakeup.evaluation.generators.drawing import draw, facts_of, fed, is_guided, load_pipeline
from facemakeup.evaluation.generators.identity import identity_of, load_identity
from facemakeup.evaluation.generators.parsing import OnnxParser, shown_face
from facemakeup.evaluation.generators.pulid_attention import IdentityAttention, install
from facemakeup.evaluation.generators.pulid_encoders import ENCODERS
from facemakeup.evaluation.generators.settings import PulidSettings
from facemakeup.faces.align import CLIP_MEAN, CLIP_STD
from filters.base import RgbImage

ADAPTER, ATTENTIONS = "id_adapter", "id_adapter_attn_layers"


class PulidGenerator:
    """See `facemakeup.evaluation.generators.base.Generator`."""

    def __init__(self, settings: PulidSettings, accept_noncommercial: bool, device: str) -> None:
        """Load it; see `load_pipeline`, `load_identity` and `read_checkpoint` for what is raised."""
        from diffusers import StableDiffusionXLPipeline

        self._settings = settings
        known = published(settings.kind, settings.version)
        with offering(known.offer):
            checkpoint = read_checkpoint(settings.checkpoint)
        self._recogniser = load_identity(settings.identity, accept_noncommercial, device)
        self._parser = None if settings.parser is None else OnnxParser(settings.parser)
        with offering(published("eva-clip", "L-336").offer):
            seen = read_checkpoint(settings.eva)
        self._pipe = load_pipeline(StableDiffusionXLPipeline, settings, device, add_watermarker=False)
        if settings.unet is not None:
            _exchange_weights(self._pipe.unet, settings)
        self._eva = eva.load_eva(seen).to(self._pipe.device)
        state = checkpoint.part(ADAPTER)
        empty = ENCODERS[settings.version].like(state).to_empty(device="cpu")
        self._encoder = load_strictly(empty, state, f"{checkpoint.path}: {ADAPTER}").to(self._pipe.device)
        self._attentions = _with_weights(self._pipe.unet, checkpoint)
        for attention in self._attentions:
            attention.scale, attention.num_zero = settings.scale, settings.num_zero
            attention.orthogonal = settings.orthogonal
        self.recogniser = settings.identity.name
        self.facts: Facts = {
            "checkpoint": checkpoint.path.name,
            "checkpoint_sha256": checkpoint.sha256,
            "weights": known.tell(checkpoint.sha256, checkpoint.layouts),
            "version": settings.version,
            "licence": known.licence,
            "eva_clip_sha256": seen.sha256,
            "face_parser": "none: not the published input" if self._parser is None else self._parser.sha256,
            **facts_of(settings, self._pipe),
            "unet": "the base's" if settings.unet is None else settings.unet.file,
            "scales": f"id {settings.scale:g}, {settings.num_zero} tokens of zeros, orthogonal {settings.orthogonal}",
        }

    def fed(self, prompt: str) -> str:
        """Return the prompt with what is put behind it."""
        return fed(prompt, self._settings.quality)

    @torch.no_grad()
    def generate(self, reference: Reference, prompt: str, seed: int) -> RgbImage:
        """Return a picture of the person; see `Generator`."""
        tokens = self._tokens(reference)
        for attention in self._attentions:
            attention.tokens_BTE = tokens
        try:
            return self.base_alone(prompt, seed)
        finally:
            for attention in self._attentions:
                attention.tokens_BTE = None

    @torch.no_grad()
    def base_alone(self, prompt: str, seed: int) -> RgbImage:
        """Return what the base draws: no attention has tokens but within `generate`."""
        settings = self._settings
        negative = settings.negative_prompt
        return draw(self._pipe, settings, seed, prompt=self.fed(prompt), negative_prompt=negative)

    def _tokens(self, reference: Reference) -> Tensor:
        """Return tokens (2, T, E), nobody's for the negative branch and then the person's; (1, ...) without one."""
        place = self._pipe.device
        features, looks = eva.looks(self._eva, self._pixels(reference).to(place))
        identity = torch.cat([identity_of(self._recogniser, reference, "as-made").to(place), features], dim=-1)
        if is_guided(self._settings):
            identity = torch.cat([torch.zeros_like(identity), identity])
            looks = [torch.cat([torch.zeros_like(look), look]) for look in looks]
        tokens: Tensor = self._encoder(identity, looks)
        return tokens.to(self._pipe.unet.dtype)

    def _pixels(self, reference: Reference) -> Tensor:
        shown_1CHW = torch.from_numpy(shown_face(reference, self._parser)).permute(2, 0, 1)[None]
        size = self._eva.patch_embed.img_size
        sized = nn.functional.interpolate(shown_1CHW, size=size, mode="bicubic", antialias=True)
        mean, deviation = (torch.tensor(values).reshape(1, 3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
        return (sized - mean) / deviation


def _with_weights(unet: Any, checkpoint: MethodCheckpoint) -> list[IdentityAttention]:
    """Put the file's attentions into a U-Net."""
    state = checkpoint.part(ATTENTIONS)
    require_layout(state, face_layout(unet, "id_to_k", "id_to_v"), f"{checkpoint.path}: {ATTENTIONS}")
    numbers = [number for number, _, _ in cross_attentions(unet)]
    attentions = install(unet)
    for number, attention in zip(numbers, attentions, strict=True):
        names = ("id_to_k.weight", "id_to_v.weight")
        attention.load_state_dict({name: state[f"{number}.{name}"] for name in names})
        attention.requires_grad_(False)
    return attentions


def _exchange_weights(unet: Any, settings: PulidSettings) -> None:
    """Put other weights into the base's U-Net, such as those of SDXL-Lightning."""
    from safetensors.torch import load_file

    assert settings.unet is not None
    with offering(published("sdxl-lightning", "4 steps").offer):
        path = fetch_file(settings.unet)
    state = load_file(path)
    require_layout(state, layout_of(unet), str(path))
    unet.load_state_dict(state)

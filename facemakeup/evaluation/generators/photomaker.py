"""PhotoMaker on Stable Diffusion XL: the class word of a prompt is fused with what is seen of the person.

The prompt names a kind of person; each of that word's token embeddings, repeated once per token of the person, is fused
with one of them, and the text so changed takes over from the plain text after a share of the steps.
"""

import re
from typing import Any

import torch
from torch import Tensor

from facemakeup.evaluation.generators.base import Facts, Reference
from facemakeup.evaluation.generators.catalogue import published
from facemakeup.evaluation.generators.checkpoints import load_strictly, offering, read_checkpoint
from facemakeup.evaluation.generators.drawing import draw, facts_of, fed, is_guided, load_pipeline
from facemakeup.evaluation.generators.identity import identity_of, load_identity
from facemakeup.evaluation.generators.photomaker_encoder import IdEncoder
from facemakeup.evaluation.generators.settings import PhotoMakerSettings
from facemakeup.evaluation.preprocess import Preprocessing
from facemakeup.faces.align import CLIP_MEAN, CLIP_STD
from facemakeup.faults import SampleFaultError
from filters.base import RgbImage

TRIGGER = "img"
CLASS_WORD = re.compile(r"\b(man|woman|boy|girl|person|child)\b", re.IGNORECASE)
LORA = "photomaker"
BICUBIC = 3


def with_class_word(prompt: str) -> str:
    """Return a prompt that names a kind of person; where it named none, "a person" stands before it."""
    return prompt if CLASS_WORD.search(prompt) else ", ".join(part for part in ("a person", prompt) if part)


class PhotoMakerGenerator:
    """See `facemakeup.evaluation.generators.base.Generator`."""

    def __init__(self, settings: PhotoMakerSettings, accept_noncommercial: bool, device: str) -> None:
        """Load it; see `load_pipeline`, `load_identity` and `read_checkpoint` for what is raised."""
        from diffusers import StableDiffusionXLPipeline

        self._settings = settings
        known = published(settings.kind, settings.version)
        with offering(known.offer):
            checkpoint = read_checkpoint(settings.checkpoint)
        state = checkpoint.part("id_encoder")
        encoder = load_strictly(IdEncoder.like(state, settings.version), state, f"{checkpoint.path}: id_encoder")
        is_v2 = settings.version == "v2"
        self._recogniser = load_identity(settings.identity, accept_noncommercial, device) if is_v2 else None
        self._pipe = load_pipeline(StableDiffusionXLPipeline, settings, device, add_watermarker=False)
        self._encoder: IdEncoder = encoder.to(self._pipe.device)
        self._pipe.load_lora_weights(checkpoint.part("lora_weights"), adapter_name=LORA)
        self._pipe.set_adapters([LORA], adapter_weights=[settings.scale])
        side = self._encoder.side
        self._prepare = Preprocessing(side, side, BICUBIC, CLIP_MEAN, CLIP_STD)  # type: ignore[arg-type]
        self.recogniser = settings.identity.name if is_v2 else None
        self.facts: Facts = {
            "checkpoint": checkpoint.path.name,
            "checkpoint_sha256": checkpoint.sha256,
            "weights": known.tell(checkpoint.sha256, checkpoint.layouts),
            "licence": known.licence,
            **facts_of(settings, self._pipe),
            "scales": f"lora {settings.scale:g}, text alone for the first {settings.style_share:.0%} of the steps",
        }

    def fed(self, prompt: str) -> str:
        """Return the prompt with its trigger behind the class word, as the published pipeline is fed."""
        return CLASS_WORD.sub(lambda word: f"{word[0]} {TRIGGER}", self._plain(prompt), count=1)

    @torch.no_grad()
    def generate(self, reference: Reference, prompt: str, seed: int) -> RgbImage:
        """Return a picture of the person; see `Generator`."""
        plain, settings = self._plain(prompt), self._settings
        told = self._pipe.encode_prompt(
            plain, do_classifier_free_guidance=is_guided(settings), negative_prompt=settings.negative_prompt
        )
        switch = _Switch(self._fused(plain, reference), told, self._num_plain_steps, is_guided(settings))
        first = switch.at_start()
        return draw(
            self._pipe, settings, seed, prompt_embeds=first[0], negative_prompt_embeds=told[1],
            pooled_prompt_embeds=first[1], negative_pooled_prompt_embeds=told[3], callback_on_step_end=switch,
        )  # fmt: skip

    @torch.no_grad()
    def base_alone(self, prompt: str, seed: int) -> RgbImage:
        """Return what the base draws."""
        self._pipe.disable_lora()
        try:
            return draw(
                self._pipe, self._settings, seed, prompt=self._plain(prompt),
                negative_prompt=self._settings.negative_prompt,
            )  # fmt: skip
        finally:
            self._pipe.enable_lora()

    def _plain(self, prompt: str) -> str:
        return fed(with_class_word(prompt), self._settings.quality)

    @property
    def _num_plain_steps(self) -> int:
        """How many steps see the text alone; the published pipeline counts the step at the share's end among them."""
        if self._settings.scale == 0:
            return self._settings.steps
        return int(self._settings.style_share * self._settings.steps) + 1

    def _fused(self, plain: str, reference: Reference) -> tuple[Tensor, Tensor]:
        """Return the text's embeddings (1, L, E) with the person in them, and the pooled ones of the same tokens."""
        tokens_TE = self._person(reference)
        word = CLASS_WORD.search(plain)
        assert word is not None, "`with_class_word` puts one"
        hidden, pooled, at = [], None, 0
        for tokenizer, encoder in ((self._pipe.tokenizer, self._pipe.text_encoder),
                                   (self._pipe.tokenizer_2, self._pipe.text_encoder_2)):  # fmt: skip
            at = len(tokenizer(plain[: word.end()]).input_ids) - 2
            ids = _stretched(tokenizer, plain, at, len(tokens_TE))
            said = encoder(torch.tensor([ids], device=encoder.device), output_hidden_states=True)
            hidden.append(said.hidden_states[-2])
            pooled = said[0]
        assert pooled is not None
        embeds_1LE = torch.cat(hidden, dim=-1)
        places = slice(at, at + len(tokens_TE))
        fused = self._encoder.fuse_module(embeds_1LE[0, places].float(), tokens_TE)
        changed = embeds_1LE.clone()
        changed[0, places] = fused.to(changed.dtype)
        return changed, pooled

    def _person(self, reference: Reference) -> Tensor:
        pixels = torch.from_numpy(self._prepare(reference.rgb))[None].to(self._pipe.device)
        identity = None
        if self._recogniser is not None:
            identity = identity_of(self._recogniser, reference, "as-made").to(self._pipe.device)
        tokens: Tensor = self._encoder(pixels, identity)[0]
        return tokens


class _Switch:
    """After the last step of plain text, hands the pipeline the text with the person in it."""

    def __init__(self, fused: tuple[Tensor, Tensor], told: Any, num_plain_steps: int, is_guided: bool) -> None:
        self._plain = (told[0], told[2])
        self._fused, self._negative = fused, (told[1], told[3])
        self._num_plain_steps, self._is_guided = num_plain_steps, is_guided

    def at_start(self) -> tuple[Tensor, Tensor]:
        """Return what the first step sees: embeddings and pooled ones."""
        return self._plain if self._num_plain_steps > 0 else self._fused

    def __call__(self, pipe: Any, step: int, timestep: Any, given: dict[str, Any]) -> dict[str, Any]:
        """Exchange the embeddings once; the pipeline's own call."""
        if step + 1 != self._num_plain_steps:
            return given
        text, pooled = self._fused
        if self._is_guided:
            text, pooled = (torch.cat(pair) for pair in zip(self._negative, self._fused, strict=True))
        return {**given, "prompt_embeds": text, "add_text_embeds": pooled}


def _stretched(tokenizer: Any, text: str, at: int, times: int) -> list[int]:
    """Return a text's token ids with the one at a place repeated, cut or filled to the tokenizer's length."""
    ids: list[int] = tokenizer(text).input_ids
    length = tokenizer.model_max_length
    if at + times > length:
        raise SampleFaultError("prompt_too_long", f"its class word stands at token {at} of {length}")
    stretched = [*ids[:at], *[ids[at]] * times, *ids[at + 1 :]][:length]
    return stretched + [tokenizer.pad_token_id] * (length - len(stretched))

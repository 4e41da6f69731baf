"""The README of an exported adapter: what it is, how it is used, and whose terms it inherits."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from facemakeup.config import ModelConfig
from facemakeup.faces.recognisers import terms_of
from filters.weights import catalogue

UNKNOWN = "not known to the program that wrote this card: look it up at its source before you share the adapter"
PROHIBITED = (
    "Intimate or sexualised pictures of a real person, and any that sexualise minors",
    "Pictures of a real person without consent",
    "Recognising or identifying people, or building an index of faces for that",
    "Pictures of a real person that are passed off as photographs",
)
"""What an adapter must not be used for; the first is banned in the EU (AI Act, Article 5)."""
LICENCES: Mapping[str, str] = MappingProxyType(
    {
        "stable-diffusion-v1-5/stable-diffusion-v1-5": "CreativeML Open RAIL-M",
        "stabilityai/stable-diffusion-2-1": "CreativeML Open RAIL++-M",
        "stabilityai/stable-diffusion-xl-base-1.0": "CreativeML Open RAIL++-M",
        "stabilityai/sd-vae-ft-mse": "MIT",
        "madebyollin/sdxl-vae-fp16-fix": "MIT",
        "black-forest-labs/FLUX.1-dev": "FLUX.1 [dev] Non-Commercial License",
        "black-forest-labs/FLUX.1-schnell": "Apache-2.0",
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K": "MIT",
    }
)
"""Licences of models that an adapter may be trained on, as their model cards state them; terms can change there."""


def model_card(config: ModelConfig, usage: str, facts: Mapping[str, Any]) -> str:  # long: the card, as it is
    """Return the card in Markdown.

    `usage` is the base's part on the files; `facts` are what else is known of the training (step, data, ...).
    """
    known = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in facts.items())
    inherited = "\n".join(f"| {part} | `{source}` | {licence} |" for part, source, licence in _inherited(config))
    prohibited = "\n".join(f"- {use}." for use in PROHIBITED)
    context = "the face tokens: use the pipeline of facecaptionhq" if config.posenet_context == "face" else "the text"
    return f"""---
base_model: {config.base}
library_name: diffusers
tags: [face, ip-adapter, controlnet, face-makeup]
---

# A Face-MakeUp adapter

Draws pictures of a person from a prompt, a photo of the face, and a pose (method: arXiv 2501.02523).

| fact | |
|---|---|
| recogniser | {config.recogniser.name}, {config.recogniser.width} numbers, sha256 `{config.recogniser.sha256}` |
| PoseNet attends to | {context} |
{known}

{usage}
## Uses that are prohibited

{prohibited}

Pictures that `facecaptionhq generate` draws carry the IPTC digital source type `trainedAlgorithmicMedia` in their XMP:
leave it there.

## Terms it inherits

An adapter is made from these parts; whoever uses or shares it is bound by the terms of each.

| part | source | licence |
|---|---|---|
{inherited}
| training data | see above | the terms of the pictures and captions that it was trained on |
"""


def _inherited(config: ModelConfig) -> list[tuple[str, str, str]]:
    sources = [("base model", config.base), ("image encoder", config.image_encoder)]
    if config.vae:
        sources.insert(1, ("VAE", config.vae))
    rows = [(part, source, LICENCES.get(source, UNKNOWN)) for part, source in sources]
    name, brought_by = config.recogniser.name, config.recogniser.brought_by
    licence = next((entry.licence for entry in catalogue() if entry.name == name), UNKNOWN)
    terms = terms_of(name)
    source = name if brought_by is None else f"{name} of {brought_by}"
    return [*rows, ("recogniser", source, licence if terms is None else f"{licence}; {terms}")]

"""Stock pipelines of diffusers, and by which form an exported adapter gets into each."""

from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor

from facemakeup.model import flux_ip_adapter, ip_adapter


def load(pipe: Any, folder: Path) -> None:
    """Load the files of an exported adapter into a stock pipeline, as they were trained."""
    _form_of(pipe).load(pipe, folder)


def set_face(pipe: Any, identity_1D: Tensor, clip_hidden_1NC: Tensor, zero_hidden_1NC: Tensor | None) -> list[Tensor]:
    """Hand a face to a stock pipeline and return its `ip_adapter_image_embeds` for calls of one picture.

    `zero_hidden_1NC` are CLIP's hidden states of the zero picture, the negative branch's face; None for calls
    without guidance, and for bases that are told guidance.

    Example:
        embeds = set_face(pipe, identity, clip_hidden, zero_hidden)
        picture = pipe("a person wearing a red hat", ip_adapter_image_embeds=embeds).images[0]
    """
    embeds: list[Tensor] = _form_of(pipe).set_face(pipe, identity_1D, clip_hidden_1NC, zero_hidden_1NC)
    return embeds


def _form_of(pipe: Any) -> ModuleType:
    return flux_ip_adapter if hasattr(pipe, "transformer") else ip_adapter

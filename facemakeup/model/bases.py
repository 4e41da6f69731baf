"""The base models that Face-MakeUp adapts, and which of them a configuration names."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from curation.errors import UsageError
from facemakeup.config import ModelConfig
from facemakeup.model.base import BaseModel
from facemakeup.model.flux import Flux
from facemakeup.model.pretrained import load_config
from facemakeup.model.sd1 import StableDiffusion
from facemakeup.model.sdxl import StableDiffusionXL

BASES: Mapping[str, type[BaseModel]] = MappingProxyType(
    {"sd1": StableDiffusion, "sdxl": StableDiffusionXL, "flux": Flux}
)
"""Kind -> adapter; the first that recognises a base takes it."""


def base_of(config: ModelConfig) -> BaseModel:
    """Return the adapter of a configuration's base, chosen by what the base's own files say.

    Raises:
        UsageError: the base is of no known kind, or is not there.
    """
    said: dict[str, str] = {}

    def config_of(subfolder: str) -> Mapping[str, Any] | None:
        try:
            config_json = load_config(config.base, subfolder, config.base_revision)
        except OSError as error:
            said[subfolder] = " ".join(str(error).split())
            return None
        said[subfolder] = str(config_json)
        return config_json

    for adapter in BASES.values():
        if adapter.recognises(config_of):
            return adapter(config)
    choices = "; ".join(f"{kind} ({adapter.description})" for kind, adapter in BASES.items())
    read = "; ".join(f"{subfolder}: {text[:300]}" for subfolder, text in said.items())
    raise UsageError(f"{config.base}: no base model of a known kind; name one of these kinds: {choices}. Read: {read}")

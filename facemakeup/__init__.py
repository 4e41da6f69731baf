"""The Face-MakeUp trainer and pipeline: from packed tars to an adapter, and from an adapter to pictures of a person.

This is the public API; whatever else lies below `facemakeup` is private and may change with any release. Names are
loaded when they are first asked for, so importing this package costs nothing.

    config = load_config(Path("configs/train/sd15.toml"))   # -> TrainConfig, every key checked
    encoders = Encoders.load(config.model, "cuda")          # -> Encoders: frozen, the base's and CLIP
    fill_cache(config, tars, encoders, Path("work"), print) # what is costly to compute, once
    last = train(config, tars, Path("run"), resume=True, on_step=print)
    export_checkpoint(last.folder, Path("adapter"))         # what stock diffusers reads
    request = DrawRequest(prompts=("a person on a beach",)) # how pictures are drawn
    finder = FaceFinder(detector="yolov5-face")             # who looks for the faces in photos
    generate(Path("adapter"), [Path("photo.jpg")], None, Path("pictures"), request, finder)

    model = read_export(Path("adapter"))                    # -> FaceMakeUp, a module of torch
    load_into_stock(pipe, Path("adapter"))                  # into a pipeline of diffusers
    embeds = set_face(pipe, identity, clip_hidden, None)    # whom it draws next

    other = ModelConfig(base="my-base", recogniser=recogniser)
    mine = TrainConfig(name="mine", model=other)            # the same settings without a file
    fresh = FaceMakeUp.from_config(other)                   # an untrained adapter on its base

The docstring of each says what it takes, with an example, and what it raises.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from facemakeup.config import ModelConfig
    from facemakeup.data.cache import fill_cache
    from facemakeup.inference.export import load_into_stock, read_export
    from facemakeup.inference.generate import DrawRequest, FaceFinder, generate
    from facemakeup.model.encoders import Encoders
    from facemakeup.model.facemakeup import FaceMakeUp
    from facemakeup.model.stock import set_face
    from facemakeup.train_config import TrainConfig, load_config
    from facemakeup.training.export_checkpoint import export_checkpoint
    from facemakeup.training.train import train

__all__ = [
    "DrawRequest",
    "Encoders",
    "FaceFinder",
    "FaceMakeUp",
    "ModelConfig",
    "TrainConfig",
    "export_checkpoint",
    "fill_cache",
    "generate",
    "load_config",
    "load_into_stock",
    "read_export",
    "set_face",
    "train",
]

_HOMES = {
    "config": ("ModelConfig",),
    "data.cache": ("fill_cache",),
    "inference.export": ("load_into_stock", "read_export"),
    "inference.generate": ("DrawRequest", "FaceFinder", "generate"),
    "model.encoders": ("Encoders",),
    "model.facemakeup": ("FaceMakeUp",),
    "model.stock": ("set_face",),
    "train_config": ("TrainConfig", "load_config"),
    "training.export_checkpoint": ("export_checkpoint",),
    "training.train": ("train",),
}
"""Module below this package -> the public names that live there."""


def __getattr__(name: str) -> Any:
    """Load a public name (PEP 562)."""
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return __all__

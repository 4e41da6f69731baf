"""What a method is to an evaluation: a photo of a person, a prompt and a seed in, a picture out."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from facemakeup.evaluation.seen import FoundFace
from filters.base import RgbImage

Facts = Mapping[str, str | int | float | bool]


@dataclass(frozen=True, eq=False)
class Reference:
    """A photo of a person, and the face in it that is meant."""

    rgb: RgbImage
    face: FoundFace


class Generator(Protocol):
    """One method with all its weights."""

    facts: Facts
    """What draws: checkpoint and its sha256, base, native size, sampler, steps, guidance, scales."""

    @property
    def recogniser(self) -> str | None:
        """Name of the recogniser that conditions it."""
        ...

    def fed(self, prompt: str) -> str:
        """Return the prompt as it is fed to the network."""
        ...

    def generate(self, reference: Reference, prompt: str, seed: int) -> RgbImage:
        """Return the picture of a person, uint8 (H, W, 3).

        Raises:
            SampleFaultError: nothing can be drawn from this photo.
        """
        ...

    def base_alone(self, prompt: str, seed: int) -> RgbImage:
        """Return what the base draws without the method, by the same sampler."""
        ...

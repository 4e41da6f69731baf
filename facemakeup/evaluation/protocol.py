"""Which pictures a method is asked for: the protocols P1 and P20 of the published tables.

The published scripts need one picture per reference for all but CLIP-T, and hold 20 prompts beside; which of the
tables' numbers come from which, they do not say. So both are protocols, and a table says which one it is of.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from facemakeup.evaluation.reference_set import Photo, ReferenceSet

ProtocolName = Literal["P1", "P20"]
SEED = 42
"""The published one."""
QUALITY_PREFIX = "best quality, high quality"
"""What methods may put before a prompt; CLIP-T is scored on the prompt without it."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
PROMPTS = tuple(
    f"a person {what}"
    for what in (
        "wearing a white shirt", "wearing a red hat", "wearing a long coat", "wearing glasses",
        "carrying a leather bag", "standing in a park", "in a cozy room", "near a sunny beach",
        "under streetlights", "in a busy market", "running on a track", "holding a cup of coffee",
        "reading a book", "playing a guitar", "talking on the phone", "in formal attire",
        "in sportswear", "in traditional cultural clothing", "in jeans and a t-shirt", "dressed for a wedding",
    )
)  # fmt: skip
"""What the 20 published prompts ask for, in our words."""
ABOUT: Mapping[str, str] = MappingProxyType(
    {
        "P1": "one picture per reference, prompted by its caption, or by nothing",
        "P20": f"{len(PROMPTS)} prompts per reference",
    }
)


@dataclass(frozen=True)
class Case:
    """One picture that a method is asked for."""

    stem: str
    """Name of the file without its ending: the reference's key, in P20 with `_001` to `_020`."""
    reference: Photo
    prompt: str
    """As CLIP-T is scored on it."""
    seed: int = SEED


def cases(photos: ReferenceSet, protocol: ProtocolName) -> tuple[Case, ...]:
    """Return every picture of a protocol, in the set's order."""
    if protocol == "P1":
        return tuple(Case(photo.key, photo, photo.caption) for photo in photos.references)
    return tuple(
        Case(f"{photo.key}_{number:03d}", photo, prompt)
        for photo in photos.references
        for number, prompt in enumerate(PROMPTS, start=1)
    )


def find_picture(folder: Path, case: Case) -> Path | None:
    """Return the file that a method made for a case; None where there is none."""
    return next(_candidates(folder, case.stem), None)


def _candidates(folder: Path, stem: str) -> Iterator[Path]:
    return (path for suffix in SUFFIXES if (path := folder / f"{stem}{suffix}").is_file())

"""Measures what a picture looks like as a whole: two perceptual hashes, by which near duplicates are found.

It rejects nobody by itself: `[pack] near_duplicate_bits` says how near two pictures are one, and packs the better.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

from filters.base import Evidence, Filter, RgbImage, ScoreMeaning, Settings

VERSION = 1
SCORES = ("num_set_bits",)
MEANINGS = {
    "num_set_bits": ScoreMeaning(
        "bits of the pHash that are set, of 64",
        "bits, 0..64",
        32.0,
        low="the picture is nearly flat, and its hash says little",
        high="the picture is nearly flat, and its hash says little",
    ),
}

FINE_SIDE = 16
"""Frequencies along each axis of the fine hash; the coarse one has 8."""


class Measure(Settings):
    """The evidence has no parameters."""


class Score(Settings):
    """The score has no parameters."""


@dataclass(frozen=True)
class LookEvidence(Evidence):
    """The picture's hashes in lower-case hex."""

    phash: str
    """imagehash's pHash, 64 bits: the one that `fetch` stores, and that lists of hashes and `forget` go by."""
    fine_phash: str
    """The same with 256 bits, of finer detail: tells two portraits apart that are composed alike."""


EVIDENCE = LookEvidence


def scores(evidence: LookEvidence, score: Score) -> dict[str, float]:
    """Return how many of the 64 bits are set: half of them but where a picture is flat, and its hash says little."""
    return {"num_set_bits": float(int(evidence.phash, 16).bit_count())}


def weights(measure: Measure) -> tuple[str, ...]:
    """Return no names: hashes need no trained weights."""
    return ()


def build(measure: Measure, device: str) -> Filter:
    """Return the filter; it runs on the CPU whatever the device."""
    return PerceptualHashes()


class PerceptualHashes:
    """The filter over whole pictures."""

    def measure(self, images: Sequence[RgbImage]) -> list[LookEvidence]:
        """Return one evidence per picture."""
        return [LookEvidence(phash_of(image), phash_of(image, FINE_SIDE)) for image in images]


def phash_of(rgb: RgbImage, side: int = 8) -> str:
    """Return the pHash of a picture in hex: `side` times `side` bits."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import imagehash
    return str(imagehash.phash(Image.fromarray(rgb), side))

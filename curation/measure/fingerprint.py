"""What names a picture's bytes and its look: exact hashes, and a 64-bit perceptual one behind the decode gate.

The bytes are hashed where they are; their look needs pixels, and is found in the cell (`curation.sandbox.parent`).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from curation.images.decode import UnreadableError, decode
from curation.measure.cascade import UNREADABLE, Decode, Entry, Measured
from curation.recipe.judge import Verdict
from curation.recipe.settings import DecodeLimits
from filters.base import Evidence
from filters.look import phash_of

PHASH_BITS = 64
LOOK = "look"
"""Names the evidence of a picture that was looked at."""


@dataclass(frozen=True)
class Look(Evidence):
    """What a picture looks like."""

    phash: str
    """imagehash's pHash, 64 bits in lower-case hex: equal looks give equal or close hashes."""


@dataclass(frozen=True)
class Fingerprint:
    """Hashes in lower-case hex; what needs pixels is None where there are none to be had."""

    sha256: str
    md5: str
    phash: str | None = None
    """As in `Look`."""
    width: int | None = None
    """Width in pixels of the decoded picture, upright."""
    height: int | None = None
    """Height in pixels of the decoded picture, upright."""


def fingerprint(image_bytes: bytes, seen: Measured, sha256: str | None = None) -> Fingerprint:
    """Return the fingerprint of a file as it was fetched, `seen` being what looking at it gave.

    `sha256` is that of the bytes, where it is known.
    """
    sha256 = sha256 or hashlib.sha256(image_bytes).hexdigest()
    md5 = hashlib.md5(image_bytes, usedforsecurity=False).hexdigest()
    if seen.refused is not None:
        return Fingerprint(sha256, md5)
    return Fingerprint(sha256, md5, seen.evidence[LOOK].phash, seen.width, seen.height)


def look_at(entries: Sequence[Entry], limits: DecodeLimits, decode: Decode = decode) -> list[Measured]:
    """Return the look of each picture, in order, or who refused to look; a function of its bytes and the limits."""
    return [_seen(entry.image_bytes, limits, decode) for entry in entries]


def _seen(image_bytes: bytes, limits: DecodeLimits, decode: Decode) -> Measured:
    try:
        picture = decode(image_bytes, limits)
    except UnreadableError as error:
        return Measured(refused=Verdict(UNREADABLE, error.reason))
    return Measured({LOOK: Look(phash_of(picture.rgb))}, picture.width, picture.height, picture.format)


def is_phash(text: object) -> bool:
    """Return whether a value can be what `phash_of` returns."""
    return isinstance(text, str) and len(text) == PHASH_BITS // 4 and set(text) <= set("0123456789abcdef")


def phash_distance(one: str, other: str) -> int:
    """Return how many of the 64 bits of two pHashes differ."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


def contradicts(fetched: tuple[int, int] | None, crawled: tuple[int, int], tolerance: float = 0.05) -> bool | None:
    """Return whether a picture cannot be the one that was crawled: another shape, or under half its size.

    Sizes are (width, height) in pixels; a picture on its side is the same. None without pixels.
    """
    if fetched is None:
        return None
    ratio = max(fetched) / min(fetched) / (max(crawled) / min(crawled))
    is_other_shape = not 1 - tolerance <= ratio <= 1 / (1 - tolerance)
    return is_other_shape or max(fetched) * 2 < max(crawled)

"""What names a picture's bytes and its look: exact hashes, and a 64-bit perceptual one behind the decode gate."""

import hashlib
import warnings
from dataclasses import dataclass

from curation.decode import UnreadableError, decode
from curation.settings import DecodeLimits

PHASH_BITS = 64


@dataclass(frozen=True)
class Fingerprint:
    """Hashes in lower-case hex; what needs pixels is None where the decode gate refuses the file."""

    sha256: str
    md5: str
    phash: str | None = None
    """imagehash's pHash, 64 bits: equal looks give equal or close hashes."""
    width: int | None = None
    """Of the decoded picture, upright, in pixels."""
    height: int | None = None


def fingerprint(image_bytes: bytes, limits: DecodeLimits) -> Fingerprint:
    """Return the fingerprint of a file as it was fetched; a function of its bytes and the limits alone."""
    sha256 = hashlib.sha256(image_bytes).hexdigest()
    md5 = hashlib.md5(image_bytes, usedforsecurity=False).hexdigest()
    try:
        picture = decode(image_bytes, limits)
    except UnreadableError:
        return Fingerprint(sha256, md5)
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        import imagehash
    phash = str(imagehash.phash(Image.fromarray(picture.rgb)))
    return Fingerprint(sha256, md5, phash, picture.width, picture.height)


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

"""A packed picture as the trainer sees it: what readers outside should make of its bytes."""

from curation.images.decode import decode
from curation.recipe.settings import DecodeLimits
from filters.base import RgbImage

USUAL = DecodeLimits()


def open_picture(image_bytes: bytes, limits: DecodeLimits = USUAL) -> RgbImage:
    """Return the pixels of an encoded picture: uint8, shape (height, width, 3), upright 8-bit sRGB.

    EXIF orientation is followed, an ICC profile leads to sRGB, CMYK and grey become RGB, alpha is laid over white
    (`curation.images.srgb`). Boxes and landmarks of the packed metadata are in its pixels.

    Raises:
        UnreadableError: the bytes are no whole picture of a format known here, or beyond the limits.
    """
    return decode(image_bytes, limits).rgb

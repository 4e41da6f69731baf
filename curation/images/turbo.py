"""Plain JPEGs straight from libjpeg-turbo: the pixels that Pillow gives, without its two copies of them."""

import simplejpeg
from PIL import Image

from curation.images.srgb import stays_as_it_is
from filters.base import RgbImage


def turbo_pixels(jpeg: bytes, image: Image.Image) -> RgbImage | None:
    """Return the pixels of a JPEG in sRGB, shape (H, W, 3); None where Pillow must say what it is, or that it is none.

    `image` is the same file as Pillow opened it, not yet loaded. Whatever libjpeg-turbo warns of is left to Pillow,
    which forgives some of it and refuses the rest.
    """
    if image.mode != "RGB" or not stays_as_it_is(image.info.get("icc_profile")):
        return None
    try:
        pixels: RgbImage = simplejpeg.decode_jpeg(
            jpeg, colorspace="RGB", fastdct=False, fastupsample=False, strict=True
        )
    except ValueError:
        return None
    if pixels.shape != (image.height, image.width, 3):
        return None
    pixels.flags.writeable = False
    return pixels

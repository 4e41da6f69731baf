"""One definition of how each colour model of JPEG, PNG and WEBP becomes 8-bit sRGB, so that filters see like with like.

- 16-bit samples are scaled to 8 bits, never clipped; 1-, 2- and 4-bit samples likewise.
- Palettes are looked up; CMYK without a profile is (255 - ink)(255 - black) / 255, inverted inks already set right.
- An embedded ICC profile of the picture's own colour model leads to sRGB (perceptual intent); grey stays exactly grey.
  A broken, foreign or absurdly large profile is ignored. PNG's gAMA, cHRM and cICP are not followed.
- Alpha (a channel, a palette's, or one transparent colour) is laid over white, after the profile.
"""

import io
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms

MAX_PROFILE_BYTES = 4 << 20
MAX_SRGB_DIFFERENCE = 1
"""A profile that moves no colour of the probe by more than this, of 255, counts as sRGB itself."""
NUM_PROBE_LEVELS = 9


def to_srgb(image: Image.Image, bit_depth: int = 8) -> Image.Image:
    """Return a loaded picture in mode RGB; `bit_depth` is that of one sample in the file (1, 2, 4, 8 or 16)."""
    colours, alpha = _split(image, bit_depth)
    rgb = _through_profile(colours, image.info.get("icc_profile"))
    if alpha is None:
        return rgb
    over_white = Image.new("RGB", image.size, "white")
    over_white.paste(rgb, mask=alpha)
    return over_white


def stays_as_it_is(profile: bytes | None) -> bool:
    """Whether opaque RGB of 8 bits with this profile is sRGB as it stands, or as near as counts."""
    return _way_to_srgb(profile, "RGB") is None


def _split(image: Image.Image, bit_depth: int) -> tuple[Image.Image, Image.Image | None]:
    """Return the colours (mode L, RGB or CMYK) and the alpha (mode L) of a picture."""
    key = image.info.get("transparency")
    if image.mode == "P":
        image, key = image.convert("RGB" if key is None else "RGBA"), None
    if image.mode in ("LA", "RGBA"):
        return image.convert(image.mode[:-1]), image.getchannel("A")
    if image.mode == "I;16":
        samples = np.asarray(image)
        return Image.fromarray(_to_8_bits(samples)), _alpha_of_key(samples, key)
    if image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "RGB", "CMYK"):
        raise ValueError(f"no conversion to sRGB is defined for mode {image.mode}")
    if key is None:
        return image, None
    return image, _alpha_of_key(np.asarray(image), _key_in_8_bits(key, image.mode, bit_depth))


def _to_8_bits(samples: npt.NDArray[np.uint16]) -> npt.NDArray[np.uint8]:
    """Map 0..65535 to 0..255, rounding to nearest."""
    return ((samples.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _key_in_8_bits(key: int | tuple[int, ...], mode: str, bit_depth: int) -> int | tuple[int, ...]:
    """Return PNG's transparent colour as Pillow's 8-bit samples stand: grey is scaled up, 16-bit colour cut to 8."""
    if isinstance(key, int):
        return key * 255 // (2**bit_depth - 1) if mode == "L" and 1 < bit_depth < 8 else key
    return tuple(sample >> max(bit_depth - 8, 0) for sample in key)


def _alpha_of_key(samples: npt.NDArray[np.generic], key: int | tuple[int, ...] | None) -> Image.Image | None:
    """Return an alpha of 0 where samples, shape (H, W) or (H, W, 3), equal the key and 255 elsewhere."""
    if key is None:
        return None
    differs = samples != np.asarray(key)
    is_opaque = differs if np.ndim(key) == 0 else differs.any(axis=-1)
    return Image.fromarray(is_opaque.astype(np.uint8) * np.uint8(255))


def _through_profile(colours: Image.Image, profile: bytes | None) -> Image.Image:
    transform = _way_to_srgb(profile, colours.mode)
    if transform is None:
        return colours if colours.mode == "RGB" else colours.convert("RGB")
    if colours.mode != "L":
        return transform.apply(colours)
    levels = transform.apply(_probe("L")).getchannel("G").tobytes()
    return Image.merge("RGB", [colours.point(list(levels))] * 3)


def _way_to_srgb(profile: bytes | None, mode: str) -> ImageCms.ImageCmsTransform | None:
    return _transform(profile, mode) if profile and len(profile) <= MAX_PROFILE_BYTES else None


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the way from a profile to sRGB; None where the profile is broken, of another model, or sRGB already."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        flags = ImageCms.Flags.NOOPTIMIZE if mode == "L" else ImageCms.Flags.NONE
        transform = ImageCms.ImageCmsTransform(source, _srgb(), mode, "RGB", flags=flags)
        if mode == "CMYK":
            return transform
        probe = _probe(mode)
        difference = np.abs(np.asarray(transform.apply(probe), np.int16) - np.asarray(probe.convert("RGB"), np.int16))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    return transform if difference.max() > MAX_SRGB_DIFFERENCE else None


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _probe(mode: str) -> Image.Image:
    """Return one pixel of every grey, or of each colour on an even grid."""
    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    levels = np.linspace(0, 255, NUM_PROBE_LEVELS).round().astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(1, -1, 3))

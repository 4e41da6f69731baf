"""Seeded pictures, what is wrapped around them and what befalls their bytes, for every test that needs some."""

import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from filters.base import RgbImage
from tests import profiles

PNG_START = b"\x89PNG\r\n\x1a\n"
FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
FIRST_ROW_AND_COLUMN = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}
"""EXIF orientation -> which side of the picture the first stored row and column are (CIPA DC-008, 4.6.5.1.8)."""
EXTREME_BYTES = (0x00, 0x01, 0x7F, 0x80, 0xFE, 0xFF)


def solid(colour: tuple[int, int, int], width: int = 48, height: int = 32) -> RgbImage:
    """A picture of one colour."""
    return np.full((height, width, 3), colour, np.uint8)


def noise(seed: int, width: int = 48, height: int = 32) -> RgbImage:
    """A picture in which every sample is random."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def scene(seed: int, width: int = 48, height: int = 32) -> RgbImage:
    """A smooth picture of random colours, different in each corner."""
    corners = Image.fromarray(noise(seed, 4, 3))
    return np.array(corners.resize((width, height), Image.Resampling.BICUBIC))


def encode(picture: RgbImage | Image.Image, image_format: str, **options: Any) -> bytes:
    """The bytes of a picture as jpg, png, webp or any format that Pillow writes by that name."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    file = io.BytesIO()
    image.save(file, FORMATS.get(image_format, image_format), **options)
    return file.getvalue()


def animation(image_format: str, num_frames: int = 3) -> bytes:
    """An animated PNG, WEBP or GIF."""
    frames = [Image.fromarray(scene(seed)) for seed in range(num_frames)]
    return encode(frames[0], image_format, save_all=True, append_images=frames[1:], duration=40)


def exif(orientation: int | None = None, description: str | None = None, latitude: float | None = None) -> bytes:
    """An EXIF block with the fields given, the last one in its GPS directory."""
    block = Image.Exif()
    if orientation is not None:
        block[0x0112] = orientation
    if description is not None:
        block[0x010E] = description
    if latitude is not None:
        block.get_ifd(0x8825)[2] = (latitude, 0.0, 0.0)
    return block.tobytes()


def laid_down(upright: RgbImage, orientation: int) -> RgbImage:
    """The pixels of a file that shows `upright` once its EXIF orientation (1..8) is followed."""
    first_row, first_column = FIRST_ROW_AND_COLUMN[orientation]
    pixels = upright.transpose(1, 0, 2) if first_row in ("left", "right") else upright
    pixels = pixels[::-1] if first_row in ("bottom", "right") else pixels
    return np.ascontiguousarray(pixels[:, ::-1] if first_column in ("bottom", "right") else pixels)


def jpeg_segment(marker: int, payload: bytes) -> bytes:
    """One JPEG segment with its length."""
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def with_jpeg_segments(jpeg: bytes, *segments: bytes) -> bytes:
    """A JPEG with segments put right after its start."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def png_chunk(kind: bytes, payload: bytes) -> bytes:
    """One PNG chunk with its length and checksum."""
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))


def with_png_chunks(png: bytes, *chunks: bytes) -> bytes:
    """A PNG with chunks put right after its header."""
    after_header = len(PNG_START) + 25
    return png[:after_header] + b"".join(chunks) + png[after_header:]


def raw_png(width: int, height: int, bit_depth: int, colour_type: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG of rows that already begin with their filter byte; for what Pillow does not write, and for lies."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bit_depth, colour_type, 0, 0, 0))
    coded = png_chunk(b"IDAT", zlib.compress(rows))
    return b"".join([PNG_START, header, *chunks, coded, png_chunk(b"IEND", b"")])


def png_rows(samples: npt.NDArray[np.generic]) -> bytes:
    """Unfiltered PNG rows of 8- or 16-bit samples, shape (H, W) or (H, W, C)."""
    rows = samples.astype(samples.dtype.newbyteorder(">")).reshape(len(samples), -1)
    return b"".join(b"\0" + row.tobytes() for row in rows)


def webp_chunk(kind: bytes, payload: bytes) -> bytes:
    """One WEBP chunk with its length and padding."""
    return kind + struct.pack("<I", len(payload)) + payload + bytes(len(payload) % 2)


def webp(*chunks: bytes) -> bytes:
    """A WEBP of these chunks."""
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def seeded_pictures() -> dict[str, bytes]:
    """Small files of every kind that the gate meets: the three formats, their colour models, animations, metadata."""
    picture, rgba = scene(1), Image.fromarray(np.dstack([scene(2), noise(3)[..., :1]]))
    grey_16 = Image.fromarray(scene(4)[..., 0].astype(np.uint16) * 257)
    block = exif(orientation=6, description="a face", latitude=52.0)
    return {
        "jpeg": encode(picture, "jpg", quality=85),
        "jpeg_progressive": encode(picture, "jpg", quality=85, progressive=True, exif=block, comment=b"a comment"),
        "jpeg_grey": encode(Image.fromarray(picture).convert("L"), "jpg"),
        "jpeg_cmyk": encode(Image.fromarray(picture).convert("CMYK"), "jpg"),
        "jpeg_profile": encode(picture, "jpg", icc_profile=profiles.rgb_profile("grb")),
        "png": encode(picture, "png", exif=block),
        "png_palette": encode(Image.fromarray(picture).quantize(16), "png", transparency=3),
        "png_16_bit": encode(grey_16, "png"),
        "png_animated": animation("png"),
        "webp": encode(picture, "webp", quality=80),
        "webp_lossless": encode(picture, "webp", lossless=True),
        "webp_alpha": encode(rgba, "webp", quality=80, exif=block),
        "webp_animated": animation("webp"),
    }


def mutate(image_bytes: bytes, rng: random.Random) -> bytes:
    """Return the bytes after one to three accidents; half the time checksums and lengths are mended afterwards.

    Mending lets an accident reach the parsers behind the checksums of PNG and the length of WEBP.
    """
    mutant = bytearray(image_bytes)
    for _ in range(rng.randint(1, 3)):
        rng.choice(ACCIDENTS)(mutant, rng)
    return _mended(bytes(mutant)) if rng.random() < 0.5 else bytes(mutant)


def _flip(mutant: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 8)):
        if mutant:
            mutant[rng.randrange(len(mutant))] ^= 1 << rng.randrange(8)


def _cut(mutant: bytearray, rng: random.Random) -> None:
    del mutant[rng.randint(0, len(mutant)) :]


def _insert(mutant: bytearray, rng: random.Random) -> None:
    place = rng.randint(0, len(mutant))
    mutant[place:place] = rng.randbytes(rng.randint(1, 64))


def _delete(mutant: bytearray, rng: random.Random) -> None:
    place = rng.randint(0, len(mutant))
    del mutant[place : place + rng.randint(1, 64)]


def _splice(mutant: bytearray, rng: random.Random) -> None:
    source, target = rng.randint(0, len(mutant)), rng.randint(0, len(mutant))
    mutant[target:target] = mutant[source : source + rng.randint(1, 256)]


def _spoil_header(mutant: bytearray, rng: random.Random) -> None:
    for _ in range(rng.randint(1, 4)):
        if mutant:
            mutant[rng.randrange(min(64, len(mutant)))] = rng.choice(EXTREME_BYTES)


ACCIDENTS = (_flip, _cut, _insert, _delete, _splice, _spoil_header)


def _mended(image_bytes: bytes) -> bytes:
    if image_bytes.startswith(b"RIFF"):
        return b"RIFF" + struct.pack("<I", max(len(image_bytes) - 8, 0)) + image_bytes[8:]
    if not image_bytes.startswith(PNG_START):
        return image_bytes
    chunks, position = [PNG_START], len(PNG_START)
    while position + 12 <= len(image_bytes):
        num_bytes, kind = struct.unpack_from(">I4s", image_bytes, position)
        chunks.append(png_chunk(kind, image_bytes[position + 8 : position + 8 + num_bytes]))
        position += 12 + num_bytes
    return b"".join(chunks)

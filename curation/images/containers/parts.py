"""What the three walkers share: parts, the container they make up, and the one EXIF field that is kept."""

import struct
from dataclasses import dataclass
from typing import NamedTuple

from filters.base import FaceCaptionError

ImageFormat = str
"""A format that is read here, by the suffix of its members: a key of `curation.images.containers.WALKERS`."""

EXIF_PREFIX = b"Exif\0\0"
TIFF_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">"}
ORIENTATION_TAG = 0x0112
TIFF_SHORT, TIFF_LONG = 3, 4
VALUE_FORMS = {TIFF_SHORT: "H", TIFF_LONG: "I"}


class ContainerError(FaceCaptionError):
    """A file breaks the rules of its own container; the message says where."""


class Part(NamedTuple):
    """One segment or chunk: its kind, all its bytes as they stand in the file, what it carries, the offset after it."""

    kind: bytes
    raw: memoryview
    payload: memoryview
    end: int


@dataclass(frozen=True)
class Container:
    """What a file says of itself, pixels aside."""

    format: ImageFormat
    parts: tuple[Part, ...]
    """Segments or chunks in file order, up to the end of the first picture or to where the file is cut."""
    end: int | None
    """Offset in bytes just after EOI, IEND or the RIFF chunk; None where the file is cut before it."""
    size: tuple[int, int] | None
    """Claimed width and height in pixels, before orientation; None where the file is cut before it says."""
    is_animated: bool
    orientation: int
    """EXIF orientation 1..8; 1 where there is none or it is broken."""
    bit_depth: int = 8
    """Bits per sample as coded: 1, 2, 4, 8 or 16."""
    has_first_frame: bool = True
    """Whether an animation can be stripped to its first frame as a still picture."""
    coding: str | None = None
    """What the gate calls the coding of a file that Pillow cannot decode, where that is why; None where it is usual."""
    refusal: str | None = None
    """Why the gate refuses the file though it could be decoded."""


def read_orientation(exif: bytes | memoryview | None) -> int:
    """Return the orientation (1..8) in the first directory of an EXIF block; 1 where anything about it is broken.

    Source: CIPA DC-008 (EXIF 3.0), 4.6.5.1.8; TIFF 6.0, section 2.
    """
    tiff = bytes(exif or b"").removeprefix(EXIF_PREFIX)
    order = TIFF_BYTE_ORDERS.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (num_entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(directory + 2, directory + 2 + 12 * num_entries, 12):
            tag, kind, _ = struct.unpack_from(f"{order}HHI", tiff, entry)
            if tag == ORIENTATION_TAG:
                (orientation,) = struct.unpack_from(order + VALUE_FORMS.get(kind, "0s"), tiff, entry + 8)
                return orientation if orientation in range(1, 9) else 1
    except struct.error:
        return 1
    return 1


def minimal_tiff(orientation: int) -> bytes:
    """Return the smallest EXIF block (without its prefix) that says one orientation and nothing else."""
    entry = struct.pack("<HHIHH", ORIENTATION_TAG, TIFF_SHORT, 1, orientation, 0)
    return b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)

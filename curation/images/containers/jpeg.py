"""Walks the segments of a JPEG file (ITU-T T.81, annex B) and rebuilds it from those that decoding needs."""

import re
import struct
from collections.abc import Iterator

from curation.images.containers.parts import (
    EXIF_PREFIX,
    Container,
    ContainerError,
    Part,
    minimal_tiff,
    read_orientation,
)

PILLOW_NAME = "JPEG"
START = b"\xff\xd8"
MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""What ends entropy-coded bytes: neither a stuffed zero, nor a restart marker, nor a fill byte (B.1.1)."""
JFIF, ADOBE, ICC = b"JFIF\0", b"Adobe", b"ICC_PROFILE\0"
NUM_JFIF_BYTES, NUM_ADOBE_BYTES, NUM_FRAME_BYTES, NUM_LENGTH_BYTES = 14, 12, 5, 2
"""What decoders read of each (JFIF 1.02; T.872, 6.5.3; T.81, B.2.2), and the size of a segment's length field."""
APP0, APP1, APP2, APP14 = 0xE0, 0xE1, 0xE2, 0xEE
SOI, EOI, SOS = 0xD8, 0xD9, 0xDA
LS_FRAME = 0xF7
"""A frame of JPEG-LS (ITU-T T.87), which shares the other markers."""
LOSSLESS, HIERARCHICAL = frozenset({0xC3, 0xCB}), frozenset({0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF})
ARITHMETIC = frozenset({0xC9, 0xCA})
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
KEPT = FRAMES | {0xC4, 0xCC} | frozenset(range(EOI, APP0))
"""Frames, Huffman and arithmetic tables, EOI, scans, quantisation tables, DNL, DRI, DHP, EXP."""


def announces(image_bytes: bytes) -> bool:
    """Whether the first bytes are those of a JPEG file."""
    return image_bytes.startswith(START + b"\xff")


def read(image_bytes: bytes) -> Container:
    """Walk the file up to the first EOI; the further pictures of an MPO lie after it."""
    parts = tuple(_parts(image_bytes))
    start = next((part for part in parts if part.kind[0] in FRAMES | {LS_FRAME}), None)
    frame = b"" if start is None else bytes(start.payload[:NUM_FRAME_BYTES])
    exif = (part.payload for part in parts if part.kind[0] == APP1 and part.payload[:6] == EXIF_PREFIX)
    return Container(
        format="jpg",
        parts=parts,
        end=parts[-1].end if parts and parts[-1].kind[0] == EOI else None,
        size=(int.from_bytes(frame[3:5]), int.from_bytes(frame[1:3])) if len(frame) == NUM_FRAME_BYTES else None,
        is_animated=False,
        orientation=read_orientation(next(exif, None)),
        coding=_coding(start.kind[0], frame[0]) if start is not None and frame else None,
    )


def strip(container: Container) -> bytes:
    """Return START and the kept segments; an orientation follows a leading JFIF, else comes first."""
    segments = [segment for part in container.parts if (segment := _kept(part))]
    if container.orientation != 1:
        exif = _segment(APP1, EXIF_PREFIX + minimal_tiff(container.orientation))
        segments.insert(int(segments[0][1] == APP0), exif)
    return b"".join([START, *segments])


def _coding(marker: int, precision: int) -> str | None:
    """Return the name of a coding that few decoders know (T.81, table B.1); None for baseline and progressive."""
    if marker == LS_FRAME:
        return "jpeg_ls"
    if marker in LOSSLESS:
        return "jpeg_lossless"
    if marker in HIERARCHICAL:
        return "jpeg_hierarchical"
    if precision != 8:
        return "jpeg_12_bit"
    return "jpeg_arithmetic" if marker in ARITHMETIC else None


def _parts(image_bytes: bytes) -> Iterator[Part]:
    """Yield the segments after SOI; the entropy-coded bytes of a scan stay with its SOS.

    Stray bytes between segments belong to none: decoders skip them as well (libjpeg's next_marker).
    """
    whole = memoryview(image_bytes)
    position = len(START)
    while (marker := MARKER.search(image_bytes, position)) is not None:
        start, code = marker.start(), image_bytes[marker.end() - 1]
        if code == EOI:
            yield Part(bytes([code]), whole[start : start + 2], whole[:0], start + 2)
            return
        if code == SOI or code < min(FRAMES):
            raise ContainerError(f"jpg: marker ff{code:02x} has no place at byte {start}")
        num_bytes = int.from_bytes(image_bytes[start + 2 : start + 4])
        position = start + 2 + num_bytes
        if max(start + 4, position) > len(image_bytes):
            return
        if num_bytes < NUM_LENGTH_BYTES:
            raise ContainerError(f"jpg: segment of {num_bytes} bytes at byte {start}")
        payload = whole[start + 4 : position]
        if code == SOS:
            following = MARKER.search(image_bytes, position)
            if following is None:
                return
            position = following.start()
        yield Part(bytes([code]), whole[start:position], payload, position)


def _kept(part: Part) -> bytes | memoryview | None:
    """Return what stays of a segment: JFIF loses its thumbnail, JFIF and Adobe whatever follows their fields."""
    code, head = part.kind[0], bytes(part.payload[:NUM_JFIF_BYTES])
    if code == APP0 and head.startswith(JFIF) and len(head) == NUM_JFIF_BYTES:
        return _segment(code, head[:-2] + b"\0\0")
    if code == APP14 and head.startswith(ADOBE) and len(head) >= NUM_ADOBE_BYTES:
        return _segment(code, head[:NUM_ADOBE_BYTES])
    is_icc = code == APP2 and head.startswith(ICC)
    return part.raw if is_icc or code in KEPT else None


def _segment(code: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, code, 2 + len(payload)) + payload

"""Walks the chunks of a PNG file (W3C PNG, third edition, section 5) and rebuilds it from those that decoding needs."""

import struct
import zlib
from collections.abc import Iterator

from curation.images.containers.parts import Container, ContainerError, Part, minimal_tiff, read_orientation

PILLOW_NAME = "PNG"
START = b"\x89PNG\r\n\x1a\n"
CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
KEPT = CRITICAL | {b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"sBIT"}
NUM_HEADER_BYTES = 13


def announces(image_bytes: bytes) -> bool:
    """Whether the first bytes are those of a PNG file."""
    return image_bytes.startswith(START)


def read(image_bytes: bytes) -> Container:
    """Walk the file up to IEND; one that announces animation frames (`acTL`) counts as animated, whatever it shows."""
    parts = tuple(_parts(image_bytes))
    exif = (part.payload for part in parts if part.kind == b"eXIf")
    return Container(
        format="png",
        parts=parts,
        end=parts[-1].end if parts and parts[-1].kind == b"IEND" else None,
        size=struct.unpack_from(">II", parts[0].payload) if parts else None,
        is_animated=any(part.kind == b"acTL" for part in parts),
        orientation=read_orientation(next(exif, None)),
        bit_depth=parts[0].payload[8] if parts else 8,
    )


def strip(container: Container) -> bytes:
    """Return START and the kept chunks; an orientation follows IHDR, IEND is written anew."""
    chunks: list[bytes | memoryview] = [part.raw for part in container.parts[:-1] if part.kind in KEPT]
    if container.orientation != 1:
        chunks.insert(1, _chunk(b"eXIf", minimal_tiff(container.orientation)))
    return b"".join([START, *chunks, _chunk(b"IEND", b"")])


def _parts(image_bytes: bytes) -> Iterator[Part]:
    """Yield the chunks; a wrong checksum is fatal to a critical one and silences any other, as libpng has it."""
    whole = memoryview(image_bytes)
    position = len(START)
    while position + 12 <= len(image_bytes):
        num_bytes, kind = struct.unpack_from(">I4s", image_bytes, position)
        end = position + 12 + num_bytes
        is_first = position == len(START)
        if not kind.isalpha() or is_first != (kind == b"IHDR") or (is_first and num_bytes != NUM_HEADER_BYTES):
            raise ContainerError(f"png: chunk {kind!r} of {num_bytes} bytes has no place at byte {position}")
        if end > len(image_bytes):
            return
        is_critical = kind[:1].isupper()
        if is_critical and kind not in CRITICAL:
            raise ContainerError(f"png: unknown critical chunk {kind!r} at byte {position}")
        raw = whole[position:end]
        if zlib.crc32(raw[4:-4]) == int.from_bytes(raw[-4:]):
            yield Part(kind, raw, raw[8:-4], end)
        elif is_critical:
            raise ContainerError(f"png: wrong checksum of chunk {kind!r} at byte {position}")
        if kind == b"IEND":
            return
        position = end


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", zlib.crc32(kind + payload))

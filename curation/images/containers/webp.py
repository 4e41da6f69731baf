"""Walks the chunks of a WEBP file (RFC 9649) and rebuilds it from those that decoding needs."""

import struct
from collections.abc import Iterator

from curation.images.containers.parts import Container, ContainerError, Part, minimal_tiff, read_orientation

PILLOW_NAME = "WEBP"
START, FORM = b"RIFF", b"WEBP"
CODED = frozenset({b"VP8 ", b"VP8L"})
ANIMATION = frozenset({b"ANIM", b"ANMF"})
HAS_ICC, HAS_ALPHA, HAS_EXIF, IS_ANIMATED = 0x20, 0x10, 0x08, 0x02
"""Flags of a VP8X chunk (RFC 9649, 2.7)."""
NUM_SIZE_BYTES = 10
"""All of a VP8X chunk, and enough of the other two to read their size."""
NUM_FRAME_BYTES = 16
"""What an ANMF chunk says of its frame, before the frame's own chunks (RFC 9649, 2.7.1.1)."""
SIDE_BITS = 0x3FFF


def announces(image_bytes: bytes) -> bool:
    """Whether the first bytes are those of a WEBP file."""
    return image_bytes[:4] == START and image_bytes[8:12] == FORM


def read(image_bytes: bytes) -> Container:
    """Walk the file up to the end of its RIFF chunk; EXIF counts where VP8X announces it, as libwebp has it."""
    end = 8 + int.from_bytes(image_bytes[4:8], "little")
    parts = tuple(_parts(image_bytes, end))
    flags = _flags(parts)
    exif = (part.payload for part in parts if part.kind == b"EXIF" and flags & HAS_EXIF)
    return Container(
        format="webp",
        parts=parts,
        end=end if end <= len(image_bytes) else None,
        size=next(filter(None, map(_size, parts)), None),
        is_animated=bool(flags & IS_ANIMATED) or any(part.kind in ANIMATION for part in parts),
        orientation=read_orientation(next(exif, None)),
        has_first_frame=_first_frame(parts) is not None,
    )


def strip(container: Container) -> bytes:
    """Return VP8X with its flags mended, ICCP, ALPH, the picture and an orientation; of an animation the first frame.

    Raises:
        ContainerError: there is no picture, or the first frame of an animation does not cover the whole of it.
    """
    still = _first_frame(container.parts) if container.is_animated else container.parts
    coded = next((i for i, part in enumerate(still or ()) if part.kind in CODED), None)
    if still is None or coded is None:
        raise ContainerError("webp: there is no single picture; it is empty, or its first frame covers only a part")
    parts = still[: coded + 1]
    flags = _flags(parts) & (HAS_ALPHA | (HAS_ICC if any(part.kind == b"ICCP" for part in parts) else 0))
    kept = CODED | {b"ALPH"} | ({b"ICCP"} if flags & HAS_ICC else set())
    chunks = [_chunk(part.kind, bytes(part.payload)) for part in parts if part.kind in kept]
    if container.orientation != 1:
        flags |= HAS_EXIF
        chunks.append(_chunk(b"EXIF", minimal_tiff(container.orientation)))
    canvas = next((bytes(part.payload[4:NUM_SIZE_BYTES]) for part in parts if part.kind == b"VP8X"), None)
    if canvas is not None:
        chunks.insert(0, _chunk(b"VP8X", bytes([flags, 0, 0, 0]) + canvas))
    body = FORM + b"".join(chunks)
    return START + struct.pack("<I", len(body)) + body


def _parts(image_bytes: bytes, riff_end: int, position: int = 12) -> Iterator[Part]:
    whole = memoryview(image_bytes)
    while position + 8 <= min(riff_end, len(image_bytes)):
        kind, num_bytes = struct.unpack_from("<4sI", image_bytes, position)
        end = position + 8 + num_bytes
        if end > riff_end or (kind == b"VP8X" and num_bytes < NUM_SIZE_BYTES):
            raise ContainerError(f"webp: chunk {kind!r} of {num_bytes} bytes has no place at byte {position}")
        if end > len(image_bytes):
            return
        yield Part(kind, whole[position:end], whole[position + 8 : end], end)
        position = end + num_bytes % 2


def _first_frame(parts: tuple[Part, ...]) -> tuple[Part, ...] | None:
    """Return what stands before the first frame, and the frame's own chunks; None where it covers only a part."""
    index = next((index for index, part in enumerate(parts) if part.kind == b"ANMF"), None)
    canvas = next((_size(part) for part in parts if part.kind == b"VP8X"), None)
    if index is None or canvas is None:
        return None
    frame = parts[index].payload
    numbers = [int.from_bytes(frame[start : start + 3], "little") for start in (0, 3, 6, 9)]
    if len(frame) < NUM_FRAME_BYTES or numbers != [0, 0, canvas[0] - 1, canvas[1] - 1]:
        return None
    try:
        inside = tuple(_parts(bytes(frame), len(frame), NUM_FRAME_BYTES))
    except ContainerError:
        return None
    return (*(part for part in parts[:index] if part.kind in (b"VP8X", b"ICCP")), *inside)


def _flags(parts: tuple[Part, ...]) -> int:
    return next((part.payload[0] for part in parts if part.kind == b"VP8X"), 0)


def _size(part: Part) -> tuple[int, int] | None:
    """Return the size that a VP8X, lossy or lossless chunk claims (RFC 9649, 2.7 and 3.4; RFC 6386, 9.1)."""
    head = bytes(part.payload[:NUM_SIZE_BYTES])
    if part.kind == b"VP8X":
        return 1 + int.from_bytes(head[4:7], "little"), 1 + int.from_bytes(head[7:10], "little")
    if part.kind == b"VP8 " and head[3:6] == b"\x9d\x01\x2a" and len(head) == NUM_SIZE_BYTES:
        width, height = struct.unpack_from("<HH", head, 6)
        return width & SIDE_BITS, height & SIDE_BITS
    if part.kind == b"VP8L" and head.startswith(b"\x2f"):
        bits = int.from_bytes(head[1:5], "little")
        return 1 + (bits & SIDE_BITS), 1 + (bits >> 14 & SIDE_BITS)
    return None


def _chunk(kind: bytes, payload: bytes) -> bytes:
    return kind + struct.pack("<I", len(payload)) + payload + bytes(len(payload) % 2)

"""Walks the blocks of a GIF file (CompuServe, GIF89a) and rebuilds it from those that its first frame needs."""

import struct
from collections.abc import Iterator

from curation.images.containers.parts import Container, ContainerError, Part

PILLOW_NAME = "GIF"
STARTS = (b"GIF87a", b"GIF89a")
NUM_HEADER_BYTES, NUM_FRAME_BYTES, NUM_CONTROL_BYTES = 13, 10, 8
"""Signature and logical screen; an image descriptor with its separator; a whole graphic control extension."""
HAS_COLOURS, COLOUR_BITS = 0x80, 0x07
HEADER, FRAME, CONTROL, OTHER, TRAILER = b"H", b",", b"\xf9", b"!", b";"
"""Kinds of parts: the screen with its colours, a frame, what says how a frame is shown, other extensions, the end."""


def announces(image_bytes: bytes) -> bool:
    """Whether the first bytes are those of a GIF file."""
    return image_bytes.startswith(STARTS)


def read(image_bytes: bytes) -> Container:
    """Walk the file up to its trailer; more than one frame is an animation."""
    parts = tuple(_parts(image_bytes))
    is_whole = bool(parts) and parts[-1].kind == TRAILER
    num_frames = sum(part.kind == FRAME for part in parts)
    if is_whole and num_frames == 0:
        raise ContainerError("gif: the file is whole but holds no picture")
    return Container(
        format="gif",
        parts=parts,
        end=parts[-1].end if is_whole else None,
        size=struct.unpack_from("<HH", parts[0].payload) if parts else None,
        is_animated=num_frames > 1,
        orientation=1,
    )


def strip(container: Container) -> bytes:
    """Return the screen, the first frame with what says how it is shown, and the trailer."""
    first = next(index for index, part in enumerate(container.parts) if part.kind == FRAME)
    before = [part.raw for part in container.parts[:first] if part.kind == CONTROL]
    controls = [control for control in before[-1:] if len(control) == NUM_CONTROL_BYTES]
    return b"".join([container.parts[0].raw, *controls, container.parts[first].raw, TRAILER])


def _parts(image_bytes: bytes) -> Iterator[Part]:
    whole = memoryview(image_bytes)
    if len(image_bytes) < NUM_HEADER_BYTES:
        return
    position = NUM_HEADER_BYTES + _num_colour_bytes(image_bytes[10])
    if position > len(image_bytes):
        return
    yield Part(HEADER, whole[:position], whole[6:position], position)
    while position < len(image_bytes):
        start, mark = position, image_bytes[position : position + 1]
        if mark == TRAILER:
            yield Part(TRAILER, whole[start : start + 1], whole[:0], start + 1)
            return
        if mark == FRAME and start + NUM_FRAME_BYTES <= len(image_bytes):
            kind, position = FRAME, start + NUM_FRAME_BYTES + _num_colour_bytes(image_bytes[start + 9]) + 1
        elif mark == OTHER:
            kind, position = OTHER if image_bytes[start + 1 : start + 2] != CONTROL else CONTROL, start + 2
        elif mark == FRAME:
            return
        else:
            raise ContainerError(f"gif: block {mark!r} has no place at byte {start}")
        end = _end_of_sub_blocks(image_bytes, position)
        if end is None:
            return
        yield Part(kind, whole[start:end], whole[position:end], end)
        position = end


def _num_colour_bytes(packed: int) -> int:
    return 3 << (1 + (packed & COLOUR_BITS)) if packed & HAS_COLOURS else 0


def _end_of_sub_blocks(image_bytes: bytes, position: int) -> int | None:
    """Return the offset just after the empty sub-block that ends a block; None where the file is cut before it."""
    while position < len(image_bytes):
        num_bytes = image_bytes[position]
        position += 1 + num_bytes
        if num_bytes == 0:
            return position
    return None

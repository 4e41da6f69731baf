"""How large the frames of an AV1 stream may be, by its own sequence headers (AV1 specification, 5.3 to 5.5)."""

from collections.abc import Iterator

from curation.images.containers.parts import ContainerError

SEQUENCE_HEADER = 1
HAS_EXTENSION, HAS_SIZE = 0x04, 0x02
MAX_SIZE_BYTES = 8
"""Of a number in LEB128."""


def frame_sizes(stream: bytes) -> set[tuple[int, int]]:
    """Return the greatest width and height in pixels that each sequence header of a stream allows.

    Raises:
        ContainerError: a unit of the stream ends within a field.
    """
    return {_size(_Bits(unit)) for kind, unit in _units(stream) if kind == SEQUENCE_HEADER}


class _Bits:
    """Reads numbers of any width, the highest bit first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data[:256]), 8 * len(data[:256])

    def number(self, num_bits: int) -> int:
        self._left -= num_bits
        if self._left < 0:
            raise ContainerError("avif: an AV1 sequence header ends within a field")
        return self._value >> self._left & ((1 << num_bits) - 1)

    def variable(self) -> int:
        num_zeros = 0
        while not self.number(1):
            num_zeros += 1
        return (1 << num_zeros) - 1 + self.number(num_zeros)


def _units(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and content of each unit; one without a size reaches to the end."""
    position = 0
    while position < len(stream):
        head = stream[position]
        position += 2 if head & HAS_EXTENSION else 1
        end = len(stream)
        if head & HAS_SIZE:
            num_bytes = 0
            for index in range(MAX_SIZE_BYTES):
                part = stream[position] if position < len(stream) else 0
                position += 1
                num_bytes |= (part & 0x7F) << (7 * index)
                if part < 0x80:
                    break
            end = position + num_bytes
        yield head >> 3 & 15, stream[position:end]
        position = end


def _size(bits: _Bits) -> tuple[int, int]:
    bits.number(4)  # profile, still picture
    if bits.number(1):
        bits.number(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = 1 + bits.number(4), 1 + bits.number(4)
    return 1 + bits.number(width_bits), 1 + bits.number(height_bits)


def _skip_operating_points(bits: _Bits) -> None:
    """Read past timing, decoder model and operating points, which say nothing of the size."""
    delay_bits = 0
    if bits.number(1):
        bits.number(64)
        if bits.number(1):
            bits.variable()
        if bits.number(1):
            delay_bits = 1 + bits.number(5)
            bits.number(42)
    has_display_delay = bits.number(1)
    for _ in range(1 + bits.number(5)):
        bits.number(12)
        if bits.number(5) > 7:
            bits.number(1)
        if delay_bits and bits.number(1):
            bits.number(2 * delay_bits + 1)
        if has_display_delay and bits.number(1):
            bits.number(4)

"""Reads networks in ncnn's text format (`.param`) and their fp16 weights (`.bin`).

Source: ncnn's developer guide, "param and model file structure" and "operation param weight table".
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from filters.base import FaceCaptionError

MAGIC = "7767517"
"""First line of a `.param` file."""
FP16_FLAG = 0x01306B47
"""What precedes weights that are stored as fp16; other numbers announce other storage."""
ALIGNMENT = 4
"""Weights begin at multiples of so many bytes."""
ARRAY_KEY = -23300
"""A key at or below it stands for an array: `-23300 - key` is its index."""

Value = int | float | tuple[int | float, ...]


class ConversionError(FaceCaptionError):
    """A network cannot be converted: its files are damaged, or hold what is not translated here; says which layer."""

    exit_code = 6


@dataclass(frozen=True)
class Layer:
    """One line of a `.param` file."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: Mapping[int, Value]

    def params_of(self, defaults: Mapping[int, Value]) -> list[Value]:
        """Return the values of the known keys, in their order.

        Raises:
            ConversionError: the layer has a key that is not known here, and so might mean something.
        """
        if unknown := sorted(self.params.keys() - defaults.keys()):
            raise ConversionError(f"layer `{self.name}` ({self.kind}): parameter {unknown[0]} is not translated here")
        return [self.params.get(key, default) for key, default in defaults.items()]


def read_layers(param: bytes) -> tuple[Layer, ...]:
    """Return the layers of a `.param` file, in the order in which they run.

    Raises:
        ConversionError: the file is not of this format, or is not whole.
    """
    try:
        magic, counts, *lines = [line for line in param.decode("utf-8").splitlines() if line.strip()]
        num_layers = int(counts.split()[0])
    except (ValueError, IndexError):
        raise ConversionError("not an ncnn network: it lacks its first two lines") from None
    if magic.strip() != MAGIC:
        raise ConversionError(f"not an ncnn network: it begins with {magic[:20]!r}, expected {MAGIC}")
    if len(lines) != num_layers:
        raise ConversionError(f"{len(lines)} layers, and the second line announces {num_layers}")
    return tuple(map(_layer, lines))


class WeightsReader:
    """Hands out the weights of a `.bin` file one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def halves(self, num_values: int, layer: Layer) -> npt.NDArray[np.float16]:
        """Return weights that are stored as fp16 behind their flag.

        Raises:
            ConversionError: the file ends, or the weights are stored otherwise.
        """
        (flag,) = struct.unpack("<I", self._take(4, layer))
        if flag != FP16_FLAG:
            raise ConversionError(f"layer `{layer.name}`: weights stored as {flag:#010x}; only fp16 is read here")
        padded = -(-2 * num_values // ALIGNMENT) * ALIGNMENT
        return np.frombuffer(self._take(padded, layer), "<f2", num_values).astype(np.float16)

    def floats(self, num_values: int, layer: Layer) -> npt.NDArray[np.float32]:
        """Return plain fp32 values, which is how biases are stored.

        Raises:
            ConversionError: the file ends.
        """
        return np.frombuffer(self._take(4 * num_values, layer), "<f4").astype(np.float32)

    def require_end(self) -> None:
        """Raise ConversionError where bytes are left: then the two files do not belong together."""
        if self._position != len(self._data):
            raise ConversionError(f"{len(self._data) - self._position} bytes of weights belong to no layer")

    def _take(self, num_bytes: int, layer: Layer) -> bytes:
        start, self._position = self._position, self._position + num_bytes
        if self._position > len(self._data):
            raise ConversionError(f"layer `{layer.name}`: the weights end at byte {len(self._data)}")
        return self._data[start : self._position]


def _layer(line: str) -> Layer:
    try:
        kind, name, num_inputs, num_outputs, *rest = line.split()
        first, last = int(num_inputs), int(num_inputs) + int(num_outputs)
        if min(first, last - first) < 0 or len(rest) < last:
            raise ValueError(line)
        params = dict(map(_param, rest[last:]))
    except ValueError:
        raise ConversionError(f"this line is not a layer of an ncnn network: {line[:80]!r}") from None
    return Layer(kind, name, tuple(rest[:first]), tuple(rest[first:last]), params)


def _param(text: str) -> tuple[int, Value]:
    key_text, _, value = text.partition("=")
    key = int(key_text)
    if key > ARRAY_KEY:
        return key, _number(value)
    size, *items = map(_number, value.split(","))
    if size != len(items):
        raise ValueError(text)
    return ARRAY_KEY - key, tuple(items)


def _number(text: str) -> int | float:
    return float(text) if "." in text or "e" in text else int(text)

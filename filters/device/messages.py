"""What a device server and its clients say to each other: packed numbers, each held against its bounds.

They speak over a Unix socket that keeps messages apart (SOCK_SEQPACKET). Pixels and outputs cross in a slab of shared
memory that the server makes for each client. Nothing is ever unpickled: a client has met hostile bytes.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

VERSION = 1
"""Raised when a word changes, so that workers of two versions never share a server."""
SLAB_BYTES = 128 << 20
"""Of each client's shared memory; only pages that were written to take any."""
MAX_MESSAGE_BYTES = 16 << 10
MAX_TOGETHER = 64
"""Pictures in one message."""
MAX_SIDE_PX = 8192
MAX_OUTPUTS, MAX_DIMENSIONS = 4, 4
MAX_NAME_BYTES, MAX_TEXT_BYTES, MAX_GIVEN = 200, 500, 4
OPEN, RUN, WAITED, COUNT = 1, 2, 3, 4
"""What a client may ask: load a network; run pictures through it; how long another client has waited so far; what all
networks have run so far."""
OPENED, RAN, TOLD, FAILED, COUNTED = 1, 2, 3, 4, 5

HELLO = struct.Struct("<4sIQ")
MAGIC = b"FCDS"
_OPEN = struct.Struct("<BHBH")
_RUN = struct.Struct("<BH")
_REQUEST = struct.Struct("<IIIQQQ")
_PID = struct.Struct("<BI")
_NUMBER = struct.Struct("<BI")
_COUNTS = struct.Struct("<BQQQ")
_SECONDS = struct.Struct("<Bd")
_ANSWER = struct.Struct("<IB")
_SHAPE = struct.Struct(f"<B{MAX_DIMENSIONS}I")
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Opening:
    """A network that a client wants to use."""

    name: str
    """Of its file among the exports (`filters.detectors.export`), which ends in its own sha256."""
    dtype: str
    """Its arithmetic, a `filters.loading.Dtype`."""
    given: tuple[float, ...] = ()
    """What its further inputs are given, one number each."""


@dataclass(frozen=True)
class SlabCanvas:
    """One picture that lies in the slab, uint8 (height, width, 3), and where its outputs may go."""

    network: int
    height: int
    width: int
    at: int
    """Where the pixels begin, bytes from the slab's beginning."""
    out_at: int
    out_bytes: int
    """Room for the outputs, float32, one after the other."""

    @property
    def num_bytes(self) -> int:
        """Size of the pixels."""
        return self.height * self.width * 3


@dataclass(frozen=True)
class SlabOutputs:
    """The outputs of one picture of the last message: their shapes, without the axis of the batch."""

    index: int
    shapes: tuple[Shape, ...]


def opening(asked: Opening, dtypes: Sequence[str]) -> bytes:
    """Return the message that asks for a network; `dtypes` are all that there are, in one order for both sides."""
    name = asked.name.encode()
    head = _OPEN.pack(OPEN, len(name), dtypes.index(asked.dtype), len(asked.given))
    return head + name + struct.pack(f"<{len(asked.given)}d", *asked.given)


def opening_in(message: bytes, dtypes: Sequence[str]) -> Opening:
    """Return what `opening` packed.

    Raises:
        ValueError: the message is none.
    """
    _, num_bytes, dtype, num_given = _unpacked(_OPEN, message, 0)
    end = _OPEN.size + num_bytes
    if num_bytes > MAX_NAME_BYTES or dtype >= len(dtypes) or num_given > MAX_GIVEN:
        raise ValueError("a network's name, arithmetic or inputs are beyond their bounds")
    given = _unpacked(struct.Struct(f"<{num_given}d"), message, end)
    return Opening(message[_OPEN.size : end].decode("ascii"), dtypes[dtype], given)


def running(requests: Sequence[SlabCanvas]) -> bytes:
    """Return the message that asks for pictures to be run."""
    packed = (_REQUEST.pack(r.network, r.height, r.width, r.at, r.out_at, r.out_bytes) for r in requests)
    return _RUN.pack(RUN, len(requests)) + b"".join(packed)


def requests_in(message: bytes, num_networks: int, slab_bytes: int) -> list[SlabCanvas]:
    """Return what `running` packed, all of it within the slab and of networks that were opened.

    Raises:
        ValueError: the message is none, or a number of it is beyond its bounds.
    """
    _, number = _unpacked(_RUN, message, 0)
    if not 0 < number <= MAX_TOGETHER or len(message) != _RUN.size + number * _REQUEST.size:
        raise ValueError(f"{number} pictures in {len(message)} bytes")
    requests = [SlabCanvas(*_unpacked(_REQUEST, message, _RUN.size + i * _REQUEST.size)) for i in range(number)]
    for request in requests:
        is_sound = (
            request.network < num_networks
            and 0 < request.height <= MAX_SIDE_PX
            and 0 < request.width <= MAX_SIDE_PX
            and request.at + request.num_bytes <= slab_bytes
            and request.out_at % 4 == 0
            and request.out_at + request.out_bytes <= slab_bytes
        )
        if not is_sound:
            raise ValueError(f"beyond its bounds: {request}")
    return requests


def asking_for(pid: int) -> bytes:
    """Return the message that asks how long a client, by its process id, has waited so far."""
    return _PID.pack(WAITED, pid)


def pid_in(message: bytes) -> int:
    """Return what `asking_for` packed.

    Raises:
        ValueError: the message is none.
    """
    return int(_unpacked(_PID, message, 0)[1])


def opened(network: int) -> bytes:
    """Return the answer to `opening`: the number by which the network is asked for from now on."""
    return _NUMBER.pack(OPENED, network)


def opened_in(message: bytes) -> int:
    """Return what `opened` packed."""
    return int(_unpacked(_NUMBER, message, 0)[1])


def told(seconds: float) -> bytes:
    """Return the answer to `asking_for`."""
    return _SECONDS.pack(TOLD, seconds)


def told_in(message: bytes) -> float:
    """Return what `told` packed."""
    return float(_unpacked(_SECONDS, message, 0)[1])


def counted(num_pictures: int, num_batches: int, largest_batch: int) -> bytes:
    """Return the answer to COUNT."""
    return _COUNTS.pack(COUNTED, num_pictures, num_batches, largest_batch)


def counted_in(message: bytes) -> tuple[int, int, int]:
    """Return what `counted` packed."""
    _, num_pictures, num_batches, largest_batch = _unpacked(_COUNTS, message, 0)
    return num_pictures, num_batches, largest_batch


def ran(answers: Sequence[SlabOutputs]) -> bytes:
    """Return the answer to some of the pictures of `running`; they come as they are ready."""
    parts = [_RUN.pack(RAN, len(answers))]
    for answer in answers:
        parts.append(_ANSWER.pack(answer.index, len(answer.shapes)))
        for shape in answer.shapes:
            parts.append(_SHAPE.pack(len(shape), *shape, *[0] * (MAX_DIMENSIONS - len(shape))))
    return b"".join(parts)


def answers_in(message: bytes) -> list[SlabOutputs]:
    """Return what `ran` packed."""
    _, number = _unpacked(_RUN, message, 0)
    answers, at = [], _RUN.size
    for _ in range(number):
        index, num_shapes = _unpacked(_ANSWER, message, at)
        at += _ANSWER.size
        packed = [_unpacked(_SHAPE, message, at + i * _SHAPE.size) for i in range(num_shapes)]
        at += num_shapes * _SHAPE.size
        answers.append(SlabOutputs(index, tuple(tuple(shape[1 : 1 + shape[0]]) for shape in packed)))
    return answers


def failed(text: str) -> bytes:
    """Return the answer that says why the last message was not done."""
    return bytes([FAILED]) + text.encode("utf-8", "replace")[:MAX_TEXT_BYTES]


def failed_in(message: bytes) -> str:
    """Return what `failed` packed."""
    return message[1:].decode("utf-8", "replace")


def _unpacked(form: struct.Struct, message: bytes, at: int) -> tuple[Any, ...]:
    if len(message) < at + form.size:
        raise ValueError(f"a message of {len(message)} bytes is cut off")
    return form.unpack_from(message, at)

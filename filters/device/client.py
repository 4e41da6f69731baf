"""How a detector reaches a device server: it lays its canvases into shared memory and waits for their outputs.

A process that loads no network itself is small, and has no context on the device.
"""

import mmap
import os
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from filters.base import FaceCaptionError, RgbImage
from filters.batching import Look
from filters.device import messages
from filters.device.messages import Opening, SlabCanvas, SlabOutputs
from filters.loading import DeviceError, Dtype

Outputs = tuple[npt.NDArray[Any], ...]
DTYPES: tuple[str, ...] = get_args(Dtype)
CONNECT_S = 30.0
"""Seconds until a server that has the socket open must have said hello, or how long somebody has waited."""
OUT_PER_PIXEL, OUT_BESIDE = 4, 8192
"""Bytes of outputs that a picture has room for: no network gives more than one float32 a pixel, or 1584 of them."""
_SERVER: ContextVar[str | None] = ContextVar("server", default=None)


class DeviceServerError(FaceCaptionError):
    """The device server is gone, or could not run a network: no picture's doing, so it is asked again."""

    exit_code = 1


class DeviceConnection:
    """A socket to a server, and the memory that both see."""

    def __init__(self, address: str) -> None:
        """Connect.

        Raises:
            DeviceServerError: nobody answers there.
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._numbers: dict[Opening, int] = {}
        try:
            self._slab = self._greeted(address)
        except (OSError, ValueError, struct.error) as error:
            self._socket.close()
            raise DeviceServerError(f"no device server answers at {address}: {error}") from error

    def _greeted(self, address: str) -> mmap.mmap:
        """Connect, and return the memory that the server gives.

        Raises:
            OSError: nobody is there.
            ValueError, struct.error: no server of this version.
        """
        self._socket.settimeout(CONNECT_S)
        self._socket.connect(address)
        hello, memories, _, _ = socket.recv_fds(self._socket, messages.HELLO.size, 1)
        self._socket.settimeout(None)
        try:
            magic, version, num_bytes = messages.HELLO.unpack(hello)
            if (magic, version) != (messages.MAGIC, messages.VERSION) or not memories:
                raise ValueError(f"it is no server of version {messages.VERSION}")
            return mmap.mmap(memories[0], num_bytes)
        finally:
            for memory in memories:
                os.close(memory)

    def close(self) -> None:
        """Leave; whatever waits is forgotten there."""
        self._socket.close()

    def waited_s(self, pid: int) -> float:
        """Return how many seconds the client with a process id has waited for the device so far."""
        self._socket.settimeout(CONNECT_S)
        try:
            return messages.told_in(self._ask(messages.asking_for(pid), messages.TOLD))
        finally:
            self._socket.settimeout(None)

    def counts(self) -> tuple[int, int, int]:
        """Return how many pictures the server has run, in how many batches, and how many the largest had."""
        return messages.counted_in(self._ask(bytes([messages.COUNT]), messages.COUNTED))

    @property
    def server_pid(self) -> int:
        """Process id of the server."""
        credentials = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[0])

    def number_of(self, opening: Opening) -> int:
        """Return the number of a network, which the server loads unless it has it.

        Raises:
            DeviceError: it cannot be loaded there; the message says why.
        """
        if opening not in self._numbers:
            self._send(messages.opening(opening, DTYPES))
            answer = self._answer(messages.OPENED, messages.FAILED)
            if answer[0] == messages.FAILED:
                raise DeviceError(messages.failed_in(answer))
            self._numbers[opening] = messages.opened_in(answer)
        return self._numbers[opening]

    def run(self, number: int, canvases: Sequence[RgbImage]) -> list[Outputs]:
        """Return the outputs of each canvas."""
        outputs: list[Outputs] = []
        while len(outputs) < len(canvases):
            requests = self._laid_down(number, canvases[len(outputs) :])
            outputs += self._run(requests)
        return outputs

    def _laid_down(self, number: int, canvases: Sequence[RgbImage]) -> list[SlabCanvas]:
        """Put as many canvases into the slab as have room there beside their outputs."""
        requests: list[SlabCanvas] = []
        at = 0
        for canvas in canvases[: messages.MAX_TOGETHER]:
            height, width = canvas.shape[:2]
            out_at = -(-(at + canvas.nbytes) // 4) * 4
            request = SlabCanvas(number, height, width, at, out_at, OUT_PER_PIXEL * height * width + OUT_BESIDE)
            if request.out_at + request.out_bytes > len(self._slab):
                break
            self._view(np.uint8, at, canvas.shape)[:] = canvas
            requests.append(request)
            at = request.out_at + request.out_bytes
        if not requests:
            raise FaceCaptionError(f"a canvas of {canvases[0].shape} is larger than a device server takes")
        return requests

    def _run(self, requests: Sequence[SlabCanvas]) -> list[Outputs]:
        self._send(messages.running(requests))
        outputs: dict[int, Outputs] = {}
        while len(outputs) < len(requests):
            for answer in messages.answers_in(self._answer(messages.RAN)):
                outputs[answer.index] = self._outputs_in(requests[answer.index], answer)
        return [outputs[i] for i in range(len(requests))]

    def _outputs_in(self, request: SlabCanvas, answer: SlabOutputs) -> Outputs:
        at, outputs = request.out_at, []
        for shape in answer.shapes:
            outputs.append(self._view(np.float32, at, shape).copy())
            at += outputs[-1].nbytes
        return tuple(outputs)

    def _view(self, dtype: npt.DTypeLike, at: int, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        return np.ndarray(shape, dtype, self._slab, at)

    def _ask(self, message: bytes, kind: int) -> bytes:
        self._send(message)
        return self._answer(kind)

    def _send(self, message: bytes) -> None:
        try:
            self._socket.send(message)
        except OSError as error:
            raise DeviceServerError(f"the device server is gone: {error}") from error

    def _answer(self, *kinds: int) -> bytes:
        try:
            message = self._socket.recv(messages.MAX_MESSAGE_BYTES)
        except OSError as error:
            raise DeviceServerError(f"the device server is gone: {error}") from error
        if message and message[0] in kinds:
            return message
        is_told_why = message and message[0] == messages.FAILED
        raise DeviceServerError(messages.failed_in(message) if is_told_why else "the device server is gone")


_CONNECTIONS: dict[str, DeviceConnection] = {}


@contextmanager
def served_by(address: str | None) -> Iterator[None]:
    """Let networks that are loaded in this block be those of a server; of None, of this process."""
    token = _SERVER.set(address)
    try:
        yield
    finally:
        _SERVER.reset(token)


def server() -> tuple[str, ...]:
    """Return the address of the server of this block; nothing where there is none."""
    address = _SERVER.get()
    return () if address is None else (address,)


def served(export: Callable[[], Path], dtype: str = "float32", given: Sequence[float] = ()) -> Look | None:
    """Return the network of an export on the server of this block; None where there is no server.

    Raises:
        DeviceError: the server cannot load it.
        DeviceServerError: nobody answers.
    """
    address = _SERVER.get()
    if address is None:
        return None
    if address not in _CONNECTIONS:
        _CONNECTIONS[address] = DeviceConnection(address)
    connection = _CONNECTIONS[address]
    number = connection.number_of(Opening(export().name, dtype, tuple(given)))
    return lambda canvases: connection.run(number, canvases)

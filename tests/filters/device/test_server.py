"""A server of the CPU and real networks: what it gives, and what becomes of it when its clients misbehave or die."""

import mmap
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curation.measure.arrow import to_struct
from filters import drawn, faces, text, text_map
from filters.base import RgbImage
from filters.device import client, messages
from filters.device.client import DeviceConnection, DeviceServerError, served_by
from filters.device.lanes import Waiting, answer_all
from filters.device.messages import Opening, SlabCanvas
from filters.device.networks import ServedNetwork
from filters.device.peers import Peer, sealed_memory
from filters.device.server import Server
from filters.loading import DeviceError, resize
from tests.filters.device.serving import export_of, serving
from tests.filters.marks import with_centerface, with_craft, with_efficientnet, with_models, with_ppocr
from tests.filters.test_batches import SIDES, face_over_text

PLANS: list[Any] = [
    pytest.param(faces, faces.Measure(weights="yolov5n-0.5-face", side=160), marks=with_models),
    pytest.param(faces, faces.Measure(detector="centerface", weights="centerface", side=160), marks=with_centerface),
    pytest.param(text_map, text_map.Measure(side=160), marks=with_ppocr),
    pytest.param(drawn, drawn.Measure(), marks=with_efficientnet),
    pytest.param(text, text.Measure(canvas_side=160), marks=with_craft),
    pytest.param(text, text.Measure(canvas_side=160, spots=text.Spots(side=160)), marks=[with_craft, with_ppocr]),
]
CLIENT = """
import sys, numpy as np
from filters.device.client import DeviceConnection
from filters.device.messages import Opening
connection = DeviceConnection(sys.argv[1])
number = connection.number_of(Opening(sys.argv[2], "float32"))
print("ready", flush=True)
while True:
    connection.run(number, [np.zeros((160, 160, 3), np.uint8)] * 16)
"""


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    with serving() as running:
        yield running
        if (connection := client._CONNECTIONS.pop(running[0], None)) is not None:
            connection.close()


@pytest.mark.slow
@pytest.mark.parametrize(("module", "measure"), PLANS)
def test_evidence_from_the_server_of_a_cpu_is_that_of_the_process_itself_to_the_bit(
    module: Any, measure: Any, server: tuple[str, Any]
) -> None:
    pictures = [resize(face_over_text(), *sides) for sides in (*SIDES, *SIDES)]
    alone = module.build(measure, "cpu").measure(pictures)
    with served_by(server[0]):
        asking = module.build(measure, "cpu")
    assert [to_struct(one) for one in asking.measure(pictures)] == [to_struct(one) for one in alone]


@with_ppocr
def test_more_canvases_than_a_message_or_the_memory_holds_go_in_portions(server: tuple[str, Any]) -> None:
    canvases = [np.full((32, 32, 3), level, np.uint8) for level in range(messages.MAX_TOGETHER + 6)]
    large = [np.zeros((3200, 3200, 3), np.uint8)] * 2
    with closing(DeviceConnection(server[0])) as connection:
        number = connection.number_of(Opening(export_of("ppocr_v4_det", "ppocr").name, "float32"))
        maps = connection.run(number, canvases)
        assert len(connection._laid_down(number, large)) == 1
        alone = connection.run(number, canvases[-1:])
    assert len(maps) == len(canvases) and np.array_equal(maps[-1][0], alone[0][0])


@with_ppocr
def test_a_network_that_is_no_export_or_takes_other_inputs_is_refused(server: tuple[str, Any]) -> None:
    name = export_of("ppocr_v4_det", "ppocr").name
    asked = [
        Opening("../models/anything.onnx", "float32"),
        Opening("/etc/passwd", "float32"),
        Opening(name.replace("ppocr", "unknown", 1), "float32"),
        Opening(name[:-6] + "0.onnx", "float32"),
        Opening(name, "float32", (0.5,)),
        Opening(name, "float16"),
    ]
    for opening in asked:
        with closing(DeviceConnection(server[0])) as connection, pytest.raises(DeviceError, match="loaded"):
            connection.number_of(opening)


def test_a_client_that_asks_beyond_the_bounds_is_cut_off_and_others_are_served(server: tuple[str, Any]) -> None:
    beyond = messages.running([SlabCanvas(99, 64, 64, 0, 12288, 1000)])
    for noise in (b"\xff", b"\x02\xff\xff", beyond, os.urandom(300), struct.pack("<BHBH", 1, 0xFFFF, 0, 0)):
        with closing(DeviceConnection(server[0])) as connection:
            connection._socket.send(noise)
            with pytest.raises(DeviceServerError, match="gone"):
                connection._answer(messages.OPENED)
    with closing(DeviceConnection(server[0])) as connection:
        assert connection.waited_s(1) == 0.0


def test_nobody_can_shrink_the_memory_that_the_server_reads() -> None:
    memory = sealed_memory(1 << 16)
    with pytest.raises(OSError, match="not permitted"):
        os.ftruncate(memory, 0)
    os.close(memory)


@with_ppocr
def test_the_memory_and_the_requests_of_a_client_that_is_killed_come_back(server: tuple[str, Any]) -> None:
    address, process = server
    name = export_of("ppocr_v4_det", "ppocr").name
    before = slabs_of(process.pid)
    clients = [
        subprocess.Popen([sys.executable, "-c", CLIENT, address, name], stdout=subprocess.PIPE,
                         env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
        for _ in range(2)
    ]  # fmt: skip
    for asking in clients:
        assert asking.stdout is not None and asking.stdout.readline() == b"ready\n"
    wait_until(lambda: slabs_of(process.pid) == before + 2)
    with closing(DeviceConnection(address)) as connection:
        wait_until(lambda: connection.waited_s(clients[0].pid) > 0)
    for asking in clients:
        asking.send_signal(signal.SIGKILL)
        asking.communicate()
    wait_until(lambda: slabs_of(process.pid) == before)
    with closing(DeviceConnection(address)) as connection:
        number = connection.number_of(Opening(name, "float32"))
        assert connection.run(number, [np.zeros((32, 32, 3), np.uint8)])[0][0].shape == (1, 32, 32)


@with_ppocr
def test_a_client_learns_that_the_server_was_killed() -> None:
    with serving() as (address, process), closing(DeviceConnection(address)) as connection:
        number = connection.number_of(Opening(export_of("ppocr_v4_det", "ppocr").name, "float32"))
        process.kill()
        process.wait()
        with pytest.raises(DeviceServerError, match="gone"):
            connection.run(number, [np.zeros((32, 32, 3), np.uint8)])
        with pytest.raises(DeviceServerError, match="no device server answers"):
            DeviceConnection(address)


@contextmanager
def in_a_thread(folder: Path) -> Iterator[tuple[str, threading.Thread]]:
    """Yield the address and the thread of a server without networks that waits a moment for clients."""
    address = str(folder / "socket")
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)) as listener:
        listener.bind(address)
        listener.listen()
        thread = threading.Thread(target=Server(listener, folder, "cpu").serve, args=(0.2,))
        thread.start()
        yield address, thread
        thread.join(30)
        assert not thread.is_alive()


def test_a_server_that_nobody_uses_any_more_ends(tmp_path: Path) -> None:
    with in_a_thread(tmp_path) as (address, thread), closing(DeviceConnection(address)) as connection:
        time.sleep(0.5)
        assert connection.waited_s(os.getpid()) == 0.0 and thread.is_alive()


def test_more_clients_than_it_takes_are_turned_away_and_the_first_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("filters.device.server.MAX_CLIENTS", 1)
    with in_a_thread(tmp_path) as (address, _), closing(DeviceConnection(address)) as connection:
        with pytest.raises(DeviceServerError, match="no device server answers"):
            DeviceConnection(address)
        assert connection.counts() == (0, 0, 0)


class Loaded:
    """A batch of real clients' canvases and a real network, without a process between."""

    def __init__(self, name: str, canvases: list[RgbImage]) -> None:
        self.network = ServedNetwork(Opening(name, "float32"), export_of("ppocr_v4_det", "ppocr").parent, "cpu")
        self.theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        memory = sealed_memory(messages.SLAB_BYTES)
        self.peer = Peer(ours, mmap.mmap(memory, messages.SLAB_BYTES), os.getpid())
        os.close(memory)
        self.canvases = canvases

    def batch(self, out_bytes: list[int]) -> list[Waiting]:
        batch, at = [], 0
        for index, (canvas, room) in enumerate(zip(self.canvases, out_bytes, strict=True)):
            height, width = canvas.shape[:2]
            request = SlabCanvas(0, height, width, at, at + canvas.nbytes, room)
            np.ndarray(canvas.shape, np.uint8, self.peer.slab, at)[:] = canvas
            batch.append(Waiting(self.peer, self.network, request, index))
            at += canvas.nbytes + (1 << 16)
        self.peer.begin(len(batch))
        return batch


@with_ppocr
def test_a_picture_whose_outputs_have_no_room_fails_alone() -> None:
    canvases = [np.full((32, 64, 3), level, np.uint8) for level in (0, 100, 200)]
    loaded = Loaded(export_of("ppocr_v4_det", "ppocr").name, canvases)
    answer_all(loaded.batch([1 << 14, 4, 1 << 14]))
    told = [loaded.theirs.recv(messages.MAX_MESSAGE_BYTES) for _ in canvases]
    assert [message[0] for message in told] == [messages.RAN, messages.FAILED, messages.RAN]
    assert "no room" in messages.failed_in(told[1]) and loaded.peer.num_pending == 0
    loaded.theirs.close()
    loaded.peer.socket.close()


def slabs_of(pid: int) -> int:
    """How many clients' memories a server has mapped."""
    return Path(f"/proc/{pid}/maps").read_text(encoding="ascii").count("memfd:device-server")


def wait_until(is_so: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)

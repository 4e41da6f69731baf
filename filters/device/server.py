"""The process that holds a device: it runs what clients lay into shared memory, in batches by network and shape.

It trusts nothing that a client says but bounded numbers. A client's memory is made here, sealed, so that nobody can
shrink it under a reader, and goes with the peer, however that ends: nothing is left to be tidied up.
"""

import logging
import mmap
import os
import resource
import selectors
import socket
import struct
import sys
import threading
import time
from pathlib import Path

from filters.base import FaceCaptionError
from filters.device import messages
from filters.device.client import DTYPES
from filters.device.lanes import Lane, Waiting
from filters.device.messages import Opening
from filters.device.networks import ServedNetwork
from filters.device.peers import Peer, sealed_memory
from filters.loading import require_onnx_device

MAX_CLIENTS, MAX_NETWORKS = 512, 64
LINGER_S = 10.0
"""Seconds that a server without clients waits for more."""
STUCK_S = 300.0
"""Seconds after which a batch that does not come back ends the server: another can then take its place."""
LOOK_AROUND_S = 1.0
PIXELS_AT_ONCE = {"cpu": 4 * 640 * 640, "cuda": 64 * 640 * 640}
"""Pixels of a batch. On a CPU a batch gains nothing, and is only made so that there is one way for all."""
WINDOW_PIXELS_AT_ONCE = {"cpu": 640 * 640, "cuda": 16 * 640 * 640}
"""The same where a pixel takes 2 kB of a device's memory in work (CRAFT)."""
MAX_PICTURES_AT_ONCE = 256
log = logging.getLogger(__name__)


class Server:
    """All that one device does for the processes of its machine."""

    def __init__(self, listener: socket.socket, folder: Path, device: str) -> None:
        """Serve exports of `folder` on a device to whoever connects."""
        self._listener, self._folder, self._device = listener, folder, device
        kind = device.partition(":")[0]
        self._lanes = {
            False: Lane(PIXELS_AT_ONCE[kind], MAX_PICTURES_AT_ONCE),
            True: Lane(WINDOW_PIXELS_AT_ONCE[kind], MAX_PICTURES_AT_ONCE),
        }
        """By whether a network sees windows: those would hold the others up."""
        self._opening = threading.Lock()
        self._numbers: dict[Opening, int] = {}
        self._networks: list[ServedNetwork] = []
        self._peers: dict[int, Peer] = {}
        self._selector = selectors.DefaultSelector()

    def serve(self, linger_s: float = LINGER_S) -> None:
        """Answer until nobody has been there for some time, or a batch does not come back."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        last = time.monotonic()
        while self._peers or time.monotonic() - last < linger_s:
            for key, _ in self._selector.select(LOOK_AROUND_S):
                if key.fileobj is self._listener:
                    self._accept()
                else:
                    self._hear(self._peers[key.fd])
            if self._peers:
                last = time.monotonic()
            if any(lane.busy_s() > STUCK_S for lane in self._lanes.values()):
                log.error("a batch has not come back for %g s", STUCK_S)
                os._exit(1)

    def _accept(self) -> None:
        try:
            accepted, _ = self._listener.accept()
        except OSError:  # it has gone again, or there are too many files
            return
        try:
            self._welcome(accepted)
        except OSError as error:
            log.warning("a client is turned away: %s", error)
            accepted.close()

    def _welcome(self, accepted: socket.socket) -> None:
        """Give a new client its memory.

        Raises:
            OSError: there are too many, it is somebody else's, or it has gone again.
        """
        pid, uid, _ = struct.unpack("3i", accepted.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if len(self._peers) >= MAX_CLIENTS or uid != os.getuid():
            raise PermissionError(f"process {pid} of user {uid} beside {len(self._peers)} clients")
        memory = sealed_memory(messages.SLAB_BYTES)
        try:
            hello = messages.HELLO.pack(messages.MAGIC, messages.VERSION, messages.SLAB_BYTES)
            accepted.setblocking(False)
            peer = Peer(accepted, mmap.mmap(memory, messages.SLAB_BYTES), pid)
            socket.send_fds(accepted, [hello], [memory])
        finally:
            os.close(memory)
        self._peers[accepted.fileno()] = peer
        self._selector.register(accepted, selectors.EVENT_READ)

    def _hear(self, peer: Peer) -> None:
        try:
            message = peer.socket.recv(messages.MAX_MESSAGE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            message = b""
        if not message:
            self._forget(peer)
            return
        try:
            self._obey(peer, message)
        except (ValueError, UnicodeError) as error:
            log.warning("process %d is cut off: %s", peer.pid, error)
            self._forget(peer)

    def _obey(self, peer: Peer, message: bytes) -> None:
        """Do what a message asks.

        Raises:
            ValueError: it asks for nothing that there is, or before the last one was answered.
        """
        kind = message[0]
        if peer.num_pending:
            raise ValueError("it asks before it was answered")
        if kind == messages.WAITED:
            peer.send(messages.told(self._waited_by(messages.pid_in(message))))
        elif kind == messages.COUNT:
            lanes = self._lanes.values()
            sums = sum(lane.num_pictures for lane in lanes), sum(lane.num_batches for lane in lanes)
            peer.send(messages.counted(*sums, max(lane.largest_batch for lane in lanes)))
        elif kind == messages.OPEN:
            asked = messages.opening_in(message, DTYPES)
            peer.begin(1)
            threading.Thread(target=self._open, args=(peer, asked), daemon=True).start()
        elif kind == messages.RUN:
            self._run(peer, message)
        else:
            raise ValueError(f"a message of the kind {kind}")

    def _waited_by(self, pid: int) -> float:
        return sum(peer.waited_s() for peer in self._peers.values() if peer.pid == pid)

    def _open(self, peer: Peer, asked: Opening) -> None:
        try:
            answer = messages.opened(self._number_of(asked))
        except Exception as error:  # noqa: BLE001  whatever a file does to the library that loads it is said to who asked
            answer = messages.failed(f"{asked.name} cannot be loaded on {self._device}: {error}")
        peer.end(1)
        peer.send(answer)

    def _number_of(self, asked: Opening) -> int:
        with self._opening:
            if asked not in self._numbers:
                if len(self._networks) >= MAX_NETWORKS:
                    raise FaceCaptionError(f"there are {MAX_NETWORKS} networks already")
                self._networks.append(ServedNetwork(asked, self._folder, self._device))
                self._numbers[asked] = len(self._networks) - 1
            return self._numbers[asked]

    def _run(self, peer: Peer, message: bytes) -> None:
        requests = messages.requests_in(message, len(self._networks), len(peer.slab))
        peer.begin(len(requests))
        for index, request in enumerate(requests):
            network = self._networks[request.network]
            self._lanes[network.is_of_windows].add(Waiting(peer, network, request, index))

    def _forget(self, peer: Peer) -> None:
        """Let a client go with all that it has waiting; its memory goes with the last batch that reads it."""
        for lane in self._lanes.values():
            lane.drop(peer)
        self._selector.unregister(peer.socket)
        del self._peers[peer.socket.fileno()]
        peer.socket.close()


def main() -> None:
    """Serve as argv says: device, folder of exports, address, and a pipe that is told of listening, or why not."""
    device, folder, address, ready = sys.argv[1:]
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two files for each client
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
    with os.fdopen(int(ready), "w", encoding="utf-8") as pipe:
        try:
            listener = _listening(device, address)
        except (FaceCaptionError, OSError) as error:
            pipe.write(f"error: {error}")
            return
        pipe.write("ready")
    Server(listener, Path(folder), device).serve()


def _listening(device: str, address: str) -> socket.socket:
    require_onnx_device(device)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    Path(address).unlink(missing_ok=True)
    listener.bind(address)
    listener.listen(MAX_CLIENTS)
    return listener

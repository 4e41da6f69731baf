"""A lane of a device: a thread that runs one batch after the other, while the next gathers behind it."""

import logging
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from filters.base import RgbImage
from filters.device import messages
from filters.device.messages import SlabCanvas, SlabOutputs
from filters.device.networks import Floats, ServedNetwork
from filters.device.peers import Peer
from filters.device.queues import Queues

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Waiting:
    """One picture of a client, and the network that it waits for."""

    peer: Peer
    network: ServedNetwork
    request: SlabCanvas
    index: int
    """Which picture of the client's message it is."""

    @property
    def pixels(self) -> RgbImage:
        """The picture where the client has laid it."""
        shape = (self.request.height, self.request.width, 3)
        return np.ndarray(shape, np.uint8, self.peer.slab, self.request.at)

    def answer(self, outputs: Sequence[Floats]) -> SlabOutputs:
        """Lay the outputs down, and return what tells of them.

        Raises:
            ValueError: the client has left too little room.
        """
        at, shapes = self.request.out_at, [output.shape for output in outputs]
        if sum(output.nbytes for output in outputs) > self.request.out_bytes:
            raise ValueError(f"outputs of {shapes} have no room in {self.request.out_bytes} bytes")
        for output in outputs:
            np.ndarray(output.shape, np.float32, self.peer.slab, at)[...] = output
            at += output.nbytes
        return SlabOutputs(self.index, tuple(shapes))


class Lane:
    """A queue and its thread."""

    def __init__(self, max_pixels: int, max_pictures: int) -> None:
        """Start the thread; a batch has at most so many pixels and pictures."""
        self._queues: Queues[Waiting] = Queues(max_pixels, max_pictures)
        self._changed = threading.Condition()
        self._busy_since: float | None = None
        self.num_pictures = self.num_batches = self.largest_batch = 0
        """What it has run so far."""
        threading.Thread(target=self._work, daemon=True).start()

    def add(self, waiting: Waiting) -> None:
        """Let a picture wait for its turn."""
        shape = (waiting.request.network, waiting.request.height, waiting.request.width)
        with self._changed:
            self._queues.add(shape, waiting)
            self._changed.notify()

    def drop(self, peer: Peer) -> None:
        """Forget what a client has waiting."""
        with self._changed:
            self._queues.drop(lambda waiting: waiting.peer is peer)

    def busy_s(self) -> float:
        """Return how long the batch in work has been so."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: len(self._queues) > 0)
                _, batch = self._queues.take()
            self._busy_since = time.monotonic()
            answer_all(batch)
            self.num_pictures, self.num_batches = self.num_pictures + len(batch), self.num_batches + 1
            self.largest_batch = max(self.largest_batch, len(batch))
            self._busy_since = None
            del batch  # and with it the memory of clients that are gone


def answer_all(batch: Sequence[Waiting]) -> None:
    """Run a batch and tell each client of its own pictures; where it fails, one picture after the other."""
    try:
        outputs = batch[0].network.outputs_of([waiting.pixels for waiting in batch])
        answers = [(waiting, waiting.answer(own)) for waiting, own in zip(batch, outputs, strict=True)]
    except Exception as error:  # noqa: BLE001  whatever a runtime raises is said to who asked
        log.warning("a batch of %d failed: %s", len(batch), error)
        if len(batch) > 1:
            for waiting in batch:
                answer_all([waiting])
            return
        batch[0].peer.end(1)
        batch[0].peer.send(messages.failed(f"{type(error).__name__}: {error}"))
        if batch[0].network.is_on_gpu:
            os._exit(1)  # a GPU's context does not survive every error: another server takes this one's place
        return
    for peer, own in groupby(answers, key=lambda pair: pair[0].peer):
        told = [answer for _, answer in own]
        peer.end(len(told))
        peer.send(messages.ran(told))

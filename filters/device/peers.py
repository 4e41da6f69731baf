"""A client as the server sees it: its socket, the memory that both share, and how long it has waited."""

import fcntl
import mmap
import os
import socket
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field


@dataclass(eq=False)
class Peer:
    """One client."""

    socket: socket.socket
    slab: mmap.mmap
    pid: int
    num_pending: int = 0
    """Answers that it is owed."""
    _waiting_since: float = 0.0
    _waited_s: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, number: int) -> None:
        """Note that so many answers are owed."""
        with self._lock:
            self.num_pending, self._waiting_since = number, time.monotonic()

    def end(self, number: int) -> None:
        """Note that so many answers are ready, before they are sent."""
        with self._lock:
            self.num_pending -= number
            if self.num_pending == 0:
                self._waited_s += time.monotonic() - self._waiting_since

    def waited_s(self) -> float:
        """Return the seconds that it has waited so far, what it waits for now included."""
        with self._lock:
            return self._waited_s + (time.monotonic() - self._waiting_since if self.num_pending else 0.0)

    def send(self, message: bytes) -> None:
        """Answer, without waiting for anybody: a client that takes no answers is cut off."""
        try:
            self.socket.send(message)
        except OSError:
            with suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)


def sealed_memory(num_bytes: int) -> int:
    """Return a file of memory that nobody can shrink, and that takes no more than what is written to it."""
    memory = os.memfd_create("device-server", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(memory, num_bytes)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return memory

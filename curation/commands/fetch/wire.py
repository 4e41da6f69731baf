"""A socket on which every single wait is bounded, and that tells whether anything came that nobody asked for."""

import socket
import ssl
import struct

SHORTEST_S = 0.001
"""The shortest wait; the system takes 0 for one without end."""

GATHER_S = 0.2
"""How long bytes that trickle in are gathered, where many are missing."""
LOOK_ONLY = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)
"""Flags of a look at what came; an `int`, since theirs are put together anew at every use."""


class Wire:
    """A connected socket, with or without TLS."""

    def __init__(self, connected: socket.socket) -> None:
        """Take over a socket that is connected and has shaken hands."""
        self._socket = connected
        self._is_tls = isinstance(connected, ssl.SSLSocket)
        self._patience_s: float | None = None
        if not self._is_tls:
            connected.settimeout(None)

    def send(self, data: bytes, seconds: float) -> None:
        """Send all of it.

        Raises:
            TimeoutError: it was not taken within some seconds.
            OSError: the other side hung up.
        """
        self._wait_at_most(seconds)
        try:
            self._socket.sendall(data)
        except BlockingIOError:
            raise TimeoutError("timed out") from None

    def receive(self, num_bytes: int, seconds: float) -> bytes:
        """Return what has come, or comes next, at most so many bytes; none where the other side hung up.

        Raises:
            TimeoutError: nothing came within some seconds.
            OSError: the connection broke.
        """
        self._wait_at_most(seconds)
        try:
            return self._socket.recv(num_bytes)
        except BlockingIOError:
            raise TimeoutError("timed out") from None

    def gather(self, num_bytes: int, seconds: float) -> bytes:
        """Return so many bytes, or what has come of them after a short while; none where the other side hung up.

        Raises:
            TimeoutError: nothing came within some seconds.
            OSError: the connection broke.
        """
        if self._is_tls:
            return self.receive(num_bytes, seconds)
        self._wait_at_most(GATHER_S)
        try:
            return self._socket.recv(num_bytes, socket.MSG_WAITALL)
        except BlockingIOError:
            return self.receive(num_bytes, seconds)

    def heard(self) -> bytes | None:
        """Return what came that was not read, without waiting: None where nothing did, empty where they hung up."""
        try:
            if not self._is_tls:
                return self._socket.recv(1, LOOK_ONLY)
            self._patience_s = None
            self._socket.settimeout(0)
            return self._socket.recv(1)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None
        except OSError:
            return b""

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _wait_at_most(self, seconds: float) -> None:
        """Bound every later wait; without TLS by the kernel, which saves a call of the system for each of them."""
        if seconds == self._patience_s:
            return
        self._patience_s, seconds = seconds, max(seconds, SHORTEST_S)
        if self._is_tls:
            self._socket.settimeout(seconds)
            return
        interval = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, interval)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, interval)

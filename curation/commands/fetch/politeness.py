"""No host is hammered: a few connections at a time, and silence for as long as it asks for."""

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


class Hosts:
    """What a fetching process knows of the hosts that it asks; all threads share it."""

    def __init__(self, num_connections: int, longest_wait_s: float) -> None:
        """Allow `num_connections` per host; a backoff up to `longest_wait_s` is waited for, a longer one puts off."""
        self._longest_wait_s = longest_wait_s
        self._lock = threading.Lock()
        self._slots: defaultdict[str, threading.BoundedSemaphore] = defaultdict(
            lambda: threading.BoundedSemaphore(num_connections)
        )
        self._silent_until: dict[str, float] = {}

    @contextmanager
    def visit(self, host: str) -> Iterator[bool]:
        """Hold one of the host's connections; yields False where the host asked for a longer silence."""
        with self._lock:
            slots = self._slots[host]
        with slots:
            remaining = self.silence_s(host)
            if remaining > self._longest_wait_s:
                yield False
                return
            if remaining > 0:
                time.sleep(remaining)
            yield True

    def back_off(self, host: str, seconds: float) -> None:
        """Leave a host alone for some seconds from now."""
        with self._lock:
            until = time.monotonic() + seconds
            self._silent_until[host] = max(until, self._silent_until.get(host, 0.0))

    def silence_s(self, host: str) -> float:
        """Return for how many seconds the host wants to be left alone."""
        with self._lock:
            return max(0.0, self._silent_until.get(host, 0.0) - time.monotonic())


def retry_after_s(text: str | None, limit_s: float) -> float | None:
    """Return the seconds that a `Retry-After` header asks for (RFC 9110), at most `limit_s`; None if unclear."""
    if text is None:
        return None
    try:
        seconds = float(text) if text.strip().isdecimal() else _seconds_until(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), limit_s)


def _seconds_until(date: str) -> float:
    moment = parsedate_to_datetime(date)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - datetime.now(UTC)).total_seconds()


def interleaved(hosts: Sequence[str]) -> list[int]:
    """Return an order of the rows in which those of one host lie far apart: first one of each host, then the next."""
    seen: defaultdict[str, int] = defaultdict(int)
    turns = []
    for row, host in enumerate(hosts):
        turns.append((seen[host], row))
        seen[host] += 1
    return [row for _, row in sorted(turns)]

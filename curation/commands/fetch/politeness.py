"""No host is hammered, and none holds up the others: a few connections, silence where it is asked for, and an end.

A host that says `slow down` gets its silence, then one request at a time. Once it has served somebody all the same, it
is slowed by rate: one tenant of a shared host that is refused does not cost the others their pictures.
"""

import hashlib
import math
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

HOST_BACKOFF = "host_backoff"
"""The host asked for more silence than is waited for, or for silence too often."""
HOST_UNREACHABLE = "host_unreachable"
"""Not asked: the host did not answer those before."""
PART_DEADLINE = "part_deadline"
"""The part's time was over."""
NUM_FAILURES = 4
"""Requests in a row that time out or find no name: the host counts as dead until the next pass asks it once."""
NUM_REFUSALS = 3
"""Answers `slow down` in a row after which a host that also serves gets silence once more."""
MAX_REFUSALS = 8
"""The same after which it is given up for this part."""
NUM_SERVED = 20
"""Requests in a row that a slowed host serves, after which it is asked as before."""
FIRST_PAUSE_S = 0.05
"""What the pause between two requests to a slowed host begins with; each refusal doubles it, each picture halves it."""


@dataclass
class _Host:
    """What is known of one host; guarded by the lock of `Hosts` but for the turn itself."""

    num_free: int
    """Connections that may still be opened."""
    freed: threading.Condition | None = None
    """What is waited for where there are none."""
    turn: threading.Lock = field(default_factory=threading.Lock)
    """Held by whoever asks a slowed host."""
    is_slowed: bool = False
    serves: bool = False
    """Whether it has served somebody since it first said `slow down`."""
    num_served: int = 0
    num_refusals: int = 0
    num_failures: int = 0
    silent_until: float = 0.0
    pause_s: float = 0.0
    next_at: float = 0.0


class Hosts:
    """What a fetching process knows of the hosts that it asks; all threads share it."""

    def __init__(self, num_connections: int, longest_wait_s: float, ends_at: float = math.inf) -> None:
        """Allow `num_connections` per host; a silence up to `longest_wait_s` is waited for, a longer one puts off.

        Nobody is asked after `ends_at` (`time.monotonic`).
        """
        self.ends_at = ends_at
        self._longest_wait_s = longest_wait_s
        self._lock = threading.Lock()
        self._hosts: defaultdict[str, _Host] = defaultdict(lambda: _Host(num_connections))

    def visit(self, name: str) -> "_Visit":
        """Hold one of the host's connections; enters with the reason why it must not be asked now, or None."""
        return _Visit(self, name)

    def _take(self, name: str) -> _Host:
        """Take one of a host's connections; wait until there is one."""
        with self._lock:
            host = self._hosts[name]
            while host.num_free == 0:
                if host.freed is None:
                    host.freed = threading.Condition(self._lock)
                host.freed.wait()
            host.num_free -= 1
            return host

    def _give_back(self, host: _Host) -> None:
        with self._lock:
            host.num_free += 1
            if host.freed is not None:
                host.freed.notify()

    def _wait(self, host: _Host) -> str | None:
        """Wait until a host may be asked; return the reason where it must not be asked at all now, or None."""
        while True:
            obstacle, seconds = self._obstacle(host)
            if obstacle is not None or seconds <= 0:
                return obstacle
            time.sleep(seconds)

    def _obstacle(self, host: _Host) -> tuple[str | None, float]:
        """Return why a host must not be asked, or how many seconds it must be left alone before."""
        with self._lock:
            now = time.monotonic()
            seconds = max(host.silent_until, host.next_at) - now
            if now + max(0.0, seconds) >= self.ends_at:
                return PART_DEADLINE, 0.0
            if host.num_failures >= NUM_FAILURES:
                return HOST_UNREACHABLE, 0.0
            if host.num_refusals >= MAX_REFUSALS or seconds > self._longest_wait_s:
                return HOST_BACKOFF, 0.0
            if seconds <= 0:
                host.next_at = now + host.pause_s
            return None, seconds

    def served(self, name: str) -> None:
        """Take note that a host has answered as it should."""
        with self._lock:
            host = self._hosts[name]
            host.num_failures = host.num_refusals = 0
            host.serves |= host.is_slowed
            host.num_served += 1
            host.is_slowed &= host.num_served < NUM_SERVED
            host.pause_s = host.pause_s / 2 if host.pause_s > FIRST_PAUSE_S / 2 else 0.0

    def failed(self, name: str) -> None:
        """Take note that a host did not answer in time, or has no address."""
        with self._lock:
            self._hosts[name].num_failures += 1

    def back_off(self, name: str, seconds: float) -> None:
        """Slow a host that asked for it: silence for some seconds, or a longer pause where it serves others."""
        with self._lock:
            host, until = self._hosts[name], time.monotonic() + seconds
            host.is_slowed, host.num_served = True, 0
            host.num_refusals += 1
            if host.serves and host.num_refusals < NUM_REFUSALS:
                host.pause_s = min(max(FIRST_PAUSE_S, 2 * host.pause_s), seconds, self._longest_wait_s)
            else:
                host.silent_until = max(until, host.silent_until)

    def begin_pass(self) -> None:
        """Let every host that counts as dead be asked once more."""
        with self._lock:
            for host in self._hosts.values():
                host.num_failures = min(host.num_failures, NUM_FAILURES - 1)

    def has_given_up(self, name: str) -> bool:
        """Whether a host refused so often that it is not asked again."""
        with self._lock:
            return self._hosts[name].num_refusals >= MAX_REFUSALS

    def silence_s(self, name: str) -> float:
        """Return for how many seconds the host wants to be left alone."""
        with self._lock:
            return max(0.0, self._hosts[name].silent_until - time.monotonic())


class _Visit:
    """One connection to a host, held until the block ends."""

    def __init__(self, hosts: Hosts, name: str) -> None:
        self._hosts, self._name = hosts, name
        self._has_turn = False

    def __enter__(self) -> str | None:
        self._host = self._hosts._take(self._name)
        try:
            if self._host.is_slowed:
                self._host.turn.acquire()
                self._has_turn = True
            return self._hosts._wait(self._host)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        if self._has_turn:
            self._host.turn.release()
        self._hosts._give_back(self._host)


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


def scattered(urls: Sequence[str], rows: Sequence[int]) -> list[int]:
    """Return rows in an order that is a function of their URLs alone, so that neighbours in a folder lie apart."""
    return sorted(rows, key=lambda row: hashlib.sha256(urls[row].encode("utf-8", "replace")).digest())

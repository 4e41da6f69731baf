"""What a part keeps of the net from one request to the next: open connections, and the addresses of names.

A connection is kept only where its last response ended where it said, and is used again only for the same scheme, host
and port, by whoever holds one of the host's slots (`politeness.Hosts`): a thread that visits a host takes an idle one
of it or closes one, so a host never sees more open connections than it may have requests at a time.

A host that sends more than it was asked for is noisy: which of its answers belongs to which request, nobody can say any
more. It is asked all over again then, with a connection for each request. So an answer on a kept connection counts only
where the connection stays open after it, and is looked at once more before anything else is done with it.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from curation.commands.fetch.connection import Addresses, Connection, WebOrigin, connected, resolved
from curation.recipe.settings import FetchSettings

IDLE_S = 4.0
"""How long a connection may lie idle; common servers hang up after 5 s or more."""
RESOLVED_S = 30.0
"""How long addresses of a name are used. What connects is checked in any case."""
SETTLED_S = 0.5
"""How long a connection lies idle before it is taken for quiet, at the end of a pass or where there are many."""
NUM_OVER = 3
"""How many times more connections than may lie idle may wait for that."""
NUM_IDLE_PER_THREAD = 4
"""Connections that may lie idle, for each thread that downloads."""


class Kept:
    """Idle connections and known addresses of a part; all threads share them."""

    def __init__(self, num_idle: int = 0) -> None:
        """Keep up to `num_idle` connections."""
        self._num_idle = num_idle
        self._lock = threading.Lock()
        self._idle: dict[Connection, str] = {}
        """The host's name of each, the one that lies idle longest first."""
        self._of: dict[str, list[Connection]] = {}
        self._addresses: dict[WebOrigin, tuple[float, Addresses]] = {}
        self.noisy: set[str] = set()
        """Names of hosts that sent more than they were asked for; their connections are not kept."""

    def take(self, name: str, origin: WebOrigin) -> Connection | None:
        """Return an idle connection to an origin, or None; others of its host are closed then."""
        while (found := self._pop(name, origin)) is not None:
            is_young = time.monotonic() - found.idle_since <= IDLE_S
            if self._is_quiet(name, found) and found.origin == origin and is_young and name not in self.noisy:
                return found
            found.close()
        return None

    def give(self, name: str, connection: Connection) -> None:
        """Keep a connection whose response was read to its end; close those that lay idle too long."""
        if name in self.noisy:
            return connection.close()
        now = time.monotonic()
        connection.idle_since, connection.is_kept = now, True
        with self._lock:
            self._idle[connection] = name
            self._of.setdefault(name, []).append(connection)
            leaving = self._leaving(now)
        self._let_go(leaving)
        return None

    def open(self, origin: WebOrigin, settings: FetchSettings, deadline: float, *, allow_loopback: bool) -> Connection:
        """Return a new connection.

        Raises:
            BlockedAddressError: an address of the host is not public.
            OSError: none answers.
        """
        try:
            addresses = self._resolved(origin)
            return connected(origin, addresses, settings, deadline, allow_loopback=allow_loopback)
        except OSError:
            self._addresses.pop(origin, None)
            raise

    def settle(self) -> None:
        """Hang up on everybody, but not before it is known who is quiet."""
        with self._lock:
            youngest = max((one.idle_since for one in self._idle), default=0.0)
        time.sleep(max(0.0, youngest + SETTLED_S - time.monotonic()))
        self.close()

    def close(self) -> None:
        """Hang up on everybody."""
        with self._lock:
            leaving = list(self._idle.items())
            self._idle.clear()
            self._of.clear()
        self._let_go(leaving)

    def _let_go(self, leaving: Sequence[tuple[Connection, str]]) -> None:
        for one, name in leaving:
            self._is_quiet(name, one)
            one.close()

    def _is_quiet(self, name: str, connection: Connection) -> bool:
        heard = connection.heard()
        if heard:
            self.noisy.add(name)
        return heard is None

    def _resolved(self, origin: WebOrigin) -> Addresses:
        now = time.monotonic()
        until, addresses = self._addresses.get(origin, (0.0, []))
        if now >= until:
            addresses = resolved(origin)
            self._addresses[origin] = now + RESOLVED_S, addresses
        return addresses

    def _pop(self, name: str, origin: WebOrigin) -> Connection | None:
        """Take out the last that was used of a host, one of the origin before all others."""
        with self._lock:
            idle = self._of.get(name)
            if not idle:
                return None
            place = -1 if idle[-1].origin == origin else _last_of(origin, idle)
            found = idle.pop(place)
            self._forget(found, name)
            return found

    def _leaving(self, now: float) -> list[tuple[Connection, str]]:
        """Take out those that lie idle too long, and the oldest where there are too many; the caller holds the lock."""
        leaving: list[tuple[Connection, str]] = []
        while self._idle:
            oldest = next(iter(self._idle))
            age_s, num_over = now - oldest.idle_since, len(self._idle) - self._num_idle
            may_stay = num_over <= 0 or (age_s < SETTLED_S and num_over <= NUM_OVER * self._num_idle)
            if may_stay and age_s <= IDLE_S:
                break
            name = self._idle[oldest]
            self._of[name].remove(oldest)
            self._forget(oldest, name)
            leaving.append((oldest, name))
        return leaving

    def _forget(self, one: Connection, name: str) -> None:
        del self._idle[one]
        if not self._of[name]:
            del self._of[name]


def _last_of(origin: WebOrigin, idle: list[Connection]) -> int:
    return next((n for n in range(len(idle) - 1, -1, -1) if idle[n].origin == origin), -1)


@contextmanager
def keeping(settings: FetchSettings) -> Iterator[Kept]:
    """Keep connections until the block ends."""
    kept = Kept(NUM_IDLE_PER_THREAD * settings.num_threads)
    try:
        yield kept
    finally:
        kept.close()

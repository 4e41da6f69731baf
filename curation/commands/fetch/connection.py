"""A connection to one origin: its address is checked where it connects, and it carries one request after another."""

import http.client
import re
import socket
import ssl
import time
from functools import lru_cache
from typing import Any, NamedTuple

from curation.commands.fetch.response import AnyResponse, UsualResponse, begin
from curation.commands.fetch.ssrf_guard import require_allowed
from curation.commands.fetch.wire import Wire
from curation.dataset.sample import DEFAULT_PORTS
from curation.recipe.settings import FetchSettings

UNSENDABLE = re.compile(r"[\0-\x20\x7f]")
"""Characters that no host has, and that would be taken for the end of a line."""
Addresses = list[Any]
"""What `socket.getaddrinfo` says of a name."""


class StaleError(Exception):
    """A kept connection gives no answer that can be believed, which says nothing of what a new one would give."""

    def __init__(self, message: str, *, is_noise: bool, seen: object = None) -> None:
        super().__init__(message)
        self.is_noise = is_noise
        """Whether something came, but no response, or more than that."""
        self.seen = seen
        """What the connection ended with, where that was a response: a new one ends with the same."""


class WebOrigin(NamedTuple):
    """What a connection belongs to: it carries requests for nothing else."""

    scheme: str
    host: str
    port: int

    @property
    def place(self) -> str:
        """The value of `Host`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


class Connection:
    """An open connection."""

    def __init__(self, origin: WebOrigin, wire: Wire) -> None:
        """Take over an open wire."""
        self.origin = origin
        self.idle_since = 0.0
        self.is_kept = False
        """Whether it has carried a request before."""
        self._wire = wire
        self._place = origin.place

    def get(self, target: str, headers: str, settings: FetchSettings, deadline: float) -> UsualResponse | AnyResponse:
        """Ask for a path and query, in ASCII; return the response, read up to its body.

        `deadline` (`time.monotonic`) ends all waiting.

        Raises:
            StaleError: the connection was kept, and what comes is no response.
        """
        try:
            request = f"GET {target} HTTP/1.1\r\nHost: {self._place}\r\n{headers}\r\n".encode("ascii")
            self._wire.send(request, _patience_s(settings, deadline))
            return begin(self._wire, settings, deadline)
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            if self.is_kept:
                is_noise = isinstance(error, http.client.HTTPException) and not isinstance(error, OSError)
                raise StaleError(str(error), is_noise=is_noise) from error
            raise

    def heard(self) -> bytes | None:
        """Return what came since its last response: None where nothing did, empty where they hung up."""
        return self._wire.heard()

    def close(self) -> None:
        """Hang up."""
        self._wire.close()


def resolved(origin: WebOrigin) -> Addresses:
    """Ask for the addresses of an origin, once.

    Raises:
        http.client.InvalidURL: its host holds what would break the request.
        socket.gaierror: there are none.
    """
    if UNSENDABLE.search(origin.host):
        raise http.client.InvalidURL(f"{origin.host!r} is no host")
    return socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)


def connected(
    origin: WebOrigin, addresses: Addresses, settings: FetchSettings, deadline: float, *, allow_loopback: bool
) -> Connection:
    """Check every address, and take the first that answers; what connects is what was checked.

    Raises:
        BlockedAddressError: one of them is not public.
        OSError: none answers in time, or not with the certificate of its host.
    """
    for *_, address in addresses:
        require_allowed(str(address[0]).partition("%")[0], allow_loopback=allow_loopback)
    plain = _first_open(addresses, settings, deadline)
    if origin.scheme != "https":
        return Connection(origin, Wire(plain))
    try:
        plain.settimeout(_patience_s(settings, deadline))
        return Connection(origin, Wire(_tls().wrap_socket(plain, server_hostname=origin.host)))
    except BaseException:
        plain.close()
        raise


def _first_open(addresses: Addresses, settings: FetchSettings, deadline: float) -> socket.socket:
    problem: OSError | None = None
    for family, kind, protocol, _, address in addresses:
        opened = socket.socket(family, kind, protocol)
        try:
            opened.settimeout(_patience_s(settings, deadline))
            opened.connect(address)
        except OSError as error:
            opened.close()
            problem = error
        except BaseException:
            opened.close()
            raise
        else:
            return opened
    raise problem or OSError("no address")


def _patience_s(settings: FetchSettings, deadline: float) -> float:
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError("the deadline has passed")
    return min(settings.timeout_s, remaining)


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()

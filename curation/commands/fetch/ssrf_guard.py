"""Web addresses come from strangers: while a thread is guarded, it can connect to public addresses only.

An audit hook sees the address that a socket really connects to, after redirects and name resolution, so that neither a
redirect, nor a name that resolves anew, nor an unusual way to write an IP address gets past it.
"""

import ipaddress
import sys
import threading
from functools import lru_cache
from typing import Any

from filters.base import FaceCaptionError

GUARDED_EVENTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind"})
NAT64 = ipaddress.ip_network("64:ff9b::/96")
IPV4_COMPATIBLE = ipaddress.ip_network("::/96")
RELAY_ANYCAST = ipaddress.ip_network("192.88.99.0/24")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


class BlockedAddressError(FaceCaptionError):
    """A guarded thread was about to connect to an address that is not public."""


class _Guard(threading.local):
    is_on = False
    allow_loopback = False


_guard = _Guard()
_installed = threading.Lock()


class guarded:  # noqa: N801  a block, as those of contextlib
    """Refuse every connection of this thread to an address that is not public, until the block ends.

    `allow_loopback` lets 127.0.0.0/8 and ::1 pass: for tests and the demo, whose web server runs on this machine.
    """

    def __init__(self, *, allow_loopback: bool = False) -> None:
        self._allow_loopback = allow_loopback

    def __enter__(self) -> None:
        _install()
        self._before = _guard.is_on, _guard.allow_loopback
        _guard.is_on, _guard.allow_loopback = True, self._allow_loopback

    def __exit__(self, *_: object) -> None:
        _guard.is_on, _guard.allow_loopback = self._before


def require_allowed(host: str, *, allow_loopback: bool) -> None:
    """Check a numeric address.

    Raises:
        BlockedAddressError: it is not public (nor an allowed loopback), or no numeric address at all.
    """
    try:
        address = _numeric(host)
    except ValueError:
        raise BlockedAddressError(f"{host!r} is not a numeric address") from None
    if not (is_public(address) or (allow_loopback and address.is_loopback)):
        raise BlockedAddressError(f"{host} is not a public address")


@lru_cache(maxsize=4096)
def _numeric(host: str) -> IPAddress:
    return ipaddress.ip_address(host)


@lru_cache(maxsize=4096)  # every address is checked before it is connected to, and again where it is
def is_public(address: IPAddress) -> bool:
    """Return whether anybody on the internet could be meant; an IPv4 address inside an IPv6 one counts as itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if (inner := _embedded(address)) is not None:
            return is_public(inner)
        if address.is_site_local:
            return False
    elif address in RELAY_ANYCAST:
        return False
    is_special = address.is_multicast or address.is_reserved or address.is_unspecified or address.is_link_local
    return address.is_global and not is_special


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that a mapped, compatible, NAT64, 6to4 or Teredo address leads to."""
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if address in NAT64 or (address in IPV4_COMPATIBLE and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    return None


def _install() -> None:
    """Install the hook once per process; it can never be removed, and is idle in threads that are not guarded."""
    if _installed.acquire(blocking=False):
        sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in GUARDED_EVENTS or not _guard.is_on:
        return
    address = arguments[1] if event == "socket.connect" else None
    if not isinstance(address, tuple) or not address or not isinstance(address[0], str):
        raise BlockedAddressError(f"{event} to {address!r} while guarded")
    require_allowed(address[0].partition("%")[0], allow_loopback=_guard.allow_loopback)

"""Ports for servers that cannot be told to take any free one."""

import random
import socket

RANGE = range(20_000, 32_000)
"""Below the ports that Linux gives to whoever connects, so that nobody is given one before its server listens."""


def free_ports(number: int) -> list[int]:
    """Return different ports of 127.0.0.1 on which nobody listens."""
    found: set[int] = set()
    while len(found) < number:
        port = random.SystemRandom().choice(RANGE)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.add(port)
    return sorted(found)

"""A web server in a process of its own, so that its CPU time is not counted with that of who asks it."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def web_process(*arguments: str) -> Iterator[int]:
    """Start this Python with `arguments` and a free port behind them; yield the port once it prints `ready`.

    Raises:
        SystemExit: it ended, or said something else.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, *arguments, str(port)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise SystemExit("the web did not start")
        yield port
    finally:
        process.terminate()
        process.wait()

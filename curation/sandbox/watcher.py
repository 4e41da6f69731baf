"""The process between a worker and its cell: whatever a picture does to the process that started its own, it does here.

It holds nothing and does nothing but wait, so that its death says one thing only, and says it to a worker that lives.
Imports stay light, since the cell is a fork of it.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""prctl(2): the signal that a process gets when its parent is gone."""
NOT_OURS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What is sent to end a run: for the worker to obey, since a death here would count against a picture."""
SIGNALLED = 128
"""What a shell adds to the number of the signal that ended a process."""


def watch() -> None:
    """Return in a new process; this one waits for that to end, and passes on how it did.

    argv holds the socket and the id of the worker.
    """
    connection, worker = (int(argument) for argument in sys.argv[1:])
    live_with(worker)
    for number in NOT_OURS:
        signal.signal(number, signal.SIG_IGN)
    watcher = os.getpid()
    if (cell := os.fork()) == 0:
        live_with(watcher)
        return
    os.close(connection)
    code = os.waitstatus_to_exitcode(os.waitpid(cell, 0)[1])
    os._exit(code if code >= 0 else SIGNALLED - code)


def live_with(parent: int) -> None:
    """Die when the parent does, and at once where it is gone already."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit()

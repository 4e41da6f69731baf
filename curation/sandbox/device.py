"""Sees to it that a device server runs: one per device and machine, started by the first worker that wants it.

The server ends by itself when nobody has been connected for some seconds, so nothing has to end it, whatever becomes of
the run. A worker that is told that it is gone starts another.
"""

import fcntl
import os
import select
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from curation.sandbox.environment import without_keys
from curation.storage.publish import digest
from filters.detectors.export import exports_folder
from filters.device.client import DeviceConnection, DeviceServerError
from filters.device.messages import VERSION
from filters.loading import DeviceError

START_S = 120.0
"""Seconds until a server that was started must listen."""
START = "import os; os.fork() and os._exit(0); from filters.device.server import main; main()"
"""The first process ends at once, so that the server is nobody's child; the system's first process takes it in."""
VISIBLE = "CUDA_VISIBLE_DEVICES"
MAX_LOG_BYTES = 1 << 20


def running(device: str) -> str:
    """Return the address of the server of "cpu" or "cuda:N", which is started where there is none.

    Workers that see other GPUs, such as those to whom Ray gave one each, have other servers.

    Raises:
        DeviceError: the device cannot be used here; the message says why.
        DeviceServerError: the server does not come up.
    """
    folder, exports = private_folder(), exports_folder()
    parts = [device, str(exports), os.environ.get(VISIBLE, ""), sys.executable, __file__, str(VERSION)]
    address = folder / f"{digest(parts)[:16]}.socket"
    with address.with_suffix(".lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _answers(str(address)):
            _start(device, exports, address)
    return str(address)


def private_folder() -> Path:
    """Return the folder of sockets and logs, which nobody else may enter.

    Raises:
        DeviceError: somebody else has made it.
    """
    folder = Path(tempfile.gettempdir(), f"fchq-device-{os.getuid()}")
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or folder.is_symlink():
        raise DeviceError(f"{folder}: must be a folder that is yours alone (mode 0700); remove it, or set TMPDIR")
    return folder


def _answers(address: str) -> bool:
    try:
        with closing(DeviceConnection(address)):
            return True
    except DeviceServerError:
        return False


def _start(device: str, exports: Path, address: Path) -> None:
    path = os.pathsep.join(str(Path(folder).absolute()) for folder in sys.path)
    log = address.with_suffix(".log")
    reading, writing = os.pipe()
    with os.fdopen(reading, encoding="utf-8") as pipe, log.open("ab") as told:
        if told.tell() > MAX_LOG_BYTES:
            told.truncate(0)
        try:
            subprocess.run(
                [sys.executable, "-P", "-c", START, device, str(exports), str(address), str(writing)],
                env={**without_keys(), "PYTHONPATH": path},
                stdin=subprocess.DEVNULL, stdout=told, stderr=told,
                pass_fds=(writing,), start_new_session=True, timeout=START_S, check=False, cwd="/",
            )  # fmt: skip
        finally:
            os.close(writing)
        is_told, _, _ = select.select([pipe], [], [], START_S)
        answer = pipe.read() if is_told else ""  # ends when the server, alone with the other end, listens or is gone
    if not answer:
        raise DeviceServerError(f"a device server for {device!r} did not come up; {log} may say why")
    if answer != "ready":
        raise DeviceError(f"no device server for {device!r}: {answer.removeprefix('error: ')}")

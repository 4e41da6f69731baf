"""A device server of this machine's CPU in a process of its own, with real networks."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filters.detectors.export import exported, exports_folder
from filters.weights import find_weights

SERVE = "from filters.device.server import main; main()"


@contextmanager
def serving(device: str = "cpu") -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Yield the address and the process of a server, which ends with the block."""
    with tempfile.TemporaryDirectory(prefix="d-") as folder:
        address = str(Path(folder) / "socket")
        reading, writing = os.pipe()
        command = [sys.executable, "-c", SERVE, device, str(exports_folder()), address, str(writing)]
        process = subprocess.Popen(
            command, pass_fds=(writing,), env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        )
        os.close(writing)
        try:
            with os.fdopen(reading) as pipe:
                assert pipe.read() == "ready"
            yield address, process
        finally:
            process.kill()
            process.wait()


def export_of(weights: str, network: str) -> Path:
    """Return the export of weights of the catalogue."""
    return exported(find_weights(weights), network)

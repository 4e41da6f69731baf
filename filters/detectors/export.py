"""Networks in the form in which they run: exported from torch files, or rewritten, once per machine."""

import importlib
import importlib.metadata
import os
import subprocess
import sys
from functools import cache, partial
from pathlib import Path
from typing import Protocol, cast

from filters.base import WeightsFile
from filters.own_digest import made_once
from filters.weights import WeightsError, cache_folder

_CHILD = "from filters.detectors.export import main; main()"


class Exporter(Protocol):
    """What a module `filters/detectors/<network>_export.py` defines."""

    @property
    def EXPORTER_VERSION(self) -> int:  # noqa: N802  a constant of the module
        """Raised whenever the same weights would give another file."""
        ...

    def write(self, source: str, target: str) -> None:
        """Write the network whose weights lie at `source` as ONNX to `target`; it may import torch."""
        ...


def exports_folder() -> Path:
    """Return where exports lie on this machine."""
    return cache_folder().parent / "exports"


def exported(weights: WeightsFile, network: str) -> Path:
    """Return the network as an ONNX file in the user's cache, exporting it first where it is not there whole.

    The exporter is `filters.detectors.<network>_export`. Torch is imported by a child process alone.

    Raises:
        WeightsError: the export failed; the message says why.
    """
    torch_version = _torch_version()
    version = _exporter(network).EXPORTER_VERSION
    stem = f"{network}-{weights.sha256[:16]}-v{version}-torch{torch_version}-"
    return made_once(exports_folder(), stem, partial(_export, weights, network))


@cache
def _torch_version() -> str:
    return importlib.metadata.version("torch")


def main() -> None:
    """Export in a process of its own: network, weights and target are the arguments."""
    network, source, target = sys.argv[1:]
    _exporter(network).write(source, target)


def _exporter(network: str) -> Exporter:
    return cast("Exporter", importlib.import_module(f"filters.detectors.{network}_export"))


def _export(weights: WeightsFile, network: str, fresh: Path) -> None:
    path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
    done = subprocess.run(
        [sys.executable, "-P", "-c", _CHILD, network, weights.path, str(fresh)],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode != 0 or not fresh.is_file():
        why = done.stderr.decode(errors="replace").strip().rpartition("\n")[2] or f"exit status {done.returncode}"
        raise WeightsError(f"`{weights.name}` ({weights.path}) cannot be exported to ONNX: {why}")

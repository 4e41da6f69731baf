"""CRAFT as ONNX: exported once per machine from EasyOCR's own weights, so that measuring needs no torch."""

import hashlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from filters.base import WeightsFile
from filters.weights import WeightsError, cache_folder, sha256_of

EXPORTER_VERSION = 2
"""Raised whenever the same weights would give another file; where its maps differ too, `filters.text.VERSION` rises."""

_OPSET = 17
_CHILD = "from filters.detectors.craft_export import main; main()"


def exported(weights: WeightsFile) -> Path:
    """Return the network as an ONNX file in the user's cache, exporting it first where it is not there whole.

    The file's name ends in its own sha256, so whatever is damaged is noticed and exported anew. Torch is imported by a
    child process alone; processes that ask at the same time wait for the first.

    Raises:
        WeightsError: the export failed; the message says why.
    """
    import fcntl

    folder = cache_folder().parent / "exports"
    folder.mkdir(parents=True, exist_ok=True)
    torch_version = importlib.metadata.version("torch")
    stem = f"craft-{weights.sha256[:16]}-v{EXPORTER_VERSION}-torch{torch_version}-"
    with (folder / "lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for file in sorted(folder.glob(f"{stem}*.onnx")):
            if sha256_of(file) == file.stem.removeprefix(stem):
                return file
            file.unlink()
        return _export(weights, folder, stem)


def main() -> None:
    """Export in a process of its own: weights and target are the arguments."""
    source, target = sys.argv[1:]
    _write(source, target)


def _export(weights: WeightsFile, folder: Path, stem: str) -> Path:
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        fresh = Path(scratch) / "fresh.onnx"
        path = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path)
        done = subprocess.run(
            [sys.executable, "-P", "-c", _CHILD, weights.path, str(fresh)],
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        if done.returncode != 0 or not fresh.is_file():
            why = done.stderr.decode(errors="replace").strip().rpartition("\n")[2] or f"exit status {done.returncode}"
            raise WeightsError(f"`{weights.name}` ({weights.path}) cannot be exported to ONNX: {why}")
        with fresh.open("rb+") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        return fresh.replace(folder / f"{stem}{digest}.onnx")


def _write(source: str, target: str) -> None:
    import torch
    from easyocr.craft import CRAFT

    from filters.loading import single_thread_torch, torch_state_dict

    single_thread_torch()

    class Maps(torch.nn.Module):
        """CRAFT without its features, which nobody reads."""

        def __init__(self) -> None:
            super().__init__()
            self.network = CRAFT()

        def forward(self, pixels_NCHW: torch.Tensor) -> torch.Tensor:
            maps_NHW2: torch.Tensor = self.network(pixels_NCHW)[0]
            return maps_NHW2

    maps = Maps()
    maps.network.load_state_dict(torch_state_dict(source))
    free = {
        "pixels_NCHW": {0: "batch", 2: "height", 3: "width"},
        "maps_NHW2": {0: "batch", 1: "map_height", 2: "map_width"},
    }
    torch.onnx.export(
        maps.eval(),
        (torch.zeros(1, 3, 64, 96),),
        target,
        input_names=["pixels_NCHW"],
        output_names=["maps_NHW2"],
        dynamic_axes=free,
        opset_version=_OPSET,
        dynamo=False,  # the other exporter needs onnxscript
    )

"""Files that a machine makes once for itself, under names that end in their own sha256."""

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from filters.weights import sha256_of


def made_once(folder: Path, stem: str, make: Callable[[Path], None]) -> Path:
    """Return the ONNX file in `folder` named `stem` and its own sha256, making it first where it is not there whole.

    Whatever is damaged is noticed by its name and made anew; processes that ask at the same time wait for the first.
    `make` writes the path that it is given; what it raises comes out, and nothing is kept then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for file in sorted(folder.glob(f"{stem}*.onnx")):
            if sha256_of(file) == file.stem.removeprefix(stem):
                return file
            file.unlink()
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            fresh = Path(scratch) / "fresh.onnx"
            make(fresh)
            with fresh.open("rb") as written:
                os.fsync(written.fileno())
            return fresh.replace(folder / f"{stem}{sha256_of(fresh)}.onnx")

"""The run that release 0.2.0 left, which later code has to read."""

import tarfile
from pathlib import Path

from tests.places import ROOT


def unpack_older_run(folder: Path) -> Path:
    """Unpack it into a folder, and return the run."""
    with tarfile.open(ROOT / "tests/curation/run/run-0.2.0.tar.gz") as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # came with Python 3.11.4
        archive.extractall(folder)
    return folder / "run"

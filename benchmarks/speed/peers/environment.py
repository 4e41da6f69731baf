"""Builds a peer's environment from its lock, outside the repository."""

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

LOCKS = Path(__file__).parent / "locks"
DONE = "installed"


def python_of(peer: str, requirements: str) -> Path:
    """Return the Python of a peer's environment, built where it is not there yet; `requirements` stands in `locks/`.

    Raises:
        CalledProcessError: pip cannot install it.
    """
    lock = LOCKS / requirements
    name = f"{peer}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    folder = Path(tempfile.gettempdir()) / "facecaptionhq-peers" / name
    python = folder / "bin" / "python"
    if not (folder / DONE).exists():
        print(f"building {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        hashes = ["--require-hashes"] if lock.suffix == ".lock" else []
        install = [str(python), "-m", "pip", "install", "--quiet", *hashes, "-r", str(lock)]
        subprocess.run(install, check=True, stdout=sys.stderr)
        (folder / DONE).touch()
    return python

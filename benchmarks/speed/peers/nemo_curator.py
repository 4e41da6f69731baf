"""NeMo Curator (PyPI `nemo-curator`, Apache-2.0): tries its only stage that could be held against ours on a CPU.

    python -m benchmarks.speed.peers.nemo_curator CORPUS [--num-samples 20]

What it has for pictures (1.4.0) is a reader of WebDataset tars, CLIP embeddings, an aesthetic and an NSFW classifier
upon these (weights from Hugging Face), and removal of duplicates; no filter for faces, text, colour or drawings. Its
extra `image_cpu` installs (6 GB, CUDA's libraries among them), and `ImageReaderStage` says that it decodes by DALI on
the CPU where CUDA is not available; but it builds the pipeline with `device_id=0`, which the wheels of DALI refuse
without a driver (a comment there counts on builds for CPUs alone, of which PyPI has none). So there is no part to
compare; this script installs it, tries, and records what it says.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.pictures.pieces import first_samples, write_shards
from benchmarks.speed.peers.beside import INSIDE, options_of, save
from benchmarks.speed.peers.environment import python_of

NAME = "nemo_curator"


def main() -> int:
    """Install it, try to read a tar, and write down what came of it."""
    options = options_of(NAME, None, __doc__)
    try:
        python = python_of(NAME, f"{NAME}.in")
    except subprocess.CalledProcessError as error:
        save(options.out, NAME, {"compared": False, "why": f"does not install here: {error}"})
        return 0
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        folder = write_shards(first_samples(options.corpus, options.num_samples), Path(name, "in"), 1)
        command = [str(python), "-I", str(INSIDE / "for_nemo_curator.py"), str(folder / "00000.tar")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    why = "decodes by DALI on the CPU: compare it" if done.returncode == 0 else "ImageReaderStage fails without a GPU"
    save(options.out, NAME, {"compared": False, "why": why, "said": said[-1:], "returncode": done.returncode})
    return 0


if __name__ == "__main__":
    sys.exit(main())

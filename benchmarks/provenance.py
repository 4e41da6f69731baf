"""What every committed figure carries: the machine and commit it was measured on, and its uncertainty."""

import os
import platform
import subprocess
from importlib.metadata import version
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.variants import variant
from curation import intervals as interval
from curation.recipe.recipe import bundled_recipes
from curation.storage.publish import digest
from curation.version import runtime
from filters.weights import find_weights

OPTIONAL = {"yolov5-face": "yolov5_face"}
"""Distribution -> its package, named where it is installed."""
LIBRARIES = ("easyocr", "numpy", "onnxruntime", "opencv-python-headless", "openvino", "pillow", "ray", "torch")
VECTORS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
"""Arithmetic that networks profit from, by Linux's names, the least first."""

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
"""Where every script keeps what it measured."""


def origin(*recipes: str) -> dict[str, Any]:
    """Return where figures come from: machine, commit, and the digests of those recipes that are in the package.

    `recipes` have the form of `benchmarks.variants`; a file of somebody's own stays unnamed.
    """
    bundled = [recipe for recipe in recipes if recipe.partition(";")[0] in bundled_recipes()]
    return {
        "recipe_digests": {recipe: recipe_digest(recipe) for recipe in bundled},
        "machine": machine(),
        "commit": commit(),
    }


def recipe_digest(text: str) -> str:
    """Return the digest of all that a recipe makes `curate` do, and in which order."""
    recipe = variant(text)
    return digest([recipe.curate_digest, recipe.order])


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    cpuinfo = dict(line.split(":", 1) for line in islice(_lines("/proc/cpuinfo"), 200) if ":" in line)
    known = {name.strip(): value.strip() for name, value in cpuinfo.items()}
    libraries = {name: version(name) for name in LIBRARIES}
    return {
        "cpu": known.get("model name", platform.processor()),
        "vectors": [name for name in VECTORS if name in known.get("flags", "").split()],
        "num_cores": os.cpu_count(),
        "python": platform.python_version(),
        **libraries,
    }


def surroundings(*weights: str) -> dict[str, str]:
    """Return what evidence depends on beside code and parameters: libraries, architecture, and these weights' sha256.

    The commit is left out: whoever keeps evidence by this has a version of its own for its code.
    """
    installed = {name: version(name) for name, package in OPTIONAL.items() if find_spec(package) is not None}
    sums = {name: find_weights(name).sha256 for name in weights}
    return {**runtime(), "easyocr": version("easyocr"), **installed, **sums}


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []


def commit() -> str:
    """Return the commit of the code, marked where the tree holds more than it."""
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def wilson(num_hits: int, num_trials: int) -> tuple[float, float] | None:
    """Return the 95 % Wilson interval of a share, rounded for print; None without trials."""
    if num_trials == 0:
        return None
    low, high = interval.wilson(num_hits, num_trials)
    return round(low, 4), round(high, 4)

"""Looks at the machine before a long run does: each finding says what is, and how to mend it where it is wrong."""

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from curation.commands.doctor.plugins import plugins
from curation.errors import FaceCaptionError

CV2_OWNER = "opencv-python-headless"
CV2_RIVALS = ("opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
TORCH_PAIRS = {"2.14.1": "0.29.1"}
"""torch -> torchvision that loads beside it."""
PYTHONS = {
    (3, 11): "tested whole",
    (3, 12): "tested by a smoke run",
    (3, 13): "tested by a smoke run",
    (3, 14): "locked, but nothing has run on it",
}
"""Versions of CPython that there are locks for (`requirements/`), and what is known of each."""
TORCH_LIBRARIES = ("libtorch_global_deps.so", "libtorch.so", "libtorch_python.so")
LOAD = "import ctypes, sys\nfor path in sys.argv[1:]: ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)"
MIN_RAY = (2, 56)
MIN_DISK_BYTES = 10 << 30
MIN_MEMORY_BYTES_PER_WORKER = 2 << 30

MEND = "mend the recipe, or leave out the --set that breaks it"
NO_RECIPE = (
    "`facecaptionhq recipes list` names those that come with the package; one of your own is the path of its file"
)
GPL_BACKEND = "pip install --no-deps yolov5-face==0.0.2 (GPL-3.0; --no-deps keeps its second cv2 out)"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    ok: bool
    fact: str
    mend: str = ""
    exit_code: int = 2
    """What it is for a command to meet this where it is wrong: 2 the environment or the recipe, 6 weights."""


def examine(recipe: str, changes: Sequence[str] = ()) -> list[Finding]:
    """Return every finding about this environment, and about the weights that `recipe` with its changes needs."""
    python = look_at_python(platform.python_implementation(), sys.version_info[:2])
    machine = [*_plugins(), _disk(), _memory()]
    return [python, *_cv2(), _torch(), _ray(), *_weights(recipe, changes), *_device(recipe, changes), *machine]


def readiness() -> dict[str, tuple[str, ...]]:
    """Return the recipes that come with the package, each with the names of the weights that it lacks here."""
    from curation.measure.filter_set import lacking_weights
    from curation.recipe.recipe import bundled_recipes, load_recipe

    return {name: lacking_weights(load_recipe(name)) for name in bundled_recipes()}


def look_at_python(implementation: str, release: tuple[int, int]) -> Finding:
    """Return the finding about an interpreter, such as ("CPython", (3, 11)): how far it is tested."""
    known = PYTHONS.get(release) if implementation == "CPython" else None
    fact = f"{implementation} {release[0]}.{release[1]}: {known or 'there is no lock for it'}"
    tested = [f"{major}.{minor}" for (major, minor), text in PYTHONS.items() if text.startswith("tested")]
    return Finding("python", known is not None, fact, f"use CPython {', '.join(tested[:-1])} or {tested[-1]}")


def _cv2() -> Iterator[Finding]:
    rivals = [name for name in CV2_RIVALS if _version(name) is not None]
    mend = f"pip uninstall -y {' '.join(rivals)} && pip install --no-deps --force-reinstall '{CV2_OWNER}>=4.14,<5'"
    owner = _version(CV2_OWNER)
    yield Finding(
        "cv2 has one owner", owner is not None and not rivals, ", ".join([f"{CV2_OWNER} {owner}", *rivals]), mend
    )
    if importlib.util.find_spec("cv2") is None:
        yield Finding("cv2", False, "cannot be imported", mend)
        return
    import cv2

    yield Finding(
        "cv2 has the cascade classifier", hasattr(cv2, "CascadeClassifier"), f"OpenCV {cv2.__version__}", mend
    )


def _torch() -> Finding:
    torch, vision = _version("torch"), _version("torchvision")
    wanted = TORCH_PAIRS.get((torch or "").split("+")[0])
    try:
        if not operators_load():
            import torchvision  # noqa: F401  (loading is the test: a wrong pair fails on torchvision::nms)
    except (ImportError, RuntimeError) as error:
        return Finding("torch and torchvision", False, f"{torch} and {vision}: {error}", _torch_mend(wanted))
    known = wanted is None or (vision or "").split("+")[0] == wanted
    return Finding("torch and torchvision", known, f"{torch} and {vision}", _torch_mend(wanted))


def operators_load() -> bool:
    """Whether torchvision's compiled operators find all that they need in this torch.

    Their libraries are loaded alone, in a process of their own: that takes a sixth of what importing both does. Where
    it does not succeed, for whatever reason, importing them tells more.
    """
    places = [importlib.util.find_spec(name) for name in ("torch", "torchvision")]
    if any(place is None or place.origin is None for place in places):
        return False
    torch, vision = (Path(str(place.origin)).parent for place in places if place is not None)
    operators = sorted(vision.glob("_C*.so"))
    libraries = [*(torch / "lib" / name for name in TORCH_LIBRARIES), *operators]
    if not operators:
        return False
    command = [sys.executable, "-IS", "-c", LOAD, *map(str, libraries)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _torch_mend(wanted: str | None) -> str:
    return f"pip install torchvision=={wanted}" if wanted else "pip install torch==2.14.1 torchvision==0.29.1"


def _ray() -> Finding:
    installed = _version("ray")
    numbers = tuple(int(part) for part in (installed or "0.0").split(".")[:2])
    mend = "pip install 'ray>=2.56' (older ones read untrusted Parquet unsafely: CVE-2026-41486, CVE-2026-57516)"
    return Finding("ray", numbers >= MIN_RAY, str(installed), mend)


def _weights(recipe: str, changes: Sequence[str]) -> Iterator[Finding]:
    from PIL import features

    from curation.images.decode import NO_AVIF
    from curation.recipe.recipe import bundled_recipes, load_recipe
    from filters.weights import MissingWeightsError, find_weights

    try:
        loaded = load_recipe(recipe, changes)
    except FaceCaptionError as error:
        is_known = recipe in bundled_recipes() or Path(recipe).is_file()
        yield Finding(f"recipe {recipe}", False, "; ".join(map(str, error.args)), MEND if is_known else NO_RECIPE)
        return
    for name in sorted({name for plan in loaded.measurers for name in plan.module.weights(plan.measure)}):
        try:
            file = find_weights(name)
        except FaceCaptionError as error:
            is_missing = isinstance(error, MissingWeightsError)
            yield Finding(f"weights {name}", False, "missing" if is_missing else "wrong", str(error), error.exit_code)
        else:
            yield Finding(f"weights {name}", True, f"{file.path} (sha256 {file.sha256[:12]})")
    if "avif" in loaded.file.decode.formats:
        found = features.version("avif") if features.check("avif") else None
        yield Finding("Pillow reads AVIF", found is not None, found or "no", NO_AVIF)
    if any(plan.measure.model_dump().get("detector") == "yolov5-face-torch" for plan in loaded.measurers):
        here = importlib.util.find_spec("yolov5_face") is not None
        yield Finding("package yolov5-face (GPL-3.0)", here, "installed" if here else "missing", GPL_BACKEND)


def _device(recipe: str, changes: Sequence[str]) -> Iterator[Finding]:
    """Yield what is found of the device of a recipe that can be read; a CPU without a server needs nothing."""
    from curation.recipe.recipe import load_recipe
    from curation.sandbox.device import running
    from filters.loading import require_onnx_device

    try:
        curate = load_recipe(recipe, changes).file.curate
    except FaceCaptionError:
        return
    if curate.device == "cpu" and not curate.device_server:
        return
    subject = f"device {curate.device}" + (" with a server" if curate.device_server else "")
    try:
        require_onnx_device(curate.device)
        fact = f"listens at {running(curate.device)}" if curate.device_server else "onnxruntime has it"
    except FaceCaptionError as error:
        yield Finding(subject, False, str(error), 'use device = "cpu", or an onnxruntime that has the device')
    else:
        yield Finding(subject, True, fact)


def _plugins() -> Iterator[Finding]:
    for name, is_there, fact, mend in plugins():
        yield Finding(f"plugin {name}", is_there, fact if is_there else f"{fact}: not here", mend)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    return Finding(
        "disk", free >= MIN_DISK_BYTES, f"{free / 2**30:.1f} GiB free here", "free some space, or work elsewhere"
    )


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    num_cores = os.cpu_count() or 1
    fits = int(total // MIN_MEMORY_BYTES_PER_WORKER)
    return Finding(
        "memory", fits >= num_cores, f"{total / 2**30:.1f} GiB for {num_cores} cores", f"use --workers {max(1, fits)}"
    )


def _version(name: str) -> str | None:
    try:
        distribution(name)
        return version(name)
    except PackageNotFoundError:
        return None

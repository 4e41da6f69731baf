"""Exported networks with their graphs optimised already, which onnxruntime else does anew at every start.

For CRAFT that is a third of a second of CPU, five times what loading takes. An optimised graph is laid out for one kind
of processor and one version of onnxruntime, so both stand in its name, which ends in its own sha256.
"""

import hashlib
import logging
import re
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from filters.own_digest import made_once

if TYPE_CHECKING:
    from collections.abc import Callable

    from onnxruntime import SessionOptions

    Options = Callable[[], SessionOptions]

log = logging.getLogger(__name__)
EXPORTED = re.compile(r".+-[0-9a-f]{64}\.onnx")
"""A file whose name ends in its own sha256 (`filters.detectors.export`), which whoever named it has held against it."""
FOLDER = "optimised"
NUM_NAME_DIGITS = 16


def optimised(path: str, options: "Options") -> "tuple[str, SessionOptions]":
    """Return from which file, and with which options, a network is loaded on the CPU; `options` makes those of any.

    The first session of a network optimises it as ever and leaves what came of it; the next ones load that. Where it
    cannot be kept, each optimises for itself.
    """
    import onnxruntime

    file, chosen = Path(path), options()
    if EXPORTED.fullmatch(file.name) is None:
        return path, chosen
    known = hashlib.sha256(f"{file.stem} {onnxruntime.__version__} {_processor()}".encode()).hexdigest()
    stem = f"{file.name.partition('-')[0]}-{known[:NUM_NAME_DIGITS]}-"
    try:
        kept = made_once(file.parent / FOLDER, stem, partial(_optimise, path, options()))
    except Exception as error:  # noqa: BLE001  no room, no right, or a network at fault, which loading it says
        log.info("%s: its optimised graph cannot be kept: %s", path, error)
        return path, chosen
    chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return str(kept), chosen


def _optimise(path: str, options: "SessionOptions", fresh: Path) -> None:
    """Write the optimised graph of a network."""
    import onnxruntime

    options.optimized_model_filepath = str(fresh)
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@cache
def _processor() -> str:
    """Return what tells kinds of processors apart; empty where the kernel does not say."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    told = (next((line for line in lines if line.startswith(name)), "") for name in ("model name", "flags", "Features"))
    return "\n".join(told)

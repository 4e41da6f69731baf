"""What runs inside the cell: a child process that decodes and measures, and that anything may happen to.

Pictures come in as they are stored; evidence goes out as JSON, because whoever asked must never unpickle what a
process says that has met hostile bytes. `curation.sandbox.parent` is the other end,
and `curation.sandbox.watcher` stands between.
"""

import ctypes
import json
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from curation.errors import FaceCaptionError
from curation.images.decode import Picture, decode
from curation.measure.arrow import to_struct
from curation.measure.cascade import Decode, Entry, Measured, measure
from curation.measure.filter_set import load_bank
from curation.measure.fingerprint import look_at
from curation.printable import talk
from curation.recipe.judge import Verdict
from curation.recipe.recipe import Recipe
from curation.recipe.settings import CurateSettings, DecodeLimits
from curation.sandbox.requests import receive, requests_on
from filters.device.client import DeviceServerError
from filters.look import phash_of

OUT_OF_CPU = signal.SIGPROF
"""What the kernel sends when the CPU time for decoding is spent; nothing handles it, so it ends the process."""
MALLOC = {-1: 32 << 20, -3: 16 << 20}
"""mallopt(3): M_TRIM_THRESHOLD and M_MMAP_THRESHOLD. Without them every picture's memory goes back to the kernel and
comes again page by page: 6 of the 15 ms of CPU that a look at 1024x768 took."""
OUT_OF_MEMORY = ("allocate", "not enough memory", "out of memory", "bad_alloc", "insufficient memory")
"""How libraries in C++ word that an allocation failed."""
MAX_MESSAGE_CHARACTERS = 500


@dataclass(frozen=True)
class Load:
    """The first message: which filters are to measure from now on."""

    recipe: Recipe
    weights: dict[str, str]
    server: str | None = None
    """Where a device server listens, if one runs the networks."""

    @property
    def curate(self) -> CurateSettings:
        """The limits that hold in here."""
        return self.recipe.file.curate


@dataclass(frozen=True)
class LoadNothing:
    """The first message where no filter is to measure: from now on only the look of each picture is wanted."""

    limits: DecodeLimits
    curate: CurateSettings


@dataclass(frozen=True)
class Portion:
    """Every further message: pictures, and what they may take."""

    entries: Sequence[Entry]
    max_measure_mib: int


Work = Callable[[Sequence[Entry], Decode], list[Measured]]
"""What a message loads: from pictures to what came of them."""


@dataclass(frozen=True)
class Workload:
    """What is to be done with every batch, and within which limits."""

    work: Work
    max_decode_s: float
    num_base_bytes: int | None
    """Memory that was in use before any picture came; None where no bound holds."""


def main() -> None:
    """Answer messages on the inherited socket, whose number argv holds, until the worker is gone."""
    talk()
    _lock_in()
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    requests, loaded, told = requests_on(connection.fileno()), None, 0.0
    with suppress(EOFError, ConnectionError):
        while True:
            request = receive(requests)
            if isinstance(request, Load | LoadNothing):
                loaded, answer = _load(request)
            else:
                assert loaded is not None
                answer = _measure(request, loaded)
            spent = time.process_time()
            answer["cpu_seconds"], told = spent - told, spent
            connection.send_bytes(json.dumps(answer, default=_scalar).encode())


def _lock_in() -> None:
    """Leave no core, and be the first whom the kernel ends for memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    for parameter, num_bytes in MALLOC.items():
        libc.mallopt(parameter, num_bytes)
    signal.signal(OUT_OF_CPU, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {OUT_OF_CPU})
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _load(request: Load | LoadNothing) -> tuple[Workload | None, dict[str, Any]]:
    """Build what is to be done, and see what that takes before any picture comes."""
    curate = request.curate
    _limit_memory(resource.RLIM_INFINITY)
    try:
        work = _work(request)
    except FaceCaptionError as error:
        return None, {"error": type(error).__name__, "message": str(error)}
    is_bound = curate.bounds_memory or isinstance(request, LoadNothing)
    return Workload(work, curate.max_decode_s, _num_bytes_in_use() if is_bound else None), {}


def _num_bytes_in_use() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()


def _work(request: Load | LoadNothing) -> Work:
    if isinstance(request, LoadNothing):
        phash_of(np.zeros((1, 1, 3), np.uint8))  # imports what it needs while memory has no bound yet
        limits = request.limits
        return lambda entries, decode: look_at(entries, limits, decode)
    recipe, bank = request.recipe, load_bank(request.recipe, request.weights, request.server)
    return lambda entries, decode: measure(entries, bank, recipe, decode)


def _limit_memory(num_bytes: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    within = num_bytes if hard == resource.RLIM_INFINITY else hard if num_bytes < 0 else min(num_bytes, hard)
    resource.setrlimit(resource.RLIMIT_AS, (within, hard))


def _measure(batch: Portion, loaded: Workload) -> dict[str, Any]:
    def decode_in_time(image_bytes: bytes, limits: DecodeLimits) -> Picture:
        signal.setitimer(signal.ITIMER_PROF, loaded.max_decode_s)
        try:
            return decode(image_bytes, limits)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    if loaded.num_base_bytes is not None:
        _limit_memory(loaded.num_base_bytes + (batch.max_measure_mib << 20))
    try:
        return {"measured": [_plain(measured) for measured in loaded.work(batch.entries, decode_in_time)]}
    except DeviceServerError as error:
        return {"error": type(error).__name__, "message": str(error)}
    except Exception as error:  # noqa: BLE001  whatever a detector raises on a picture is a recorded reason
        message = f"{type(error).__name__}: {error}"[:MAX_MESSAGE_CHARACTERS]
        is_memory = isinstance(error, MemoryError) or any(sign in message.lower() for sign in OUT_OF_MEMORY)
        return {"fault": "out_of_memory" if is_memory else "measure_failed", "message": message}
    finally:
        _limit_memory(resource.RLIM_INFINITY)


def _plain(measured: Measured) -> dict[str, Any]:
    refused: Verdict | None = measured.refused
    return {
        "evidence": {name: to_struct(evidence) for name, evidence in measured.evidence.items()},
        "width": measured.width,
        "height": measured.height,
        "format": measured.format,
        "refused": None if refused is None else [refused.rejected_by, refused.reason],
        "seconds": dict(measured.seconds),
    }


def _scalar(value: Any) -> Any:
    """Return the Python number in a NumPy scalar."""
    return value.item()

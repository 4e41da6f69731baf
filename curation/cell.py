"""The cell: decoding and measuring in a child process, so that nothing a picture does can harm the worker.

One child serves a worker for as long as it lives; it is replaced when it dies, hangs or must load under another
environment. Encoded bytes go in, JSON comes out; pixels cross nothing.
"""

import atexit
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from curation.arrow import from_struct
from curation.errors import FaceCaptionError, ShardError
from curation.fingerprint import LOOK, Look, is_phash
from curation.inside import OUT_OF_CPU, Load, LoadNothing
from curation.judge import Verdict
from curation.measuring import LOAD, OWN, Entry, Measured
from curation.recipe import Recipe
from curation.settings import CurateSettings, DecodeLimits

LOAD_S = 600.0
"""Seconds that building the filters may take."""
DEATH_S = 30.0
"""Seconds until a process that closed its socket must be gone."""
NUM_SHARING = 8
"""Pictures of a batch that share the deadline of one: few take nearly so long, and whoever hangs should be found soon.
A batch that is late for no fault of its own is measured again one by one."""
MAX_ANSWER_BYTES = 256 << 20
MAX_SIDE_PX = 1 << 30
"""No picture is longer; what the child says goes into columns of 32 bits."""
ENVIRONMENT = ("FACECAPTIONHQ_", "XDG_", "CUDA_", "HOME")
"""Beginnings of the variables that decide which filters, weights and GPU a process uses."""
START = "from curation.inside import main; main()"


@dataclass(frozen=True)
class Fault:
    """What pictures did to the cell: a stable reason, and words for a reader."""

    reason: str
    """A key of `curation.measuring.FAULTS`."""
    message: str


class Cell:
    """A child process and the socket that leads to it; started at the first question."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection[Any, Any] | None = None
        self._loaded: tuple[Any, ...] | None = None
        self._loading_s = 0.0
        self._owner = os.getpid()

    def measure(self, entries: Sequence[Entry], recipe: Recipe, weights: Mapping[str, str]) -> list[Measured] | Fault:
        """Return what came of each entry, or what they did to the cell.

        Raises:
            FaceCaptionError: the filters cannot be built: weights, device or backend are wrong.
        """
        curate = recipe.file.curate
        limits = (curate.device, curate.max_measure_mib, curate.max_decode_s)
        name = (recipe.curate_digest, recipe.order, limits, dict(weights))
        return self._answers(entries, Load(recipe, dict(weights)), name, partial(_measured, recipe=recipe))

    def look(self, entries: Sequence[Entry], limits: DecodeLimits, curate: CurateSettings) -> list[Measured] | Fault:
        """Return the look of each entry (`curation.fingerprint`), or what they did to the cell; no filter is loaded."""
        request = LoadNothing(limits, curate)
        return self._answers(entries, request, request, _looked)

    def _answers(
        self, entries: Sequence[Entry], load: Load | LoadNothing, name: Any, read: Callable[[Any], Measured]
    ) -> list[Measured] | Fault:
        with self._lock:
            try:
                self._load(load, name)
                seconds = load.curate.max_measure_s * max(1.0, len(entries) / NUM_SHARING)
                answer = self._ask(tuple(entries), seconds)
                return answer if isinstance(answer, Fault) else self._found(answer, len(entries), read)
            except BaseException:
                self._close()
                raise

    @property
    def pid(self) -> int | None:
        """Process id of the child, or None where there is none."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._close()

    def _load(self, request: Load | LoadNothing, name: Any) -> None:
        """Make sure that a living child has loaded what `request` wants; equal names stand for equal requests."""
        environment = {name: value for name, value in os.environ.items() if name.startswith(ENVIRONMENT)}
        wanted = (environment, name)
        is_alive = self._owner == os.getpid() and self._process is not None and self._process.poll() is None
        if is_alive and self._loaded == wanted:
            return
        if not is_alive or self._loaded is None or self._loaded[0] != environment:
            self._close()
            self._start()
        answer = self._ask(request, LOAD_S)
        if isinstance(answer, Fault):
            raise ShardError(f"the filters could not be loaded in a process of their own: {answer.message}")
        if "error" in answer:
            raise _error(str(answer["error"]))(str(answer["message"]))
        self._loaded, self._loading_s = wanted, _cpu_seconds(answer)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            path = os.pathsep.join(str(Path(folder).absolute()) for folder in sys.path)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", START, str(theirs.fileno()), str(os.getpid())],
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=(theirs.fileno(),),
            )
        self._connection = Connection(ours.detach())
        self._owner = os.getpid()

    def _ask(self, request: Any, seconds: float) -> dict[str, Any] | Fault:
        assert self._connection is not None
        try:
            self._connection.send(request)
            if not self._connection.poll(seconds):
                self._close()
                return Fault("timed_out", f"no answer within {seconds:g} s")
            answer = json.loads(self._connection.recv_bytes(MAX_ANSWER_BYTES))
        except (EOFError, OSError):
            return self._autopsy()
        except ValueError as error:
            answer = error
        if not isinstance(answer, dict):
            self._close()
            return Fault("crashed", f"an answer that makes no sense: {answer!r:.80}")
        return answer

    def _autopsy(self) -> Fault:
        """Say how the child died."""
        assert self._process is not None
        try:
            code = self._process.wait(DEATH_S)
        except subprocess.TimeoutExpired:
            code = 0
        self._close()
        if code == -OUT_OF_CPU:
            return Fault("timed_out", "more CPU time than max_decode_s")
        if code == -signal.SIGKILL:
            return Fault("out_of_memory", "SIGKILL: what the kernel sends when memory runs out")
        return Fault("crashed", signal.Signals(-code).name if code < 0 else f"exit status {code}")

    def _found(
        self, answer: dict[str, Any], num_entries: int, read: Callable[[Any], Measured]
    ) -> list[Measured] | Fault:
        if "fault" in answer:
            return Fault(str(answer["fault"]), str(answer["message"]))
        try:
            found = [read(one) for one in answer["measured"]]
        except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
            found, answer = [], {"error": error}
        if len(found) != num_entries:
            self._close()
            return Fault("crashed", f"an answer that makes no sense: {answer!r:.80}")
        loading_s, self._loading_s = self._loading_s, 0.0
        return _with_own_work(found, _cpu_seconds(answer), loading_s)

    def _close(self) -> None:
        process, connection = self._process, self._connection
        self._process = self._connection = self._loaded = None
        if connection is not None:
            connection.close()
        if process is not None and self._owner == os.getpid():
            process.kill()
            process.wait()


def _cpu_seconds(answer: Mapping[str, Any]) -> float:
    """Return the CPU time that the child says it took since its last answer; 0 where it says nothing of the kind."""
    spent = answer.get("cpu_seconds")
    return spent if isinstance(spent, float) and 0 <= spent < math.inf else 0.0


def _with_own_work(measured: Sequence[Measured], spent_s: float, loading_s: float) -> list[Measured]:
    """Return a batch with what the child did beside measuring it, in equal shares, and what loading before it took."""
    own_s = max(0.0, spent_s - sum(sum(one.seconds.values()) for one in measured)) / max(1, len(measured))
    loading = {LOAD: loading_s} if loading_s else {}
    return [
        replace(one, seconds={**one.seconds, OWN: own_s, **(loading if i == 0 else {})})
        for i, one in enumerate(measured)
    ]


def _measured(value: Mapping[str, Any], recipe: Recipe) -> Measured:
    refused = None if value["refused"] is None else Verdict(*map(str, value["refused"]))
    known = {} if refused is not None else value["evidence"]
    evidence = {plan.name: from_struct(plan.module.EVIDENCE, known[plan.name]) for plan in recipe.measurers if known}
    seconds = {str(step): float(spent) for step, spent in value["seconds"].items()}
    if not all(0 <= spent < math.inf for spent in seconds.values()):
        raise ValueError(f"no CPU seconds: {seconds!r:.80}")
    return Measured(evidence, *_sides(value), refused=refused, seconds=seconds)


def _sides(value: Mapping[str, Any]) -> tuple[int | None, int | None, str | None]:
    """Return width, height and format of a picture that was decoded, else nothing of them."""
    width, height, image_format = value["width"], value["height"], value["format"]
    if value["refused"] is not None:
        return None, None, None
    if not all(isinstance(side, int) and 0 < side <= MAX_SIDE_PX for side in (width, height)):
        raise ValueError(f"no picture has these sides: {value!r:.80}")
    return width, height, str(image_format)


def _looked(value: Mapping[str, Any]) -> Measured:
    if value["refused"] is not None:
        return Measured(refused=Verdict(*map(str, value["refused"])))
    look = from_struct(Look, value["evidence"][LOOK])
    if not is_phash(look.phash):
        raise ValueError(f"no look: {value!r:.80}")
    return Measured({LOOK: look}, *_sides(value))


def _error(name: str) -> type[FaceCaptionError]:
    """Return the error of the tree that the child named."""
    kinds = [FaceCaptionError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    return next((kind for kind in kinds if kind.__name__ == name), ShardError)


CELL = Cell()
"""This process's own."""
atexit.register(CELL.close)

"""The cell: decoding and measuring in a child process, so that nothing a picture does can harm the worker.

One child serves a worker for as long as it lives; it is replaced when it dies, hangs or must load under another
environment. Encoded bytes go in, JSON comes out; pixels cross nothing.
"""

import atexit
import json
import logging
import math
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from curation.errors import ShardError
from curation.measure.cascade import Entry, Measured
from curation.recipe.recipe import Recipe
from curation.recipe.settings import CurateSettings, DecodeLimits
from curation.sandbox.child import OUT_OF_CPU, Load, LoadNothing, Portion
from curation.sandbox.device import running
from curation.sandbox.environment import without_keys
from curation.sandbox.protocol import CellFault, cpu_seconds, error_named, fault, looked, measured, with_own_work
from curation.sandbox.requests import send
from curation.sandbox.watcher import SIGNALLED
from filters.device.client import DeviceConnection, DeviceServerError

LOAD_S = 600.0
"""Seconds that building the filters may take."""
DEATH_S = 30.0
"""Seconds until a process that closed its socket must be gone."""
NUM_SHARING = 8
"""Pictures of a batch that share the deadline of one: few take nearly so long, and whoever hangs should be found soon.
A batch that is late for no fault of its own is measured again one by one."""
LOOK_AROUND_S = 10.0
"""How often, while a child is waited for, the device server is asked, if only to see that it is there."""
MAX_ANSWER_BYTES = 256 << 20
NUM_SERVERS = 3
"""How many device servers may be lost over the same pictures before their shard fails; no picture is blamed for it."""
RENEWED_AT = 0.5
"""Share of `max_measure_mib` by which a child may grow beside its loaded filters: what arenas of libraries keep is
taken from what pictures may have, so an old child would turn them away that a new one measures."""
ENVIRONMENT = ("FACECAPTIONHQ_", "XDG_", "CUDA_", "HOME")
"""Beginnings of the variables that decide which filters, weights and GPU a process uses."""
log = logging.getLogger(__name__)
START = "from curation.sandbox.watcher import watch; watch(); from curation.sandbox.child import main; main()"


class Cell:
    """A child process and the socket that leads to it; started at the first question."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._child: int | None = None
        self._connection: Connection[Any, Any] | None = None
        self._loaded: tuple[Any, ...] | None = None
        self._server: DeviceConnection | None = None
        """Asks the device server how long the child has waited, and keeps it alive between two children."""
        self._loading_s = 0.0
        self._num_base_bytes = 0
        self._num_batches = 0
        self._is_told_of_age = False
        self._owner = os.getpid()

    def measure(
        self, entries: Sequence[Entry], recipe: Recipe, weights: Mapping[str, str], max_mib: int | None = None
    ) -> list[Measured] | CellFault:
        """Return what came of each entry, or what they did to the cell; `max_mib` is less memory than the recipe's.

        Raises:
            FaceCaptionError: the filters cannot be built: weights, device or backend are wrong.
        """
        curate = recipe.file.curate
        device = (curate.device, curate.device_server)
        name = (recipe.curate_digest, recipe.order, device, curate.max_decode_s, dict(weights))
        return self._answers(entries, Load(recipe, dict(weights)), name, partial(measured, recipe=recipe), max_mib)

    def look(
        self, entries: Sequence[Entry], limits: DecodeLimits, curate: CurateSettings, max_mib: int | None = None
    ) -> list[Measured] | CellFault:
        """Return the look of each entry, or what they did to the cell; no filter is loaded."""
        request = LoadNothing(limits, curate)
        return self._answers(entries, request, request, looked, max_mib)

    def _answers(
        self,
        entries: Sequence[Entry],
        load: Load | LoadNothing,
        name: Any,
        read: Callable[[Any], Measured],
        max_mib: int | None,
    ) -> list[Measured] | CellFault:
        with self._lock:
            num_lost = 0
            while True:
                try:
                    self._load(load, name)
                    seconds = load.curate.max_measure_s * max(1.0, len(entries) / NUM_SHARING)
                    self._num_batches += 1
                    answer = self._ask(Portion(tuple(entries), max_mib or load.curate.max_measure_mib), seconds)
                    return answer if isinstance(answer, CellFault) else self._measured_in(answer, len(entries), read)
                except DeviceServerError as error:
                    self._close()
                    num_lost += 1
                    if num_lost == NUM_SERVERS:
                        raise ShardError(f"{NUM_SERVERS} device servers in a row could not be used: {error}") from error
                    log.warning("the pictures in work are measured again: %s", error)
                except BaseException:
                    self._close()
                    raise

    @property
    def pid(self) -> int | None:
        """Process id of the child, or None where there is none."""
        if self._process is not None and self._child is None:
            watcher = self._process.pid
            children = Path(f"/proc/{watcher}/task/{watcher}/children").read_text(encoding="ascii").split()
            self._child = int(children[0]) if children else None
        return self._child

    def close(self) -> None:
        """End the child."""
        with self._lock:
            self._close()

    def _load(self, request: Load | LoadNothing, name: Any) -> None:
        """Make sure that a living child has loaded what `request` wants; equal names stand for equal requests."""
        environment = {name: os.environ[name] for name in os.environ if name.startswith(ENVIRONMENT)}
        wanted = (environment, name)
        is_alive = self._owner == os.getpid() and self._process is not None and self._process.poll() is None
        if is_alive and self._loaded == wanted:
            if not self._has_grown(request.curate):
                return
            self._tell_of_age(request.curate)
            self._close()
            is_alive = False
        if not is_alive or self._loaded is None or self._loaded[0] != environment:
            self._close()
            self._start()
        answer = self._ask(self._with_server(request), LOAD_S)
        if isinstance(answer, CellFault):
            raise ShardError(f"the filters could not be loaded in a process of their own: {answer.message}")
        self._loaded = wanted
        self._num_base_bytes, self._num_batches = self._num_bytes(), 0
        self._loading_s += cpu_seconds(answer)

    def _with_server(self, request: Load | LoadNothing) -> Load | LoadNothing:
        """Return the request with the address of a device server that runs, where one is wanted."""
        if not isinstance(request, Load) or not request.curate.device_server:
            return request
        address = running(request.curate.device)
        if self._server is None:
            self._server = DeviceConnection(address)
        return replace(request, server=address)

    def _has_grown(self, curate: CurateSettings) -> bool:
        """Whether the child has kept so much memory between pictures that a new one should take its place."""
        allowed = RENEWED_AT * (curate.max_measure_mib << 20)
        return curate.bounds_memory and self._num_bytes() - self._num_base_bytes > allowed

    def _tell_of_age(self, curate: CurateSettings) -> None:
        """Say once where a child is old after its first batch: then all models are loaded for every batch."""
        if self._num_batches > 1 or self._is_told_of_age:
            return
        self._is_told_of_age = True
        kept_mib = (self._num_bytes() - self._num_base_bytes) / (1 << 20)
        log.warning(
            "curate.max_measure_mib = %d: one batch leaves %d MiB in the process that measures, more than it may keep, "
            "so that a new one loads all models for the next batch; it goes on, slowly; give at least %d",
            curate.max_measure_mib, kept_mib, math.ceil(kept_mib / RENEWED_AT) + 1,
        )  # fmt: skip

    @property
    def peak_bytes(self) -> int | None:
        """Most memory that the child has held so far; None where there is no child, or the kernel does not say."""
        try:
            lines = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            return None
        return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), None)

    def _num_bytes(self) -> int:
        """Address space of the child, which is what its limit counts; 0 where it is dead."""
        try:
            pages = self._told("statm").split()[0]
        except (OSError, IndexError):
            return 0
        return int(pages) * resource.getpagesize()

    def _told(self, name: str) -> bytes:
        """Return what the kernel tells of the child under a name.

        Raises:
            OSError: it is dead.
        """
        return Path(f"/proc/{self.pid}/{name}").read_bytes()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            path = os.pathsep.join(str(Path(folder).absolute()) for folder in sys.path)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", START, str(theirs.fileno()), str(os.getpid())],
                env={**without_keys(), "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                stdout=2,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,  # whoever harms its own group harms nobody else
            )
        self._connection = Connection(ours.detach())
        self._owner = os.getpid()

    def _ask(self, request: Any, seconds: float) -> dict[str, Any] | CellFault:
        assert self._connection is not None
        try:
            send(request, self._connection.fileno())
            if not self._answers_within(seconds):
                self._close()
                return CellFault("timed_out", f"no answer within {seconds:g} s")
            answer = json.loads(self._connection.recv_bytes(MAX_ANSWER_BYTES))
        except (EOFError, OSError):
            return self._autopsy()
        except (ValueError, RecursionError) as error:
            answer = error
        if not isinstance(answer, dict):
            self._close()
            return CellFault("crashed", f"an answer that makes no sense: {answer!r:.80}")
        if "error" in answer:
            raise error_named(str(answer["error"]))(str(answer.get("message")))
        return answer

    def _answers_within(self, seconds: float) -> bool:
        """Wait for an answer; the time that the child waits for a processor or a device is not its own."""
        assert self._connection is not None
        start, others_before, left = time.monotonic(), self._queued_s() + self._served_s(), seconds
        while left > 0:
            if self._connection.poll(min(left, LOOK_AROUND_S)):
                return True
            left = start + seconds + self._queued_s() + self._served_s() - others_before - time.monotonic()
        return self._connection.poll(0)

    def _queued_s(self) -> float:
        """Seconds that the child has waited for a processor so far; 0 where the kernel does not count them."""
        try:
            return int(self._told("schedstat").split()[1]) / 1e9
        except (OSError, IndexError, ValueError):  # it is dead, which the connection tells
            return 0.0

    def _served_s(self) -> float:
        """Seconds that the child has waited for the device server so far, by the server's own count."""
        pid = None if self._server is None else self.pid
        return 0.0 if self._server is None or pid is None else self._server.waited_s(pid)

    def _autopsy(self) -> CellFault:
        """Say how the child died."""
        assert self._process is not None
        try:
            code = self._process.wait(DEATH_S)
        except subprocess.TimeoutExpired:
            code = 0
        self._close()
        names = {member.value: member.name for member in signal.Signals}
        if code < 0:
            return CellFault("crashed", f"it took along the process that had started it ({names.get(-code, -code)})")
        if code == SIGNALLED + OUT_OF_CPU:
            return CellFault("timed_out", "more CPU time than max_decode_s")
        if code == SIGNALLED + signal.SIGKILL:
            return CellFault("out_of_memory", "SIGKILL: what the kernel sends when memory runs out")
        return CellFault("crashed", names.get(code - SIGNALLED, f"exit status {code}"))

    def _measured_in(
        self, answer: dict[str, Any], num_entries: int, read: Callable[[Any], Measured]
    ) -> list[Measured] | CellFault:
        try:
            if "fault" in answer:
                return fault(answer)
            batch = [read(plain) for plain in answer["measured"]]
            if len(batch) != num_entries:
                raise ValueError(f"{len(batch)} answers to {num_entries} pictures")
            batch = with_own_work(batch, cpu_seconds(answer), self._loading_s)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self._close()
            return CellFault("crashed", f"an answer that makes no sense: {type(error).__name__}: {error!s:.300}")
        self._loading_s = 0.0
        return batch

    def _close(self) -> None:
        process, connection, server = self._process, self._connection, self._server
        self._process = self._child = self._connection = self._loaded = self._server = None
        if server is not None:
            server.close()
        if connection is not None:
            connection.close()
        if process is not None and self._owner == os.getpid():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the watcher and the child, in a session of their own
            process.wait()


CELL = Cell()
"""This process's own."""
atexit.register(CELL.close)

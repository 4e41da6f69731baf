"""What spreads shards over processes and machines: plain Ray tasks, one per shard, or a loop without Ray.

The work itself is an ordinary function of one frozen job. Whatever becomes of a job is yielded as an outcome;
nothing is lost because a neighbour failed.
"""

import logging
import os
import socket
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from curation.dataset.manifest import ShardReport
from curation.errors import ClusterError, DiskFullError, FaceCaptionError, LeaseError, UsageError
from curation.interrupts import handlers_kept
from curation.storage.fence import fenced
from curation.storage.lease import Lease, expect
from curation.storage.paths import is_local, refusal_of
from curation.storage.scratch import end_users_of, scratch_folder

log = logging.getLogger(__name__)

NUM_IN_FLIGHT_PER_WORKER = 2
NUM_TASK_RETRIES = 3
NUM_OOM_RETRIES = 2
"""How often Ray tries again after its memory monitor ended a worker; Ray's own default has no end."""
CONNECT_TIMEOUT_S = 10
NUM_STARTS = 2
START_WAIT_VARIABLE, START_WAIT_S = "RAY_gcs_server_port_wait_time_s", 120
"""How long a second start of Ray waits for its first process; the first start waits as long as Ray does by itself."""
START_HINT = (
    "run again when the machine is less busy, or with fewer --workers; --workers 0 needs no Ray; "
    "TMPDIR must name a folder with room for it, by a short path"
)


class Job(Protocol):
    """One shard's work: frozen, picklable, named; what its `lease` covers, where it has one, is fenced."""

    @property
    def shard(self) -> str:
        """Name of the shard."""
        ...


@dataclass(frozen=True)
class ShardFailure:
    """A shard that could not be finished, and why; the others go on."""

    shard: str
    error: str
    is_bug: bool = False
    """Whether an error that nobody foresaw stopped it; `error` then holds the traceback."""
    stops: FaceCaptionError | None = None
    """An error that every other shard would meet too: the run ends."""


Outcome = ShardReport | ShardFailure
OnOutcome = Callable[[Outcome], None]
"""Told of every outcome as it comes, for progress; changes nothing."""
J = TypeVar("J", bound=Job)
J_co = TypeVar("J_co", bound=Job, covariant=True)


class Jobs(Protocol[J_co]):
    """Jobs that are told one after the other, as often as they are asked for: all of them need not fit in memory."""

    def __len__(self) -> int:
        """Return their number."""
        ...

    def __iter__(self) -> Iterator[J_co]:
        """Yield all of them, in the same order each time."""
        ...


@runtime_checkable
class Expecting(Protocol):
    """An `OnOutcome` that wants to know first how many outcomes will come."""

    def expect(self, num_outcomes: int, lease: int | None = None) -> None:
        """Take the number, and that of the lease which the stage holds, where it holds one."""
        ...

    @property
    def tally(self) -> Path | None:
        """Where jobs say how many samples of a shard are done (`curation.run.tally`); None where nobody looks."""
        ...


@dataclass(frozen=True)
class Spread:
    """Where the work goes: how many workers, on which cluster, with how much of a GPU each."""

    num_workers: int = 1
    """0 runs in this process without Ray; otherwise the number of shards that are worked on at once."""
    ray_address: str | None = None
    """An existing cluster (`auto`, `host:port`, `ray://...`); None starts a private one on this machine."""
    num_gpus: float = 0.0


def run_shards(jobs: Jobs[J], work: Callable[[J], ShardReport], spread: Spread) -> Iterator[Outcome]:
    """Yield the outcome of `work` on every job, as they finish.

    Raises:
        UsageError: the Ray cluster cannot be reached.
        ClusterError: a private one does not start.
        DiskFullError: there is no room for more; what is committed stays.
        LeaseError: another run took the target over.
    """
    for outcome in _outcomes(jobs, work, spread):
        if isinstance(outcome, ShardFailure) and outcome.stops is not None:
            raise outcome.stops
        yield outcome


def _outcomes(jobs: Jobs[J], work: Callable[[J], ShardReport], spread: Spread) -> Iterator[Outcome]:
    if spread.num_workers == 0 or (len(jobs) == 1 and spread.ray_address is None):
        for job in jobs:  # one job alone, too: a cluster of one's own takes longer to start than it saves
            yield _attempt(work, job)
    elif len(jobs):
        with _ray(spread) as ray:
            yield from _run_on_ray(ray, jobs, work, spread)


def undone(job: Job) -> None:
    """Know of no job that it is done already."""


def run_all(
    jobs: Jobs[J],
    work: Callable[[J], ShardReport],
    spread: Spread,
    on_outcome: OnOutcome,
    done: Callable[[J], ShardReport | None] = undone,
) -> list[Outcome]:
    """Return the outcome of `work` on every job, each told to `on_outcome` as it comes, and their number before.

    What `done` returns a report for is not worked on again; where that is all of them, no Ray is started.

    Raises:
        FaceCaptionError: as `run_shards` does.
    """
    lease: Lease | None = getattr(next(iter(jobs), None), "lease", None)
    if lease is not None:
        expect(lease, len(jobs))
    if isinstance(on_outcome, Expecting):
        on_outcome.expect(len(jobs), None if lease is None else lease.number)
    reports = [done(job) for job in jobs]
    left = _Left(jobs, [report is not None for report in reports])
    outcomes: list[Outcome] = []
    for outcome in chain(filter(None, reports), run_shards(left, work, spread)):
        on_outcome(outcome)
        outcomes.append(outcome)
    return outcomes


@dataclass(frozen=True)
class _Left(Generic[J]):
    """The jobs that are not done yet."""

    jobs: Jobs[J]
    is_done: Sequence[bool]

    def __len__(self) -> int:
        return self.is_done.count(False)

    def __iter__(self) -> Iterator[J]:
        return (job for job, is_done in zip(self.jobs, self.is_done, strict=True) if not is_done)


def tally_of(on_outcome: OnOutcome) -> Path | None:
    """Return where jobs say how far they are, for whoever is told of outcomes; None where nobody looks."""
    told: object = on_outcome
    return told.tally if isinstance(told, Expecting) else None


def silent(outcome: Outcome) -> None:
    """Say nothing of an outcome."""


def _attempt(work: Callable[[J], ShardReport], job: J) -> Outcome:
    lease: Lease | None = getattr(job, "lease", None)
    try:
        if lease is not None and is_local(lease.folder):
            lease.require()  # before anything is made: a machine may lack the folder that all others share
        with nullcontext() if lease is None else fenced(lease.fence):
            return work(job)
    except (DiskFullError, LeaseError) as error:
        return ShardFailure(job.shard, str(error), stops=type(error)(str(error)))
    except FaceCaptionError as error:
        return ShardFailure(job.shard, str(error))
    except Exception as error:  # noqa: BLE001  one shard's bug must not stop the others; the traceback is kept
        refusal = refusal_of(error)
        if refusal is None:
            return ShardFailure(job.shard, traceback.format_exc(), is_bug=True)
        return ShardFailure(job.shard, str(refusal), stops=refusal if isinstance(refusal, DiskFullError) else None)


def _run_on_ray(ray: Any, jobs: Jobs[J], work: Callable[[J], ShardReport], spread: Spread) -> Iterator[Outcome]:
    task = ray.remote(_attempt).options(
        num_cpus=1, num_gpus=spread.num_gpus, max_retries=NUM_TASK_RETRIES, name=getattr(work, "__name__", "work")
    )
    waiting = iter(jobs)
    in_flight: dict[Any, J] = {}
    max_in_flight = NUM_IN_FLIGHT_PER_WORKER * spread.num_workers
    while True:
        while len(in_flight) < max_in_flight and (job := next(waiting, None)) is not None:
            in_flight[task.remote(work, job)] = job
        if not in_flight:
            return
        (reference,), _ = ray.wait(list(in_flight), num_returns=1)
        yield _outcome(ray, reference, in_flight.pop(reference))


def _outcome(ray: Any, reference: Any, job: Job) -> Outcome:
    """Unwrap what Ray brings back; only the loss of the worker itself arrives here as an exception.

    None of it counts against a picture: a living worker would have said so.
    """
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        return ShardFailure(job.shard, f"the task could not run on its worker: {error.cause!r}", is_bug=True)
    except ray.exceptions.OutOfMemoryError:
        return ShardFailure(job.shard, f"the worker was ended {NUM_OOM_RETRIES + 1} times because memory ran out")
    except ray.exceptions.TaskCancelledError:
        return ShardFailure(job.shard, "the task was cancelled; run again to go on")
    except ray.exceptions.RayError as error:
        what = "node" if isinstance(error, ray.exceptions.NodeDiedError) else "worker"
        return ShardFailure(job.shard, f"the {what} was lost {NUM_TASK_RETRIES + 1} times: {type(error).__name__}")
    return outcome


@contextmanager
def _ray(spread: Spread) -> Iterator[Any]:
    """Connect to the named cluster, or start a private one in a temporary folder of its own and end it afterwards.

    The address is always explicit: without one, Ray joins whatever cluster the host's current-cluster file names.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_task_oom_retries", str(NUM_OOM_RETRIES))
    import ray

    logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)  # says which mode it is in, each time
    common = {"logging_level": logging.ERROR, "log_to_driver": False, "configure_logging": False}
    with ExitStack() as stack:
        if spread.ray_address is None:
            folders = [stack.enter_context(scratch_folder("ray")) for _ in range(NUM_STARTS)]
        stack.callback(ray.shutdown)
        if spread.ray_address is None:
            with handlers_kept():
                _start(ray, folders, common | {"num_cpus": spread.num_workers, "include_dashboard": False})
        else:
            _connect(ray, spread.ray_address, common)
        yield ray


def _start(ray: Any, folders: Sequence[Path], settings: dict[str, Any]) -> None:
    """Start a private cluster in the first of these folders where it comes up.

    A busy machine gets a second chance, and more time for it. What cannot change in between is refused at once.

    Raises:
        ClusterError: Ray does not start; the message holds its reason, and what may help.
    """
    for number, folder in enumerate(folders, start=1):
        try:
            ray.init(address="local", _temp_dir=str(folder), **settings)
            return
        except Exception as error:
            end_users_of(folder)
            will_not_pass = isinstance(error, ValueError) or (isinstance(error, OSError) and error.errno is not None)
            if will_not_pass or number == len(folders):
                raise ClusterError(f"Ray does not start here: {' '.join(str(error).split())}; {START_HINT}") from error
            log.warning("Ray did not start, and is started once more: %s", error)
            os.environ[START_WAIT_VARIABLE] = str(START_WAIT_S)


def _connect(ray: Any, address: str, common: dict[str, Any]) -> None:
    """Join a cluster; a plain connection is tried first, since Ray itself waits many minutes for a dead address."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if port.isdecimal():
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
        with handlers_kept():
            ray.init(address=address, **common)
    except Exception as error:
        raise UsageError(f"--ray-address {address}: no Ray cluster answers there: {error}") from error

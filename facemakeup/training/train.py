"""`facecaptionhq train`: Face-MakeUp on the tars that `pack` wrote, resumable at any moment."""

import logging
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from curation.errors import UsageError
from facemakeup.data.batch import Batch, Loaded
from facemakeup.data.cache import plan_of
from facemakeup.data.dataset import TarDataset, batches, open_dataset
from facemakeup.data.order import batch
from facemakeup.faces.recognisers import load_recogniser
from facemakeup.faults import SampleFault
from facemakeup.model.encoders import Encoders
from facemakeup.model.facemakeup import FaceMakeUp
from facemakeup.train_config import TrainConfig
from facemakeup.training import checkpoint
from facemakeup.training.checkpoint import Checkpoint
from facemakeup.training.monitor import Monitor
from facemakeup.training.schedule import learning_rate
from facemakeup.training.tracking import LOG_NAME, JsonLinesTracker, Several, TensorBoard, Tracker
from facemakeup.training.trainer import Trainer
from facemakeup.training.validate import Judges, fixed_loss, show

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
WORK = "work"


@dataclass(frozen=True)
class Progress:
    """Where a run is."""

    step: int
    num_steps: int
    loss: float | None
    """Mean since the last report; None between reports."""


OnStep = Callable[[Progress], None]


def train(config: TrainConfig, patterns: Sequence[str], out: Path, resume: bool, on_step: OnStep) -> Checkpoint:
    """Train until `optim.num_steps`, and return the last checkpoint.

    `out` receives `checkpoints/`, `tensorboard/`, `log.jsonl`, `faults.jsonl` and `work/` (scans, fetched shards).
    Under `accelerate launch` every process calls this.

    Example:
        config = load_config(Path("mine.toml"))
        last = train(config, ["packed/*.tar"], Path("runs/mine"), resume=True, on_step=print)

    Raises:
        UsageError: `out` holds a run and `resume` is not asked for, or settings or data are not those of the run.
        DataError: too many samples cannot be used.
        VerificationError: no checkpoint of the run is whole.
        RecogniserError: the recogniser is not the one that the configuration names.
        KeyboardInterrupt: after the state was saved.
    """
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    saved = _left_off(out, resume)
    accelerator = Accelerator(mixed_precision="no")
    set_seed(config.seed)
    encoders = _encoders(config, accelerator.device)
    judges = _judges(config)
    dataset, held_out = open_dataset(patterns, config, plan_of(config, encoders), out / WORK)
    dataset = dataset.for_rank(accelerator.process_index, accelerator.num_processes)
    _require_fit(dataset, saved, config)
    trainer = Trainer(config, FaceMakeUp.from_config(config.model), encoders, accelerator)
    first = saved.step if saved is not None else 0
    tracker = _tracker(out, first + 1) if accelerator.is_main_process else Several([])
    monitor = Monitor(config, accelerator, tracker, out, trainer.objective.end)
    if saved is not None:
        _take_up(saved, trainer, monitor, accelerator.process_index)
    else:
        monitor.known(dataset.index.faults, len(dataset.index))
    run = Run(config, out, accelerator, trainer, monitor, tracker, dataset, held_out, judges)
    with closing(tracker):
        run.from_step(first, on_step)
    return checkpoint.read(checkpoint.folder_of(out / CHECKPOINTS, config.optim.num_steps))


def _left_off(out: Path, resume: bool) -> Checkpoint | None:
    """Return the checkpoint that a run goes on from, None where it begins."""
    saved = checkpoint.newest(out / CHECKPOINTS)
    if saved is not None and not resume:
        raise UsageError(
            f"{out}: holds a run at step {saved.step}; add --resume to go on with it, or give another --out"
        )
    return saved


def _encoders(config: TrainConfig, device: torch.device) -> Encoders:
    """Return the encoders on a device, in the precision of the run."""
    on_cpu = device.type == "cpu"  # accelerate numbers CPUs, nobody else does
    dtype = torch.bfloat16 if config.run.precision == "bf16" and not on_cpu else torch.float32
    return Encoders.load(config.model, "cpu" if on_cpu else str(device), dtype)


def _require_fit(dataset: TarDataset, saved: Checkpoint | None, config: TrainConfig) -> None:
    """Refuse ranks that cannot share a global batch, and a checkpoint of other settings or other data."""
    _ = dataset.accumulation
    if saved is not None:
        checkpoint.require_resumable(saved, config, dataset.digest)


def _take_up(saved: Checkpoint, trainer: Trainer, monitor: Monitor, rank: int) -> None:
    trainer.restore(saved.snapshot())
    monitor.take_up(saved.record["faults"], int(saved.record["num_seen"]), saved.step + 1)
    saved.restore_rng(rank)


class Run:
    """The loop around the steps, of one rank."""

    def __init__(
        self, config: TrainConfig, out: Path, accelerator: Any, trainer: Trainer, monitor: Monitor, tracker: Tracker,
        dataset: TarDataset, held_out: TarDataset, judges: Judges | None,
    ) -> None:  # fmt: skip
        """Keep the parts."""
        self._config, self._out, self._accelerator = config, out, accelerator
        self._trainer, self._monitor, self._tracker = trainer, monitor, tracker
        self._dataset, self._held_out, self._judges = dataset, held_out, judges

    def from_step(self, first: int, on_step: OnStep) -> None:
        """Do all steps that are left, with validation and checkpoints on the way."""
        config, last = self._config, self._config.optim.num_steps
        stream = batches(self._dataset, first, config.data.num_workers)
        with closing(stream), _interruptible() as interrupted:  # type: ignore[type-var]
            for step in range(first + 1, last + 1):
                result = self._trainer.step(step - 1, lambda: self._next(stream), self._dataset.accumulation)
                stops = self._accelerator.num_processes == 1 and interrupted()
                saves = step % config.checkpoint.every == 0 or step == last or stops
                self._monitor.took(result)
                is_due = saves or step % config.run.log_every == 0
                loss = self._monitor.report(step, learning_rate(config.optim, step - 1)) if is_due else None
                on_step(Progress(step, last, loss))
                if step % config.validation.every == 0 or step == last:
                    self._validate(step)
                if saves:
                    self._save(step)
                if stops and step < last:
                    raise KeyboardInterrupt

    def _next(self, stream: Iterator[Loaded]) -> Batch:
        started = time.perf_counter()
        loaded = next(stream)
        self._monitor.waited(time.perf_counter() - started)
        self._monitor.loaded(loaded)
        return loaded.batch

    def _save(self, step: int) -> None:
        """Write a checkpoint; all ranks bring what they hold, the first one writes."""
        folder, accelerator = self._out / CHECKPOINTS, self._accelerator
        snapshot = self._trainer.snapshot(step, self._monitor.faults, self._monitor.num_seen, self._dataset.digest)
        checkpoint.save_rng(folder, step, accelerator.process_index)
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            keep = self._config.checkpoint.keep
            checkpoint.save(folder, snapshot, self._config, accelerator.num_processes, keep)
        accelerator.wait_for_everyone()

    def _validate(self, step: int) -> None:
        """Look at the average of the weights, where one is kept."""
        config, trainer, accelerator = self._config, self._trainer, self._accelerator
        shares = 1 if config.run.fsdp else accelerator.num_processes
        average = trainer.ema.in_place_of(trainer.parameters) if trainer.ema is not None else nullcontext()
        trainer.model.eval()
        passed_over: list[SampleFault] = []
        with average:
            mine = self._held_out_batches(accelerator.process_index % shares, shares, passed_over)
            totals = fixed_loss(trainer, mine, config, accelerator.device)
            if shares > 1:
                totals = accelerator.reduce(totals, "sum")
            sums, counts = totals.cpu()
            values = {"validation/loss": float(sums.sum() / counts.sum())}
            values |= {f"validation_by_timestep/{i}": float(sums[i] / counts[i]) for i in range(len(counts))}
            if config.validation.num_references and (accelerator.is_main_process or config.run.fsdp):
                first = next(self._held_out_batches(0, 1, [])).to(accelerator.device)
                shown = show(trainer, first, config, self._judges)
                values |= {f"validation/{name}": value for name, value in shown.numbers.items()}
                self._tracker.image(step, "validation/grid", shown.grid)
        trainer.model.train()
        trainer.model.require_fp32_trainables()
        self._monitor.passed_over(step, passed_over)
        self._tracker.scalars(step, values)

    def _held_out_batches(self, rank: int, world: int, passed_over: list[SampleFault]) -> Iterator[Batch]:
        """Yield this rank's share of the validation set, each sample once; what cannot be used is put on the list."""
        order, num = self._held_out.order, self._config.validation.num_samples
        for number in range(rank, -(-num // order.batch_size), world):
            places = [place for place in batch(order, number) if place.position < num]
            loaded = self._held_out.load(places)
            passed_over += loaded.faults
            yield loaded.batch


def _judges(config: TrainConfig) -> Judges | None:
    """Load what validation needs, and check the recogniser, before any step is done."""
    recogniser = load_recogniser(config.model.recogniser, config.faces.accept_noncommercial)
    if not config.validation.facesim or not config.validation.num_references:
        return None
    from filters import faces

    return Judges(faces.build(config.validation.detector, "cpu"), recogniser)


def _tracker(out: Path, first_step: int) -> Tracker:
    return Several([TensorBoard(out / "tensorboard", first_step), JsonLinesTracker(out / LOG_NAME, first_step)])


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Let SIGINT and SIGTERM end the step first; yield what says whether one came."""
    came: list[int] = []
    old = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in old:
            signal.signal(number, lambda received, _: came.append(received))
    except ValueError:  # not the main thread: nothing is caught
        old = {}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)

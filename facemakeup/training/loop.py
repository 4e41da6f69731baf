"""The loop around the optimiser steps, of one rank: what is reported, saved and looked at on the way."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from facemakeup.data.batch import Batch, Loaded
from facemakeup.data.dataset import TarDataset, batches
from facemakeup.data.order import batch
from facemakeup.faults import DataError, SampleFault
from facemakeup.model.send import Beside
from facemakeup.train_config import TrainConfig
from facemakeup.training import checkpoint
from facemakeup.training.interruption import Interrupted, interruptible
from facemakeup.training.mirror import Mirror
from facemakeup.training.monitor import Monitor
from facemakeup.training.patience import VALIDATED, Best, best_awaited
from facemakeup.training.ranks import Ranks
from facemakeup.training.schedule import learning_rate
from facemakeup.training.tracking import LOG_NAME, Tracker, holds
from facemakeup.training.trainer import Trainer
from facemakeup.training.validate import Judges, Shown, fixed_loss, show

T = TypeVar("T")
log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Progress:
    """Where a run is."""

    step: int
    num_steps: int
    loss: float | None
    """Mean since the last report; None between reports."""


OnStep = Callable[[Progress], None]


@dataclass(frozen=True)
class Run:
    """The parts of a run, of one rank."""

    config: TrainConfig
    out: Path
    accelerator: Any
    ranks: Ranks
    trainer: Trainer
    monitor: Monitor
    tracker: Tracker
    dataset: TarDataset
    held_out: TarDataset
    judges: Judges | None
    copies: Beside
    mirror: Mirror | None
    """Where checkpoints go, too."""

    def from_step(self, first: int, on_step: OnStep) -> int:
        """Do the steps that are left, with checkpoints and validation on the way, and return how many are done then.

        A checkpoint comes before the validation of its step, so that of `first` is made up for where the run ended
        in between. Validations that get no better end it earlier, where the configuration says so.

        Raises:
            Interrupted: a signal came to any rank; the state is saved.
        """
        config, last = self.config, self.config.optim.num_steps
        stream = batches(self.dataset, first, config.data.num_workers)
        with closing(stream), interruptible() as came:  # type: ignore[type-var]
            if self._owes_validation(first):
                self._validate(first)
            if self._has_stalled():
                return first
            for step in range(first + 1, last + 1):
                result = self.trainer.step(step - 1, lambda: self._next(stream), self.dataset.accumulation)
                signal = self.ranks.largest(came())
                saves = step % config.checkpoint.every == 0 or step == last or signal > 0
                self.monitor.took(step, result)
                is_due = saves or step % config.run.log_every == 0
                loss = self.monitor.report(step, learning_rate(config.optim, step - 1)) if is_due else None
                self.ranks.together(partial(on_step, Progress(step, last, loss)))
                if saves:
                    self._save(step)
                if signal and step < last:
                    raise Interrupted(signal, step)
                if self._validates(step):
                    self._validate(step)
                    if self._has_stalled():
                        return step
        return last

    def _next(self, stream: Iterator[Loaded]) -> Batch:
        """Return a micro batch once every rank has one: the forward pass is where they first wait for each other."""
        return self.ranks.together(lambda: self._read(stream))

    def _read(self, stream: Iterator[Loaded]) -> Batch:
        started = time.perf_counter()
        loaded = next(stream)
        self.monitor.waited(time.perf_counter() - started)
        self.monitor.loaded(loaded)
        return self.copies.send(loaded.batch)

    def _validates(self, step: int) -> bool:
        return step > 0 and (step % self.config.validation.every == 0 or step == self.config.optim.num_steps)

    def _owes_validation(self, step: int) -> bool:
        """Whether the validation of a step is due and not in the log, which the first rank alone keeps."""
        if not self._validates(step):
            return False
        kept = self.out / LOG_NAME
        lacks = self.ranks.together(lambda: self.is_first and not holds(kept, step, VALIDATED))
        return self.ranks.largest(int(lacks)) > 0

    def _save(self, step: int) -> None:
        """Write a checkpoint; all ranks bring what they hold, the first one writes, and all hear how it went."""
        folder, monitor = self.out / CHECKPOINTS, self.monitor
        total = monitor.skips.total
        snapshot = self.trainer.snapshot(step, monitor.faults, monitor.num_seen, self.dataset.digest, total)
        self.ranks.together(lambda: checkpoint.save_rng(folder, step, self.ranks.rank))

        def write() -> None:
            keep, best = self.config.checkpoint.keep, self._best()
            kept = best.step if best is not None else None
            checkpoint.save(folder, snapshot, self.config, self.ranks.world, keep, kept)
            if self.mirror is not None:
                self.mirror.send_log(self.out / LOG_NAME)
                self.mirror.send(folder, step, keep, kept)

        self.ranks.together(lambda: write() if self.is_first else None)

    def _best(self) -> Best | None:
        """Return the best validation, where the run waits for a better one; the first rank alone knows."""
        return best_awaited(self.out / LOG_NAME, self.config.validation)

    def _has_stalled(self) -> bool:
        """Whether so many validations have brought nothing better that the run ends; all ranks hear the same."""
        patience, name = self.config.validation.patience, self.config.validation.patience_for
        if patience is None:
            return False
        best = self.ranks.together(lambda: self._best() if self.is_first else None)
        if best is not None and best.num_since >= patience:
            where = checkpoint.folder_of(self.out / CHECKPOINTS, best.step)
            said = f"{name} was best at step {best.step} ({best.value:.4g})"
            log.warning("the run ends: %s, and no better in %d validations since: %s", said, best.num_since, where)
        return self.ranks.largest(int(best is not None and best.num_since >= patience)) > 0

    @property
    def is_first(self) -> bool:
        """Whether this rank writes what one rank alone has to write."""
        return self.ranks.rank == 0

    def require_held_out(self) -> list[SampleFault]:
        """Read the whole validation set, and return what of this rank's share cannot be used.

        Raises:
            DataError: a seat finds no usable sample.
        """
        faults: list[SampleFault] = []
        try:
            for _ in self._held_out_batches(*self._share, faults):
                pass
        except DataError as error:
            raise DataError(f"the validation set: {error}") from error
        return faults if self._share != (0, 1) or self.is_first else []

    @property
    def _share(self) -> tuple[int, int]:
        """Which part of the validation set this rank looks at: sharded weights need every rank for every batch."""
        return (0, 1) if self.config.run.fsdp else (self.ranks.rank, self.ranks.world)

    def _validate(self, step: int) -> None:
        """Look at the average of the weights, where one is kept, and at the weights themselves."""
        config, trainer = self.config, self.trainer
        trainer.model.eval()
        values: dict[str, float] = {}
        if trainer.ema is not None:
            sums, counts = self._fixed_loss()
            values["validation/loss_of_last"] = float(sums.sum() / counts.sum())
        with trainer.averaged():
            sums, counts = self._fixed_loss()
            values[VALIDATED] = float(sums.sum() / counts.sum())
            values |= {f"validation_by_timestep/{i}": float(sums[i] / counts[i]) for i in range(len(counts))}
            draws = config.validation.num_references and (self.is_first or config.run.fsdp)
            # here the others wait for the grid, not in the next step, where a GPU's patience ends
            shown = self._apart(lambda: self._shown() if draws else None)
        trainer.model.train()
        trainer.model.require_fp32_trainables()
        self.ranks.together(lambda: self._record(step, values, shown))

    def _record(self, step: int, values: dict[str, float], shown: Shown | None) -> None:
        if shown is not None:
            values |= {f"validation/{name}": value for name, value in shown.numbers.items()}
            self.tracker.image(step, "validation/grid", shown.grid)
        self.tracker.scalars(step, values)
        if self.mirror is not None and self.is_first:
            self.mirror.send_log(self.out / LOG_NAME)

    def _shown(self) -> Shown:
        shown = replace(self, held_out=self.held_out.with_pixels())
        first = next(shown._held_out_batches(0, 1, [])).to(self.accelerator.device)
        return show(self.trainer, first, self.config, self.judges)

    def _apart(self, act: Callable[[], T]) -> T:
        """Do what each rank does for itself, and hear how it went; sharded weights bring all together inside of it."""
        return act() if self.config.run.fsdp else self.ranks.together(act)

    def _fixed_loss(self) -> Tensor:
        """Return sums and counts of the validation loss over all ranks, on the CPU."""
        mine = self._held_out_batches(*self._share, [])
        device = self.accelerator.device
        totals = self._apart(lambda: fixed_loss(self.trainer, mine, self.config, device))
        if self._share[1] > 1:
            totals = self.accelerator.reduce(totals, "sum")
        return totals.cpu()

    def _held_out_batches(self, rank: int, world: int, passed_over: list[SampleFault]) -> Iterator[Batch]:
        """Yield a share of the validation set, each sample once; what cannot be used is put on the list.

        Sharded weights bring all ranks together within a batch, so there they agree on each that it could be read.
        """
        order, num = self.held_out.order, self.config.validation.num_samples
        for number in range(rank, -(-num // order.batch_size), world):
            places = [place for place in batch(order, number) if place.position < num]
            load = partial(self.held_out.load, places)
            loaded = self.ranks.together(load) if self.config.run.fsdp else load()
            passed_over += loaded.faults
            yield loaded.batch

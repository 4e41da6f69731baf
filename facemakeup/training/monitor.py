"""What a run says of itself while it runs: losses, speed, waiting, and every sample that it could not use."""

import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from facemakeup.data.batch import Loaded
from facemakeup.data.references import REFERENCE_NOTES
from facemakeup.faults import FaultLimit, SampleFault, some
from facemakeup.model.loss import bucket_losses
from facemakeup.train_config import TrainConfig
from facemakeup.training.ranks import Ranks
from facemakeup.training.soundness import Skips
from facemakeup.training.tracking import Tracker, keep_lines_before
from facemakeup.training.trainer import StepResult

FAULTS_NAME = "faults.jsonl"
NUM_BUCKETS = 10
CACHED = ("identity", "latents", "face")
CACHE_NOTES = tuple(f"{kind}_{status}" for kind in CACHED for status in ("hit", "missing", "stale"))
NOTES = (*CACHE_NOTES, *REFERENCE_NOTES, "mask_hit", "mask_missing")


class Monitor:
    """Adds up what one rank sees, and when a report is due brings the ranks together.

    All ranks call the same methods at the same steps.
    """

    def __init__(
        self, config: TrainConfig, accelerator: Any, ranks: Ranks, tracker: Tracker, out: Path, end: float
    ) -> None:
        """Keep where to report; nothing is counted yet. Timesteps lie in 0..end."""
        self._accelerator, self._ranks, self._tracker = accelerator, ranks, tracker
        self._faults_path = out / FAULTS_NAME
        self._end = end
        self._limit = FaultLimit(config.data.max_fault_fraction, config.data.min_faults)
        self.faults: Counter[str] = Counter()
        self.skips = Skips(ranks, out, config.run.max_nonfinite_in_a_row)
        self.num_seen = 0
        self._examples: list[SampleFault] = []
        self._begin()

    def take_up(self, faults: Mapping[str, int], num_seen: int, num_skipped: int, first_step: int) -> None:
        """Go on counting from a checkpoint; what was written after it goes."""
        self.faults, self.num_seen = Counter(faults), num_seen
        self.skips.take_up(num_skipped, first_step)
        self._ranks.together(lambda: keep_lines_before(self._faults_path, first_step) if self._is_first else None)

    def known(self, faults: tuple[SampleFault, ...], num_samples: int) -> None:
        """Report what the index already knows to be unusable.

        Raises:
            DataError: it is too much.
        """
        self._write(0, list(faults))
        self._limit.require(Counter(fault.reason for fault in faults), num_samples + len(faults), faults)

    def waited(self, seconds: float) -> None:
        """Add time that was spent waiting for data."""
        self._waited_s += seconds

    def loaded(self, loaded: Loaded) -> None:
        """Take in what came with a micro batch."""
        self._new += loaded.faults
        self._notes.update(loaded.notes)

    def passed_over(self, faults: list[SampleFault]) -> None:
        """Report samples of the validation set that cannot be used; the ranks' lists have none in common."""
        gathered = [fault for mine in self._ranks.gathered(faults) for fault in mine]
        self.faults.update(fault.reason for fault in gathered)
        self._write(0, gathered)

    def took(self, step: int, result: StepResult) -> None:
        """Take in an optimiser step; the losses of one that was left out count as samples seen, and as no loss."""
        sums, counts = bucket_losses(result.per_sample_B, result.timesteps_B, self._end, NUM_BUCKETS)
        self._sums += torch.where(result.is_sound, torch.stack([sums, counts.to(sums.dtype)]), 0)
        for name, told in result.terms.items():
            self._terms[name] = self._terms.get(name, torch.zeros_like(told)) + torch.where(result.is_sound, told, 0)
        self._num_seen += len(result.uids)
        self._norm = result.gradient_norm
        self.skips.took(step, result.is_sound, result.uids)

    def report(self, step: int, learning_rate: float) -> float:
        """Bring the ranks together, write what was seen since the last report, and return the mean loss.

        Raises:
            DataError: too many samples could not be used.
            NonFiniteError: too many steps in a row were left out.
        """
        from accelerate.utils import gather_object

        self.skips.look()
        sums, counts = self._accelerator.reduce(self._sums, "sum").cpu().double()
        faults = gather_object(self._new)
        notes = self._accelerator.reduce(
            torch.tensor([self._notes[note] for note in NOTES], device=self._accelerator.device), "sum"
        ).tolist()
        self.faults.update(fault.reason for fault in faults)
        num_seen = sum(self._ranks.gathered(self._num_seen))
        self.num_seen += num_seen + len(faults)
        loss, elapsed_s = float(sums.sum() / counts.sum()), time.perf_counter() - self._started
        values = {
            "train/loss": loss,
            "train/gradient_norm": float(self._norm),
            "train/learning_rate": learning_rate,
            "speed/samples_per_s": num_seen / elapsed_s,
            "speed/data_wait_fraction": self._waited_s / elapsed_s,
            "data/faults": float(self.faults.total()),
            "train/steps_left_out": float(self.skips.total),
            **{f"loss_by_timestep/{i}": float(sums[i] / counts[i]) for i in range(NUM_BUCKETS) if counts[i]},
            **{_named(note): float(n) for note, n in zip(NOTES, notes, strict=True) if n},
            **self._terms_told(),
        }
        self._write(step, faults, values)
        self._examples = some([*self._examples, *faults])
        self._limit.require(self.faults, self.num_seen, self._examples)
        self._begin()
        return loss

    def _terms_told(self) -> dict[str, float]:
        """Return the mean of each term of the loss over the samples that it says something of, on all ranks."""
        told = {}
        for name in sorted(self._terms):
            total, num = self._accelerator.reduce(self._terms[name], "sum").tolist()
            if num:
                told[f"train/{name}_loss"] = total / num
        return told

    def _begin(self) -> None:
        self._started = time.perf_counter()
        self._waited_s = 0.0
        self._num_seen = 0
        self._new: list[SampleFault] = []
        self._notes: Counter[str] = Counter()
        self._terms: dict[str, torch.Tensor] = {}
        self._sums = torch.zeros(2, NUM_BUCKETS, device=self._accelerator.device)
        self._norm = torch.zeros(())

    @property
    def _is_first(self) -> bool:
        return self._ranks.rank == 0

    def _write(self, step: int, faults: list[SampleFault], values: Mapping[str, float] = MappingProxyType({})) -> None:
        """Let the first rank write; every rank calls this, and hears how it went."""
        self._ranks.together(lambda: self._written(step, faults, values) if self._is_first else None)

    def _written(self, step: int, faults: list[SampleFault], values: Mapping[str, float]) -> None:
        with self._faults_path.open("a", encoding="utf-8") as file:
            for fault in faults:
                file.write(json.dumps({"step": step, **asdict(fault)}) + "\n")
        if values:
            self._tracker.scalars(step, values)


def _named(note: str) -> str:
    """Return what a note is called in the log."""
    kind, _, status = note.partition("_")
    return f"cache/{note}" if note in CACHE_NOTES else f"{kind}/{status}"

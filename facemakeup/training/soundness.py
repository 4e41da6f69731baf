"""Steps whose gradient is not finite: left out, counted, named, and the run stopped where they do not cease.

Whether a step is sound is decided on the device by the norm of the whole gradient, which all ranks have alike. The host
asks only now and then, so that it does not wait for a GPU after every step.
"""

import json
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facemakeup.model.finite import NonFiniteError
from facemakeup.training.ranks import Ranks
from facemakeup.training.tracking import keep_lines_before

log = logging.getLogger(__name__)

SKIPPED_NAME = "skipped.jsonl"


def change_if(is_sound: Tensor, optimizer: Any) -> None:
    """Let an optimiser step where the gradient is sound; a fused one decides on the GPU, and nobody waits for it."""
    if optimizer.defaults["fused"]:
        optimizer.found_inf = (~is_sound).float()  # how torch's GradScaler tells a fused optimiser to do nothing
    if optimizer.defaults["fused"] or is_sound:
        optimizer.step()


class Skips:
    """Keeps which steps were left out; all ranks call the same methods at the same steps."""

    def __init__(self, ranks: Ranks, out: Path, most_in_a_row: int) -> None:
        """Keep where to report."""
        self._ranks, self._path, self._most = ranks, out / SKIPPED_NAME, most_in_a_row
        self.total = 0
        self._in_a_row = 0
        self._waiting: list[tuple[int, Tensor, tuple[str, ...]]] = []

    def take_up(self, total: int, first_step: int) -> None:
        """Go on counting from a checkpoint; what was written after it goes."""
        self.total = total
        self._ranks.together(lambda: keep_lines_before(self._path, first_step) if self._ranks.rank == 0 else None)

    def took(self, step: int, is_sound: Tensor, uids: tuple[str, ...]) -> None:
        """Take in a step and the samples that this rank saw in it."""
        self._waiting.append((step, is_sound, uids))
        if len(self._waiting) >= self._most:
            self.look()

    def look(self) -> None:
        """Count the steps that were left out since the last look.

        Raises:
            NonFiniteError: too many came in a row; names those steps and the last one's samples. Sound steps may have
                come since, for the look comes now and then.
        """
        waiting, self._waiting = self._waiting, []
        sound = torch.stack([is_sound for _, is_sound, _ in waiting]).tolist() if waiting else []
        for (step, _, mine), is_sound in zip(waiting, sound, strict=True):
            self._in_a_row = 0 if is_sound else self._in_a_row + 1
            if not is_sound:
                self._skipped(step, [uid for uids in self._ranks.gathered(mine) for uid in uids])

    def _skipped(self, step: int, uids: list[str]) -> None:
        self.total += 1
        if self._ranks.rank == 0:
            log.warning("step %d left out: its gradient is not finite; its samples: %s", step, ", ".join(uids))
        self._ranks.together(lambda: self._write(step, uids) if self._ranks.rank == 0 else None)
        if self._in_a_row >= self._most:
            raise NonFiniteError(
                f"steps {step - self._in_a_row + 1} to {step}: the gradient of {self._in_a_row} steps in a row is not "
                f"finite (run.max_nonfinite_in_a_row). Look at optim.learning_rate, at the base model, and at these "
                f"samples of step {step}: {', '.join(uids)}"
            )

    def _write(self, step: int, uids: list[str]) -> None:
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, "uids": uids}) + "\n")

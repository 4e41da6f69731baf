"""When a run ends before its last step: its validations have not got better for some time.

A pure function of the log, so that a run that is resumed knows as much as one that was not stopped.
"""

from dataclasses import dataclass
from pathlib import Path

from facemakeup.train_config import ValidationSettings
from facemakeup.training.tracking import MEASURED_BY, lines_of

VALIDATED = "validation/loss"
"""In the log where a validation was finished."""


@dataclass(frozen=True)
class Best:
    """The best validation so far."""

    step: int
    value: float
    num_since: int
    """Validations after it."""


def best_awaited(log: Path, settings: ValidationSettings, last: int | None = None) -> Best | None:
    """Return the best validation in a log up to a step, where the run waits for a better one; its checkpoint stays."""
    return best_of(log, settings.patience_for, last, settings.digest) if settings.patience else None


def best_of(log: Path, name: str, last: int | None = None, measured_by: str | None = None) -> Best | None:
    """Return the first of the best validations in a log by one of its numbers; None where none has that number.

    Steps after `last` do not count. Nor do, where `measured_by` is given, validations that say to be by other settings,
    as before a run went on with others: their numbers are of other samples, timesteps or pictures.

    A loss is better where it is lower, all else where it is higher; a validation without the number (no face was
    found) is not better than any.
    """
    sign = -1 if "loss" in name else 1
    best: Best | None = None
    for _, line in lines_of(log):
        if VALIDATED not in line or (last is not None and line["step"] > last):
            continue
        if measured_by is not None and line.get(MEASURED_BY, measured_by) != measured_by:
            continue
        value = line.get(name)
        if value is not None and (best is None or sign * value > sign * best.value):
            best = Best(line["step"], value, 0)
        elif best is not None:
            best = Best(best.step, best.value, best.num_since + 1)
    return best

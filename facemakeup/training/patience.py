"""When a run ends before its last step: its validations have not got better for some time.

A pure function of the log, so that a run that is resumed knows as much as one that was not stopped.
"""

import json
from dataclasses import dataclass
from pathlib import Path

VALIDATED = "validation/loss"
"""In the log where a validation was finished."""


@dataclass(frozen=True)
class Best:
    """The best validation so far."""

    step: int
    value: float
    num_since: int
    """Validations after it."""


def best_of(log: Path, name: str) -> Best | None:
    """Return the first of the best validations in a log by one of its numbers; None where none has that number.

    A loss is better where it is lower, all else where it is higher; a validation without the number (no face was
    found) is not better than any.
    """
    sign = -1 if "loss" in name else 1
    best: Best | None = None
    for line in map(json.loads, log.read_text(encoding="utf-8").splitlines() if log.is_file() else []):
        if VALIDATED not in line:
            continue
        value = line.get(name)
        if value is not None and (best is None or sign * value > sign * best.value):
            best = Best(line["step"], value, 0)
        elif best is not None:
            best = Best(best.step, best.value, best.num_since + 1)
    return best

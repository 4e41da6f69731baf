"""Where a run's numbers and pictures go: a small protocol, TensorBoard and JSON lines behind it."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from curation.storage.publish import publish_alone
from filters.base import RgbImage

LOG_NAME = "log.jsonl"
MEASURED_BY = "measured_by"
"""In a line: digest of the settings by which its numbers came about, where that was said."""


class Tracker(Protocol):
    """Takes what a run reports."""

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers by name."""
        ...

    def image(self, step: int, name: str, rgb: RgbImage) -> None:
        """Record a picture, uint8 (H, W, 3)."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


class TensorBoard:
    """Event files in a folder; what a killed run wrote from `first_step` on is shown no more."""

    def __init__(self, folder: Path, first_step: int) -> None:
        """Open the folder."""
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=first_step)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers by name."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def image(self, step: int, name: str, rgb: RgbImage) -> None:
        """Record a picture."""
        self._writer.add_image(name, rgb, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class JsonLinesTracker:
    """One JSON object per line, `step` and `time` first; lines from `first_step` on are removed at the start."""

    def __init__(self, path: Path, first_step: int, measured_by: Mapping[str, str] = MappingProxyType({})) -> None:
        """Open the file.

        `measured_by` says by which settings a number comes about: lines with that number have it as `MEASURED_BY`.
        """
        keep_lines_before(path, first_step)
        self._file, self._measured_by = path.open("a", encoding="utf-8"), dict(measured_by)

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers by name."""
        known = {name: value if math.isfinite(value) else None for name, value in values.items()}  # JSON has no NaN
        by = next((settings for name, settings in self._measured_by.items() if name in values), None)
        line = {"step": step, "time": time.time(), **known} | ({} if by is None else {MEASURED_BY: by})
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def image(self, step: int, name: str, rgb: RgbImage) -> None:
        """Pictures are not for JSON."""

    def close(self) -> None:
        """Write what is left."""
        self._file.close()


class Several:
    """Hands everything on to each of several trackers."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        """Keep them."""
        self._trackers = trackers

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Record numbers by name."""
        for tracker in self._trackers:
            tracker.scalars(step, values)

    def image(self, step: int, name: str, rgb: RgbImage) -> None:
        """Record a picture."""
        for tracker in self._trackers:
            tracker.image(step, name, rgb)

    def close(self) -> None:
        """Write what is left."""
        for tracker in self._trackers:
            tracker.close()


def lines_of(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each line of a file of JSON lines, as `JsonLinesTracker` keeps it, and what it says.

    One that a kill cut short is passed over; a file that is not there has none.
    """
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        with suppress(ValueError):
            yield line, json.loads(line)


def holds(path: Path, step: int, name: str) -> bool:
    """Whether a file of JSON lines has this number of this step."""
    return any(said["step"] == step and name in said for _, said in lines_of(path))


def keep_lines_before(path: Path, first_step: int) -> None:
    """Remove from a file of JSON lines those of steps from `first_step` on, and a line that a kill cut short.

    A kill meanwhile leaves the file as it was.
    """
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        return
    kept = "".join(f"{line}\n" for line, said in lines_of(path) if said["step"] < first_step)
    publish_alone(path, lambda temp: temp.write_text(kept, encoding="utf-8"))

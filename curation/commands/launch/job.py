"""What is launched: one curation on many machines, with what it asks of them."""

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curation.arguments import THIS_DISK
from curation.errors import UsageError
from curation.storage.paths import location

SAFETY = 1.5
"""A launcher's time limit is this many times what was forecast."""


@dataclass(frozen=True)
class FleetJob:
    """One curation, and the machines that it is to run on."""

    source: str
    target: str
    recipe: str
    num_workers: int
    """Shards that are worked on at once, over all machines."""
    num_node_cpus: int
    """Cores of one machine: as many workers, or as many as its GPUs carry."""
    gib_per_worker: int
    """Memory of one worker, GiB."""
    num_gpus: float = 0.0
    """Share of a GPU that each worker takes, as the recipe says."""
    hours: float | None = None
    """What `plan` forecasts with so many workers; None where nothing was forecast."""
    image: str = "facecaptionhq:latest"
    on_spot: bool = False
    """Whether machines may vanish at any moment."""
    redis: str | None = None
    """Address of the Redis in which a head keeps its state, so that it may die; None does without."""

    @property
    def num_nodes(self) -> int:
        """How many machines it takes."""
        return math.ceil(self.num_workers / self.num_node_cpus)

    @property
    def num_node_gpus(self) -> int:
        """Whole GPUs of one machine."""
        return math.ceil(self.num_gpus * min(self.num_node_cpus, self.num_workers))

    @property
    def node_gib(self) -> int:
        """Memory of one machine, GiB."""
        return self.gib_per_worker * min(self.num_node_cpus, self.num_workers)

    @property
    def limit(self) -> str | None:
        """The time limit as Slurm writes it (`days-hours:00:00`); None where nothing was forecast."""
        if self.hours is None:
            return None
        hours = max(1, math.ceil(SAFETY * self.hours))
        return f"{hours // 24}-{hours % 24:02d}:00:00"

    def from_anywhere(self) -> "FleetJob":
        """Return the same with paths that mean the same from any folder: a script runs where it was submitted."""
        recipe = _absolute(self.recipe) if Path(self.recipe).is_file() else self.recipe  # else one of the package's
        return replace(self, source=_absolute(self.source), target=_absolute(self.target), recipe=recipe)

    def line(self, *more: str) -> str:
        """Return the call of `curate` for a shell, with some more words."""
        return shlex.join(["facecaptionhq", "curate", self.source, self.target, "--recipe", self.recipe, *more])


def _absolute(text: str) -> str:
    """Return a path of a disk from its root on, links as they are; an address of a store as it is."""
    is_of_a_disk = "://" not in text or text.partition("://")[0].lower() in THIS_DISK
    return str(location(text).absolute()) if is_of_a_disk else text


def hours_of(forecast: Path, num_workers: int) -> float:
    """Return how many hours `curate` takes with so many workers, by what `plan --json` printed.

    Raises:
        UsageError: the file is not that.
    """
    try:
        values: Mapping[str, Any] = json.loads(forecast.read_text(encoding="utf-8"))
        return float(values["stages"]["curate"]["hours"]) * float(values["num_workers"]) / max(1, num_workers)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{forecast}: not what `plan --json` prints: {error}") from error

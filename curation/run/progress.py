"""Tells of shards while they are done: a bar on a terminal, a line per shard and per minute elsewhere."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Event, Thread

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from curation.dataset.manifest import ShardReport
from curation.run.logs import STDERR, json_log, log_outcome
from curation.run.metrics import Watched, watching
from curation.run.runner import OnOutcome, Outcome, ShardFailure
from curation.run.text import tell_outcome

MINUTE_S = 60.0


@contextmanager
def progress(
    stage: str,
    log_json: str | None = None,
    *,
    done: str = "committed",
    quiet: bool = False,
    metrics: Path | None = None,
) -> Iterator[OnOutcome]:
    """Yield what to call for every outcome; all of it goes to stderr, and with `log_json` JSON lines to that file.

    On a terminal one line says how many shards of how many are done, what was seen and kept, and how long the rest will
    take at the rate so far; elsewhere there is a line per shard, and one a minute while none ends. A failed shard is
    told of in any case, but where the JSON lines themselves go to stderr; with `quiet` no other is. Where it is
    interrupted, it says how much was done until then. `metrics` is a textfile for Prometheus (`curation.run.metrics`).
    """
    console = Console(stderr=True, quiet=log_json == STDERR)
    what, rest = TextColumn("{task.description}"), TextColumn("{task.fields[rest]}")
    columns = (SpinnerColumn(), what, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), rest)
    disable = not console.is_terminal or console.quiet or quiet
    shown = Progress(*columns, console=console, disable=disable)
    with json_log(log_json), watching(stage, metrics) as watched, shown as bar:
        told = Told(stage, done, console, bar, watched, speaks=not (console.is_terminal or quiet))
        with told.every_minute():
            try:
                yield told
            except KeyboardInterrupt:
                told.line(f"interrupted; {told.num_new} shards were {done} by this call")
                raise


class Told:
    """What was told of a stage so far."""

    def __init__(
        self, stage: str, done: str, console: Console, bar: Progress, watched: Watched, *, speaks: bool
    ) -> None:
        """Begin; `speaks` says whether a shard that is done gets a line of its own."""
        self.stage, self.done, self.console, self.bar, self.speaks = stage, done, console, bar, speaks
        self.watched = watched
        self.num_told = self.num_done = self.num_new = self.num_seen = self.num_kept = 0
        self.begun = time.time()
        self.total: int | None = None
        self.start = self.last = time.monotonic()
        self.task = bar.add_task(f"{stage}: shards {done}", total=None, rest="")

    def expect(self, num_outcomes: int) -> None:
        """Take the number of shards that there are to do."""
        self.total, self.start = num_outcomes, time.monotonic()
        self.watched.expect(num_outcomes)
        self.bar.update(self.task, total=num_outcomes)

    def __call__(self, outcome: Outcome) -> None:
        """Tell of one shard."""
        log_outcome(self.stage, outcome)
        has_failed = isinstance(outcome, ShardFailure)
        self.watched.count(outcome, is_new=isinstance(outcome, ShardReport) and self._is_new(outcome))
        self.num_told += 1
        if not isinstance(outcome, ShardFailure):
            self.num_done += 1
            self.num_new += self._is_new(outcome)
            self.num_seen += outcome.num_seen
            self.num_kept += outcome.num_kept
            self.bar.update(self.task, advance=1, rest=self.counts)
        if has_failed or self.speaks:
            self.console.print(Text(tell_outcome(self.stage, outcome)), soft_wrap=True)
            self.last = time.monotonic()

    @property
    def counts(self) -> str:
        """What was seen and kept, and how long the rest takes at the rate so far."""
        counts = f"{self.num_seen:,} seen, {self.num_kept:,} kept"
        if self.total is None or not self.num_new:
            return counts
        left = (time.monotonic() - self.start) / self.num_new * (self.total - self.num_told)
        return f"{counts}, {timedelta(seconds=round(left))} left"

    def _is_new(self, report: ShardReport) -> bool:
        """Tell what this call did from what an earlier one had committed; another host's clock is not ours."""
        is_ours = report.run.get("host") == socket.gethostname()
        return not is_ours or report.run.get("started", self.begun) >= self.begun

    def line(self, text: str) -> None:
        """Print a line about the stage."""
        self.console.print(Text(f"{self.stage}: {text}"), soft_wrap=True)

    @contextmanager
    def every_minute(self) -> Iterator[None]:
        """Say in every minute without another line that it still goes on, and how far it is."""
        is_over = Event()

        def talk() -> None:
            while not is_over.wait(MINUTE_S / 6):
                if time.monotonic() - self.last >= MINUTE_S:
                    of = "" if self.total is None else f" of {self.total}"
                    self.line(f"{self.num_done}{of} shards {self.done}, {self.counts}")
                    self.last = time.monotonic()

        talker = Thread(target=talk, daemon=True)
        if self.speaks:
            talker.start()
        try:
            yield
        finally:
            is_over.set()
            if self.speaks:
                talker.join()

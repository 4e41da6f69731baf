"""Tells of shards while they are done: a bar on a terminal, a line per shard and per minute elsewhere."""

import socket
import tempfile
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
from curation.printable import counted
from curation.run.logs import STDERR, json_log, log_outcome
from curation.run.metrics import Watched, watching
from curation.run.runner import OnOutcome, Outcome, ShardFailure
from curation.run.tally import Count, read_tallies
from curation.run.text import tell_outcome

MINUTE_S = 60.0
MIN_SEEN = 20
"""Pictures that must have been seen before anything is said of the time that is left."""
TALLY_PREFIX = "fchq-tally-"


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

    On a terminal one line says how many shards of how many are done, what was seen and kept, at which rate, and how
    long the rest will take at it; elsewhere there is a line per shard, and one a minute while none ends. A failed shard
    is told of in any case, but where the JSON lines themselves go to stderr; with `quiet` no other is. Where it is
    interrupted, it says how much was done until then, and where all was done before, that there was nothing to do.
    `metrics` is a textfile for Prometheus (`curation.run.metrics`).
    """
    console = Console(stderr=True, quiet=log_json == STDERR)
    what, rest = TextColumn("{task.description}"), TextColumn("{task.fields[rest]}")
    columns = (SpinnerColumn(), what, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), rest)
    disable = not console.is_terminal or console.quiet or quiet
    shown = Progress(*columns, console=console, disable=disable)
    with (
        json_log(log_json),
        watching(stage, metrics) as watched,
        tempfile.TemporaryDirectory(prefix=TALLY_PREFIX, ignore_cleanup_errors=True) as tally,
        shown as bar,
    ):
        speaks = not (console.is_terminal or quiet)
        told = Told(stage, done, console, bar, watched, Path(tally), speaks=speaks)
        with told.every_minute():
            try:
                yield told
            except KeyboardInterrupt:
                were = "was" if told.num_new == 1 else "were"
                told.line(f"interrupted; {counted(told.num_new, 'shard')} {were} {done} by this call")
                raise
        if told.num_done and told.num_done == told.total and not told.num_new and not quiet:
            shards = "the one shard was" if told.total == 1 else f"all {told.total} shards were"
            told.line(f"nothing to do: {shards} {done} before")


class Told:
    """What was told of a stage so far."""

    def __init__(
        self,
        stage: str,
        done: str,
        console: Console,
        bar: Progress,
        watched: Watched,
        tally: Path | None = None,
        *,
        speaks: bool,
    ) -> None:
        """Begin; `speaks` says whether a shard that is done gets a line of its own."""
        self.stage, self.done, self.console, self.bar, self.speaks = stage, done, console, bar, speaks
        self.watched, self.tally = watched, tally
        self._told: set[str] = set()
        self.num_told = self.num_done = self.num_new = self.num_seen = self.num_kept = self.num_seen_before = 0
        self.begun = time.time()
        self.total: int | None = None
        self.start = self.last = time.monotonic()
        self.first: tuple[float, float, int] | None = None
        """When the first pictures were seen to be done: the time, the shards (in parts) and the pictures until then."""
        self.task = bar.add_task(f"{stage}: shards {done}", total=None, rest="")

    def expect(self, num_outcomes: int, lease: int | None = None) -> None:
        """Take the number of shards that there are to do, and that of the lease."""
        self.total, self.start = num_outcomes, time.monotonic()
        self.watched.expect(num_outcomes, lease)
        self.bar.update(self.task, total=num_outcomes)

    def __call__(self, outcome: Outcome) -> None:
        """Tell of one shard."""
        log_outcome(self.stage, outcome)
        has_failed = isinstance(outcome, ShardFailure)
        is_new = isinstance(outcome, ShardReport) and self._is_new(outcome)
        self.watched.count(outcome, is_new=is_new)
        self.num_told += 1
        self._told.add(outcome.shard.replace("/", "_"))
        if not isinstance(outcome, ShardFailure):
            self.num_done += 1
            self.num_new += is_new
            self.num_seen += outcome.num_seen
            self.num_seen_before += 0 if is_new else outcome.num_seen
            self.num_kept += outcome.num_kept
            self.bar.update(self.task, advance=1, rest=self.counts)
        if has_failed or (self.speaks and is_new):
            self.console.print(Text(tell_outcome(self.stage, outcome)), soft_wrap=True)
            self.last = time.monotonic()

    @property
    def counts(self) -> str:
        """What was seen and kept, in shards that are still in work too, at which rate, and how long the rest takes."""
        in_work = self._in_work()
        num_seen = self.num_seen + sum(count.num_done for count in in_work)
        counts = f"{num_seen:,} seen, {self.num_kept + sum(count.num_kept for count in in_work):,} kept"
        if in_work:
            of = f"{sum(count.num_done for count in in_work):,} of {sum(count.num_samples for count in in_work):,}"
            those = "1 shard" if len(in_work) == 1 else f"{len(in_work)} shards"
            counts += f" ({of} samples of {those} in work)"
        num_new = self.num_new + sum(count.num_done / max(1, count.num_samples) for count in in_work)
        work = self._work(num_new, num_seen - self.num_seen_before)
        if self.total is None or work is None:
            return counts
        seconds, shards, pictures = work
        if pictures and seconds > 0:
            counts += f", {pictures / seconds:,.1f} a second"
        num_left = self.total - self.num_told - (num_new - self.num_new)
        return f"{counts}, {timedelta(seconds=round(seconds / shards * max(0.0, num_left)))} left"

    def _work(self, num_new: float, num_seen: int) -> tuple[float, float, int] | None:
        """Return the seconds of this call, and the shards and pictures done in them; None while they tell too little.

        Before a shard is done, only what was seen since the first picture counts: models are loaded before it.
        """
        now = time.monotonic()
        if self.num_new:
            return now - self.start, num_new, num_seen
        if num_new and self.first is None:
            self.first = now, num_new, num_seen
        if self.first is None or num_seen - self.first[2] < MIN_SEEN:
            return None
        return now - self.first[0], num_new - self.first[1], num_seen - self.first[2]

    def _in_work(self) -> list[Count]:
        return [] if self.tally is None else read_tallies(self.tally, self._told)

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
            while not is_over.wait(MINUTE_S / 60):
                self.bar.update(self.task, rest=self.counts)
                if self.speaks and time.monotonic() - self.last >= MINUTE_S:
                    of = "" if self.total is None else f" of {self.total}"
                    self.line(f"{self.num_done}{of} shards {self.done}, {self.counts}")
                    self.last = time.monotonic()

        talker = Thread(target=talk, daemon=True)
        if speaks_at_all := self.speaks or not self.bar.disable:
            talker.start()
        try:
            yield
        finally:
            is_over.set()
            if speaks_at_all:
                talker.join()

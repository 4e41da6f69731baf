"""Tells of shards while they are done: a bar on a terminal, a line per shard elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from curation.run.logs import STDERR, json_log, log_outcome
from curation.run.runner import OnOutcome, Outcome, ShardFailure
from curation.run.text import tell_outcome


@contextmanager
def progress(
    stage: str, log_json: str | None = None, *, done: str = "committed", quiet: bool = False
) -> Iterator[OnOutcome]:
    """Yield what to call for every outcome; all of it goes to stderr, and with `log_json` JSON lines to that file.

    A shard that failed is told of in any case, but where the JSON lines themselves go to stderr; with `quiet` no other
    is. Where it is interrupted, it says how much was done until then.
    """
    console = Console(stderr=True, quiet=log_json == STDERR)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    disable = not console.is_terminal or console.quiet or quiet
    num_done = 0
    with json_log(log_json), Progress(*columns, console=console, disable=disable) as bar:
        shown = bar.add_task(f"{stage}: shards {done}", total=None)

        def on_outcome(outcome: Outcome) -> None:
            log_outcome(stage, outcome)
            nonlocal num_done
            has_failed = isinstance(outcome, ShardFailure)
            if not has_failed:
                num_done += 1
                bar.advance(shown)
            if has_failed or not (console.is_terminal or quiet):
                console.print(Text(tell_outcome(stage, outcome)), soft_wrap=True)

        try:
            yield on_outcome
        except KeyboardInterrupt:
            console.print(f"{stage}: interrupted; {num_done} shards were {done} by this call", soft_wrap=True)
            raise

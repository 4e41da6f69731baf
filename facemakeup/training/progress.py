"""Tells of optimiser steps while they are made: a bar on a terminal, a line per report elsewhere."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from facemakeup.training.loop import OnStep
from facemakeup.training.loop import Progress as Step


@contextmanager
def steps() -> Iterator[OnStep]:
    """Yield what to call for every optimiser step; it goes to stderr, and only from the process of rank 0."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    is_main = os.environ.get("RANK", "0") == "0"
    with Progress(*columns, console=console, disable=not (console.is_terminal and is_main)) as bar:
        shown = bar.add_task("train", total=None)

        def on_step(at: Step) -> None:
            bar.update(shown, completed=at.step, total=at.num_steps)
            if at.loss is None:
                return
            bar.update(shown, description=f"train: loss {at.loss:.4f}")
            if is_main and not console.is_terminal:
                console.print(tell(at), markup=False, highlight=False, soft_wrap=True)

        yield on_step


def tell(at: Step) -> str:
    """Return one line about a step, with the mean loss since the last report where there is one."""
    loss = "" if at.loss is None else f", loss {at.loss:.4f}"
    return f"train: step {at.step} of {at.num_steps}{loss}"

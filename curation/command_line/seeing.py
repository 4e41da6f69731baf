"""What is looked at: a run's pictures in the browser, with what was decided about them and what people say of them."""

import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curation.arguments import path
from curation.command_line.options import SeedOption, asked, location
from curation.printable import counted, say
from curation.serving.serve import require_server

if TYPE_CHECKING:
    from curation.commands.review.desk import Choices


def review(
    run: Annotated[str, typer.Argument(help="Folder that holds the stages' folders, or a folder that `curate` wrote.")],
    reviewer: Annotated[
        str | None, typer.Option("--reviewer", help="Whose labels these are; the page may change it. Your login.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", parser=path, help="File of labels, if not RUN/review/labels.jsonl.")
    ] = None,
    source: Annotated[str | None, typer.Option("--source", help="What was curated, where it has moved since.")] = None,
    words: Annotated[
        list[str] | None, typer.Option("--label", help="A label to offer, in place of the usual ones; may be repeated.")
    ] = None,
    num: Annotated[int, typer.Option("--num", min=1, max=100_000, help="Pictures in the queue.")] = 200,
    seed: SeedOption = 0,
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Port of 127.0.0.1; 0 is any free one.")] = 0,
) -> None:
    """Open a run on a local page: label, search, ask what other limits would do, write a recipe."""
    from curation.commands.review.desk import Choices

    whence = location(source) if source else None
    open_page(
        location(run), Choices(reviewer or getpass.getuser(), labels, whence, tuple(words or ()), num, seed), port
    )


def open_page(run: Path, choices: "Choices", port: int = 0) -> None:
    """Serve the page of a run until Ctrl-C.

    Raises:
        UsageError: what serves it is not installed.
    """
    require_server("review")
    from curation.commands.review.desk import open_desk
    from curation.commands.review.serve import serve

    if not asked["quiet"]:
        say(f"review: reading the ledgers of {run} (a minute or so for a million pictures) ...", err=True)
    desk = open_desk(run, choices, lambda shard: None if asked["quiet"] else _told_reading(shard))
    try:
        serve(desk, port, lambda address: _told_ready(address, desk.labels.path))
    except KeyboardInterrupt:
        given = counted(len(desk.labels.standing()), "label")
        say(f"\nreview: {given} in {desk.labels.path}", err=True)


def _told_reading(num_shards: int) -> None:
    if num_shards % 100 == 0:
        say(f"review: {num_shards} ledgers read", err=True)


def _told_ready(address: str, labels: Path) -> None:
    say(address)
    say(f"review: open this address in a browser on this machine; labels go to {labels}; Ctrl-C ends", err=True)

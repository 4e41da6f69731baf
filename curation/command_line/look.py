"""The command for whoever has pictures and nothing else yet."""

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from curation.arguments import path, place
from curation.command_line.options import (
    NUM_CORES,
    JsonOption,
    LogOption,
    RayOption,
    SetOption,
    WorkersOption,
    asked,
    exit_if_failed,
    load,
    location,
    progress,
    spread_of,
    to_json,
    typed,
    without_pandas,
)
from curation.command_line.seeing import open_page
from curation.errors import UsageError
from curation.printable import say
from curation.serving.serve import can_serve


def look(  # long: its options
    source: Annotated[
        str, typer.Argument(help="A folder of pictures, tars, one tar, Parquet, or a saved Hugging Face data set.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", parser=path, help="Folder of the run; without it `look-NAME`, here.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", parser=place, help="Another one than the best whose weights are here.")
    ] = None,
    changes: SetOption = None,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    allow_removed: Annotated[
        bool, typer.Option("--allow-removed", help="Measure anew where pictures were taken away, added or changed.")
    ] = False,
    no_serve: Annotated[
        bool, typer.Option("--no-serve", help="Write the page, and serve none for review, as where no terminal is.")
    ] = False,
    log_json: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at any folder with pictures: what would be kept, what not, and why, as one page."""
    if changes and recipe is None:
        raise UsageError("--set changes a recipe: name it with --recipe")
    loaded = None if recipe is None else load(recipe, changes)
    without_pandas()
    from curation.commands.look.stage import look as run
    from curation.commands.look.stage import run_beside
    from curation.commands.look.text import tell, tell_choice, values

    target = run_beside(location(source)) if out is None else out
    with progress("look", log_json) as on_outcome:
        looked = run(
            location(source), target, spread_of(workers, ray_address), on_outcome,
            recipe=loaded, on_choice=lambda chosen: None if asked["quiet"] else say(tell_choice(chosen), err=True),
            allow_removed=allow_removed,
        )  # fmt: skip
    options = typed(recipe or looked.chosen.recipe.name, changes)
    say(to_json(values(looked)) if as_json else tell(looked, options))
    exit_if_failed(looked.manifest)
    if can_serve() and sys.stdout.isatty() and not (no_serve or as_json):
        from curation.commands.review.desk import Choices

        open_page(target, Choices(getpass.getuser(), None, None))

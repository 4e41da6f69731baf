"""What a fleet asks of a run: a number to reach, how it stands, and what launches it."""

from pathlib import Path
from typing import Annotated

import typer

from curation.arguments import path, place
from curation.command_line.options import JsonOption, RunArgument, load, location, to_json
from curation.printable import say


def solve(
    run: RunArgument,
    want: Annotated[int, typer.Option("--want", min=1, help="How many pictures are to be kept by `curate`.")],
    out: Annotated[
        Path | None, typer.Option("--out", parser=path, help="File to write the recipe to; a new one.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", parser=place, help="Recipe to begin from; the run's own if left out.")
    ] = None,
    maximise: Annotated[
        str | None, typer.Option("--maximise", help="Score whose `min` alone moves, as high as the number allows.")
    ] = None,
    minimise: Annotated[
        str | None, typer.Option("--minimise", help="Score whose `max` alone moves, as low as the number allows.")
    ] = None,
    at_most: Annotated[
        list[str] | None,
        typer.Option("--at-most", help="NAME=SHARE of the kept that NAME rejects now, or that are labelled so."),
    ] = None,
    labels: Annotated[
        Path | None, typer.Option("--labels", parser=path, help="labels.jsonl that the names of --at-most may mean.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Find limits that keep a wanted number of pictures, from ledgers alone, and write them as a recipe."""
    from curation.commands.solve.recipe_file import write_recipe
    from curation.commands.solve.stage import solve as find
    from curation.commands.solve.text import tell, values
    from curation.errors import UsageError

    if maximise and minimise:
        raise UsageError("--maximise and --minimise: one limit moves; give one of them")
    aim = (maximise, "min") if maximise else (minimise, "max") if minimise else None
    shares = dict(_share(text) for text in at_most or ())
    loaded = load(recipe, None) if recipe else None
    solution = find(location(run), want, loaded, aim=aim, at_most=shares, labels=labels)  # type: ignore[arg-type]
    if out is not None:
        write_recipe(out, solution, recipe)
    say(to_json(values(solution)) if as_json else tell(solution))


def _share(text: str) -> tuple[str, float]:
    from curation.errors import UsageError

    name, _, share = text.partition("=")
    try:
        return name, float(share)
    except ValueError:
        raise UsageError(f"--at-most {text}: say NAME=SHARE, such as text=0.01") from None

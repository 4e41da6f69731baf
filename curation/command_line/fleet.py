"""What a fleet asks of a run: a number to reach, how it stands, and what launches it."""

from pathlib import Path
from typing import Annotated

import typer

from curation.arguments import path, place
from curation.command_line.options import (
    DEFAULT_RECIPE,
    JsonOption,
    RecipeOption,
    RunArgument,
    load,
    location,
    to_json,
)
from curation.printable import say

DEFAULT_IMAGE = "facecaptionhq:latest"


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


def status(run: RunArgument, as_json: JsonOption = False) -> None:
    """Say how a run stands, in progress or dead: shards done and left, rate, failures, and who holds it."""
    from curation.commands.status.stage import status as look
    from curation.commands.status.text import tell, values

    stages = look(location(run))
    say(to_json(values(stages)) if as_json else tell(stages))


def launch(  # long: its options, which are what a cluster asks for
    launcher: Annotated[str, typer.Argument(help="slurm, slurm-array (without Ray), kuberay, or ray.")],
    source: Annotated[str, typer.Argument(help="What is to be curated, as every machine sees it.")],
    target: Annotated[str, typer.Argument(help="Folder for the curated shards, as every machine sees it.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Shards worked on at once, over all machines.")] = 64,
    node_cpus: Annotated[int, typer.Option("--node-cpus", min=1, help="Cores of one machine.")] = 16,
    worker_gib: Annotated[int, typer.Option("--worker-gib", min=1, help="Memory of one worker, GiB.")] = 3,
    forecast: Annotated[
        Path | None, typer.Option("--forecast", parser=path, help="What `plan --json` printed, for the time limit.")
    ] = None,
    image: Annotated[str, typer.Option("--image", help="The container image that Kubernetes runs.")] = DEFAULT_IMAGE,
    spot: Annotated[bool, typer.Option("--spot", help="Let Kubernetes use machines that may vanish.")] = False,
    redis: Annotated[
        str | None, typer.Option("--redis", help="HOST:PORT of a Redis that keeps a KubeRay head's state.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", parser=path, help="Folder for the files.")] = Path("launch"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write the files, and hand nothing over.")] = False,
) -> None:
    """Write what Slurm, KubeRay or Ray takes to curate on many machines, filled in, and hand it over."""
    from curation.commands.launch.job import FleetJob, hours_of
    from curation.commands.launch.stage import files_of, submit, warnings_of, write

    num_gpus = load(recipe, None).file.curate.num_gpus
    hours = None if forecast is None else hours_of(forecast, workers)
    job = FleetJob(source, target, recipe, workers, node_cpus, worker_gib, num_gpus, hours, image, spot, redis)
    for file in write(files_of(launcher, job), out):
        say(file)
    for warning in warnings_of(launcher, job):
        say(f"launch {launcher}: {warning}", err=True)
    if not dry_run:
        submit(launcher, out)


def _share(text: str) -> tuple[str, float]:
    from curation.errors import UsageError

    name, _, share = text.partition("=")
    try:
        return name, float(share)
    except ValueError:
        raise UsageError(f"--at-most {text}: say NAME=SHARE, such as text=0.01") from None

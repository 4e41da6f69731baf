"""What commands share: options, exit codes, and the few steps between an argument and a call."""

import json
import os
import shlex
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation.arguments import path, place
from curation.printable import counted, say

if TYPE_CHECKING:
    from curation.dataset.manifest import Manifest
    from curation.recipe.recipe import Recipe
    from curation.run.runner import OnOutcome, Spread

EXIT_SOME_SHARDS_FAILED = 1
EXIT_NEXT_TO_NOTHING = 1
EXIT_INCOMPLETE = 4
EXIT_FAULTS_FOUND = 5
EXIT_WEIGHTS_WRONG = 6
DEFAULT_RECIPE = "facecaptionhq-4m"
asked = {"quiet": False}
"""What was asked before the name of the command."""

RecipeOption = Annotated[
    str, typer.Option("--recipe", parser=place, help="A TOML file, or the name of a bundled recipe.")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="KEY=VALUE: another value of the recipe; recorded; may be repeated.")
]
WorkersOption = Annotated[
    int, typer.Option("--workers", min=0, help="Shards worked on at once, by Ray; 0 runs in this process without Ray.")
]
RayOption = Annotated[
    str | None, typer.Option("--ray-address", help="An existing Ray cluster; without it a private one is started.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
LogOption = Annotated[
    str | None,
    typer.Option("--log-json", parser=place, help="Append one JSON line per shard to this file; - is stderr."),
]
MetricsOption = Annotated[
    Path | None,
    typer.Option("--metrics", parser=path, help="Keep counters for Prometheus in this textfile (NAME.prom)."),
]
RunArgument = Annotated[
    str, typer.Argument(help="Folder that holds the stages' folders, or one stage's folder; a path or an address.")
]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="The same seed draws the same sample.")]
WaiverOption = Annotated[
    str | None, typer.Option("--waiver", help="Why links may be fetched that no cleaned release was held against.")
]
HashListOption = Annotated[
    list[Path] | None, typer.Option("--hash-list", parser=path, help="A file of hashes of pictures to withhold.")
]
RobotsOption = Annotated[
    str | None, typer.Option("--robots-waiver", help="Why no robots.txt is asked; without a reason each is respected.")
]
LoopbackOption = Annotated[
    bool, typer.Option("--allow-loopback", help="Let downloads reach this machine itself; for tests and the demo.")
]
NUM_CORES = os.cpu_count() or 1


def load(recipe: str, changes: list[str] | None) -> "Recipe":
    """Return the recipe of that name or file, with what `--set` changes in it."""
    from curation.recipe.recipe import load_recipe

    return load_recipe(recipe, changes or ())


def typed(recipe: str, changes: list[str] | None) -> str:
    """Return the options by which a recipe was named, for a command that is to be typed next."""
    return shlex.join(["--recipe", recipe, *(word for change in changes or () for word in ("--set", change))])


def progress(
    stage: str, log_json: str | None = None, *, done: str = "committed", metrics: Path | None = None
) -> "AbstractContextManager[OnOutcome]":
    """Show how a stage goes on while it runs, unless `--quiet` was given."""
    from curation.run import progress as shown

    return shown.progress(stage, log_json, done=done, quiet=asked["quiet"], metrics=metrics)


class _NoPandas:
    """Answers whoever looks for pandas that there is none (`importlib.abc.MetaPathFinder`)."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is not wanted here", name=name)


def without_pandas() -> None:
    """Let pyarrow work without pandas in this process: to load it at the first list takes a second of CPU.

    pyarrow looks once and remembers; whoever else imports it, now or later, gets it.
    """
    import pyarrow as pa

    sys.meta_path.insert(0, _NoPandas)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(_NoPandas)


def location(folder: str) -> Path:
    """Return the path of a folder on a disk or in an object store."""
    from curation.storage import paths

    return paths.location(folder)


def spread_of(workers: int, ray_address: str | None, num_gpus: float = 0.0) -> "Spread":
    """Return how shards are spread: over a Ray cluster, Ray workers of this machine, or this process."""
    from curation.run.runner import Spread

    return Spread(workers, ray_address, num_gpus)


def conclude(manifest: "Manifest", target: Path, as_json: bool) -> None:
    """Print what a stage made of its folder; leave with 1 if shards failed."""
    from curation.run.text import tell, values

    say(to_json(values(manifest, target)) if as_json else tell(manifest, target))
    exit_if_failed(manifest)


def exit_if_failed(manifest: "Manifest") -> None:
    """End with the exit code of shards that failed, if some did."""
    if manifest.failed:
        failed = counted(len(manifest.failed), "shard")
        say(f"{failed} failed; the same command again retries only what failed", err=True)
        raise typer.Exit(EXIT_SOME_SHARDS_FAILED)


def to_json(values: Any) -> str:
    """Return values as text of JSON, indented."""
    return json.dumps(values, indent=2)

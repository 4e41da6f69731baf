"""The command line: one command per stage; each parses, calls one function, and prints.

Results go to stdout, talk goes to stderr. Imports of stages stand inside the commands, so that `--help` and a typo in
a recipe answer at once.
"""

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from curation.manifest import Manifest
    from curation.runner import Outcome, Spread

EXIT_SOME_SHARDS_FAILED = 1
EXIT_FAULTS_FOUND = 5
EXIT_WEIGHTS_WRONG = 6
EXIT_BUG = 70
EXIT_INTERRUPTED = 130
DEFAULT_RECIPE = "facecaptionhq-4m"

app = typer.Typer(
    name="facecaptionhq",
    help="Turn web-scale face image-text data into training sets people can trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(help="Trained weights: what is known of them, where they lie, how to get them.")
app.add_typer(models_app, name="models", no_args_is_help=True)

RecipeOption = Annotated[str, typer.Option("--recipe", help="A TOML file, or the name of a bundled recipe.")]
WorkersOption = Annotated[
    int, typer.Option("--workers", min=0, help="Shards worked on at once, by Ray; 0 runs in this process without Ray.")
]
RayOption = Annotated[
    str | None, typer.Option("--ray-address", help="An existing Ray cluster; without it a private one is started.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
RunArgument = Annotated[
    str, typer.Argument(help="Folder that holds the stages' folders, or one stage's folder; a path or an address.")
]
NUM_CORES = os.cpu_count() or 1


@app.command()
def rank(
    facecaption: Annotated[Path, typer.Argument(help="FaceCaption-15M parquet: a file or a folder.")],
    laion: Annotated[Path, typer.Argument(help="LAION-Face parquet: a file or a folder.")],
    target: Annotated[Path, typer.Argument(help="Folder for the selection and its ledger.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    as_json: JsonOption = False,
) -> None:
    """Join the two metadata sets by URL and select the top images by resolution."""
    from curation.recipe import load_recipe

    loaded = load_recipe(recipe)
    from curation.rank import rank as run

    _conclude(run(facecaption, laion, target, loaded), target, as_json)


@app.command()
def fetch(
    source: Annotated[Path, typer.Argument(help="Folder that `rank` wrote.")],
    target: Annotated[Path, typer.Argument(help="Folder for the fetched shards.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Download the selection with img2dataset, original bytes, every row accounted for."""
    from curation.recipe import load_recipe

    loaded = load_recipe(recipe)
    from curation.fetch import fetch as run

    with _progress("fetch") as on_outcome:
        manifest = run(source, target, loaded, _spread(workers, ray_address), on_outcome)
    _conclude(manifest, target, as_json)


@app.command()
def curate(
    source: Annotated[Path, typer.Argument(help="Folder of img2dataset-style tars, such as `fetch` writes.")],
    target: Annotated[Path, typer.Argument(help="Folder for the curated shards and ledgers.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure every picture, judge it by the recipe, keep its bytes or record why not."""
    from curation.recipe import load_recipe

    loaded = load_recipe(recipe)
    from curation.curate import curate as run

    with _progress("curate") as on_outcome:
        spread = _spread(workers, ray_address, loaded.file.curate.num_gpus)
        manifest = run(source, target, loaded, spread, on_outcome)
    _conclude(manifest, target, as_json)


@app.command()
def pack(
    source: Annotated[Path, typer.Argument(help="Folder that `curate` wrote.")],
    target: Annotated[Path, typer.Argument(help="Folder for the final shards.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cut the kept samples into final WebDataset shards, with captions bound to faces, an index and a manifest."""
    from curation.recipe import load_recipe

    loaded = load_recipe(recipe)
    from curation.pack import pack as run

    with _progress("pack") as on_outcome:
        manifest = run(source, target, loaded, _spread(workers, ray_address), on_outcome)
    _conclude(manifest, target, as_json)


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder that holds the stages' folders: rank, fetch, curate, pack.")],
) -> None:
    """Write one self-contained HTML page about a run, and the same numbers as JSON."""
    from curation.report import write_report

    typer.echo(write_report(run))


@app.command()
def verify(
    run: RunArgument,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Derive everything again from what lies on disk, and name each thing that is not as it should be."""
    from curation.storage import location
    from curation.verify import verify as check

    with _progress("verify", "verified") as on_outcome:
        found = check(location(run), _spread(workers, ray_address), on_outcome)
    if as_json:
        typer.echo(json.dumps(found.values, indent=2))
    else:
        for line in (*(f"FAULT {fault}" for fault in found.faults), *(f"note  {note}" for note in found.notes)):
            typer.echo(line)
        what = "all is as it should be" if found.ok else f"{len(found.faults)} faults"
        typer.echo(f"{found.num_shards} shards, {found.num_files} files, {found.num_bytes} bytes: {what}")
    if not found.ok:
        raise typer.Exit(EXIT_FAULTS_FOUND)


@app.command()
def gc(
    run: RunArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and write nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove what dead runs left: temporary files, files that no record names, uploads that never finished."""
    from curation.gc import collect
    from curation.storage import location

    found = collect(location(run), dry_run=dry_run)
    if as_json:
        removed = [vars(one) for one in found.removed]
        typer.echo(json.dumps({"dry_run": dry_run, "removed": removed, "left": found.left}, indent=2))
        return
    for one in found.removed:
        typer.echo(f"{'would remove' if dry_run else 'removed'} {one.file}: {one.why}")
    for name in found.left:
        typer.echo(f"left {name}: named by nobody, but not of our kind or too young")
    typer.echo(f"{len(found.removed)} files, {found.num_bytes} bytes")


@app.command()
def why(
    run: RunArgument,
    identity: Annotated[str, typer.Argument(metavar="ID", help="A uid, a URL, a key, or the sha256 of a picture.")],
    as_json: JsonOption = False,
) -> None:
    """Tell one image's whole story: every stage, every score and limit, what decided, and where it lies now."""
    from curation.storage import location
    from curation.telling import tell
    from curation.why import why as ask

    stories = ask(location(run), identity)
    if as_json:
        typer.echo(json.dumps([story.values for story in stories], indent=2))
    else:
        typer.echo("\n\n".join(tell(story) for story in stories))


@app.command()
def forget(
    run: Annotated[str, typer.Argument(help="Folder that holds the stages' folders: a path or an address.")],
    requests: Annotated[
        Path, typer.Option("--list", help="One request a line: a URL, uid, sha256 or key, or `domain:NAME`.")
    ],
    as_json: JsonOption = False,
) -> None:
    """Take images out of a run for good; hashed tombstones keep them out, and a receipt says what was done."""
    from curation.errors import UsageError
    from curation.forget import forget as take_out
    from curation.requests import read_requests
    from curation.storage import location

    try:
        lines = requests.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{requests}: cannot be read as text: {error}") from error
    path, receipt = take_out(location(run), read_requests(lines, str(requests)))
    if as_json:
        typer.echo(json.dumps(receipt, indent=2))
        return
    num_found = sum(answer["num_images"] > 0 for answer in receipt["requests"])
    typer.echo(f"{len(receipt['requests'])} requests, {num_found} of them found: {receipt['num_images']} images")
    typer.echo(f"{len(receipt['rewritten'])} files rewritten, {len(receipt['deleted'])} deleted\n{path}")


@app.command()
def doctor(
    recipe: RecipeOption = DEFAULT_RECIPE,
    as_json: JsonOption = False,
) -> None:
    """Check the environment that a recipe needs, and say how to mend what is wrong."""
    from curation.doctor import examine

    findings = examine(recipe)
    if as_json:
        typer.echo(json.dumps([vars(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            typer.echo(f"{'ok  ' if finding.ok else 'BAD '} {finding.subject}: {finding.fact}")
            if not finding.ok:
                typer.echo(f"     mend: {finding.mend}")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(2)


@models_app.command("list")
def models_list(as_json: JsonOption = False) -> None:
    """List every entry of the catalogue: name, size, licence, and where it is offered."""
    from filters.weights import catalogue

    if as_json:
        typer.echo(json.dumps([vars(entry) for entry in catalogue()], indent=2))
        return
    for entry in catalogue():
        typer.echo(f"{entry.name}\n  {entry.about}\n  {entry.num_bytes:,} bytes, licence: {entry.licence}")
        typer.echo(f"  sha256 {entry.sha256}\n  offered by {entry.url or entry.publisher or entry.distribution}")


@models_app.command("pull")
def models_pull(
    name: Annotated[str, typer.Argument(help="Name in the catalogue.")],
    accept: Annotated[bool, typer.Option("--accept", help="Accept the terms that the entry names.")] = False,
) -> None:
    """Fetch weights from their pinned address, and keep them only if their sha256 is the known one."""
    from filters.weights import pull

    typer.echo(pull(name, accept).path)


@models_app.command("add")
def models_add(
    file: Annotated[Path, typer.Argument(help="A file of weights.")],
    name: Annotated[str, typer.Option("--name", help="Name to use in recipes.")],
    sha256: Annotated[str, typer.Option("--sha256", help="The hash that you confirm, in hex.")],
) -> None:
    """Record a file of weights with the sha256 that you confirm."""
    from filters.weights import add

    typer.echo(add(file, name, sha256).path)


@models_app.command("verify")
def models_verify() -> None:
    """Look for every entry of the catalogue and check the bytes of those that are here."""
    from filters.weights import verify_all

    statuses = verify_all()
    for status in statuses:
        typer.echo(f"{status.entry.name}: {status.found.path if status.found else status.problem}")
    if any(status.is_wrong for status in statuses):
        raise typer.Exit(EXIT_WEIGHTS_WRONG)


def _spread(workers: int, ray_address: str | None, num_gpus: float = 0.0) -> "Spread":
    from curation.runner import Spread

    return Spread(workers, ray_address, num_gpus)


@contextmanager
def _progress(stage: str, done: str = "committed") -> Iterator[Callable[["Outcome"], None]]:
    """Yield what to call for every outcome: a bar on a terminal, a line per shard elsewhere."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from curation.runner import ShardFailure

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        shown = bar.add_task(f"{stage}: shards {done}", total=None)

        def on_outcome(outcome: "Outcome") -> None:
            bar.advance(shown)
            if isinstance(outcome, ShardFailure):
                console.print(f"{stage} {outcome.shard}: FAILED: {outcome.error}", markup=False, highlight=False)
            elif not console.is_terminal:
                line = f"{stage} {outcome.shard}: {outcome.num_seen} seen, {outcome.num_kept} kept"
                console.print(line, markup=False, highlight=False)

        yield on_outcome


def _conclude(manifest: "Manifest", target: Path, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(_summary(manifest, target), indent=2))
    else:
        typer.echo(f"{manifest.stage}: {manifest.num_seen} seen = {manifest.num_kept} kept", nl=False)
        for by, reasons in manifest.rejected.items():
            listed = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
            typer.echo(f" + {sum(reasons.values())} by {by} ({listed})", nl=False)
        typer.echo(f"\n{target}")
    if manifest.failed:
        typer.echo(f"{len(manifest.failed)} shards failed; run the same command again to retry only them", err=True)
        raise typer.Exit(EXIT_SOME_SHARDS_FAILED)


def _summary(manifest: "Manifest", target: Path) -> dict[str, Any]:
    names = ("stage", "recipe_name", "recipe_digest", "num_seen", "num_kept", "rejected", "failed")
    return {"target": str(target), **{name: getattr(manifest, name) for name in names}}


def main() -> None:
    """Run the command line; every error on purpose becomes one message and its own exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        app()
    except KeyboardInterrupt:
        typer.echo("facecaptionhq: interrupted; what is committed stays, run the same command to go on", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:  # noqa: BLE001  the outermost edge: whatever comes here is reported as a bug
        from filters.base import FaceCaptionError

        if isinstance(error, FaceCaptionError):
            typer.echo(f"facecaptionhq: {error}", err=True)
            sys.exit(error.exit_code)
        traceback.print_exc()
        typer.echo("facecaptionhq: this is a bug in facecaptionhq; please report the lines above", err=True)
        sys.exit(EXIT_BUG)


if __name__ == "__main__":
    main()

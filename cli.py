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
NUM_CORES = os.cpu_count() or 1


@app.command()
def rank(
    facecaption: Annotated[Path, typer.Argument(help="FaceCaption-15M parquet: a file or a folder.")],
    laion: Annotated[Path, typer.Argument(help="LAION-Face parquet: a file or a folder.")],
    target: Annotated[Path, typer.Argument(help="Folder for the selection and its ledger.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    release: Annotated[
        Path | None, typer.Option("--release", help="Parquet of a cleaned release, such as Re-LAION; others stay out.")
    ] = None,
    blocklist: Annotated[
        list[Path] | None, typer.Option("--blocklist", help="A file of URLs, domains and hashes, one a line.")
    ] = None,
    detections: Annotated[
        Path | None, typer.Option("--detections", help="Faces by SAMPLE_ID: parquet made from sample2detect_*.pth.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Join the two metadata sets by URL, pass the gates, and select the top images by the recipe's key."""
    from curation.recipe import load_recipe

    loaded = load_recipe(recipe)
    from curation.rank import Safeguards
    from curation.rank import rank as run

    _conclude(
        run(facecaption, laion, target, loaded, Safeguards(release, blocklist or ()), detections), target, as_json
    )


@app.command("import")
def import_(
    source: Annotated[
        str, typer.Argument(help="Parquet, csv, tsv, json lines, .pth, tars, or a Hugging Face data set.")
    ],
    target: Annotated[Path, typer.Argument(help="Parquet file to write, for `rank`.")],
    shape: Annotated[str, typer.Option("--as", help="What the rows are about: `laion` or `facecaption`.")] = "laion",
    ids: Annotated[
        Path | None, typer.Option("--ids", help="Keep only these: parquet made from laion_face_ids.pth.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Turn metadata of any known shape into parquet that `rank` reads, every fault counted."""
    from curation.importing import import_metadata, shape_of

    imported = import_metadata(source, target, shape_of(shape), ids)
    if as_json:
        typer.echo(json.dumps(vars(imported), indent=2))
        return
    typer.echo(f"{imported.num_rows} rows in {target}")
    for fault, count in imported.faults.items():
        typer.echo(f"  {fault}: {count}")


@app.command()
def fetch(
    source: Annotated[Path, typer.Argument(help="Folder that `rank` wrote.")],
    target: Annotated[Path, typer.Argument(help="Folder for the fetched shards.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    waiver: Annotated[
        str | None, typer.Option("--waiver", help="Why links may be fetched that no cleaned release was held against.")
    ] = None,
    hash_list: Annotated[
        list[Path] | None, typer.Option("--hash-list", help="A file of hashes of pictures to withhold.")
    ] = None,
    allow_loopback: Annotated[
        bool, typer.Option("--allow-loopback", help="Let downloads reach this machine itself; for tests and the demo.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Download the selection with img2dataset, original bytes, every row accounted for."""
    from curation.recipe import load_recipe

    loaded = load_recipe(recipe)
    from curation.fetch import fetch as run

    with _progress("fetch") as on_outcome:
        manifest = run(
            source, target, loaded, _spread(workers, ray_address), on_outcome,
            waiver=waiver, hash_lists=hash_list or (), allow_loopback=allow_loopback,
        )  # fmt: skip
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
def plan(
    source: Annotated[Path, typer.Argument(help="Folder that `rank` wrote.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    sample: Annotated[int, typer.Option("--sample", min=1, help="Rows that go through all stages to measure.")] = 2000,
    price: Annotated[float | None, typer.Option("--price", min=0, help="Of one worker for one hour.")] = None,
    waiver: Annotated[
        str | None, typer.Option("--waiver", help="Why links may be fetched that no cleaned release was held against.")
    ] = None,
    hash_list: Annotated[
        list[Path] | None, typer.Option("--hash-list", help="A file of hashes of pictures to withhold.")
    ] = None,
    allow_loopback: Annotated[
        bool, typer.Option("--allow-loopback", help="Let downloads reach this machine itself; for tests and the demo.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Forecast links, bytes, hours and the final number from a measured sample; write nothing.

    Where `plan --json` is kept as `forecast.json` in the folder of the run, `report` holds it against what came.
    """
    from curation.recipe import load_recipe

    loaded = load_recipe(recipe)
    from curation.plan import plan as run

    forecast = run(
        source, loaded, _spread(workers, ray_address),
        num_sampled=sample, price=price, waiver=waiver, hash_lists=hash_list or (), allow_loopback=allow_loopback,
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(forecast.values, indent=2))
        return
    typer.echo(f"{forecast.num_rows} rows in {forecast.num_parts} parts; measured on {forecast.num_sampled} of them")
    for what, found, unit in (
        ("link rot", forecast.link_rot.times(100), "%"),
        ("pictures that arrive", forecast.num_arriving, ""),
        ("their bytes", forecast.num_bytes.times(1e-9), " GB"),
        ("pictures at the end", forecast.num_final, ""),
    ):
        typer.echo(f"{what:<22}{found.value:,.4g}{unit} (95 %: {found.low:,.4g} to {found.high:,.4g})")
    for stage, one in forecast.stages.items():
        cost = "" if one.cost is None else f", cost {one.cost:,.2f}"
        typer.echo(f"{stage:<22}{one.hours:,.4g} h with {forecast.num_workers} workers{cost}")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="Folder that holds the stages' folders: rank, fetch, curate, pack.")],
) -> None:
    """Write one self-contained HTML page about a run, and the same numbers as JSON."""
    from curation.report import write_report

    typer.echo(write_report(run))
    from curation.plan import score_run

    for name, one in score_run(run).items():
        verdict = "as forecast" if one["is_within"] else "NOT as forecast"
        typer.echo(f"{name}: {one['came']:,.4g}, {verdict} ({one['low']:,.4g} to {one['high']:,.4g})")


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
def _progress(stage: str) -> Iterator[Callable[["Outcome"], None]]:
    """Yield what to call for every outcome: a bar on a terminal, a line per shard elsewhere."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from curation.runner import ShardFailure

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        shown = bar.add_task(f"{stage}: shards committed", total=None)

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

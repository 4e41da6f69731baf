"""The command line: one command per stage; each parses, calls one function, and prints what that one's text says.

Results go to stdout, talk goes to stderr. Imports of stages stand inside the commands, so that `--help` and a typo in
a recipe answer at once.
"""

import json
import os
import shlex
import sys
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curation.arguments import path, place
from curation.interrupts import heed_sigterm
from curation.printable import printable, say, talk, told_bug
from facemakeup.commands import cache, evaluate, export, generate, train

if TYPE_CHECKING:
    from curation.dataset.manifest import Manifest
    from curation.recipe.recipe import Recipe
    from curation.run.runner import OnOutcome, Spread

EXIT_SOME_SHARDS_FAILED = 1
EXIT_NEXT_TO_NOTHING = 1
EXIT_USAGE = 2
EXIT_INCOMPLETE = 4
EXIT_FAULTS_FOUND = 5
EXIT_WEIGHTS_WRONG = 6
EXIT_BUG = 70
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
DEFAULT_RECIPE = "facecaptionhq-4m"

app = typer.Typer(
    name="facecaptionhq",
    help="Turn web-scale face image-text data into training sets people can trust.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
STAGES, AFTERWARDS, TRAINING, TOOLS = "Stages", "Afterwards", "Training", "Tools"
"""The groups in which `--help` shows the commands."""
_asked = {"quiet": False}
"""What was asked before the name of the command."""


def _about(group: str, example: str) -> dict[str, Any]:
    """Return what `--help` shows beside what a command's own text says: its group, and one call of it."""
    return {"rich_help_panel": group, "epilog": f"Example: facecaptionhq {example}"}


models_app = typer.Typer(help="Trained weights: what is known of them, where they lie, how to get them.")
app.add_typer(models_app, name="models", no_args_is_help=True, rich_help_panel=TOOLS)
recipes_app = typer.Typer(help="Recipes that come with the package: what each is for, and its file as it is written.")
app.add_typer(recipes_app, name="recipes", no_args_is_help=True, rich_help_panel=TOOLS)

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


def _say_version(is_given: bool) -> None:
    if is_given:
        from curation.version import CODE_VERSION

        say(f"facecaptionhq {CODE_VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No progress; results, failures and errors alone.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Turn web-scale face image-text data into training sets people can trust."""
    _asked["quiet"] = quiet


@app.command(**_about(STAGES, "rank facecaption/ laion/ run/rank --release relaion/ --recipe facecaptionhq-4m"))
def rank(
    facecaption: Annotated[Path, typer.Argument(parser=path, help="FaceCaption-15M parquet: a file or a folder.")],
    laion: Annotated[Path, typer.Argument(parser=path, help="LAION-Face parquet: a file or a folder.")],
    target: Annotated[Path, typer.Argument(parser=path, help="Folder for the selection and its ledger.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    changes: SetOption = None,
    release: Annotated[
        Path | None,
        typer.Option("--release", parser=path, help="Parquet of a cleaned release, such as Re-LAION; others stay out."),
    ] = None,
    blocklist: Annotated[
        list[Path] | None,
        typer.Option("--blocklist", parser=path, help="A file of URLs, domains and hashes, one a line."),
    ] = None,
    detections: Annotated[
        Path | None,
        typer.Option("--detections", parser=path, help="Faces by SAMPLE_ID: parquet made from sample2detect_*.pth."),
    ] = None,
    waiver: Annotated[
        str | None, typer.Option("--waiver", help="Why gates may let pass what no column says anything of.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Join the two metadata sets by URL, pass the gates, and select the top images by the recipe's key."""
    loaded = _load(recipe, changes)
    from curation.commands.rank.stage import Safeguards
    from curation.commands.rank.stage import rank as run

    safeguards = Safeguards(release, blocklist or (), waiver)
    _conclude(run(facecaption, laion, target, loaded, safeguards, detections), target, as_json)


@app.command("import", **_about(STAGES, "import laion400m-parts/ laion.parquet --as laion"))
def import_(
    source: Annotated[
        str, typer.Argument(help="Parquet, csv, tsv, json lines, .pth, tars, or a Hugging Face data set.")
    ],
    target: Annotated[Path, typer.Argument(parser=path, help="Parquet file to write, for `rank`.")],
    shape: Annotated[str, typer.Option("--as", help="What the rows are about: `laion` or `facecaption`.")] = "laion",
    ids: Annotated[
        Path | None, typer.Option("--ids", parser=path, help="Keep only these: parquet made from laion_face_ids.pth.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Turn metadata of any known shape into parquet that `rank` reads, every fault counted."""
    from curation.commands.importing.convert import import_metadata, shape_of
    from curation.commands.importing.text import tell

    imported = import_metadata(source, target, shape_of(shape), ids)
    say(_json(vars(imported)) if as_json else tell(imported, target))


@app.command(**_about(STAGES, "fetch run/rank run/fetch --workers 16"))
def fetch(
    source: Annotated[Path, typer.Argument(parser=path, help="Folder that `rank` wrote.")],
    target: Annotated[Path, typer.Argument(parser=path, help="Folder for the fetched shards.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    changes: SetOption = None,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    waiver: WaiverOption = None,
    robots_waiver: RobotsOption = None,
    hash_list: HashListOption = None,
    allow_loopback: LoopbackOption = False,
    log_json: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Download the selection with img2dataset, original bytes, every row accounted for."""
    loaded = _load(recipe, changes)
    from curation.commands.fetch.stage import fetch as run
    from curation.commands.fetch.text import alarm

    with _progress("fetch", log_json) as on_outcome:
        manifest = run(
            source, target, loaded, _spread(workers, ray_address), on_outcome,
            waiver=waiver, hash_lists=hash_list or (), allow_loopback=allow_loopback, robots_waiver=robots_waiver,
        )  # fmt: skip
    _conclude(manifest, target, as_json)
    if (told := alarm(manifest)) is not None:
        say(f"facecaptionhq: {told}", err=True)
        raise typer.Exit(EXIT_NEXT_TO_NOTHING)


@app.command(**_about(STAGES, "curate photos/ run/curate --recipe demo --workers 4"))
def curate(
    source: Annotated[
        str, typer.Argument(help="What `fetch` wrote; or tars, one tar, a folder of pictures, Parquet with pictures.")
    ],
    target: Annotated[str, typer.Argument(help="Folder for the curated shards and ledgers.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    changes: SetOption = None,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    allow_removed: Annotated[
        bool,
        typer.Option("--allow-removed", help="Let go of what was made from shards that are gone or have changed."),
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show where the CPU time went; it stands in the stats in any case.")
    ] = False,
    log_json: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure every picture, judge it by the recipe, keep its bytes or record why not."""
    loaded = _load(recipe, changes)
    from curation.commands.curate import curate as run

    with _progress("curate", log_json) as on_outcome:
        spread = _spread(workers, ray_address, loaded.file.curate.num_gpus)
        manifest = run(_location(source), _location(target), loaded, spread, on_outcome, allow_removed=allow_removed)
    if profile:
        from curation.run.costs import costs, table

        say(table(costs(_location(target), manifest)), err=True)
    _conclude(manifest, _location(target), as_json)


@app.command(**_about(STAGES, "pack run/curate run/pack --recipe demo"))
def pack(
    source: Annotated[str, typer.Argument(help="Folder that `curate` wrote.")],
    target: Annotated[str, typer.Argument(help="Folder for the final shards.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    changes: SetOption = None,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    log_json: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cut the kept samples into final WebDataset shards, with captions bound to faces, an index and a manifest."""
    loaded = _load(recipe, changes)
    from curation.commands.pack.stage import pack as run

    with _progress("pack", log_json) as on_outcome:
        manifest = run(_location(source), _location(target), loaded, _spread(workers, ray_address), on_outcome)
    _conclude(manifest, _location(target), as_json)
    if manifest.num_seen and not manifest.num_kept:
        say("facecaptionhq: nothing is packed: every sample was left out for the reason that is told above", err=True)
        raise typer.Exit(EXIT_NEXT_TO_NOTHING)


@app.command(**_about(AFTERWARDS, "decide run --recipe mine.toml --dry-run"))
def decide(
    run: Annotated[str, typer.Argument(help="Folder that holds the stages' folders, or a folder that `curate` wrote.")],
    recipe: RecipeOption,
    changes: SetOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would change, and what would have to be measured.")
    ] = False,
    source: Annotated[str | None, typer.Option("--source", help="Folder that was curated, if not RUN/fetch.")] = None,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    as_json: JsonOption = False,
    log_json: LogOption = None,
) -> None:
    """Judge a curated folder again by another recipe, measuring only what its ledgers leave undecided."""
    loaded = _load(recipe, changes)
    from curation.commands.decide.stage import decide as run_decide
    from curation.commands.decide.stage import foresee
    from curation.commands.decide.text import tell, values
    from curation.commands.pack.packs import superseded_packs

    if dry_run:
        forecast = foresee(_location(run), loaded)
        say(_json(values(forecast)) if as_json else tell(forecast))
        return
    with _progress("decide", log_json) as on_outcome:
        spread = _spread(workers, ray_address, loaded.file.curate.num_gpus)
        manifest = run_decide(_location(run), loaded, spread, _location(source) if source else None, on_outcome)
    _conclude(manifest, _location(run), as_json)
    for packed in superseded_packs(_location(run)):
        say(f"{packed} follows an earlier decision: pack again into a new folder", err=True)


@app.command(**_about(STAGES, "report run"))
def report(
    run: Annotated[
        Path, typer.Argument(parser=path, help="Folder that holds the stages' folders: rank, fetch, curate, pack.")
    ],
) -> None:
    """Write one self-contained HTML page about a run, and the same numbers as JSON."""
    from curation.commands.report.write import write_report

    say(write_report(run))
    from curation.commands.plan.forecast import score_run
    from curation.commands.plan.text import tell_scores

    if scores := score_run(run):
        say(tell_scores(scores))


@app.command(**_about(AFTERWARDS, "verify run --workers 4"))
def verify(
    run: RunArgument,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Derive everything again from what lies on disk, and name each thing that is not as it should be."""
    from curation.commands.verify.check import verify as check
    from curation.commands.verify.text import tell

    with _progress("verify", done="verified") as on_outcome:
        verification = check(_location(run), _spread(workers, ray_address), on_outcome)
    say(_json(verification.values) if as_json else tell(verification))
    if not verification.ok:
        raise typer.Exit(EXIT_FAULTS_FOUND)


@app.command(**_about(AFTERWARDS, "gc run --dry-run"))
def gc(
    run: RunArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and write nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove what dead runs left: temporary files, files that no record names, uploads that never finished."""
    from curation.commands.gc.collect import collect
    from curation.commands.gc.text import tell, values

    collection = collect(_location(run), dry_run=dry_run)
    say(_json(values(collection, dry_run=dry_run)) if as_json else tell(collection, dry_run=dry_run))


@app.command(**_about(AFTERWARDS, "why run https://example.org/photo.jpg"))
def why(
    run: RunArgument,
    identity: Annotated[str, typer.Argument(metavar="ID", help="A uid, a URL, a key, or the sha256 of a picture.")],
    as_json: JsonOption = False,
) -> None:
    """Tell one image's whole story: every stage, every score and limit, what decided, and where it lies now."""
    from curation.commands.why.story import why as ask
    from curation.commands.why.text import tell

    stories = ask(_location(run), identity)
    say(_json([story.values for story in stories]) if as_json else "\n\n".join(map(tell, stories)))


@app.command(**_about(AFTERWARDS, "forget run --list takedown.txt --dry-run"))
def forget(
    run: Annotated[str, typer.Argument(help="Folder that holds the stages' folders: a path or an address.")],
    requests: Annotated[
        Path,
        typer.Option("--list", parser=path, help="One request a line: a URL, uid, sha256 or key, or `domain:NAME`."),
    ],
    also: Annotated[
        list[str] | None, typer.Option("--also", help="A further folder that was made from the run; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and write nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take images out of a run for good; hashed tombstones keep them out, and a receipt says what was done."""
    from curation.commands.forget.stage import foresee
    from curation.commands.forget.stage import forget as take_out
    from curation.commands.forget.takedowns import read_list
    from curation.commands.forget.text import foretell, not_found, not_reached, tell

    listed, folders = read_list(requests), [_location(folder) for folder in also or ()]
    if dry_run:
        done = foresee(_location(run), listed, folders)
        say(_json(done) if as_json else foretell(listed, done))
    else:
        receipt, done = take_out(_location(run), listed, folders)
        say(_json(done) if as_json else tell(receipt, done))
    if missed := [*not_found(listed, done["requests"]), *not_reached(done["not_reached"])]:
        say("\n".join(missed), err=True)
        raise typer.Exit(EXIT_INCOMPLETE)


for trainer_command, called in (
    (cache, "cache configs/train/sd15.toml --data 'run/pack/*.tar' --out run/train"),
    (train, "train configs/train/sd15.toml --data 'run/pack/*.tar' --out run/train --resume"),
    (export, "export run/train/checkpoints/step-00530000 adapter"),
    (generate, "generate adapter --face photo.jpg --prompt 'a person in the snow' --out pictures"),
    (evaluate, "evaluate configs/evaluation/unsplash-face.toml --out scores --judges here"),
):
    app.command(**_about(TRAINING, called))(trainer_command)


def _say_moved(is_given: bool) -> None:
    """Turn away who still types `plan --order`, which is a command of its own."""
    if is_given:
        from curation.errors import UsageError

        raise UsageError("plan --order: the cheapest order has a command of its own: facecaptionhq order SOURCE")


@app.command(**_about(TOOLS, "plan run/rank --workers 16 --price 0.05"))
def plan(
    source: Annotated[Path, typer.Argument(parser=path, help="Folder that `rank` wrote.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    changes: SetOption = None,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    sample: Annotated[int, typer.Option("--sample", min=1, help="Rows that go through all stages.")] = 2000,
    seed: SeedOption = 0,
    price: Annotated[float | None, typer.Option("--price", min=0, help="Price of one worker for one hour.")] = None,
    waiver: WaiverOption = None,
    robots_waiver: RobotsOption = None,
    hash_list: HashListOption = None,
    allow_loopback: LoopbackOption = False,
    as_json: JsonOption = False,
    moved: Annotated[
        bool, typer.Option("--order", hidden=True, is_eager=True, callback=_say_moved, help="Now a command: `order`.")
    ] = False,
) -> None:
    """Forecast links, bytes, hours and the final number from a measured sample; write nothing.

    Where `plan --json` is kept as `forecast.json` in the folder of the run, `report` holds it against what came.
    """
    loaded = _load(recipe, changes)
    from curation.commands.plan.forecast import plan as run
    from curation.commands.plan.text import tell

    forecast = run(
        source, loaded, _spread(workers, ray_address), seed=seed, num_sampled=sample, price=price,
        waiver=waiver, hash_lists=hash_list or (), allow_loopback=allow_loopback, robots_waiver=robots_waiver,
    )  # fmt: skip
    say(_json(forecast.values) if as_json else tell(forecast))


@app.command(**_about(TOOLS, "order run --recipe facecaptionhq-4m"))
def order(
    source: Annotated[Path, typer.Argument(parser=path, help="Folder of tars, or a run that was curated.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    changes: SetOption = None,
    sample: Annotated[int, typer.Option("--sample", min=1, help="Pictures that are measured in full.")] = 200,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Propose the cheapest order of the filters, from pictures measured here or from a run's ledgers; write nothing."""
    loaded = _load(recipe, changes)
    from curation.commands.order.observe import sample_of
    from curation.commands.order.proposal import propose
    from curation.commands.order.text import tell, values

    drawn = sample_of(source, loaded, sample, seed)
    proposal = propose(drawn.observed, loaded)
    say(_json(values(proposal, drawn)) if as_json else tell(proposal, drawn))


@app.command(**_about(TOOLS, "repair tars/ repaired/"))
def repair(
    source: Annotated[str, typer.Argument(help="Folder of tars, or one tar, that cannot be read as it is.")],
    target: Annotated[str, typer.Argument(help="New folder for the repaired tars.")],
    as_json: JsonOption = False,
) -> None:
    """Write damaged or disordered tars anew: samples together, strays out, no picture lost that is in them."""
    from curation.commands.repair.stage import repair as run
    from curation.commands.repair.text import tell, values

    repaired = run(_location(source), _location(target))
    say(_json(values(repaired)) if as_json else tell(repaired))
    if any(shard.losses for shard in repaired):
        say("some tars are not whole: get these anew where you can", err=True)
        raise typer.Exit(EXIT_SOME_SHARDS_FAILED)


@app.command(**_about(TOOLS, "doctor --recipe facecaptionhq-4m"))
def doctor(
    recipe: RecipeOption = DEFAULT_RECIPE,
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the environment that a recipe needs, and say how to mend what is wrong."""
    from curation.commands.doctor.examine import examine
    from curation.commands.doctor.text import tell

    findings = examine(recipe, changes or ())
    say(_json([vars(finding) for finding in findings]) if as_json else tell(findings))
    if wrong := [finding.exit_code for finding in findings if not finding.ok]:
        raise typer.Exit(min(wrong))


@models_app.command("list", epilog="Example: facecaptionhq models list")
def models_list(as_json: JsonOption = False) -> None:
    """List every entry of the catalogue: name, size, licence, and where it is offered."""
    from curation.commands.models.text import tell_catalogue
    from filters.weights import catalogue

    say(_json([asdict(entry) for entry in catalogue()]) if as_json else tell_catalogue(catalogue()))


@models_app.command("pull", epilog="Example: facecaptionhq models pull yolov5n-0.5-face --accept")
def models_pull(
    name: Annotated[str, typer.Argument(help="Name in the catalogue.")],
    accept: Annotated[bool, typer.Option("--accept", help="Accept the terms that the entry names.")] = False,
    mirror: Annotated[
        str | None, typer.Option("--mirror", help="Folder or address that holds the same files; sha256 still counts.")
    ] = None,
) -> None:
    """Fetch weights from their pinned address, and keep them only if their sha256 is the known one."""
    from filters.pulling import pull

    say(pull(name, accept, mirror).path)


@models_app.command("add", epilog="Example: facecaptionhq models add own.onnx --name own --sha256 HASH")
def models_add(
    file: Annotated[Path, typer.Argument(parser=path, help="A file of weights.")],
    name: Annotated[str, typer.Option("--name", help="Name to use in recipes.")],
    sha256: Annotated[str, typer.Option("--sha256", help="The hash that you confirm, in hex.")],
) -> None:
    """Record a file of weights with the sha256 that you confirm."""
    from filters.weights import add

    say(add(file, name, sha256).path)


@models_app.command("verify", epilog="Example: facecaptionhq models verify")
def models_verify() -> None:
    """Look for every entry of the catalogue and check the bytes of those that are here; missing ones are no fault."""
    from curation.commands.models.text import tell_statuses
    from filters.weights import verify_all

    statuses = verify_all()
    say(tell_statuses(statuses))
    if any(status.is_wrong for status in statuses):
        raise typer.Exit(EXIT_WEIGHTS_WRONG)


@recipes_app.command("list", epilog="Example: facecaptionhq recipes list")
def recipes_list(as_json: JsonOption = False) -> None:
    """List the recipes that come with the package, and what each is for."""
    from curation.recipe.recipe import described_recipes

    described = described_recipes()
    say(_json(described) if as_json else "\n".join(f"{name}: {text}" for name, text in described.items()))


@recipes_app.command("show", epilog="Example: facecaptionhq recipes show facecaptionhq-4m > mine.toml")
def recipes_show(
    name: Annotated[str, typer.Argument(help="A bundled recipe's name, or a TOML file.")],
    changes: SetOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every value, defaults and changes filled in.")] = False,
) -> None:
    """Print a recipe's file as it is written; with `--json` or `--set`, every value that it comes to."""
    from curation.recipe.recipe import recipe_text

    resolved = as_json or bool(changes)
    say(_json(_load(name, changes).resolved) if resolved else recipe_text(name).rstrip("\n"))


def _load(recipe: str, changes: list[str] | None) -> "Recipe":
    from curation.recipe.recipe import load_recipe

    return load_recipe(recipe, changes or ())


def _progress(
    stage: str, log_json: str | None = None, *, done: str = "committed"
) -> "AbstractContextManager[OnOutcome]":
    from curation.run.progress import progress

    return progress(stage, log_json, done=done, quiet=_asked["quiet"])


def _location(place: str) -> Path:
    from curation.storage.paths import location

    return location(place)


def _spread(workers: int, ray_address: str | None, num_gpus: float = 0.0) -> "Spread":
    from curation.run.runner import Spread

    return Spread(workers, ray_address, num_gpus)


def _conclude(manifest: "Manifest", target: Path, as_json: bool) -> None:
    from curation.run.text import tell, values

    say(_json(values(manifest, target)) if as_json else tell(manifest, target))
    if manifest.failed:
        say(f"{len(manifest.failed)} shards failed; run the same command again to retry only them", err=True)
        raise typer.Exit(EXIT_SOME_SHARDS_FAILED)


def _json(values: Any) -> str:
    return json.dumps(values, indent=2)


def main() -> None:
    """Run the command line; every error on purpose becomes one message and its own exit code."""
    talk()
    is_terminated = heed_sigterm()
    try:
        code = app(standalone_mode=False)
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001  the outermost edge: whatever comes here is reported as a bug
        code = _refuse(error)
    if code == EXIT_INTERRUPTED:  # of SIGTERM as well: the parser makes one code of every interrupt
        code = EXIT_TERMINATED if is_terminated() else code
        call = shlex.join(["facecaptionhq", *sys.argv[1:]])
        say(f"facecaptionhq: interrupted; what is committed stays, and the same command goes on:\n  {call}", err=True)
    sys.exit(code)


def _refuse(error: Exception) -> int:
    """Say what an error means to whoever typed the command, and return the exit code."""
    from curation.storage.paths import refusal_of
    from filters.base import FaceCaptionError

    if hasattr(error, "format_message"):  # of the parser of the command line
        usage, message = getattr(error, "ctx", None), printable(error.format_message())
        if message:  # else it has shown the help
            say(f"{usage.get_usage()}\n{message}" if usage else message, err=True)
        return int(getattr(error, "exit_code", EXIT_USAGE))
    if isinstance(error, FaceCaptionError):
        say(f"facecaptionhq: {printable(error)}", err=True)
        return error.exit_code
    if (refusal := refusal_of(error)) is not None:
        stores = "".join(f"{word}: " for word in sys.argv[1:] if "://" in word)
        say(f"facecaptionhq: {printable(stores)}{printable(refusal)}", err=True)
        return refusal.exit_code
    say(told_bug(error), err=True)
    say("facecaptionhq: this is a bug in facecaptionhq; please report the lines above", err=True)
    return EXIT_BUG


if __name__ == "__main__":
    main()

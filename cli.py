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
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from curation.commands.decide.preview import Preview
    from curation.commands.order.observe import OrderSample
    from curation.commands.order.proposal import Proposal
    from curation.dataset.manifest import Manifest
    from curation.run.runner import Outcome, Spread
    from facemakeup.training.train import Progress as Step

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
LogOption = Annotated[
    str | None, typer.Option("--log-json", help="Append one JSON line per shard to this file; - is stderr.")
]
RunArgument = Annotated[
    str, typer.Argument(help="Folder that holds the stages' folders, or one stage's folder; a path or an address.")
]
NUM_CORES = os.cpu_count() or 1
NUM_CHANGES_SHOWN = 20


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
    from curation.recipe.recipe import load_recipe

    loaded = load_recipe(recipe)
    from curation.commands.rank.stage import Safeguards
    from curation.commands.rank.stage import rank as run

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
    from curation.commands.importing.convert import import_metadata, shape_of

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
    log_json: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Download the selection with img2dataset, original bytes, every row accounted for."""
    from curation.recipe.recipe import load_recipe

    loaded = load_recipe(recipe)
    from curation.commands.fetch.stage import fetch as run

    with _progress("fetch", log_json) as on_outcome:
        manifest = run(
            source, target, loaded, _spread(workers, ray_address), on_outcome,
            waiver=waiver, hash_lists=hash_list or (), allow_loopback=allow_loopback,
        )  # fmt: skip
    _conclude(manifest, target, as_json)


@app.command()
def curate(
    source: Annotated[str, typer.Argument(help="Folder of img2dataset-style tars, such as `fetch` writes.")],
    target: Annotated[str, typer.Argument(help="Folder for the curated shards and ledgers.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show where the CPU time went; it stands in the stats in any case.")
    ] = False,
    log_json: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure every picture, judge it by the recipe, keep its bytes or record why not."""
    from curation.recipe.recipe import load_recipe

    loaded = load_recipe(recipe)
    from curation.commands.curate import curate as run
    from curation.storage.paths import location

    with _progress("curate", log_json) as on_outcome:
        spread = _spread(workers, ray_address, loaded.file.curate.num_gpus)
        manifest = run(location(source), location(target), loaded, spread, on_outcome)
    if profile:
        from curation.run.costs import costs, table

        typer.echo(table(costs(location(target), manifest)), err=True)
    _conclude(manifest, location(target), as_json)


@app.command()
def pack(
    source: Annotated[str, typer.Argument(help="Folder that `curate` wrote.")],
    target: Annotated[str, typer.Argument(help="Folder for the final shards.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    log_json: LogOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cut the kept samples into final WebDataset shards, with captions bound to faces, an index and a manifest."""
    from curation.recipe.recipe import load_recipe

    loaded = load_recipe(recipe)
    from curation.commands.pack.stage import pack as run
    from curation.storage.paths import location

    with _progress("pack", log_json) as on_outcome:
        manifest = run(location(source), location(target), loaded, _spread(workers, ray_address), on_outcome)
    _conclude(manifest, location(target), as_json)


@app.command()
def decide(
    run: Annotated[str, typer.Argument(help="Folder that holds the stages' folders, or a folder that `curate` wrote.")],
    recipe: RecipeOption,
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
    from curation.recipe.recipe import load_recipe

    loaded = load_recipe(recipe)
    from curation.commands.decide.stage import decide as run_decide
    from curation.commands.decide.stage import foresee
    from curation.storage.paths import location

    if dry_run:
        _print_forecast(foresee(location(run), loaded), as_json)
        return
    with _progress("decide", log_json) as on_outcome:
        spread = _spread(workers, ray_address, loaded.file.curate.num_gpus)
        manifest = run_decide(location(run), loaded, spread, location(source) if source else None, on_outcome)
    _conclude(manifest, location(run), as_json)
    if (location(run) / "pack").is_dir():
        typer.echo("what was packed before follows the old decision: pack again into a new folder", err=True)


@app.command()
def cache(
    config: Annotated[Path, typer.Argument(help="A training configuration; `cache.folder` says where the caches go.")],
    data: Annotated[list[str], typer.Option("--data", help="Glob of packed tars, a path or an fsspec address.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for scans and fetched shards.")],
    device: Annotated[str, typer.Option("--device", help="Where the VAE runs: cpu, cuda or cuda:N.")] = "cpu",
    as_json: JsonOption = False,
) -> None:
    """Compute VAE latents and identity vectors once, into sidecar tars that `train` reads."""
    from facemakeup.train_config import load_config

    loaded = load_config(config)
    from facemakeup.data.cache import fill_cache
    from facemakeup.faults import count
    from facemakeup.model.encoders import Encoders

    encoders = Encoders.load(loaded.model, device)
    done = fill_cache(loaded, data, encoders, out / "work", lambda shard: typer.echo(f"cache {shard}: done", err=True))
    summary = {**done.counts, "faults": count(done.faults)}
    typer.echo(json.dumps(summary, indent=2) if as_json else f"cache: {summary}")


@app.command()
def train(
    config: Annotated[Path, typer.Argument(help="A training configuration, such as configs/train/sd15.toml.")],
    data: Annotated[list[str], typer.Option("--data", help="Glob of packed tars, a path or an fsspec address.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the run: checkpoints, logs, caches of shards.")],
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest whole checkpoint in OUT.")] = False,
) -> None:
    """Train Face-MakeUp on packed tars; under `accelerate launch -m cli train` on several GPUs."""
    from facemakeup.train_config import load_config

    loaded = load_config(config)
    from facemakeup.training.train import train as run

    with _steps() as on_step:
        done = run(loaded, data, out, resume, on_step)
    typer.echo(done.folder)


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint's folder, such as OUT/checkpoints/step-00530000.")],
    target: Annotated[Path, typer.Argument(help="Folder for the adapter; it must not be there yet.")],
    last: Annotated[bool, typer.Option("--last", help="Take the last weights, not their average.")] = False,
) -> None:
    """Write a trained adapter in the form that stock diffusers loads."""
    from facemakeup.training.export_checkpoint import export_checkpoint

    export_checkpoint(checkpoint, target, average=not last)
    typer.echo(target)


@app.command()
def generate(
    adapter: Annotated[Path, typer.Argument(help="Folder that `export` wrote.")],
    face: Annotated[list[Path], typer.Option("--face", help="Photo of the person; several are mixed.")],
    prompt: Annotated[list[str], typer.Option("--prompt", help="One picture is drawn per prompt.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures and their record.")],
    pose: Annotated[
        Path | None, typer.Option("--pose", help="Photo whose face gives the pose; else it is free.")
    ] = None,
    mix: Annotated[list[float] | None, typer.Option("--mix", help="Weight of each face; alike without.")] = None,
    negative_prompt: Annotated[str, typer.Option("--negative-prompt", help="What not to draw.")] = "",
    face_scale: Annotated[float, typer.Option("--face-scale", min=0, help="Strength of the face.")] = 1.0,
    clip_scale: Annotated[float, typer.Option("--clip-scale", min=0, help="Look beside bare identity.")] = 1.0,
    pose_scale: Annotated[float, typer.Option("--pose-scale", min=0, help="Strength of the pose.")] = 1.0,
    pose_start: Annotated[float, typer.Option("--pose-start", min=0, max=1, help="Share of steps before it.")] = 0.0,
    pose_end: Annotated[float, typer.Option("--pose-end", min=0, max=1, help="Share of steps after which none.")] = 1.0,
    steps: Annotated[int, typer.Option("--steps", min=1, max=1000, help="DDIM steps.")] = 50,
    guidance: Annotated[float, typer.Option("--guidance", min=0, help="Classifier-free guidance.")] = 7.5,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed draws the same picture.")] = 42,
    height: Annotated[int, typer.Option("--height", min=8, help="Pixels, a multiple of 8.")] = 512,
    width: Annotated[int, typer.Option("--width", min=8, help="Pixels, a multiple of 8.")] = 512,
    base: Annotated[str | None, typer.Option("--base", help="Another base model than the trained one.")] = None,
    image_encoder: Annotated[str | None, typer.Option("--image-encoder", help="Another place of it.")] = None,
    detector: Annotated[
        str, typer.Option("--detector", help="yolov5-face, centerface or yolov5-face-torch.")
    ] = "yolov5-face",
    weights: Annotated[str, typer.Option("--weights", help="The detector's weights.")] = "yolov5n-face",
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:N.")] = "cpu",
    accept_noncommercial: Annotated[
        bool, typer.Option("--accept-noncommercial", help="Accept the recogniser's terms, where it has such.")
    ] = False,
    no_adapter: Annotated[bool, typer.Option("--no-adapter", help="Draw what the base model draws.")] = False,
) -> None:
    """Draw pictures of a person from photos of the face, prompts and a pose."""
    from curation.recipe.validation import validated
    from facemakeup.inference.generate import FaceFinder, Request
    from facemakeup.inference.generate import generate as run

    settings = {
        "prompts": prompt,
        "negative_prompt": negative_prompt,
        "mix": mix or None,
        "scales": {"face": face_scale, "clip": clip_scale, "pose": pose_scale},
        "sampling": {"num_steps": steps, "guidance_scale": guidance, "pose_start": pose_start, "pose_end": pose_end},
        "seed": seed,
        "height": height,
        "width": width,
        "adapter": not no_adapter,
    }
    request = validated(Request, settings, "generate", "")
    found_by = {"detector": detector, "weights": weights, "accept_noncommercial": accept_noncommercial}
    finder = validated(FaceFinder, found_by, "generate", "")
    for path in run(adapter, face, pose, out, request, finder, base, image_encoder, device):
        typer.echo(path)


@app.command()
def plan(
    source: Annotated[
        Path, typer.Argument(help="Folder that `rank` wrote; with --order one of tars, or a run that was curated.")
    ],
    recipe: RecipeOption = DEFAULT_RECIPE,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    order: Annotated[
        bool, typer.Option("--order", help="Say which execution order of the filters is cheapest, in one process.")
    ] = False,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=1, help="Rows that go through all stages (2000); with --order pictures (200)."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed draws the same sample.")] = 0,
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
    """Preview links, bytes, hours and the final number from a measured sample; write nothing.

    With --order it measures a sample of pictures, or reads it from ledgers, and proposes the cheapest order of filters.
    Where `plan --json` is kept as `forecast.json` in the folder of the run, `report` holds it against what came.
    """
    from curation.recipe.recipe import load_recipe

    loaded = load_recipe(recipe)
    if order:
        from curation.commands.order.observe import sample_of
        from curation.commands.order.proposal import propose

        drawn = sample_of(source, loaded, sample or 200, seed)
        _print_proposal(propose(drawn.observed, loaded), drawn, as_json)
        return
    from curation.commands.plan import plan as run

    forecast = run(
        source, loaded, _spread(workers, ray_address), seed=seed,
        num_sampled=sample or 2000, price=price, waiver=waiver, hash_lists=hash_list or (),
        allow_loopback=allow_loopback,
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
    from curation.commands.report.write import write_report

    typer.echo(write_report(run))
    from curation.commands.plan import score_run

    for name, one in score_run(run).items():
        if "is_within" in one:
            verdict = "as forecast" if one["is_within"] else "NOT as forecast"
            typer.echo(f"{name}: {one['came']:,.4g}, {verdict} ({one['low']:,.4g} to {one['high']:,.4g})")
        else:
            typer.echo(f"{name}: {one['came']:,.4g}, forecast {one['value']:,.4g}")


@app.command()
def verify(
    run: RunArgument,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Derive everything again from what lies on disk, and name each thing that is not as it should be."""
    from curation.commands.verify.check import verify as check
    from curation.storage.paths import location

    with _progress("verify", done="verified") as on_outcome:
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
    from curation.commands.gc import collect
    from curation.storage.paths import location

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
    from curation.commands.why.story import why as ask
    from curation.commands.why.text import tell
    from curation.storage.paths import location

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
    from curation.commands.forget.stage import forget as take_out
    from curation.commands.forget.takedowns import read_requests
    from curation.errors import UsageError
    from curation.storage.paths import location

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
    from curation.commands.doctor import examine

    findings = examine(recipe)
    if as_json:
        typer.echo(json.dumps([vars(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            typer.echo(f"{'ok  ' if finding.ok else 'BAD '} {finding.subject}: {finding.fact}")
            if not finding.ok:
                typer.echo(f"     mend: {finding.mend}")
    if wrong := [finding.exit_code for finding in findings if not finding.ok]:
        raise typer.Exit(min(wrong))


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
    """Look for every entry of the catalogue and check the bytes of those that are here; missing ones are no fault."""
    from filters.weights import verify_all

    statuses = verify_all()
    for status in statuses:
        mark = "ok     " if status.found else "WRONG  " if status.is_wrong else "missing"
        typer.echo(f"{mark} {status.entry.name}: {status.found.path if status.found else status.problem}")
    if any(status.is_wrong for status in statuses):
        raise typer.Exit(EXIT_WEIGHTS_WRONG)


def _spread(workers: int, ray_address: str | None, num_gpus: float = 0.0) -> "Spread":
    from curation.run.runner import Spread

    return Spread(workers, ray_address, num_gpus)


@contextmanager
def _progress(
    stage: str, log_json: str | None = None, *, done: str = "committed"
) -> Iterator[Callable[["Outcome"], None]]:
    """Yield what to call for every outcome: a bar of the shards done on a terminal, a line per shard elsewhere."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from curation.run.logs import STDERR, json_log, log_outcome
    from curation.run.runner import ShardFailure

    console = Console(stderr=True, quiet=log_json == STDERR)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    disable = not console.is_terminal or console.quiet
    with json_log(log_json), Progress(*columns, console=console, disable=disable) as bar:
        shown = bar.add_task(f"{stage}: shards {done}", total=None)

        def on_outcome(outcome: "Outcome") -> None:
            log_outcome(stage, outcome)
            if isinstance(outcome, ShardFailure):
                console.print(f"{stage} {outcome.shard}: FAILED: {outcome.error}", markup=False, highlight=False)
                return
            bar.advance(shown)
            if not console.is_terminal:
                line = f"{stage} {outcome.shard}: {outcome.num_seen} seen, {outcome.num_kept} kept"
                console.print(line, markup=False, highlight=False)

        yield on_outcome


def _print_forecast(forecast: "Preview", as_json: bool) -> None:
    low, high = forecast.kept_interval
    if as_json:
        values = {**asdict(forecast), "kept_low": low, "kept_expected": forecast.kept_expected, "kept_high": high}
        typer.echo(json.dumps(values, indent=2))
        return
    typer.echo(f"{forecast.num_seen} seen, {forecast.num_kept_before} kept now")
    for by, reasons in forecast.rejected.items():
        listed = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
        typer.echo(f"would be rejected: {sum(reasons.values())} by {by} ({listed})")
    typer.echo(f"would be kept: {forecast.num_kept} for certain")
    calls = ", ".join(f"{name} {count}" for name, count in forecast.calls.items())
    if forecast.num_undecided:
        num = forecast.num_undecided_kept
        kept = f", {num} of them kept now, for which no shadow sample stands" if num else ""
        typer.echo(f"undecided: {forecast.num_undecided}{kept}; measuring them takes these calls: {calls}")
    elif calls:
        typer.echo(f"calls: {calls}")
    if forecast.calls_at_most:
        behind = ", ".join(f"{name} {count}" for name, count in forecast.calls_at_most.items())
        typer.echo(f"and, once those have measured, at most these: {behind}")
    if forecast.num_undecided:
        expected = forecast.kept_expected
        guess = "no shadow sample stands for all of them" if expected is None else f"about {expected}"
        typer.echo(f"kept in the end: {low} to {high} (95 %), {guess}")
    typer.echo(f"shards to write anew: {forecast.num_shards}; certain to change sides: {len(forecast.changes)}")
    for change in forecast.changes[:NUM_CHANGES_SHOWN]:
        was, now = (f"{v.rejected_by}.{v.reason}" if v.rejected_by else "kept" for v in (change.before, change.after))
        typer.echo(f"  {change.uid} (shard {change.shard}): {was} -> {now}")
    if len(forecast.changes) > NUM_CHANGES_SHOWN:
        typer.echo(f"  ... and {len(forecast.changes) - NUM_CHANGES_SHOWN} more (--json lists all)")


def _print_proposal(found: "Proposal", drawn: "OrderSample", as_json: bool) -> None:
    about = {"origin": drawn.origin, "num_refused": drawn.num_refused, "decode_seconds": drawn.decode_seconds}
    if as_json:
        typer.echo(json.dumps({**about, **found.values}, indent=2))
        return
    typer.echo(f"{drawn.origin}\n{found.num_pictures} readable pictures, {drawn.num_refused} samples without one")
    typer.echo(f"\nproposed, in turn{'':<11}ms a call   measures   rejects   alone it would")
    for step in found.proposed.steps:
        alone = f"{found.rejects[step.name]:14.1%}" if step.name in found.rejects else f"{'-':>14}"
        line = f"{step.name:<24}{1000 * found.seconds[step.name]:13.2f}{step.asked:11.1%}{step.rejected:10.1%}{alone}"
        typer.echo(line)
    typer.echo(f"\nCPU ms per readable picture, {1000 * drawn.decode_seconds:.2f} of decoding included")
    for name, played in (("recipe", found.recipe), ("declared", found.declared), ("proposed", found.proposed)):
        total = 1000 * (played.seconds + drawn.decode_seconds)
        typer.echo(f"{name:<10}{total:11.2f}  {', '.join(played.order)}")
    value, low, high = found.saving
    how = "the cheapest of all orders" if found.is_exact else "no single move makes it cheaper"
    typer.echo(f"the proposed order, {how}, saves {value:.1%} of the measuring (95 %: {low:.1%} to {high:.1%})")
    typer.echo(f"chosen on one half of the pictures, it saves {found.held_out_saving:.1%} on the other")
    if found.proposed.order == found.recipe.order:
        typer.echo("the recipe's own order is the cheapest already")
    elif not found.is_certain:
        typer.echo("so few pictures do not tell it from the recipe's own: keep that, or take a larger --sample")
    if idle := [name for name, share in found.rejects.items() if not share]:
        typer.echo(
            f"of the sample {' and '.join(idle)} would reject none: how many it does reject is not known from it"
        )
    typer.echo(f"\n[curate]\n{found.line}")


@contextmanager
def _steps() -> Iterator[Callable[["Step"], None]]:
    """Yield what to call for every optimiser step: a bar on a terminal, a line per report elsewhere."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    is_main = os.environ.get("RANK", "0") == "0"
    with Progress(*columns, console=console, disable=not (console.is_terminal and is_main)) as bar:
        shown = bar.add_task("train", total=None)

        def on_step(at: "Step") -> None:
            bar.update(shown, completed=at.step, total=at.num_steps)
            if at.loss is not None:
                bar.update(shown, description=f"train: loss {at.loss:.4f}")
                if is_main and not console.is_terminal:
                    line = f"train: step {at.step} of {at.num_steps}, loss {at.loss:.4f}"
                    console.print(line, markup=False, highlight=False)

        yield on_step


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
        if isinstance(error, OSError):
            typer.echo(f"facecaptionhq: {type(error).__name__}: {error}; what is committed stays", err=True)
            sys.exit(EXIT_SOME_SHARDS_FAILED)
        traceback.print_exc()
        typer.echo("facecaptionhq: this is a bug in facecaptionhq; please report the lines above", err=True)
        sys.exit(EXIT_BUG)


if __name__ == "__main__":
    main()

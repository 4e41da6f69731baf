"""What is done with a run once it is there: judged again, checked, asked, and cleaned."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from curation.arguments import path
from curation.command_line.options import (
    EXIT_FAULTS_FOUND,
    EXIT_INCOMPLETE,
    NUM_CORES,
    JsonOption,
    LogOption,
    MetricsOption,
    RayOption,
    RecipeOption,
    RunArgument,
    SetOption,
    WorkersOption,
    conclude,
    load,
    location,
    progress,
    spread_of,
    to_json,
    typed,
)
from curation.printable import say


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
    metrics: MetricsOption = None,
) -> None:
    """Judge a curated folder again by another recipe, measuring only what its ledgers leave undecided."""
    loaded = load(recipe, changes)
    from curation.commands.decide.stage import decide as run_decide
    from curation.commands.decide.stage import foresee, places_of
    from curation.commands.decide.text import tell, values
    from curation.commands.pack.packs import superseded_packs

    if dry_run:
        forecast = foresee(location(run), loaded)
        say(to_json(values(forecast)) if as_json else tell(forecast))
        return
    with progress("decide", log_json, metrics=metrics) as on_outcome:
        spread = spread_of(workers, ray_address, loaded.file.curate.num_gpus)
        manifest = run_decide(location(run), loaded, spread, location(source) if source else None, on_outcome)
    conclude(manifest, location(run), as_json)
    for packed in superseded_packs(location(run)):
        again = (
            f"facecaptionhq pack {shlex.quote(str(places_of(location(run))[0]))} NEW_FOLDER {typed(recipe, changes)}"
        )
        say(f"{packed} follows an earlier decision: pack again into a new folder: {again}", err=True)


def verify(
    run: RunArgument,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    as_json: JsonOption = False,
) -> None:
    """Derive everything again from what lies on disk, and name each thing that is not as it should be."""
    from curation.commands.verify.check import verify as check
    from curation.commands.verify.text import tell

    with progress("verify", done="verified") as on_outcome:
        verification = check(location(run), spread_of(workers, ray_address), on_outcome)
    say(to_json(verification.values) if as_json else tell(verification))
    if not verification.ok:
        raise typer.Exit(EXIT_FAULTS_FOUND)


def gc(
    run: RunArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, and write nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove what dead runs left: temporary files, files that no record names, uploads that never finished."""
    from curation.commands.gc.collect import collect
    from curation.commands.gc.text import tell, values

    collection = collect(location(run), dry_run=dry_run)
    say(to_json(values(collection, dry_run=dry_run)) if as_json else tell(collection, dry_run=dry_run))


def why(
    run: RunArgument,
    identity: Annotated[
        str, typer.Argument(metavar="ID", help="A uid, a URL, a key, the sha256 of a picture, or the path of its file.")
    ],
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="All weights of the run, too, with their whole sha256.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Tell one image's whole story: every stage, every score and limit, what decided, and where it lies now."""
    from curation.commands.why.story import why as ask
    from curation.commands.why.text import tell

    stories = ask(location(run), identity)
    told = (tell(story, is_verbose=verbose) for story in stories)
    say(to_json([story.values for story in stories]) if as_json else "\n\n".join(told))


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

    listed, folders = read_list(requests), [location(folder) for folder in also or ()]
    if dry_run:
        done = foresee(location(run), listed, folders)
        say(to_json(done) if as_json else foretell(listed, done))
    else:
        receipt, done = take_out(location(run), listed, folders)
        say(to_json(done) if as_json else tell(receipt, done))
    if missed := [*not_found(listed, done["requests"]), *not_reached(done["not_reached"])]:
        say("\n".join(missed), err=True)
        raise typer.Exit(EXIT_INCOMPLETE)

"""The stages as commands, in the order in which a run goes through them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from curation.arguments import path
from curation.command_line.options import (
    DEFAULT_RECIPE,
    EXIT_NEXT_TO_NOTHING,
    NUM_CORES,
    HashListOption,
    JsonOption,
    LogOption,
    LoopbackOption,
    MetricsOption,
    RayOption,
    RecipeOption,
    RobotsOption,
    SeedOption,
    SetOption,
    WaiverOption,
    WorkersOption,
    conclude,
    load,
    location,
    progress,
    spread_of,
    to_json,
    without_pandas,
)
from curation.printable import say

if TYPE_CHECKING:
    from curation.recipe.recipe import Recipe


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
    grow: Annotated[
        int | None,
        typer.Option("--grow", min=1, help="Admit so many rows more, below the cut of a finished selection: no total."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Join the two metadata sets by URL, pass the gates, and select the top images by the recipe's key."""
    loaded = load(recipe, changes)
    from curation.commands.rank.growth import grown_by
    from curation.commands.rank.stage import Safeguards
    from curation.commands.rank.stage import rank as run

    safeguards = Safeguards(release, blocklist or (), waiver)
    manifest = run(facecaption, laion, target, loaded, safeguards, detections, grow)
    if grow is not None:
        say(grown_by(manifest, grow), err=True)
    conclude(manifest, target, as_json)


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
    say(to_json(vars(imported)) if as_json else tell(imported, target))


def fetch(  # long: its options
    source: Annotated[Path | None, typer.Argument(parser=path, help="Folder that `rank` wrote.")] = None,
    target: Annotated[Path | None, typer.Argument(parser=path, help="Folder for the fetched shards.")] = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    changes: SetOption = None,
    engine: Annotated[
        str | None,
        typer.Option("--engine", help="What downloads: direct or img2dataset; as --set fetch.engine=... is."),
    ] = None,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    waiver: WaiverOption = None,
    robots_waiver: RobotsOption = None,
    hash_list: HashListOption = None,
    allow_loopback: LoopbackOption = False,
    again: Annotated[
        bool, typer.Option("--again", help="Of a finished fetch, ask again for what failed for a reason that passes.")
    ] = False,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="With --again: for these reasons alone, such as http_5xx,dns.")
    ] = None,
    run_folder: Annotated[
        Path | None, typer.Option("--from", parser=path, help="A run: SOURCE is its `rank`, TARGET its `fetch`.")
    ] = None,
    log_json: LogOption = None,
    metrics: MetricsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Download the selection, original bytes, every row accounted for."""
    loaded = load(recipe, changes if engine is None else [*(changes or ()), f"fetch.engine={engine}"])
    from curation.commands.fetch.again import reasons_of
    from curation.commands.fetch.stage import fetch as run
    from curation.commands.fetch.text import alarm
    from curation.errors import UsageError

    if run_folder is not None:
        source, target = source or run_folder / "rank", target or run_folder / "fetch"
    if source is None or target is None:
        raise UsageError("fetch: give SOURCE and TARGET, or --from RUN")
    if only and not again:
        raise UsageError("--only: says for which reasons --again asks again; give both")
    reasons = reasons_of(only or ()) if again else None
    with progress("fetch", log_json, metrics=metrics) as on_outcome:
        manifest = run(
            source, target, loaded, spread_of(workers, ray_address), on_outcome,
            waiver=waiver, hash_lists=hash_list or (), allow_loopback=allow_loopback, robots_waiver=robots_waiver,
            again=reasons,
        )  # fmt: skip
    conclude(manifest, target, as_json)
    if (told := alarm(manifest)) is not None:
        say(f"facecaptionhq: {told}", err=True)
        raise typer.Exit(EXIT_NEXT_TO_NOTHING)


def curate(  # long: its options
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
    shards: Annotated[
        str | None,
        typer.Option("--shards", help="I/N: every N-th shard from the I-th on alone, into a TARGET of its own."),
    ] = None,
    join: Annotated[
        list[str] | None,
        typer.Option("--join", help="Folder of such a share, for TARGET to take over; may be repeated."),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Show where the CPU time went; it stands in the stats in any case.")
    ] = False,
    log_json: LogOption = None,
    metrics: MetricsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure every picture, judge it by the recipe, keep its bytes or record why not."""
    loaded = load(recipe, changes)
    without_pandas()
    from curation.commands.curate.stage import curate as run
    from curation.run.shares import Share

    with progress("curate", log_json, metrics=metrics) as on_outcome:
        spread = spread_of(workers, ray_address, loaded.file.curate.num_gpus)
        manifest = run(
            location(source), location(target), loaded, spread, on_outcome, allow_removed=allow_removed,
            share=Share.parse(shards) if shards else None, taken=[location(folder) for folder in join or ()],
        )  # fmt: skip
    if profile:
        from curation.run.costs import costs, table

        say(table(costs(location(target), manifest)), err=True)
    conclude(manifest, location(target), as_json)


def caption(
    source: Annotated[str, typer.Argument(help="Folder that `curate` wrote; replies lie in `caption` beside it.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    changes: SetOption = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint", help="Base address of a server with OpenAI's chat completions: http://HOST:8000/v1."
        ),
    ] = None,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    log_json: LogOption = None,
    metrics: MetricsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a model write a new caption of every curated picture, beside those it came with; nothing is replaced."""
    loaded = load(recipe, changes)
    from curation.commands.caption.stage import caption as run
    from curation.commands.caption.stage import captions_of_folder

    spread = spread_of(workers, ray_address, loaded.file.curate.num_gpus if _is_local(loaded) else 0.0)
    with progress("caption", log_json, metrics=metrics) as on_outcome:
        manifest = run(location(source), loaded, spread, on_outcome, endpoint=endpoint)
    conclude(manifest, captions_of_folder(location(source)), as_json)


def _is_local(recipe: "Recipe") -> bool:
    """Whether the model itself runs in the workers."""
    return recipe.file.caption is not None and recipe.file.caption.via == "transformers"


def pack(
    source: Annotated[str, typer.Argument(help="Folder that `curate` wrote.")],
    target: Annotated[str, typer.Argument(help="Folder for the final shards.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    changes: SetOption = None,
    workers: WorkersOption = NUM_CORES,
    ray_address: RayOption = None,
    log_json: LogOption = None,
    metrics: MetricsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cut the kept samples into final WebDataset shards, with captions bound to faces, an index and a manifest."""
    loaded = load(recipe, changes)
    from curation.commands.pack.stage import pack as run

    with progress("pack", log_json, metrics=metrics) as on_outcome:
        manifest = run(location(source), location(target), loaded, spread_of(workers, ray_address), on_outcome)
    conclude(manifest, location(target), as_json)
    if manifest.num_seen and not manifest.num_kept:
        say("facecaptionhq: nothing is packed: every sample was left out for the reason that is told above", err=True)
        raise typer.Exit(EXIT_NEXT_TO_NOTHING)


def report(
    run: Annotated[
        Path, typer.Argument(parser=path, help="Folder that holds the stages' folders: rank, fetch, curate, pack.")
    ],
    against: Annotated[
        str | None, typer.Option("--against", help="Another run of the same pictures: who changed sides, and why.")
    ] = None,
    source: Annotated[
        str | None, typer.Option("--source", help="What was curated, if not RUN/fetch or where it lay then.")
    ] = None,
    per_group: Annotated[int, typer.Option("--per-group", min=1, help="Pictures that each group shows.")] = 12,
    seed: SeedOption = 0,
    side: Annotated[int, typer.Option("--side", min=64, max=4096, help="Longer side of a picture, in pixels.")] = 384,
) -> None:
    """Write one self-contained HTML page about a run, and the same numbers as JSON."""
    from curation.commands.report.contents import ReportOptions
    from curation.commands.report.write import write_report

    asked = ReportOptions(_absolute(source), _absolute(against), per_group, seed, side)
    say(write_report(run, asked))
    from curation.commands.plan.forecast import score_run
    from curation.commands.plan.text import tell_scores

    if scores := score_run(run):
        say(tell_scores(scores))


def _absolute(folder: str | None) -> str | None:
    """Return a folder's name from anywhere: the report says what it was made with."""
    from curation.storage.paths import named

    return None if folder is None else str(named(location(folder)))

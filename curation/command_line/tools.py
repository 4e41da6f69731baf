"""What helps before a run and beside it."""

from pathlib import Path
from typing import Annotated

import typer

from curation.arguments import path, place
from curation.command_line.options import (
    DEFAULT_RECIPE,
    EXIT_SOME_SHARDS_FAILED,
    NUM_CORES,
    HashListOption,
    JsonOption,
    LoopbackOption,
    RayOption,
    RecipeOption,
    RobotsOption,
    SeedOption,
    SetOption,
    WaiverOption,
    WorkersOption,
    asked,
    load,
    location,
    spread_of,
    to_json,
)
from curation.printable import say


def _say_moved(is_given: bool) -> None:
    """Turn away who still types `plan --order`, which is a command of its own."""
    if is_given:
        from curation.errors import UsageError

        raise UsageError("plan --order: the cheapest order has a command of its own: facecaptionhq order SOURCE")


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
    loaded = load(recipe, changes)
    from curation.commands.plan.forecast import plan as run
    from curation.commands.plan.text import tell

    forecast = run(
        source, loaded, spread_of(workers, ray_address), seed=seed, num_sampled=sample, price=price,
        waiver=waiver, hash_lists=hash_list or (), allow_loopback=allow_loopback, robots_waiver=robots_waiver,
        tell=lambda line: None if asked["quiet"] else say(line, err=True),
    )  # fmt: skip
    say(to_json(forecast.values) if as_json else tell(forecast))


def order(
    source: Annotated[Path, typer.Argument(parser=path, help="Folder of tars, or a run that was curated.")],
    recipe: RecipeOption = DEFAULT_RECIPE,
    changes: SetOption = None,
    sample: Annotated[int, typer.Option("--sample", min=1, help="Pictures that are measured in full.")] = 200,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Propose the cheapest order of the filters, from pictures measured here or from a run's ledgers; write nothing."""
    loaded = load(recipe, changes)
    from curation.commands.order.observe import sample_of
    from curation.commands.order.proposal import propose
    from curation.commands.order.text import tell, values

    drawn = sample_of(source, loaded, sample, seed)
    proposal = propose(drawn.observed, loaded)
    say(to_json(values(proposal, drawn)) if as_json else tell(proposal, drawn))


def repair(
    source: Annotated[str, typer.Argument(help="Folder of tars, or one tar, that cannot be read as it is.")],
    target: Annotated[str, typer.Argument(help="New folder for the repaired tars.")],
    as_json: JsonOption = False,
) -> None:
    """Write damaged or disordered tars anew: samples together, strays out, no picture lost that is in them."""
    from curation.commands.repair.stage import repair as run
    from curation.commands.repair.text import tell, values

    repaired = run(location(source), location(target))
    say(to_json(values(repaired)) if as_json else tell(repaired))
    if any(shard.losses for shard in repaired):
        say("some tars are not whole: get these anew where you can", err=True)
        raise typer.Exit(EXIT_SOME_SHARDS_FAILED)


def doctor(
    recipe: Annotated[
        str | None, typer.Option("--recipe", parser=place, help="A TOML file, or the name of a bundled recipe.")
    ] = None,
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check the environment that a recipe needs, and say how to mend what is wrong, and which recipes are ready."""
    from curation.commands.doctor.examine import examine, readiness
    from curation.commands.doctor.text import tell, tell_readiness

    checked = recipe or DEFAULT_RECIPE
    findings = examine(checked, changes or ())
    say(to_json([vars(finding) for finding in findings]) if as_json else tell(findings))
    if not as_json:
        say(tell_readiness(checked, readiness(), was_named=recipe is not None))
    if wrong := [finding.exit_code for finding in findings if not finding.ok]:
        raise typer.Exit(min(wrong))

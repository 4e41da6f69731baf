"""The commands that write, each with a small world to work in: what lies there before, and the call."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from curation.commands.curate.stage import curate
from curation.commands.decide.stage import decide
from curation.commands.fetch.stage import fetch
from curation.commands.forget.stage import forget
from curation.commands.forget.takedowns import read_list
from curation.commands.gc.collect import collect
from curation.commands.pack.stage import pack
from curation.commands.rank.stage import rank
from curation.commands.report.write import write_report
from curation.recipe.recipe import Recipe, load_recipe
from tests.curation.shards import recipe_from
from tests.curation.whole_run import ALONE, RECIPE, WAIVER, picture, url_of, write_metadata, write_run

NUM_IMAGES, ROWS_PER_PART, NUM_SHARD_SAMPLES = 18, 6, 4
TEXT = RECIPE.format(top=NUM_IMAGES, rows_per_part=ROWS_PER_PART, num_shard_samples=NUM_SHARD_SAMPLES).replace(
    "[[filters]]", "[fetch]\nnum_retries = 0\nnum_threads = 4\n[curate]\nisolate = false\n[[filters]]"
)
STRICT = TEXT.replace("min = 2.0", "min = 55.0")
FORGOTTEN = [url_of(number) for number in (0, 3, 7, 17)]
"""A picture that is packed, one more of its shard, a grey one, and one that stands in the last part."""


@dataclass(frozen=True)
class KilledCommand:
    """One command, and the world that it is run in."""

    name: str
    prepare: Callable[[Path, Path, str], None]
    """Makes the world: its folder, a folder that is served, and the address of that."""
    work: Callable[[Path], object]
    """Runs the command in a copy of the world."""


def recipe_of(world: Path, name: str = "usual") -> Recipe:
    """Return one of the recipes of a world."""
    return load_recipe(world / "input" / name / "recipe.toml")


def inputs(world: Path, web: Path, url: str) -> None:
    """Write recipes and metadata, whose addresses are those of a server on this machine, and the pictures for it."""
    recipe_from(world / "input" / "usual", TEXT)
    recipe_from(world / "input" / "strict", STRICT)
    for number in range(NUM_IMAGES):
        (web / f"{number:06d}.jpg").write_bytes(picture(number))
    urls = [f"{url}/{'gone' if number % 5 == 4 else 'images'}/{number:06d}.jpg" for number in range(NUM_IMAGES)]
    write_metadata(world / "input", 0, urls)


def selection(world: Path, web: Path, url: str) -> None:
    """Write a selection whose pictures a server of this machine has."""
    inputs(world, web, url)
    work_rank(world)


def whole(world: Path, web: Path, url: str) -> None:
    """Write a run of every stage, without a server; measuring happens in this process."""
    inputs(world, web, url)
    write_run(world / "made", NUM_IMAGES, ROWS_PER_PART, NUM_SHARD_SAMPLES)
    (world / "made").rename(world / "run")
    for stage in ("curate", "pack"):
        shutil.rmtree(world / "run" / stage)
    work_curate(world)
    work_pack(world)


def without(*stages: str) -> Callable[[Path, Path, str], None]:
    """Return what writes a run that lacks its last stages."""

    def prepare(world: Path, web: Path, url: str) -> None:
        whole(world, web, url)
        for stage in stages:
            shutil.rmtree(world / "run" / stage)

    return prepare


def strictly_decided(world: Path, web: Path, url: str) -> None:
    """Write a run that was judged by a strict recipe: deciding by the usual one brings pictures back."""
    without("pack")(world, web, url)
    decide(world / "run", recipe_of(world, "strict"), ALONE)


def requests(world: Path, web: Path, url: str) -> None:
    """Write a whole run with its report, and a list of takedowns."""
    whole(world, web, url)
    write_report(world / "run")
    (world / "input" / "list.txt").write_text("\n".join(FORGOTTEN) + "\n", encoding="utf-8")


def littered(world: Path, web: Path, url: str) -> None:
    """Write a whole run with what dead runs leave behind."""
    whole(world, web, url)
    run = world / "run"
    for stage in ("fetch", "curate", "pack"):
        (run / stage / "_tmp").mkdir(exist_ok=True)
        for number in range(20):
            (run / stage / "_tmp" / f"{number:05d}.tar.dead").write_bytes(b"half")
    for number in range(7, 20):
        shutil.copy(run / "fetch" / "00000.tar", run / "fetch" / f"{number:05d}.tar")
        shutil.copy(run / "curate" / "00000.parquet", run / "curate" / f"{number:05d}.parquet")
    (run / "forgotten" / "prepared" / "fetch").mkdir(parents=True)
    (run / "forgotten" / "prepared" / "fetch" / "00000.tar").write_bytes(b"never counted")


def work_rank(world: Path) -> None:
    """Rank."""
    tables = world / "input"
    rank(tables / "facecaption.parquet", tables / "laion.parquet", world / "run" / "rank", recipe_of(world))


def work_fetch(world: Path) -> None:
    """Fetch from the server of the campaign."""
    fetch(world / "run/rank", world / "run/fetch", recipe_of(world), ALONE, waiver=WAIVER, allow_loopback=True)


def work_curate(world: Path) -> None:
    """Curate in this very process."""
    curate(world / "run" / "fetch", world / "run" / "curate", recipe_of(world), ALONE)


def work_pack(world: Path) -> None:
    """Pack."""
    pack(world / "run" / "curate", world / "run" / "pack", recipe_of(world), ALONE)


def work_decide(world: Path) -> None:
    """Decide by the usual recipe."""
    decide(world / "run", recipe_of(world), ALONE)


def work_forget(world: Path) -> None:
    """Forget what the list names."""
    forget(world / "run", read_list(world / "input" / "list.txt"))


def work_report(world: Path) -> None:
    """Report."""
    write_report(world / "run")


def work_gc(world: Path) -> None:
    """Collect garbage."""
    collect(world / "run")


COMMANDS: Mapping[str, KilledCommand] = MappingProxyType(
    {
        command.name: command
        for command in (
            KilledCommand("rank", inputs, work_rank),
            KilledCommand("fetch", selection, work_fetch),
            KilledCommand("curate", without("pack", "curate"), work_curate),
            KilledCommand("pack", without("pack"), work_pack),
            KilledCommand("decide", strictly_decided, work_decide),
            KilledCommand("forget", requests, work_forget),
            KilledCommand("report", whole, work_report),
            KilledCommand("gc", littered, work_gc),
        )
    }
)

"""What a run will bring and cost, from a measured sample of its selection; nothing is written where the run will be.

The sample goes through the real stages in a temporary folder: of every k rows of the selection one, by a seeded chance,
so that all of the ranking is in it alike and no period of it is followed. Shares come with Wilson intervals, narrowed
by the part of the whole that was seen.
"""

import json
import logging
import math
import random
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.commands.curate.stage import curate
from curation.commands.fetch.again import num_asked_again
from curation.commands.fetch.blocked import blocked_by
from curation.commands.fetch.part import UNREACHABLE
from curation.commands.fetch.stage import fetch
from curation.commands.pack.stage import pack
from curation.commands.rank.stage import LEDGER
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import Manifest, ShardReport, read_manifest, read_report, stats_path
from curation.dataset.stages import BLOCKED_NAME, CURATE, FETCH, LEDGER_NAME, PACK, RANK
from curation.errors import FaceCaptionError, ShardError, UsageError
from curation.intervals import Z_95, wilson
from curation.printable import counted
from curation.recipe.recipe import Recipe
from curation.run.runner import Outcome, Spread
from curation.run.shard_writer import commit_report
from curation.run.target import Facts, finish, finished
from curation.run.text import tell_outcome
from curation.storage.publish import FileRecord, digest, publish
from curation.storage.scratch import scratch_folder

PLANNED = (FETCH.name, CURATE.name, PACK.name)
FORECAST_NAME = "forecast.json"
Tell = Callable[[str], None]
NUM_ROWS_THAT_TELL = 10
"""So many links are not all dead by chance alone; `fetch` asks for more, since it judges a part by itself."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Range:
    """An estimate with its 95 % interval."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> "Range":
        """Return all three times a factor."""
        return Range(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True)
class StageForecast:
    """What one stage will take."""

    seconds_per_row: float
    """Worker-seconds per row that enters the stage, without the waiting below."""
    waiting_s_per_part: float
    """Seconds that each part waits whatever its size: between the passes of `fetch`, and for the last URLs of each."""
    hours: float
    """Hours of wall time with the workers asked for."""
    cost: float | None
    """In the currency of the price per worker-hour."""


@dataclass(frozen=True)
class Forecast:
    """What a run over a whole selection will bring and cost."""

    num_rows: int
    num_parts: int
    num_sampled: int
    num_workers: int
    link_rot: Range
    """Share of the rows for which nothing arrives, for whatever reason."""
    num_arriving: Range
    num_bytes: Range
    """Bytes of all pictures that arrive."""
    num_final: Range
    """Pictures in the final shards."""
    stages: Mapping[str, StageForecast]

    @property
    def values(self) -> dict[str, Any]:
        """The forecast as plain values, for JSON."""
        return asdict(self)


def plan(  # long: its options, and what it promises
    source: Path,
    recipe: Recipe,
    spread: Spread,
    *,
    num_sampled: int = 2000,
    price: float | None = None,
    seed: int = 0,
    waiver: str | None = None,
    hash_lists: Sequence[Path] = (),
    allow_loopback: bool = False,
    robots_waiver: str | None = None,
    tell: Tell = lambda line: None,
) -> Forecast:
    """Forecast a run over the selection in `source`; `price` is that of one worker for one hour.

    `tell` hears what is being done, before each stage and after each part.

    The rest is given to `fetch` as the run will give it: what is asked of no robots.txt there is asked of none here.

    Raises:
        UsageError: `source` is no finished selection, or is empty.
        SafetyError: as `fetch` raises it: the sample is downloaded for real.
        ShardError: next to nothing of the sample could be reached, which says nothing about the links.
    """
    selection = finished(source, RANK)
    parts = sorted(name for report in selection.shards for name in report.files if name != LEDGER_NAME)
    num_rows = selection.num_kept
    if not num_rows:
        raise UsageError(f"{source}: the selection is empty; nothing to plan")
    rows = _sampled([source / part for part in parts], num_rows, num_sampled, seed)
    options: dict[str, Any] = {
        "waiver": waiver, "hash_lists": hash_lists, "allow_loopback": allow_loopback, "robots_waiver": robots_waiver,
    }  # fmt: skip
    ran = _run(source, selection, rows, recipe, spread, options, tell)
    num_workers = max(1, spread.num_workers)
    return Forecast(
        num_rows=num_rows,
        num_parts=len(parts),
        num_sampled=rows.num_rows,
        num_workers=num_workers,
        link_rot=share(ran.num_seen["fetch"] - ran.num_kept["fetch"], ran.num_seen["fetch"], num_rows),
        num_arriving=share(ran.num_kept["fetch"], ran.num_seen["fetch"], num_rows).times(num_rows),
        num_bytes=_total(ran.sizes, rows.num_rows, num_rows),
        num_final=share(ran.num_kept["pack"], rows.num_rows, num_rows).times(num_rows),
        stages=_forecasts(ran, num_rows / rows.num_rows, len(parts), num_workers, price),
    )


@dataclass(frozen=True)
class _Ran:
    """What the sample gave on its way through the stages, by stage."""

    num_seen: Mapping[str, int]
    num_kept: Mapping[str, int]
    seconds: Mapping[str, float]
    """Worker-seconds, without the waiting."""
    waiting_s: float
    """Mean of the seconds that a part of `fetch` waited."""
    sizes: Sequence[int]
    """Bytes of each picture that arrived."""


def _run(
    source: Path, selection: Manifest, rows: pa.Table, recipe: Recipe, spread: Spread, options: Mapping[str, Any],
    tell: Tell,
) -> _Ran:  # fmt: skip
    """Send the sampled rows through the real stages, in a temporary folder."""
    seconds: dict[str, float] = dict.fromkeys(PLANNED, 0.0)
    waiting: list[float] = []

    def note(stage: str, outcome: Outcome) -> None:
        tell(tell_outcome(f"plan: {stage}", outcome))
        if isinstance(outcome, ShardReport):
            seconds[stage] += outcome.run["seconds"] - outcome.run.get("seconds_waiting", 0.0)
            if stage == FETCH.name:
                waiting.append(outcome.run["seconds_waiting"])

    with scratch_folder("plan") as folder, _in_terms_of(source, folder):
        _write_selection(folder / "rank", rows, source, selection, recipe, spread)
        tell(_begins(rows.num_rows, selection.num_kept, recipe))
        fetched = fetch(folder / "rank", folder / "fetch", recipe, spread, partial(note, FETCH.name), **options)
        _require_fetched(source, fetched, recipe)
        tell(f"plan: curate: {counted(fetched.num_kept, 'picture')}")
        curated = curate(folder / "fetch", folder / "curate", recipe, spread, partial(note, CURATE.name))
        started = time.monotonic()
        tell(f"plan: pack: {counted(curated.num_kept, 'picture')}")
        packed = pack(folder / "curate", folder / "pack", recipe, Spread(num_workers=0))
        seconds[PACK.name] = time.monotonic() - started
        sizes = _sizes(folder / "fetch", fetched)
    manifests = {FETCH.name: fetched, CURATE.name: curated, PACK.name: packed}
    return _Ran(
        num_seen={name: manifest.num_seen for name, manifest in manifests.items()},
        num_kept={name: manifest.num_kept for name, manifest in manifests.items()},
        seconds=seconds,
        waiting_s=sum(waiting) / max(1, len(waiting)),
        sizes=sizes,
    )


def _begins(num_sampled: int, num_all: int, recipe: Recipe) -> str:
    settings = recipe.file.fetch
    return (
        f"plan: fetch: {num_sampled} of {counted(num_all, 'row')}; what does not answer is waited for, up to "
        f"{settings.deadline_s:g} s and {settings.num_retries + 1} times with {settings.retry_wait_s:g} s between"
    )


def score(forecast: Mapping[str, Any], manifests: Mapping[str, Manifest]) -> dict[str, dict[str, float | bool]]:
    """Hold a forecast (its `values`) against what happened: per figure its range, and what came."""
    fetched, packed = manifests["fetch"], manifests["pack"]
    came = {
        "link_rot": 1 - fetched.num_kept / max(1, fetched.num_seen - num_asked_again(fetched)),
        "num_arriving": fetched.num_kept,
        "num_final": packed.num_kept,
    }
    return {name: _held(forecast[name], value) for name, value in came.items()}


def _held(forecast: Mapping[str, float], came: float) -> dict[str, float | bool]:
    return {**forecast, "came": came, "is_within": forecast["low"] <= came <= forecast["high"]}


def score_run(run: Path) -> dict[str, dict[str, float | bool]]:
    """Score the forecast that was kept as `forecast.json` in the folder of a run; nothing where there is none.

    What has no interval (`hours_fetch`, `hours_curate`: with the workers of the forecast) has only `value` and `came`.

    Raises:
        UsageError: it is not what `plan --json` printed.
    """
    path = run / FORECAST_NAME
    if not path.is_file():
        return {}
    try:
        forecast = json.loads(path.read_text(encoding="utf-8"))
        manifests = {stage: read_manifest(run / stage, stage) for stage in PLANNED}
        came = score(forecast, manifests)
        num_bytes = _num_bytes(run / "fetch", manifests["fetch"])
        came["num_bytes"] = _held(forecast["num_bytes"], num_bytes)
        for stage in ("fetch", "curate"):
            reports = [read_report(stats_path(run / stage, report.shard)) for report in manifests[stage].shards]
            hours = sum(report.run["seconds"] for report in reports) / forecast["num_workers"] / 3600
            came[f"hours_{stage}"] = {"value": forecast["stages"][stage]["hours"], "came": hours}
        return came
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: not what `facecaptionhq plan --json` prints: {error!r}") from error


def share(num_hits: int, num_trials: int, num_all: int) -> Range:
    """Return a share with its Wilson interval, counted on a sample of `num_trials` out of `num_all`."""
    return Range(num_hits / num_trials if num_trials else 0.0, *wilson(num_hits, num_trials, num_all=num_all))


@contextmanager
def _in_terms_of(source: Path, folder: Path) -> Iterator[None]:
    """Name what the user gave, not a folder that is gone, in whatever goes wrong with the sample."""
    try:
        yield
    except FaceCaptionError as error:
        text = _of_plan(str(error))
        if text == str(error) and str(folder) not in text:
            raise
        text = text.replace(str(folder / "rank"), str(source)).replace(str(folder), f"the sample of {source}")
        raise type(error)(text) from error


def _of_plan(text: str) -> str:
    """Return what a stage says is to be run again, as whoever plans has to type it."""
    return re.sub(r"run (?:fetch|curate|pack)(?:, or this,)? again", "run plan again", text)


def _require_fetched(source: Path, fetched: Manifest, recipe: Recipe) -> None:
    """Make sure that the sample says something about the links, and not about this machine's way to them."""
    if fetched.failed:
        (first, *_) = fetched.failed.values()
        raise ShardError(f"{source}: the sample could not be fetched: {_of_plan(first.splitlines()[-1])}")
    reasons = fetched.rejected.get("fetch", {})
    num_unreachable = sum(num for reason, num in reasons.items() if reason in UNREACHABLE)
    if num_unreachable <= recipe.file.fetch.max_unreachable_fraction * fetched.num_seen:
        return
    told = f"{num_unreachable} of {fetched.num_seen} addresses of the sample could not be reached"
    if fetched.num_seen >= NUM_ROWS_THAT_TELL:
        raise ShardError(
            f"{source}: {told}, which points to this machine's own network and says nothing about the links; run plan "
            f"again once it works (fetch.max_unreachable_fraction)"
        )
    log.warning("%s; so few say nothing: see to the network, or give plan a larger --sample", told)


def _sampled(parts: Sequence[Path], num_rows: int, num_sampled: int, seed: int) -> pa.Table:
    """Return one row, by a seeded chance, of every k rows of the selection, in its order."""
    step = max(1, num_rows // max(1, num_sampled))
    chance = random.Random(seed)
    places = [first + chance.randrange(min(step, num_rows - first)) for first in range(0, num_rows, step)]
    chosen, first = [], 0
    for part in parts:
        with pq.ParquetFile(part) as parquet:
            last = first + parquet.metadata.num_rows
            here = [place - first for place in places if first <= place < last]
            if here:
                chosen.append(parquet.read().take(pa.array(here, pa.int64())))
            first = last
    return pa.concat_tables(chosen)


def _write_selection(
    folder: Path, rows: pa.Table, source: Path, selection: Manifest, recipe: Recipe, spread: Spread
) -> None:
    """Write the sampled rows as a finished selection, in as many parts as keep the workers busy."""
    num_part_rows = min(recipe.file.rank.rows_per_part, -(-rows.num_rows // (2 * max(1, spread.num_workers))))
    files: dict[str, FileRecord] = {}
    for number, first in enumerate(range(0, rows.num_rows, num_part_rows)):
        name, part = f"{number:05d}.parquet", rows.slice(first, num_part_rows)
        files[name] = publish(folder / name, partial(pq.write_table, part, compression="zstd", version="2.6"))
    ledger = rows.select(["uid", "key", "url"])
    files[LEDGER_NAME] = publish(folder / LEDGER_NAME, partial(pq.write_table, ledger))
    work = digest(["plan", selection.work_digest, rows.num_rows])
    report = ShardReport(LEDGER, work, rows.num_rows, rows.num_rows, {}, files)
    commit_report(folder, None, report)
    blocked = {name: record for name, record in selection.files.items() if name == BLOCKED_NAME}
    for name, known in blocked.items():
        blocked_by(source, known)  # raises where it is not what the manifest names
        publish(folder / name, partial(shutil.copyfile, source / name))
    finish(folder, RANK, recipe, work, [report], Facts(files=blocked, extra=selection.extra))


def _sizes(folder: Path, fetched: Manifest) -> list[int]:
    """Return the bytes of each picture that arrived."""
    tables = [read_ledger(folder / f"{report.shard}.parquet", ["num_bytes", "kept"]) for report in fetched.shards]
    return [row["num_bytes"] for table in tables for row in table.to_pylist() if row["kept"]]


def _num_bytes(folder: Path, fetched: Manifest) -> int:
    """Return the bytes of all pictures that arrived."""
    ledgers = (read_ledger(folder / f"{report.shard}.parquet", ["num_bytes", "kept"]) for report in fetched.shards)
    return sum(pc.sum(ledger.filter(ledger["kept"])["num_bytes"]).as_py() or 0 for ledger in ledgers)


def _total(sizes: Sequence[int], num_sampled: int, num_all: int) -> Range:
    """Return the bytes of all rows, a row without picture counting 0, by the normal approximation."""
    mean = sum(sizes) / num_sampled
    variance = sum(size * size for size in sizes) / num_sampled - mean * mean
    half = Z_95 * math.sqrt(max(0.0, variance) / num_sampled * max(0.0, 1 - num_sampled / num_all))
    return Range(mean, max(0.0, mean - half), mean + half).times(num_all)


def _forecasts(
    ran: _Ran, scale: float, num_parts: int, num_workers: int, price: float | None
) -> dict[str, StageForecast]:
    """Return what each stage will take; `scale` is how many rows of the whole one of the sample stands for."""
    forecasts = {}
    for name in PLANNED:
        seconds_per_row = ran.seconds[name] / max(1, ran.num_seen[name])
        idle = ran.waiting_s if name == FETCH.name else 0.0
        hours = (seconds_per_row * ran.num_seen[name] * scale + idle * num_parts) / num_workers / 3600
        cost = None if price is None else hours * num_workers * price
        forecasts[name] = StageForecast(seconds_per_row, idle, hours, cost)
    return forecasts

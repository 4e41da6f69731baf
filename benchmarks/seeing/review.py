"""How long a gallery page and an answer of what-if take, and how much memory, by rows of the ledger.

    python -m benchmarks.seeing.review [--rows 100000 1000000] [--out benchmarks/results/review.json]

Ledgers of the recipe `facecaptionhq-4m` are written with scores drawn at random and no evidence, so nothing is computed
from evidence when they are read: that takes as long as `decide --dry-run`. The first 100,000 rows have their pictures,
real small JPEGs, in tars. A page of 60 pictures is asked of the app itself, with the pictures' bytes; what-if moves one
limit after the other. The map is drawn once, by scores, since nobody has measured features here. Figures are over
`NUM_TRIALS` calls: seconds of the clock, and of all processors together, which other work on the machine does not
lengthen. A size that is not asked for keeps its figures, with the commit that they are of.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa

from benchmarks.provenance import RESULTS, commit, machine
from curation.commands.review.app import build_app
from curation.commands.review.desk import Choices, Desk, open_desk
from curation.dataset.ledger import write_table
from curation.dataset.manifest import ShardReport
from curation.dataset.stages import CURATE
from curation.dataset.tar import write_tar
from curation.measure.columns import ledger_schema
from curation.recipe.recipe import Recipe, load_recipe
from curation.run.target import Facts, finish
from curation.serving.guard import Secrets
from curation.storage.publish import record_of
from tests.curation.shards import colourful

NUM_SHARD_ROWS = 10_000
NUM_TRIALS = 12
NUM_WITH_PICTURES = 100_000
NUM_DATABASE_THREADS = 2
PORT = 8000
MOVED = (
    ("text.text_prominence", "max", 0.2, 1.2),
    ("drawn.drawn_logit", "max", -2.0, 2.0),
    ("colour.toning_residual", "min", 1.0, 9.0),
)
"""Criterion, end, and between which values it moves."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each size in a process of its own, so that memory is its own too."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seeing.review", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--out", type=Path, default=RESULTS / "review.json")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.alone:
        print(json.dumps(measure(chosen.rows[0])))
        return 0
    before = json.loads(chosen.out.read_text(encoding="utf-8")) if chosen.out.exists() else {"by_rows": {}}
    sizes = {rows: {"commit": before.get("commit"), **figures} for rows, figures in before["by_rows"].items()}
    for number, rows in enumerate(chosen.rows):
        command = [sys.executable, "-m", "benchmarks.seeing.review", "--alone", "--rows", str(rows)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        sizes[str(rows)] = {"commit": commit(), **json.loads(done.stdout.splitlines()[-1])}
        print(rows, json.dumps(sizes[str(rows)], indent=1), number)
    result = {"machine": machine(), "commit": commit(), "recipe": "facecaptionhq-4m", "by_rows": sizes}
    chosen.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def measure(num_rows: int) -> dict[str, Any]:
    """Write a run of so many rows, open it, and ask."""
    with tempfile.TemporaryDirectory() as folder:
        run, recipe = Path(folder) / "run", load_recipe("facecaptionhq-4m")
        write_run(run, recipe, num_rows)
        started = Moment()
        desk = open_desk(run, Choices("benchmark"))
        desk.table.database.execute(f"SET threads = {NUM_DATABASE_THREADS}")
        opened, reading = started.taken(), Moment()
        desk.start().join()
        return {
            "load_average": [round(load, 1) for load in os.getloadavg()],
            "open": opened,
            "read_captions": reading.taken(),
            "queue_size": len(desk.queue),
            "what_if": timed(lambda number: desk.what_if(limits_of(number))),
            "gallery_query": timed(lambda number: _gallery(desk, number)),
            "caption_search": timed(lambda number: _gallery(desk, 0, f"number {number}7")),
            "who_changes_sides": timed(lambda number: _gallery(desk, number, side="leave")),
            "gallery_page_with_60_pictures": asyncio.run(_pages(desk)),
            "map": _map(desk),
            "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }


def limits_of(number: int) -> dict[str, dict[str, float | None] | None]:
    """Return limits of which one has moved since the call before."""
    name, end, low, high = MOVED[number % len(MOVED)]
    return {name: {end: low + (high - low) * number / NUM_TRIALS}}


def _gallery(desk: Desk, number: int, caption: str = "", side: str | None = None) -> Any:
    from curation.commands.review.gallery import Query

    limits = limits_of(number) if side else {}
    asked = {"sort": "drawn.drawn_logit", "first": 60 * number, "caption": caption, "side": side, "limits": limits}
    return desk.gallery(Query.model_validate(asked))


def _map(desk: Desk) -> dict[str, Any]:
    """Draw the map for the first time, and say how much of it the browser gets."""
    started = Moment()
    points = desk.points()
    return {**started.taken(), "num_points": len(points["uids"]), "answer_bytes": len(json.dumps(points))}


async def _pages(desk: Desk) -> dict[str, Any]:
    """Ask the app for pages as a browser does: the query, then every picture of it."""
    known = Secrets(PORT, "review")
    transport = httpx.ASGITransport(app=build_app(desk, known))  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url=f"http://127.0.0.1:{PORT}") as client:
        await client.get(f"/?token={known.token}")
        client.headers["x-page-csrf"] = known.csrf
        taken = []
        for number in range(NUM_TRIALS):
            started = Moment()
            found = await client.post("/api/gallery", json={"verdict": "kept", "first": 60 * number, "num": 60})
            items = found.json()["items"]
            answers = await asyncio.gather(*(client.get(f"/picture/{item['uid']}") for item in items))
            assert all(answer.status_code == 200 for answer in answers) and len(answers) == 60
            taken.append(started.taken())
    return summed(taken)


class Moment:
    """A moment, by the clock and by what this process has used of all processors."""

    def __init__(self) -> None:
        """Take it now."""
        self._clock, self._processors = time.perf_counter(), time.process_time()

    def taken(self) -> dict[str, float]:
        """Return the seconds since then."""
        clock, processors = time.perf_counter() - self._clock, time.process_time() - self._processors
        return {"clock_s": round(clock, 3), "cpu_s": round(processors, 3)}


def timed(call: Callable[[int], Any]) -> dict[str, Any]:
    """Return how long calls take."""
    taken = []
    for number in range(NUM_TRIALS):
        started = Moment()
        call(number)
        taken.append(started.taken())
    return summed(taken)


def summed(taken: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return the median and the longest of calls."""
    return {
        kind: {"median": statistics.median(one[kind] for one in taken), "max": max(one[kind] for one in taken)}
        for kind in ("clock_s", "cpu_s")
    }


def write_run(run: Path, recipe: Recipe, num_rows: int) -> None:
    """Write a finished `curate` whose rows nobody has measured."""
    folder = run / CURATE.name
    folder.mkdir(parents=True)
    pictures = [colourful(seed, side=256) for seed in range(20)]
    reports = [
        write_shard(folder, recipe, f"{number:05d}", number, min(NUM_SHARD_ROWS, num_rows - first), pictures)
        for number, first in enumerate(range(0, num_rows, NUM_SHARD_ROWS))
    ]
    finish(folder, CURATE, recipe, "benchmark", reports, Facts())


def write_shard(
    folder: Path, recipe: Recipe, name: str, seed: int, num_rows: int, pictures: Sequence[bytes]
) -> ShardReport:
    """Write a shard's ledger, and its tar: kept is who meets the limits on two scores, as if others held."""
    import hashlib

    random = np.random.default_rng(seed)
    sums = [hashlib.sha256(picture).hexdigest() for picture in pictures]
    uids = [f"{seed:08x}{number:024x}" for number in range(num_rows)]
    drawn, residual = random.normal(-2.0, 1.5, num_rows), random.gamma(3.0, 4.0, num_rows)
    by = np.where(residual < 3.6, "colour", np.where(drawn > 0.99, "drawn", ""))
    reason = np.where(residual < 3.6, "toning_residual_low", "drawn_logit_high")
    kept = by == ""
    given = {
        "uid": uids, "key": uids, "sha256": [sums[number % len(sums)] for number in range(num_rows)],
        "width": [256] * num_rows, "height": [256] * num_rows, "kept": kept, "format": ["jpg"] * num_rows,
        "num_bytes": [len(pictures[0])] * num_rows, "num_captions": [1] * num_rows,
        "rejected_by": pa.array(by, pa.string(), mask=kept), "reason": pa.array(reason, pa.string(), mask=kept),
    }  # fmt: skip
    special = {"drawn_logit": drawn, "toning_residual": residual, "num_faces": np.ones(num_rows)}
    schema = ledger_schema(recipe)
    columns = [_column(field, given, special, random, num_rows) for field in schema]
    files = {path.name: path for path in (folder / f"{name}.parquet", folder / f"{name}.tar")}
    write_table(files[f"{name}.parquet"], pa.table(columns, schema=schema), {"stage": CURATE.name})
    members = (
        (f"{uid}.{suffix}", content)
        for number, uid in enumerate(uids)
        if kept[number] and seed * NUM_SHARD_ROWS < NUM_WITH_PICTURES
        for suffix, content in (("jpg", pictures[number % len(pictures)]), ("txt", f"person number {number}".encode()))
    )
    write_tar(files[f"{name}.tar"], members)
    rejected: dict[str, dict[str, int]] = {}
    for who, why in (("colour", "toning_residual_low"), ("drawn", "drawn_logit_high")):
        rejected[who] = {why: int(np.count_nonzero(by == who))}
    records = {name: record_of(path) for name, path in files.items()}
    return ShardReport(name, name, num_rows, int(np.count_nonzero(kept)), rejected, records)


def _column(field: pa.Field, given: Any, special: Any, random: np.random.Generator, num_rows: int) -> pa.Array:
    """Return a column: what is given, scores at random, or nulls."""
    if field.name in given:
        return pa.array(given[field.name], field.type)
    if not (field.name.endswith("_scores") and pa.types.is_struct(field.type)):
        return pa.nulls(num_rows, field.type)
    names = [field.type.field(number).name for number in range(field.type.num_fields)]
    values = [pa.array(special.get(name, random.gamma(2.0, 0.1, num_rows)), pa.float64()) for name in names]
    return pa.StructArray.from_arrays(values, names)


if __name__ == "__main__":
    sys.exit(main())

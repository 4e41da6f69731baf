"""What a device server makes of pictures: how many a second, what is left to the cores, and is the evidence the same?

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_GOLD2=... FACECAPTIONHQ_MODELS=... python -m benchmarks.speed.gpu
        [--device cuda:0] [--workers 2] [--num-photos 63] [--batch 16] [--rounds 3]

The same photos go through as many workers, each with its cell: with networks of their own on the CPU, and with a
server of the device, in alternating rounds. A cell's CPU time leaves out what it waits for the server, so with a server
it is what cores must do whatever the device is; the share of decoding in it is told. Where the device is the CPU, what
is said of the server holds for onnxruntime's CPU provider and not for a GPU. Evidence is compared with that of the CPU
picture by picture, and every verdict that differs is named.
"""

import argparse
import json
import os
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.provenance import RESULTS, origin
from benchmarks.speed.steps import stratified
from benchmarks.verdicts.labelled import folders_named, labelled
from curation.measure.arrow import to_struct
from curation.measure.cascade import DECODE, LOAD, Entry, Measured
from curation.measure.filter_set import weights_of
from curation.recipe.judge import Verdict, judge
from curation.recipe.recipe import Recipe, load_recipe
from curation.sandbox.device import running
from curation.sandbox.parent import CELL
from filters.device.client import DeviceConnection

RECIPE = "facecaptionhq-4m"
WANTED_PER_S = 900
"""Pictures a second that a node with a GPU is to be fed: what NeMo Curator is held to every night."""
ALONE, SERVED = "networks in every cell", "networks on the server"
Work = tuple[Recipe, Mapping[str, str]]
_ENTRIES: list[Entry] = []


@dataclass(frozen=True)
class Portion:
    """What a worker has measured in one go."""

    first: int
    seconds: list[Mapping[str, float]]
    """CPU time of the cell by step, of each picture."""
    verdicts: list[str]
    evidence: list[dict[str, Any]]
    cell_mib: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the rounds and write their figures under the device's name."""
    options = _options(arguments)
    photos = stratified(labelled(folders_named()), options.num_photos, options.seed)
    paths = [photo.path for photo in photos]
    recipes = {ALONE: _recipe("cpu", served=False), SERVED: _recipe(options.device, served=True)}
    result = {
        "device": options.device,
        "provider": "CPUExecutionProvider" if options.device == "cpu" else "CUDAExecutionProvider",
        "num_workers": options.workers,
        "num_batch_samples": options.batch,
        "num_photos": len(paths),
        "seed": options.seed,
        "rounds": options.rounds,
        **compared(paths, recipes, options),
        **origin(RECIPE),
    }
    out: Path = options.out
    done = json.loads(out.read_text(encoding="utf-8")) if out.exists() else {}
    out.write_text(json.dumps(done | {options.device: result}, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


def compared(paths: Sequence[Path], recipes: Mapping[str, Recipe], options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of both ways, and how far their evidence and verdicts lie apart."""
    address = running(options.device)
    works = {way: (recipe, weights_of(recipe)) for way, recipe in recipes.items()}
    rounds: dict[str, list[tuple[float, list[Portion]]]] = defaultdict(list)
    with closing(DeviceConnection(address)) as server:
        pools = {way: ProcessPoolExecutor(options.workers, get_context("spawn"), _begin, (paths,)) for way in recipes}
        for way, pool in pools.items():
            _round(pool, works[way], len(paths), options)  # everything is loaded, and a GPU has seen each shape
        before, spent = server.counts(), _cpu_s(server.server_pid)
        for _ in range(options.rounds):
            for way, pool in pools.items():
                started = time.perf_counter()
                portions = _round(pool, works[way], len(paths), options)
                rounds[way].append((time.perf_counter() - started, portions))
        spent = _cpu_s(server.server_pid) - spent
        num_pictures, num_batches, largest = server.counts()
        for pool in pools.values():
            pool.shutdown()
    num_batches -= before[1]
    served = _figures(rounds[SERVED], len(paths))
    return {
        ALONE: _figures(rounds[ALONE], len(paths)),
        SERVED: served,
        "server": {
            "cpu_ms_per_picture": round(1000 * spent / options.rounds / len(paths), 3),
            "network_runs_per_picture": round((num_pictures - before[0]) / options.rounds / len(paths), 3),
            "mean_batch": round((num_pictures - before[0]) / max(1, num_batches), 2),
            "largest_batch": largest,
        },
        f"cores_for_{WANTED_PER_S}_per_s": round(WANTED_PER_S * served["cell_cpu_ms_per_picture"] / 1000, 1),
        **_differences(rounds[ALONE][-1][1], rounds[SERVED][-1][1], paths),
    }


def _begin(paths: Sequence[Path]) -> None:
    _ENTRIES[:] = [Entry(f"{i:032x}", path.read_bytes()) for i, path in enumerate(paths)]


def _round(pool: ProcessPoolExecutor, work: Work, num_photos: int, options: argparse.Namespace) -> list[Portion]:
    starts = range(0, num_photos, options.batch)
    return [
        future.result() for future in [pool.submit(_portion, start, start + options.batch, *work) for start in starts]
    ]


def _portion(first: int, end: int, recipe: Recipe, weights: Mapping[str, str]) -> Portion:
    """Measure some of the photos in this worker's cell."""
    outcome = CELL.measure(_ENTRIES[first:end], recipe, weights)
    assert isinstance(outcome, list), outcome
    pages = int(Path(f"/proc/{CELL.pid}/statm").read_text(encoding="ascii").split()[1])
    return Portion(
        first,
        [{step: spent for step, spent in one.seconds.items() if step != LOAD} for one in outcome],
        [_verdict(one, recipe) for one in outcome],
        [{name: to_struct(found) for name, found in one.evidence.items()} for one in outcome],
        pages * resource.getpagesize() / (1 << 20),
    )


def _verdict(measured: Measured, recipe: Recipe) -> str:
    verdict = measured.refused or judge(measured.evidence, recipe.criteria)
    assert isinstance(verdict, Verdict)
    return "kept" if verdict.rejected_by is None else f"{verdict.rejected_by}: {verdict.reason}"


def _figures(rounds: Sequence[tuple[float, list[Portion]]], num_photos: int) -> dict[str, Any]:
    """Return medians over rounds: pictures per second of wall time, and the CPU time of the cells by step."""
    by_step: dict[str, list[float]] = defaultdict(list)
    for _, portions in rounds:
        steps: dict[str, float] = defaultdict(float)
        for seconds in (one for portion in portions for one in portion.seconds):
            for step, spent in seconds.items():
                steps[step] += spent
        for step, spent in steps.items():
            by_step[step].append(1000 * spent / num_photos)
    ms = {step: round(statistics.median(spent), 3) for step, spent in sorted(by_step.items())}
    whole = sum(ms.values())
    return {
        "pictures_per_s": round(statistics.median(num_photos / wall for wall, _ in rounds), 2),
        "pictures_per_s_by_round": [round(num_photos / wall, 2) for wall, _ in rounds],
        "cell_cpu_ms_per_picture": round(whole, 3),
        "cell_cpu_ms_by_step": ms,
        "decode_share_of_cell_cpu": round(ms[DECODE] / whole, 3),
        "cell_mib": round(max(portion.cell_mib for _, portions in rounds for portion in portions)),
    }


def _differences(alone: Sequence[Portion], served: Sequence[Portion], paths: Sequence[Path]) -> dict[str, Any]:
    pairs = [
        (paths[mine.first + i].name, mine.verdicts[i], theirs.verdicts[i], mine.evidence[i], theirs.evidence[i])
        for mine, theirs in zip(alone, served, strict=True)
        for i in range(len(mine.verdicts))
    ]
    numbers = [(list(_numbers(mine)), list(_numbers(theirs))) for *_, mine, theirs in pairs]
    alike = [(mine, theirs) for mine, theirs in numbers if len(mine) == len(theirs)]
    apart = [abs(a - b) for mine, theirs in alike for a, b in zip(mine, theirs, strict=True)]
    return {
        "evidence_equal_to_the_bit": sum(mine == theirs for *_, mine, theirs in pairs),
        "evidence_of_another_form": sum(len(mine) != len(theirs) for mine, theirs in numbers),
        "largest_difference": max(apart, default=0.0),
        "verdicts_that_differ": [[name, mine, theirs] for name, mine, theirs, *_ in pairs if mine != theirs],
    }


def _numbers(value: Any) -> Iterator[float]:
    """Yield every number of some evidence, in order."""
    if isinstance(value, Mapping):
        for one in value.values():
            yield from _numbers(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _numbers(one)
    elif isinstance(value, int | float):
        yield float(value)


def _cpu_s(pid: int) -> float:
    """Return the user and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _recipe(device: str, *, served: bool) -> Recipe:
    changes = [f'curate.device="{device}"', f"curate.device_server={str(served).lower()}", "curate.shadow_fraction=0"]
    return load_recipe(RECIPE, changes)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help='"cpu" or "cuda:N"')
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--num-photos", type=int, default=63)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--out", type=Path, default=RESULTS / "gpu.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()

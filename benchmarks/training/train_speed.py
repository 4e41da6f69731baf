"""How fast does training go: pictures/s, waiting for data, memory, compilation, beside the obvious loop in one run?

    python -m benchmarks.training.train_speed [--batches 8 24 64] [--steps 20] [--workers 8] [--compile blocks]
    python -m benchmarks.training.train_speed --tiny [--before FILE]

Wherever a GPU is: Stable Diffusion 1.5 in its real sizes with random weights (nothing is downloaded), drawn pictures of
1024 x 768 in tars, encoders online and cached, against what `benchmarks.training.train_budget` computed and against
the rate of bfloat16 matrix products that the card reaches. `--tiny` is for a CPU: it takes a tiny model, so its
pictures/s say nothing of a GPU; what a sample costs whoever reads it is at the real sizes. `--before` takes that part
as an earlier release gave it. Writes benchmarks/results/train_speed.json, or train_speed_tiny.json.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from benchmarks.provenance import RESULTS, commit, machine
from benchmarks.training import sample_cost, sd15, world
from benchmarks.training.obvious_loop import Floats, ObviousLoop, matrix_tflops
from facemakeup.data.batch import Loaded
from facemakeup.data.cache import fill_cache
from facemakeup.data.caches import plan_of
from facemakeup.data.dataset import TarDataset, batches, open_dataset
from facemakeup.model.encoders import Encoders
from facemakeup.model.facemakeup import FaceMakeUp
from facemakeup.model.send import Beside
from facemakeup.train_config import TrainConfig
from facemakeup.training.trainer import Trainer

BUDGET = RESULTS / "train_budget.json"
WARMUP = 3


@dataclass(frozen=True)
class World:
    """What is trained on, and how its parts are made anew for every measurement."""

    device: torch.device
    pattern: str
    folder: Path
    config: Callable[[int, bool], TrainConfig]
    """Batch and whether latents are cached -> settings."""
    encoders: Encoders
    model: Callable[[], FaceMakeUp]
    num_steps: int

    @property
    def clock(self) -> Callable[[], float]:
        """Seconds: of the wall for a GPU, of the CPU for a CPU that others use, too."""
        return time.perf_counter if self.device.type == "cuda" else time.process_time


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.train_speed", description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="a tiny model on the CPU")
    parser.add_argument("--batches", type=int, nargs="+", help="pictures of a step; 8 24 64, or 2 4")
    parser.add_argument("--steps", type=int, default=20, help="steps that are timed, after three that are not")
    parser.add_argument("--workers", type=int, default=0, help="reading processes")
    parser.add_argument("--compile", choices=["off", "whole", "blocks"], default="off")
    parser.add_argument("--samples-only", action="store_true", help="what a sample costs, and nothing else")
    parser.add_argument("--before", type=Path, help="JSON of --samples-only of an earlier release")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args(arguments)
    if not options.tiny and not torch.cuda.is_available():
        raise SystemExit("no GPU is here; --tiny measures on a CPU")
    result: dict[str, Any] = {"tiny": options.tiny, "device": "cpu" if options.tiny else torch.cuda.get_device_name()}
    if options.tiny:
        torch.set_num_threads(1)
        result["samples"] = {"after": sample_cost.measured()}
        if options.before:
            result["samples"]["before"] = json.loads(options.before.read_text(encoding="utf-8"))
    if not options.samples_only:
        result |= trained(options)
    result |= {"machine": machine(), "commit": commit()}
    out = options.out or RESULTS / ("train_speed_tiny.json" if options.tiny else "train_speed.json")
    out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    return 0


def trained(options: argparse.Namespace) -> dict[str, Any]:
    """Return the speed at every batch, ours and the obvious one's, online and cached."""
    sizes = options.batches or ([2, 4] if options.tiny else [8, 24, 64])
    with sample_cost.own_folder() as folder:
        made = (tiny_world if options.tiny else real_world)(folder, options, max(sizes))
        rate = None if options.tiny else matrix_tflops(made.device)
        rows = []
        for size in sizes:
            for name, measure in (
                ("ours, cached", lambda size: ours(made, size, cached=True)),
                ("ours, online", lambda size: ours(made, size, cached=False)),
                ("obvious, online", lambda size: obvious(made, size, options.workers)),
            ):
                rows.append({"batch": size, "loop": name, **guarded(measure, size)})
                print(rows[-1], file=sys.stderr)
    seconds = "CPU" if options.tiny else "wall"
    return {
        "seconds_are_of": seconds,
        "bf16_matrix_tflops": rate,
        "runs": [judged(row, rows, rate, options.tiny) for row in rows],
    }


def guarded(measure: Callable[[int], dict[str, Any]], size: int) -> dict[str, Any]:
    """Return what is measured, or that the memory does not suffice."""
    try:
        return measure(size)
    except torch.cuda.OutOfMemoryError as error:
        return {"out_of_memory": str(error).splitlines()[0]}
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def ours(made: World, size: int, *, cached: bool) -> dict[str, Any]:
    """Time our own steps; the average is kept, too."""
    config = made.config(size, cached)
    if cached:
        fill_cache(config, [made.pattern], made.encoders, made.folder / "work", lambda _: None)
    dataset, _ = open_dataset([made.pattern], config, plan_of(config, made.encoders), made.folder / "work")
    trainer = Trainer(config, made.model(), made.encoders, Accelerator(cpu=made.device.type == "cpu"))
    stream, copies = batches(dataset, 0, config.data.num_workers), Beside(made.device)
    waited = [0.0]

    def step(number: int) -> None:
        loaded: Loaded = _next(stream, waited, made.clock)
        trainer.step(number, lambda: copies.send(loaded.batch), 1)

    try:
        return {**timed(step, made, size, waited), "bytes_per_sample": _bytes(dataset, size)}
    finally:
        stream.close()  # type: ignore[attr-defined]


def obvious(made: World, size: int, num_workers: int) -> dict[str, Any]:
    """Time the steps of the obvious loop, whose data come from the same tars."""
    config = made.config(size, False)
    dataset, _ = open_dataset([made.pattern], config, plan_of(config, made.encoders), made.folder / "work")
    loop = ObviousLoop(made.model().to(made.device), made.encoders, made.device)
    loader = torch.utils.data.DataLoader(Floats(dataset), batch_size=None, num_workers=num_workers)
    stream, waited = iter(loader), [0.0]
    return timed(lambda _: loop.step(_next(stream, waited, made.clock)), made, size, waited)


def timed(step: Callable[[int], object], made: World, size: int, waited: list[float]) -> dict[str, Any]:
    """Return pictures/s, the share of the time spent waiting for data, peak memory, and what compilation did."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    is_gpu = made.device.type == "cuda"
    for number in range(WARMUP):
        step(number)
    if is_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    compiled, waited[0], started = _compilation(), 0.0, made.clock()
    for number in range(WARMUP, WARMUP + made.num_steps):
        step(number)
    if is_gpu:
        torch.cuda.synchronize()
    seconds = made.clock() - started
    return {
        "images_per_s": round(size * made.num_steps / seconds, 2),
        "data_wait_share": round(waited[0] / seconds, 4),
        "peak_memory_gib": round(torch.cuda.max_memory_allocated() / (1 << 30), 2) if is_gpu else None,
        "compiled": {**_compilation(), "graphs_after_warmup": _compilation()["graphs"] - compiled["graphs"]},
    }


def _compilation() -> dict[str, int]:
    counters = torch._dynamo.utils.counters
    return {"graphs": counters["stats"]["unique_graphs"], "graph_breaks": sum(counters["graph_break"].values())}


def _next(stream: Iterator[Any], waited: list[float], clock: Callable[[], float]) -> Any:
    started = clock()
    item = next(stream)
    waited[0] += clock() - started
    return item


def _bytes(dataset: TarDataset, size: int) -> int:
    return round(sample_cost.num_bytes(dataset[0].batch) / size)


def judged(row: dict[str, Any], rows: list[dict[str, Any]], rate: float | None, tiny: bool) -> dict[str, Any]:
    """Return a row with its ratio to the obvious loop of its batch, and its share of the matrix rate."""
    other = next(r for r in rows if r["batch"] == row["batch"] and r["loop"].startswith("obvious"))
    judged = dict(row)
    if "images_per_s" in row and "images_per_s" in other:
        judged["times_the_obvious_loop"] = round(row["images_per_s"] / other["images_per_s"], 3)
    if not tiny and "images_per_s" in row:
        budget = json.loads(BUDGET.read_text(encoding="utf-8"))
        gflop = budget["gflops_per_image"]["latents cached" if "cached" in row["loop"] else "everything online"]
        judged["tflops_by_the_budget"] = round(row["images_per_s"] * gflop / 1000, 1)
        judged["share_of_matrix_rate"] = round(judged["tflops_by_the_budget"] / (rate or 1), 3)
        judged["budget_images_per_s"] = {
            gpu: runs["runs"]["latents cached" if "cached" in row["loop"] else "everything online"]["images_per_second"]
            for gpu, runs in budget["gpus"].items()
        }
    return judged


def tiny_world(folder: Path, options: argparse.Namespace, largest: int) -> World:
    """Return a tiny model on pictures of 64 pixels."""
    pattern = world.write_tars(folder / "tars", max(24, 2 * largest))
    model = world.tiny_model(folder / "base", world.random_recogniser(folder), clip_side=32)
    how = {"compile": {"off": False, "whole": True}.get(options.compile, "blocks")}

    def config(size: int, cached: bool) -> TrainConfig:
        data = {"global_batch": size, "micro_batch": size, "num_workers": options.workers}
        return world.config_of(model, folder / "cache" if cached else None, data=data, crop={"size": 64}, run=how)

    return World(
        torch.device("cpu"), pattern, folder, config, Encoders.load(model), lambda: FaceMakeUp.from_config(model),
        options.steps,
    )  # fmt: skip


def real_world(folder: Path, options: argparse.Namespace, largest: int) -> World:
    """Return Stable Diffusion 1.5 in its sizes, with random weights, on the GPU."""
    pattern = world.write_tars(folder / "tars", max(256, 4 * largest))
    model = sd15.model_config(world.random_recogniser(folder))
    how = {"compile": {"off": False, "whole": True}.get(options.compile, "blocks")}
    device = torch.device("cuda", torch.cuda.current_device())

    def config(size: int, cached: bool) -> TrainConfig:
        data = {"global_batch": size, "micro_batch": size, "num_workers": options.workers}
        return world.config_of(model, folder / "cache" if cached else None, data=data, run=how)

    encoders = sd15.encoders(model, device, torch.bfloat16)
    return World(device, pattern, folder, config, encoders, lambda: sd15.network(model, device), options.steps)


if __name__ == "__main__":
    sys.exit(main())

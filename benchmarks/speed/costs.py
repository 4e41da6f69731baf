"""Times what is cheap about the recipe: decoding, every filter but `text`, and the face networks on two runtimes.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_MODELS=... python -m benchmarks.speed.costs

CPU milliseconds of one process with one thread, medians; on a machine that others use, only their ratios hold.
openvino is timed where it can be imported.
"""

import argparse
import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from benchmarks.provenance import RESULTS, commit, machine
from benchmarks.verdicts.calibrate import Photos
from benchmarks.verdicts.looks import originals
from curation.images.containers import strip_metadata
from curation.images.decode import decode
from curation.recipe.joint_scores import Bounds
from curation.recipe.recipe import load_recipe
from filters.weights import find_weights

SHAPES = ((256, 320), (384, 480), (480, 640))
"""Heights and widths at which runtimes are timed, pixels."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Time everything, write the figures."""
    options = _options(arguments)
    result = {
        "stages": stage_costs(Photos(Path(os.environ["FACECAPTIONHQ_GOLD"])), options.recipe, options.every),
        "jpeg": jpeg_decoders(Photos(Path(os.environ["FACECAPTIONHQ_GOLD"])), options.every),
        "runtimes": list(timed_runtimes()),
        "machine": machine(),
        "commit": commit(),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    return 0


def timed_runtimes() -> Iterator[dict[str, Any]]:
    """Yield what one inference costs in CPU milliseconds on onnxruntime, and on openvino where it is installed."""
    from filters.loading import onnx_session

    try:
        openvino_version = version("openvino")
    except PackageNotFoundError:
        openvino_version = ""
    for weights in ("yolov5n-face", "yolov5n-0.5-face"):
        path = find_weights(weights).path
        session = onnx_session(path, "cpu")
        name = session.get_inputs()[0].name
        ways: dict[str, Callable[[Any], Any]] = {"onnxruntime": lambda x, s=session, n=name: s.run(None, {n: x})}
        if openvino_version:
            ways |= {f"openvino {kind}": _openvino(path, kind) for kind in ("f32", "bf16")}
        for height, width in SHAPES:
            pixels = np.random.default_rng(0).random((1, 3, height, width), dtype=np.float32)
            costs = {way: _cpu_ms(run, pixels) for way, run in ways.items()}
            yield {"weights": weights, "shape": [height, width], "openvino": openvino_version, "cpu_ms": costs}


def stage_costs(photos: Photos, recipe_name: str, every: int) -> dict[str, Any]:
    """Return mean CPU milliseconds per photo of decoding and of each filter but `text`, and how many reach each.

    A photo reaches a filter when those before it in the order of work would keep it.
    """
    recipe = load_recipe(recipe_name)
    plans = {plan.name: plan for plan in recipe.filters if plan.name != "text"}
    built = {name: plan.module.build(plan.measure, "cpu") for name, plan in plans.items()}
    order = [name for name in recipe.order if name in plans]
    costs: dict[str, list[float]] = {name: [] for name in ("decode", *order)}
    num_reached = dict.fromkeys(order, 0)
    for file, _ in list(originals(photos))[::every]:
        picture = photos.picture(file)
        image_bytes = (photos.folder / "images" / file).read_bytes()
        costs["decode"].append(_cpu_ms(lambda x: decode(x, recipe.file.decode), image_bytes, 3))
        stays = True
        for name in order:
            costs[name].append(_cpu_ms(lambda x, n=name: built[n].measure([x]), picture, 3))
            num_reached[name] += stays
            own = plans[name].scores(built[name].measure([picture])[0])
            stays = stays and all(
                keep.holds(Bounds(own[score], own[score])) for score, keep in plans[name].keep.items()
            )
    num_photos = len(costs["decode"])
    return {
        "mean_cpu_ms": {name: round(float(np.mean(spent)), 2) for name, spent in costs.items()},
        "num_photos": num_photos,
        "num_reached": num_reached,
    }


def jpeg_decoders(photos: Photos, every: int) -> dict[str, Any]:
    """Return what Pillow and OpenCV take for the same JPEG bytes to RGB pixels, and on how many they differ."""
    costs: dict[str, list[float]] = {"pillow": [], "opencv": []}
    num_differing = 0
    ways: dict[str, Callable[[Any], Any]] = {
        "pillow": lambda x: np.array(Image.open(io.BytesIO(x))),
        "opencv": lambda x: cv2.imdecode(
            np.frombuffer(x, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        ),
    }
    for file in [name for name, _ in originals(photos) if name.endswith((".jpg", ".jpeg"))][::every]:
        image_bytes = strip_metadata((photos.folder / "images" / file).read_bytes(), "jpg")
        if Image.open(io.BytesIO(image_bytes)).mode == "RGB":
            pixels = [decoder(image_bytes) for decoder in ways.values()]
            num_differing += not np.array_equal(*pixels)
            for name, decoder in ways.items():
                costs[name].append(_cpu_ms(decoder, image_bytes, 3))
    means = {name: round(float(np.mean(spent)), 2) for name, spent in costs.items()}
    return {"mean_cpu_ms": means, "num_photos": len(costs["pillow"]), "num_differing": num_differing}


def _openvino(path: str, precision: str) -> Callable[[Any], Any]:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": precision, "ENABLE_CPU_PINNING": False}
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    return lambda pixels: request.infer({0: pixels})


def _cpu_ms(run: Callable[[Any], Any], pixels: Any, num_runs: int = 9) -> float:
    costs = []
    for _ in range(num_runs + 2):
        started = time.process_time()
        run(pixels)
        costs.append(time.process_time() - started)
    return round(float(np.median(costs[2:])) * 1000, 2)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.costs", description=__doc__)
    parser.add_argument("--recipe", default="facecaptionhq-4m")
    parser.add_argument("--every", type=int, default=1, help="time only every so many-th photo")
    parser.add_argument("--out", type=Path, default=RESULTS / "costs.json")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())

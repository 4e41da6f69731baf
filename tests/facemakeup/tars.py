"""Tars as `pack` writes them, of drawn faces, and a tiny random recogniser in the place of a trained one."""

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from curation.dataset.tar import write_tar
from facemakeup.config import Recogniser
from facemakeup.faces.recognisers import INSIGHTFACE
from filters.weights import add
from tests.pictures import encode, scene

Members = list[tuple[str, bytes]]
PROPORTIONS = ((0.34, 0.4), (0.66, 0.4), (0.5, 0.58), (0.37, 0.76), (0.63, 0.76))
"""Where the landmarks lie in a face's box."""


def packed_sample(number: int, image_format: str = "jpg", width: int = 96, height: int = 80, **changes: Any) -> Members:
    """Return the members of one sample: a drawn face, its caption and its evidence; `changes` go into the .json."""
    left, top, side = 0.25 * width + number % 7, 0.15 * height + number % 5, 0.6 * height
    landmarks = [(left + x * side, top + y * side) for x, y in PROPORTIONS]
    image = Image.fromarray(scene(number, width, height))
    draw = ImageDraw.Draw(image)
    draw.ellipse((left, top, left + side, top + side), fill=(224, 172 - number % 40, 140))
    for x, y in landmarks:
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill=(40, 20, 20))
    content = encode(np.asarray(image), image_format)
    uid = hashlib.sha256(f"sample {number}".encode()).hexdigest()[:32]
    fields: dict[str, Any] = {
        "uid": uid,
        "caption": f"a drawn face, number {number}",
        "width": width,
        "height": height,
        "sha256": hashlib.sha256(content).hexdigest(),
        "face_box": [left, top, left + side, top + side],
        "face_landmarks": [value for point in landmarks for value in point],
    }
    fields = {name: value for name, value in {**fields, **changes}.items() if value is not None}
    return [
        (f"{uid}.{image_format}", content),
        (f"{uid}.json", json.dumps(fields).encode()),
        (f"{uid}.txt", str(fields.get("caption", "")).encode()),
    ]


def write_packed(folder: Path, samples: Iterable[Members], per_shard: int = 8, series: str = "jpg") -> list[Path]:
    """Write `{series}-NNNNN.tar`, and return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    listed = list(samples)
    paths = []
    for start in range(0, len(listed), per_shard):
        path = folder / f"{series}-{start // per_shard:05d}.tar"
        write_tar(path, [member for members in listed[start : start + per_shard] for member in members])
        paths.append(path)
    return paths


def add_tiny_recogniser(folder: Path, width: int = 32, seed: int = 0) -> Recogniser:
    """Confirm a random network under the name of insightface's, as a user confirms weights, and return its identity.

    `XDG_CACHE_HOME` must be a folder of the test's own.
    """
    path = folder / f"recogniser-{width}-{seed}.onnx"
    path.write_bytes(tiny_recogniser(width, seed))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    add(path, INSIGHTFACE, sha256)
    return Recogniser(name=INSIGHTFACE, width=width, sha256=sha256)


def tiny_recogniser(width: int, seed: int) -> bytes:
    """Return an ONNX network that takes 112 x 112 RGB and gives `width` numbers: patches, one layer, mean."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    shapes: Sequence[tuple[str, tuple[int, ...]]] = (("kernel", (8, 3, 16, 16)), ("matrix", (8 * 49, width)))
    weights = [
        numpy_helper.from_array((rng.standard_normal(shape) / math.sqrt(math.prod(shape[1:]))).astype(np.float32), name)
        for name, shape in shapes
    ]
    nodes = [
        helper.make_node("Conv", ["pixels", "kernel"], ["patches"], strides=[16, 16]),
        helper.make_node("Tanh", ["patches"], ["bent"]),
        helper.make_node("Flatten", ["bent"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["vector"]),
    ]
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, 112, 112])]
    outputs = [helper.make_tensor_value_info("vector", TensorProto.FLOAT, [1, width])]
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())

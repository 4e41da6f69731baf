"""Folding changes what a network costs and never what it says: each rule on a small network, and all on PP-OCR's."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from filters.boxes import letterbox
from filters.conversion.folding import fold
from filters.detectors import ppocr_export
from filters.detectors.ppocr import _network_input
from filters.loading import lay_out, onnx_session
from filters.weights import find_weights
from tests.filters.marks import astronaut, with_ppocr

Array = npt.NDArray[Any]
NUMBERS = np.random.default_rng(7)
C = 4
"""Channels of the small networks."""


def weights(*shape: int) -> Array:
    return NUMBERS.normal(size=shape).astype(np.float32)


def scalar(value: float) -> Array:
    return np.array([value], np.float32)


def conv(source: str, out: str, side: int = 1, **attributes: Any) -> tuple[Any, dict[str, Array]]:
    group = attributes.get("group", 1)
    tensors = {f"{out}_w": weights(C, C // group, side, side), f"{out}_b": weights(C)}
    return helper.make_node("Conv", [source, *tensors], [out], kernel_shape=[side, side], **attributes), tensors


def spread(source: str, out: str, **attributes: Any) -> tuple[Any, dict[str, Array]]:
    tensors = {f"{out}_w": weights(C, C // attributes.get("group", 1), 2, 2)}
    return helper.make_node("ConvTranspose", [source, *tensors], [out], **attributes), tensors


def step(kind: str, inputs: Sequence[str], out: str, **given: Any) -> tuple[Any, dict[str, Array]]:
    tensors = {name: value for name, value in given.items() if isinstance(value, np.ndarray)}
    attributes = {name: value for name, value in given.items() if name not in tensors}
    return helper.make_node(kind, [*inputs, *tensors], [out], **attributes), tensors


def swish(source: str, out: str, top: float = 6) -> list[tuple[Any, dict[str, Array]]]:
    return [
        step("Add", [source], f"{out}_3", **{f"{out}_three": scalar(3)}),
        step("Clip", [f"{out}_3"], f"{out}_c", **{f"{out}_0": np.array(0.0), f"{out}_6": np.array(top)}),
        step("Mul", [source, f"{out}_c"], f"{out}_m"),
        step("Div", [f"{out}_m"], out, **{f"{out}_six": scalar(6)}),
    ]


NORM = {"scale": weights(C), "shift": weights(C), "mean": weights(C), "variance": np.abs(weights(C)) + 1}
AFFINE = [step("Mul", ["a"], "b", k=scalar(1.7)), step("Add", ["b"], "c", s=scalar(-0.4))]
GATE = [step("GlobalAveragePool", ["a"], "g"), step("HardSigmoid", ["g"], "h", alpha=0.2), step("Mul", ["a", "h"], "m")]
TILES = {"kernel_shape": [2, 2], "strides": [2, 2]}

NETWORKS: dict[str, tuple[list[tuple[Any, dict[str, Array]]], list[str]]] = {
    "a normalisation": ([conv("x", "a"), step("BatchNormalization", ["a"], "y", **NORM)], ["Conv"]),
    "a scale and a shift after": ([conv("x", "a"), *AFFINE, step("Relu", ["c"], "y")], ["Conv", "Relu"]),
    "of each channel": ([conv("x", "a"), step("Mul", ["a"], "y", k=weights(1, C, 1, 1))], ["Conv"]),
    "of each column, which stays": ([conv("x", "a"), step("Mul", ["a"], "y", k=weights(6))], ["Conv", "Mul"]),
    "after another use, which stays": (
        [conv("x", "a"), step("Mul", ["a"], "b", k=scalar(2)), step("Add", ["a", "b"], "y")],
        ["Conv", "Mul", "Add"],
    ),
    "a scale and a shift before": ([step("Relu", ["x"], "a"), *AFFINE, conv("c", "y")], ["Relu", "Conv"]),
    "before a grouped one": ([step("Relu", ["x"], "a"), *AFFINE, conv("c", "y", group=2)], ["Relu", "Conv"]),
    "before one that pads, which stays as one": (
        [step("Relu", ["x"], "a"), *AFFINE, conv("c", "y", 3, pads=[1] * 4, group=C)],
        ["Relu", "Conv", "Conv"],
    ),
    "before one that pads by itself": (
        [step("Relu", ["x"], "a"), *AFFINE, conv("c", "y", 3, auto_pad="SAME_UPPER")],
        ["Relu", "Conv", "Conv"],
    ),
    "hard swish": (swish("x", "y"), ["HardSigmoid", "Mul"]),
    "nearly hard swish, which stays": (swish("x", "y", 5), ["Add", "Clip", "Mul", "Div"]),
    "a gate": (
        [conv("x", "a"), *GATE, step("Add", ["a", "m"], "y")],
        ["Conv", "GlobalAveragePool", "HardSigmoid", "Add", "Mul"],
    ),
    "tiles": ([spread("x", "y", **TILES)], ["Conv", "DepthToSpace"]),
    "tiles, and what follows them": (
        [spread("x", "a", **TILES), step("Relu", ["a"], "b"), conv("b", "c"), step("Sigmoid", ["c"], "y")],
        ["Conv", "Relu", "Conv", "Sigmoid", "DepthToSpace"],
    ),
    "tiles, and what needs neighbours": (
        [spread("x", "a", **TILES), conv("a", "y", 3, pads=[1] * 4)],
        ["Conv", "DepthToSpace", "Conv"],
    ),
    "strokes that overlap, which stay": ([spread("x", "y", kernel_shape=[2, 2])], ["ConvTranspose"]),
    "tiles in groups, which stay": ([spread("x", "y", **TILES, group=2)], ["ConvTranspose"]),
}


def model_of(parts: Sequence[tuple[Any, dict[str, Array]]], opset: int = 13) -> Any:
    tensors = {name: value for _, own in parts for name, value in own.items()}
    constants = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in tensors.items()]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", "c", "h", "w"]) for name in ("x", "y")]
    graph = helper.make_graph([node for node, _ in parts], "small", values[:1], values[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def outputs(model: Any, pixels: Array) -> Array:
    return np.asarray(onnx_session(model.SerializeToString(), "cpu").run(None, {"x": pixels})[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_folded_network_says_the_same_with_fewer_operators(name: str) -> None:
    parts, kinds = NETWORKS[name]
    model = model_of(parts)
    folded = fold(model)
    onnx.checker.check_model(folded)
    assert sorted(node.op_type for node in folded.graph.node) == sorted(kinds)
    pixels = weights(2, C, 5, 6)
    np.testing.assert_allclose(outputs(folded, pixels), outputs(model, pixels), rtol=1e-4, atol=1e-5)


def test_a_network_that_cannot_be_read_is_returned_as_it_is() -> None:
    old, several = model_of(NETWORKS["a normalisation"][0], 9), model_of([step("Split", ["x"], "y", axis=1)])
    several.graph.node[0].output.append("z")
    assert fold(old) is old and fold(several) is several


@with_ppocr
def test_pp_ocr_folded_gives_the_same_maps_of_a_photo_and_the_same_file_each_time(tmp_path: Path) -> None:
    source = find_weights("ppocr_v4_det").path
    for name in ("one", "other"):
        ppocr_export.write(source, str(tmp_path / name))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()
    canvas = letterbox(512, 512, 320, centred=False)
    photo = cv2.putText(astronaut().copy(), "A CREDIT LINE", (40, 460), cv2.FONT_HERSHEY_SIMPLEX, 1.5, (255, 255, 0), 3)
    pixels = _network_input(lay_out(np.asarray(photo, np.uint8), canvas, 0))[None]
    maps = outputs(onnx.load(str(tmp_path / "one")), pixels), outputs(onnx.load(source), pixels)
    assert maps[1].max() > 0.5
    assert np.abs(maps[0] - maps[1]).max() < 1e-4  # at the edges of letters; elsewhere 1e-7

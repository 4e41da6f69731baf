"""What a network is given by a graph that takes pixels, beside what NumPy gives it."""

import importlib

import numpy as np
import pytest

from filters.conversion.pixels import PIXELS, from_pixels
from filters.device.networks import MODULES
from filters.loading import onnx_session

PREPARE = {name: "network_input" if name == "yolov5_face" else "_network_input" for name in MODULES.values()}


@pytest.mark.parametrize("name", sorted(set(MODULES.values())))
def test_a_network_gets_the_same_bits_from_its_graph_as_from_numpy(name: str) -> None:
    module = importlib.import_module(f"filters.detectors.{name}")
    levels = np.arange(256, dtype=np.uint8)
    canvas = np.stack([levels, np.roll(levels, 85), np.roll(levels, 170)], axis=1).reshape(16, 16, 3)
    expected = getattr(module, PREPARE[name])(canvas)
    session = onnx_session(from_pixels(passing_on(), module.PIXELS).SerializeToString(), "cpu")
    (found,) = session.run(None, {PIXELS: np.stack([canvas, canvas[::-1]])})
    assert found.dtype == np.float32 and np.array_equal(found[0], expected)
    assert np.array_equal(found[1], getattr(module, PREPARE[name])(np.ascontiguousarray(canvas[::-1])))


def passing_on() -> object:
    """A network that returns what it was given."""
    from onnx import TensorProto, helper

    shape = ["batch", 3, "height", "width"]
    given, returned = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y"))
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "passing on", [given], [returned])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)

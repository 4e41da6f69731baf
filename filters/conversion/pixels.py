"""Lets a network take pixels as they lie in memory: uint8 (N, H, W, 3), RGB, made what it wants inside the graph."""

from dataclasses import dataclass
from typing import Any

import numpy as np

PIXELS = "pixels_NHW3"
"""The new input's name."""


@dataclass(frozen=True)
class Pixels:
    """What a network wants of a pixel x, 0..255: ((x / divisor) - mean) / std in float32, step by step."""

    divisor: float | None = None
    mean: tuple[float, ...] | None = None
    """One for all channels, or one each in the network's own order."""
    std: tuple[float, ...] | None = None
    is_bgr: bool = False
    """Whether the network takes its channels in the order blue, green, red."""


def from_pixels(model: Any, wanted: Pixels) -> Any:
    """Return an ONNX model, (N, 3, H, W) float32 in, with PIXELS as its first input and the other inputs as they are.

    Every step is one operator in float32, so that on a CPU the network gets the bits that NumPy would give it.
    """
    from onnx import ModelProto, TensorProto, helper

    new = ModelProto()
    new.CopyFrom(model)
    initialised = {tensor.name for tensor in new.graph.initializer}
    old = next(one for one in new.graph.input if one.name not in initialised)
    others = [one for one in new.graph.input if one.name != old.name]
    batch, _, height, width = old.type.tensor_type.shape.dim
    sides = [side.dim_param or side.dim_value for side in (batch, height, width)]
    nodes = [helper.make_node("Transpose", [PIXELS], ["pixels_planes"], perm=[0, 3, 1, 2])]
    if wanted.is_bgr:
        new.graph.initializer.append(_constant("pixels_bgr", [2, 1, 0], np.int64))
        nodes.append(helper.make_node("Gather", [nodes[-1].output[0], "pixels_bgr"], ["pixels_turned"], axis=1))
    nodes.append(helper.make_node("Cast", [nodes[-1].output[0]], ["pixels_float"], to=TensorProto.FLOAT))
    steps = (("Div", wanted.divisor), ("Sub", wanted.mean), ("Div", wanted.std))
    for i, (kind, value) in enumerate(steps):
        if value is not None:
            name = f"pixels_by_{i}"
            new.graph.initializer.append(_constant(name, np.reshape(value, (1, -1, 1, 1)), np.float32))
            nodes.append(helper.make_node(kind, [nodes[-1].output[0], name], [f"pixels_step_{i}"]))
    nodes[-1].output[0] = old.name
    body = list(new.graph.node)
    first = helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, [*sides, 3])
    inputs = [first, *others]
    graph = helper.make_graph([*nodes, *body], new.graph.name, inputs, new.graph.output, new.graph.initializer)
    new.graph.CopyFrom(graph)
    return new


def _constant(name: str, values: Any, dtype: Any) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.asarray(values, dtype), name)

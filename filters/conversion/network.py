"""Translates the layers of an ncnn network to ONNX, one by one; whatever is not known is refused by name."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from filters.conversion.ncnn import ConversionError, Layer, Value, WeightsReader

OPSET, IR_VERSION = 13, 8
PRODUCER = "ncnn2onnx"
"""Stand in the file; with other words its sha256 would be another."""
INPUT = "input"
NUM_INPUT_CHANNELS = 3
REST = -233
"""In a slice: an equal share of what is left."""
MAX_POOLING, NEAREST, CEIL_PADDING = 0, 1, 0


@dataclass
class Graph:
    """An ONNX graph in the making."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    num_channels: dict[str, int] = field(default_factory=dict)
    """Channels of each blob of the network, by its name."""

    def node(self, kind: str, inputs: Sequence[str], output: str, name: str | None = None, **attributes: Any) -> str:
        """Append an operator, and return the name of what it computes."""
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], name, **attributes))
        return output

    def constant(self, name: str, values: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> str:
        """Add a constant, whole numbers unless said otherwise, and return its name."""
        from onnx import numpy_helper

        array = np.asarray(values, dtype, order="C")
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def serialised(self, output: str, num_values: int) -> bytes:
        """Return the model: pictures (N, 3, H, W) in, rows (N, any number, `num_values`) out."""
        from onnx import TensorProto, helper

        pixels = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", 3, "height", "width"])
        rows = helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", "num", num_values])
        graph = helper.make_graph(self.nodes, "ncnn", [pixels], [rows], self.constants)
        model = helper.make_model(graph, producer_name=PRODUCER, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        return bytes(model.SerializeToString())


def translate(graph: Graph, layers: Sequence[Layer], weights: WeightsReader) -> None:
    """Append every layer to `graph`.

    Raises:
        ConversionError: a layer's kind, parameter or weights are not known here, or its input is not.
    """
    for layer in layers:
        if layer.kind not in LAYERS:
            raise ConversionError(f"layer `{layer.name}`: its kind {layer.kind} is not translated here")
        if not layer.outputs or bool(layer.inputs) == (layer.kind == "Input"):
            raise ConversionError(f"layer `{layer.name}` ({layer.kind}): {layer.inputs} in, {layer.outputs} out")
        if missing := [name for name in layer.inputs if name not in graph.num_channels]:
            raise ConversionError(f"layer `{layer.name}` ({layer.kind}): nothing gives its input {missing[0]}")
        num_channels = LAYERS[layer.kind](graph, layer, weights)
        if len(num_channels) != len(layer.outputs):
            raise ConversionError(f"layer `{layer.name}` ({layer.kind}): {len(layer.outputs)} outputs")
        graph.num_channels.update(zip(layer.outputs, num_channels, strict=True))


def _input(graph: Graph, layer: Layer, weights: WeightsReader) -> list[int]:
    layer.params_of({})
    graph.node("Identity", [INPUT], layer.outputs[0])
    return [NUM_INPUT_CHANNELS]


def _convolution(graph: Graph, layer: Layer, weights: WeightsReader) -> list[int]:
    defaults: dict[int, Value] = {0: 0, 1: 0, 2: 1, 3: 1, 4: 0, 5: 0, 6: 0, 7: 1}
    num_outputs, side, dilation, stride, pad, has_bias, size, group = map(_whole, layer.params_of(defaults))
    num_inputs = graph.num_channels[layer.inputs[0]]
    shape = (num_outputs, num_inputs // max(group, 1), side, side)
    if group < 1 or num_inputs % group or not has_bias or min(shape) < 1 or size != int(np.prod(shape)):
        raise ConversionError(f"layer `{layer.name}` ({layer.kind}): {size} weights for {shape}, bias {has_bias}")
    halves = graph.constant(f"{layer.name}_w_h", weights.halves(size, layer).reshape(shape), np.float16)
    bias = graph.constant(f"{layer.name}_b", weights.floats(num_outputs, layer), np.float32)
    kernel = graph.node("Cast", [halves], f"{layer.name}_w", to=1)
    graph.node(
        "Conv",
        [layer.inputs[0], kernel, bias],
        layer.outputs[0],
        layer.name,
        kernel_shape=[side] * 2,
        strides=[stride] * 2,
        dilations=[dilation] * 2,
        pads=[pad] * 4,
        group=group,
    )
    return [num_outputs]


def _swish(graph: Graph, layer: Layer, weights: WeightsReader) -> list[int]:
    layer.params_of({})
    gate = graph.node("Sigmoid", layer.inputs, f"{layer.outputs[0]}_sg")
    graph.node("Mul", [layer.inputs[0], gate], layer.outputs[0])
    return [graph.num_channels[layer.inputs[0]]]


def _split(graph: Graph, layer: Layer, weights: WeightsReader) -> list[int]:
    layer.params_of({})
    for output in layer.outputs:
        graph.node("Identity", layer.inputs, output)
    return [graph.num_channels[layer.inputs[0]]] * len(layer.outputs)


def _concat(graph: Graph, layer: Layer, weights: WeightsReader) -> list[int]:
    (axis,) = layer.params_of({0: 0})
    _require(layer, axis == 0, f"joins along axis {axis}, not along channels")
    graph.node("Concat", layer.inputs, layer.outputs[0], axis=1)
    return [sum(graph.num_channels[name] for name in layer.inputs)]


def _pooling(graph: Graph, layer: Layer, weights: WeightsReader) -> list[int]:
    kind, side, stride, pad, is_global, pad_mode = layer.params_of({0: 0, 1: 0, 2: 1, 3: 0, 4: 0, 5: 0})
    _require(layer, (kind, is_global, pad_mode) == (MAX_POOLING, 0, CEIL_PADDING), "is not a plain maximum")
    graph.node(
        "MaxPool",
        layer.inputs,
        layer.outputs[0],
        kernel_shape=[_whole(side)] * 2,
        strides=[_whole(stride)] * 2,
        pads=[_whole(pad)] * 4,
        ceil_mode=1,
    )
    return [graph.num_channels[layer.inputs[0]]]


def _shuffle(graph: Graph, layer: Layer, weights: WeightsReader) -> list[int]:
    name, num_channels = layer.name, graph.num_channels[layer.inputs[0]]
    group, is_reverse = map(_whole, layer.params_of({0: 1, 1: 0}))
    _require(layer, group >= 1 and not num_channels % max(group, 1) and not is_reverse, f"{num_channels} by {group}")
    first, last = graph.constant(f"{name}_s0", [2]), graph.constant(f"{name}_s1", [4])
    before, each = graph.constant(f"{name}_pre", [-1, group]), graph.constant(f"{name}_cg", [num_channels // group])
    batch, every = graph.constant(f"{name}_pre2", [-1]), graph.constant(f"{name}_c", [num_channels])
    shape = graph.node("Shape", layer.inputs, f"{name}_sh")
    sides = graph.node("Slice", [shape, first, last], f"{name}_hw")
    grouped = graph.node("Concat", [before, each, sides], f"{name}_rs", axis=0)
    by_group = graph.node("Reshape", [layer.inputs[0], grouped], f"{name}_5")
    swapped = graph.node("Transpose", [by_group], f"{name}_5t", perm=[0, 2, 1, 3, 4])
    flat = graph.node("Concat", [batch, every, sides], f"{name}_rs2", axis=0)
    graph.node("Reshape", [swapped, flat], layer.outputs[0])
    return [num_channels]


def _slice(graph: Graph, layer: Layer, weights: WeightsReader) -> list[int]:
    sizes, axis = layer.params_of({0: (), 1: 0})
    _require(layer, axis == 0 and isinstance(sizes, tuple) and len(sizes) == len(layer.outputs), "is no cut by channel")
    assert isinstance(sizes, tuple)
    left, counts, start = graph.num_channels[layer.inputs[0]], [], 0
    for index, (size, output) in enumerate(zip(sizes, layer.outputs, strict=True)):
        counts.append(left // (len(sizes) - index) if size == REST else _whole(size))
        left -= counts[-1]
        begin, end, along = (
            graph.constant(f"{layer.name}_{word}{index}", [value])
            for word, value in (("st", start), ("en", start + counts[-1]), ("ax", 1))
        )
        graph.node("Slice", [layer.inputs[0], begin, end, along], output)
        start += counts[-1]
    _require(layer, left == 0 and min(counts) > 0, f"cuts into {counts}")
    return counts


def _interp(graph: Graph, layer: Layer, weights: WeightsReader) -> list[int]:
    kind, height_scale, width_scale = layer.params_of({0: 0, 1: 1.0, 2: 1.0})
    _require(layer, kind == NEAREST and not isinstance(height_scale, tuple), "is not by the nearest pixel")
    scales = graph.constant(f"{layer.name}_sc", [1.0, 1.0, height_scale, width_scale], np.float32)
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    graph.node("Resize", [layer.inputs[0], "", scales], layer.outputs[0], **how)
    return [graph.num_channels[layer.inputs[0]]]


def _require(layer: Layer, is_known: bool, what: str) -> None:
    if not is_known:
        raise ConversionError(f"layer `{layer.name}` ({layer.kind}): {what}; that is not translated here")


def _whole(value: Value) -> int:
    if not isinstance(value, int):
        raise ConversionError(f"{value!r} stands where a whole number is expected")
    return value


LAYERS: Mapping[str, Callable[[Graph, Layer, WeightsReader], list[int]]] = MappingProxyType(
    {
        "Input": _input,
        "Convolution": _convolution,
        "ConvolutionDepthWise": _convolution,
        "Swish": _swish,
        "Split": _split,
        "Concat": _concat,
        "Pooling": _pooling,
        "ShuffleChannel": _shuffle,
        "Slice": _slice,
        "Interp": _interp,
    }
)
"""Kind of layer -> what appends it to a graph and returns how many channels each of its outputs has."""

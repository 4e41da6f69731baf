"""EfficientNet-Lite0 as ONNX, its batch normalisations folded and what lies inside it tapped; see `export`.

The network is that of Tan and Le (arXiv 1905.11946) in the lite form: ReLU6 throughout, no squeeze-and-excitation,
stem and head never scaled. Names of tensors are those of the package efficientnet-lite-pytorch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

EXPORTER_VERSION = 1
"""Raised whenever the same weights would give another file; where its features differ too, `filters.drawn.VERSION`."""

SIDE = 224
"""Pixels of the square input."""
STAGES = ((1, 1, 1), (2, 2, 6), (2, 2, 6), (3, 2, 6), (3, 1, 6), (4, 2, 6), (1, 1, 6))
"""Blocks, stride of the first of them, expansion."""
TAPS = (4, 10)
"""Blocks whose output's mean and deviation per channel stand before the features of the last layer."""

_OPSET, _IR_VERSION = 17, 8
_EPSILON = 1e-3

Array = npt.NDArray[np.float32]


@dataclass
class _Graph:
    """The ONNX graph in the making; every method appends operators and names what they compute."""

    tensors: Mapping[str, Array]
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        output = f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, values: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype, order="C"), name))
        return name

    def convolution(self, inputs: str, side: int, convolution: str, norm: str, stride: int = 1) -> tuple[str, int]:
        """Append a convolution with its batch normalisation folded in; also returns the side of its output.

        Padding is TensorFlow's SAME: what is odd goes to the right and the bottom.
        """
        weight = self.tensors[f"{convolution}.weight"].astype(np.float64)
        gain = self.tensors[f"{norm}.weight"] / np.sqrt(
            self.tensors[f"{norm}.running_var"].astype(np.float64) + _EPSILON
        )
        bias = self.tensors[f"{norm}.bias"] - gain * self.tensors[f"{norm}.running_mean"]
        kernel, out_side = weight.shape[-1], -(-side // stride)
        padding = max((out_side - 1) * stride + kernel - side, 0)
        before, after = padding // 2, padding - padding // 2
        output = self.add(
            "Conv",
            inputs,
            self.constant(weight * gain[:, None, None, None]),
            self.constant(bias),
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=len(weight) if convolution.endswith("_depthwise_conv") else 1,
        )
        return output, out_side

    def relu6(self, inputs: str) -> str:
        return self.add("Clip", inputs, self.constant(0.0), self.constant(6.0))

    def mean(self, inputs: str) -> str:
        return self.add("ReduceMean", inputs, axes=[2, 3], keepdims=0)

    def deviation(self, inputs: str) -> str:
        centre = self.add("ReduceMean", inputs, axes=[2, 3], keepdims=1)
        apart = self.add("Sub", inputs, centre)
        return self.add("Sqrt", self.mean(self.add("Mul", apart, apart)))


def write(source: str, target: str) -> None:
    """Write the network whose state dict lies at `source` as ONNX to `target`."""
    from filters.loading import torch_state_dict

    tensors = {name: tensor.numpy() for name, tensor in torch_state_dict(source).items()}
    Path(target).write_bytes(serialised(tensors))


def serialised(tensors: Mapping[str, Array]) -> bytes:
    """Return the model: `pixels_NCHW` (N, 3, 224, 224) in, `features_NF` (N, 1584) out.

    The features are mean and deviation (40 and 40, 112 and 112) of the two taps, then the 1280 of the last layer.

    Raises:
        KeyError: a tensor is missing; the network is another one.
    """
    from onnx import TensorProto, helper

    graph = _Graph(tensors)
    outputs, num_features = _features(graph, "pixels_NCHW")
    graph.nodes.append(helper.make_node("Concat", outputs, ["features_NF"], axis=1))
    pixels = helper.make_tensor_value_info("pixels_NCHW", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])
    features = helper.make_tensor_value_info("features_NF", TensorProto.FLOAT, ["batch", num_features])
    body = helper.make_graph(graph.nodes, "efficientnet_lite0", [pixels], [features], graph.constants)
    model = helper.make_model(body, producer_name="facecaptionhq", opset_imports=[helper.make_opsetid("", _OPSET)])
    model.ir_version = _IR_VERSION
    return bytes(model.SerializeToString())


def _features(graph: _Graph, pixels: str) -> tuple[list[str], int]:
    x, side = graph.convolution(pixels, SIDE, "_conv_stem", "_bn0", stride=2)
    x = graph.relu6(x)
    outputs, num_features, number = [], 0, 0
    for num_blocks, first_stride, expansion in STAGES:
        for index in range(num_blocks):
            stride = first_stride if index == 0 else 1
            x, side = _block(graph, x, side, f"_blocks.{number}", stride, expansion, is_residual=index > 0)
            if number in TAPS:
                outputs += [graph.mean(x), graph.deviation(x)]
                num_features += 2 * len(graph.tensors[f"_blocks.{number}._bn2.bias"])
            number += 1
    x, _ = graph.convolution(x, side, "_conv_head", "_bn1")
    return [*outputs, graph.mean(graph.relu6(x))], num_features + len(graph.tensors["_bn1.bias"])


def _block(
    graph: _Graph, inputs: str, side: int, name: str, stride: int, expansion: int, *, is_residual: bool
) -> tuple[str, int]:
    x = inputs
    if expansion > 1:
        x, _ = graph.convolution(x, side, f"{name}._expand_conv", f"{name}._bn0")
        x = graph.relu6(x)
    x, side = graph.convolution(x, side, f"{name}._depthwise_conv", f"{name}._bn1", stride)
    x, _ = graph.convolution(graph.relu6(x), side, f"{name}._project_conv", f"{name}._bn2")
    return (graph.add("Add", inputs, x) if is_residual else x), side

"""An ONNX network as a module of torch, operator by operator, so that gradients flow through it."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from filters.conversion.graph import read

Values = list[Tensor]


class TorchNetwork(nn.Module):
    """A network with one input and one output, of the operators in `OPERATORS`; its constants are frozen."""

    def __init__(self, model: Any) -> None:
        """Take over an ONNX model.

        Raises:
            ValueError: it has an operator that is not known here.
        """
        super().__init__()
        network = read(model)
        self._nodes = network.in_order() if network is not None else []
        unknown = sorted({node.kind for node in self._nodes} - OPERATORS.keys())
        if network is None or unknown:
            raise ValueError(
                f"{', '.join(unknown) or 'no plain ONNX network'}; known are networks of {', '.join(sorted(OPERATORS))}"
            )
        self._output = network.outputs[0]
        (self._input,) = (entry.name for entry in model.graph.input if entry.name not in network.constants)
        self._places = {name: f"constant_{number}" for number, name in enumerate(network.constants)}
        for name, array in network.constants.items():
            self.register_buffer(self._places[name], torch.from_numpy(array.copy()))

    def forward(self, taken: Tensor) -> Tensor:
        """Return the output of an input."""
        values = {name: self.get_buffer(place) for name, place in self._places.items()}
        values[self._input] = taken
        for node in self._nodes:
            given = [values[name] for name in node.inputs if name]
            values[node.output] = OPERATORS[node.kind](given, node.attributes)
        return values[self._output]


def _conv(given: Values, said: Mapping[str, Any]) -> Tensor:
    top, left, bottom, right = said.get("pads", [0, 0, 0, 0])
    padded = given[0] if not any((top, left, bottom, right)) else functional.pad(given[0], (left, right, top, bottom))
    how = {"stride": said.get("strides", 1), "dilation": said.get("dilations", 1), "groups": said.get("group", 1)}
    out: Tensor = functional.conv2d(padded, given[1], given[2] if len(given) > 2 else None, **how)
    return out


def _batch_norm(given: Values, said: Mapping[str, Any]) -> Tensor:
    x, scale, shift, mean, variance = given
    return functional.batch_norm(x, mean, variance, scale, shift, training=False, eps=said.get("epsilon", 1e-5))


def _gemm(given: Values, said: Mapping[str, Any]) -> Tensor:
    a = given[0].transpose(0, 1) if said.get("transA") else given[0]
    b = given[1].transpose(0, 1) if said.get("transB") else given[1]
    product: Tensor = said.get("alpha", 1.0) * (a @ b)
    return product if len(given) == 2 else product + said.get("beta", 1.0) * given[2]


def _average(given: Values, said: Mapping[str, Any]) -> Tensor:
    side = said["kernel_shape"]
    return functional.avg_pool2d(given[0], side, said.get("strides", [1] * len(side)))


def _prelu(given: Values, _: Mapping[str, Any]) -> Tensor:
    return torch.where(given[0] < 0, given[0] * given[1], given[0])


OPERATORS: Mapping[str, Callable[[Values, Mapping[str, Any]], Tensor]] = MappingProxyType(
    {
        "Add": lambda given, _: given[0] + given[1],
        "AveragePool": _average,
        "BatchNormalization": _batch_norm,
        "Conv": _conv,
        "Div": lambda given, _: given[0] / given[1],
        "Dropout": lambda given, _: given[0],
        "Flatten": lambda given, said: given[0].flatten(said.get("axis", 1)),
        "Gemm": _gemm,
        "Identity": lambda given, _: given[0],
        "MatMul": lambda given, _: given[0] @ given[1],
        "Mul": lambda given, _: given[0] * given[1],
        "PRelu": _prelu,
        "Relu": lambda given, _: given[0].relu(),
        "Sub": lambda given, _: given[0] - given[1],
        "Tanh": lambda given, _: given[0].tanh(),
    }
)
"""Operator of ONNX -> what it computes."""

"""An ONNX network as a module of torch, operator by operator, so that gradients flow through it."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from filters.conversion.graph import OnnxNode, read

Values = list[Tensor]


class TorchNetwork(nn.Module):
    """A network with one input and one output, of the operators in `OPERATORS`; its constants are frozen."""

    def __init__(self, model: Any) -> None:
        """Take over an ONNX model.

        Raises:
            ValueError: it has an operator that is not known here, or one with an attribute that would be left out.
        """
        super().__init__()
        network = read(model)
        self._nodes = network.in_order() if network is not None else []
        unknown = sorted({node.kind for node in self._nodes} - OPERATORS.keys())
        odd = sorted({told for node in self._nodes for told in _odd(node)})
        if network is None or unknown:
            raise ValueError(
                f"{', '.join(unknown) or 'no plain ONNX network'}; known are networks of {', '.join(sorted(OPERATORS))}"
            )
        if odd:
            raise ValueError(f"{', '.join(odd)}, which is not computed here")
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


def _odd(node: OnnxNode) -> Iterator[str]:
    """Say which attributes of an operator decide what it computes, and would be left out here."""
    for name, value in node.attributes.items():
        is_plain = value in PLAIN.get(name, ()) or (name == "dilations" and set(value) == {1})
        is_flat = name != "kernel_shape" or len(value) == 2
        if not is_plain and not (is_flat and name in HEEDED.get(node.kind, ())):
            yield f"{node.kind} with {name} {value!r}"


def _padded(x: Tensor, said: Mapping[str, Any]) -> Tensor:
    top, left, bottom, right = said.get("pads", [0, 0, 0, 0])
    return x if not any((top, left, bottom, right)) else functional.pad(x, (left, right, top, bottom))


def _conv(given: Values, said: Mapping[str, Any]) -> Tensor:
    padded = _padded(given[0], said)
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
    pool = partial(functional.avg_pool2d, kernel_size=side, stride=said.get("strides", [1] * len(side)))
    means: Tensor = pool(_padded(given[0], said))
    if said.get("count_include_pad", 0) or not any(said.get("pads", ())):
        return means
    return means / pool(_padded(torch.ones_like(given[0][:1, :1]), said))


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
SPATIAL = frozenset({"kernel_shape", "pads", "strides"})
HEEDED: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "AveragePool": SPATIAL | {"count_include_pad"},
        "BatchNormalization": frozenset({"epsilon", "momentum"}),
        "Conv": SPATIAL | {"dilations", "group"},
        "Dropout": frozenset({"ratio", "seed", "is_test"}),
        "Flatten": frozenset({"axis"}),
        "Gemm": frozenset({"alpha", "beta", "transA", "transB"}),
    }
)
"""Operator -> attributes that are computed with, or that mean nothing where nothing is learned."""
PLAIN: Mapping[str, tuple[Any, ...]] = MappingProxyType(
    {"auto_pad": (b"NOTSET", "NOTSET", b"VALID", "VALID"), "ceil_mode": (0,), "spatial": (1,), "training_mode": (0,)}
)
"""Attribute -> values of it that change nothing."""

"""An ONNX network as operators by what they compute, to be rewritten and written down again."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_LEAST_OPSET = 11
"""The first in which every operator that is written here has its present form."""


@dataclass(frozen=True)
class OnnxNode:
    """One operator."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]
    domain: str = ""


@dataclass
class Network:
    """Operators by what they compute, in no order, and constants."""

    nodes: dict[str, OnnxNode]
    constants: dict[str, Array]
    outputs: tuple[str, ...]
    folded: set[str] = field(default_factory=set)
    """Constants that were computed here: in double precision until the network is written."""

    def constant(self, values: npt.ArrayLike) -> str:
        """Add a constant and return its name."""
        name = f"folded_{len(self.folded)}"
        self.constants[name] = np.asarray(values, np.float64)
        self.folded.add(name)
        return name

    def put(self, kind: str, inputs: tuple[str, ...], output: str, **attributes: Any) -> str:
        """Let an operator compute `output`, in the place of whatever did; return that name."""
        self.nodes[output] = OnnxNode(kind, inputs, output, attributes)
        return output

    def in_order(self) -> list[OnnxNode]:
        """Return the operators that an output waits for, each after those that it waits for itself."""
        ordered: dict[str, OnnxNode] = {}
        stack = [(name, False) for name in reversed(self.outputs)]
        while stack:
            name, is_ready = stack.pop()
            if name in ordered or name not in self.nodes:
                continue
            if is_ready:
                ordered[name] = self.nodes[name]
            else:
                stack += [(name, True), *((other, False) for other in reversed(self.nodes[name].inputs))]
        return list(ordered.values())

    def users(self) -> dict[str, list[str]]:
        """Return by each value what is computed from it; an output of the network is also taken by the caller, ""."""
        taken: dict[str, list[str]] = {name: [""] for name in self.outputs}
        for node in self.in_order():
            for name in node.inputs:
                taken.setdefault(name, []).append(node.output)
        return taken

    def scalar(self, name: str) -> float | None:
        """Return the one number that a constant holds, or None."""
        values = self.constants.get(name)
        return None if values is None or values.size != 1 else float(values.item())

    def kind(self, name: str) -> str:
        """Return the kind of operator that computes a value, "" where none does."""
        return self.nodes[name].kind if name in self.nodes else ""


def read(model: Any) -> Network | None:
    """Return the network of an ONNX model; None where operators have several outputs or graphs inside, or are old."""
    from onnx import helper, numpy_helper

    opset = max((entry.version for entry in model.opset_import if entry.domain in {"", "ai.onnx"}), default=0)
    has_graphs = any(a.HasField("g") or a.graphs for node in model.graph.node for a in node.attribute)
    if opset < _LEAST_OPSET or has_graphs or any(len(node.output) != 1 for node in model.graph.node):
        return None
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    nodes = {}
    for node in model.graph.node:
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        if node.op_type == "Constant" and "value" in attributes:
            constants[node.output[0]] = numpy_helper.to_array(attributes["value"])
        else:
            nodes[node.output[0]] = OnnxNode(node.op_type, tuple(node.input), node.output[0], attributes, node.domain)
    return Network(nodes, constants, tuple(value.name for value in model.graph.output))


def written(network: Network, model: Any) -> Any:
    """Return a model like the one that the network was read from, with what the network holds now."""
    from onnx import ModelProto, helper, numpy_helper

    nodes = network.in_order()
    needed = {name for node in nodes for name in node.inputs}
    new = ModelProto()
    new.CopyFrom(model)
    for part in (new.graph.node, new.graph.initializer, new.graph.value_info):
        del part[:]
    new.graph.node.extend(
        helper.make_node(node.kind, node.inputs, [node.output], domain=node.domain or None, **node.attributes)
        for node in nodes
    )
    for name in sorted(needed & set(network.constants)):
        values = network.constants[name]
        array = np.ascontiguousarray(values, np.float32 if name in network.folded else values.dtype)
        new.graph.initializer.append(numpy_helper.from_array(array.reshape(values.shape), name))
    return new

"""Converts networks that are published for TensorFlow.js, a graph or a list of Keras layers, to ONNX.

Pictures go in as TensorFlow has them, float32 (N, H, W, C); inside, channels come first. Whatever is not known is
refused by name. Weights come in float32, in float16, or in uint8 with a scale, and are stored as float32.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from filters.conversion.ncnn import ConversionError

OPSET, IR_VERSION = 13, 8
PRODUCER = "tfjs2onnx"
INPUT = "pixels"
CHANNELS_FIRST, CHANNELS_LAST = (0, 3, 1, 2), (0, 2, 3, 1)


@dataclass(frozen=True)
class Operator:
    """One operator of the network, in TensorFlow's words."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    options: Mapping[str, Any]


@dataclass
class _Draft:
    """An ONNX graph in the making."""

    weights: Mapping[str, npt.NDArray[Any]]
    nodes: list[Any] = field(default_factory=list)
    constants: dict[str, Any] = field(default_factory=dict)
    rank: dict[str, int] = field(default_factory=dict)

    def node(self, kind: str, inputs: Sequence[str], output: str, rank: int = 4, **attributes: Any) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        self.rank[output] = rank

    def constant(self, name: str, values: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        from onnx import numpy_helper

        self.constants[name] = numpy_helper.from_array(np.asarray(values, dtype, order="C"), name)
        return name

    def weight(self, name: str) -> npt.NDArray[Any]:
        if name not in self.weights:
            raise ConversionError(f"the network has no weight `{name}`")
        return self.weights[name]


def convert(topology: bytes, weights: bytes, outputs: Sequence[str]) -> bytes:
    """Return the network as ONNX, up to the operators `outputs`; one that is a map (H, W) is averaged over it.

    Raises:
        ConversionError: an operator, a weight or an output is not known here, or the bytes do not fit.
    """
    try:
        model = json.loads(topology)
        table = model["weightsManifest"]
        draft = _Draft(dict(_read_weights([row for group in table for row in group["weights"]], weights)))
        steps, side, num_channels = _steps(model["modelTopology"])
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ConversionError(f"no topology of TensorFlow.js: {error!r}") from error
    _translate(draft, steps, outputs)
    return _serialised(draft, [_averaged(draft, name) for name in outputs], side, num_channels)


def _translate(draft: _Draft, steps: Sequence[Operator], outputs: Sequence[str]) -> None:
    known = {step.name: step for step in steps}
    needed, open_names = set[str](), list(outputs)
    while open_names:
        name = open_names.pop()
        if name not in needed and name not in draft.weights:
            if name not in known:
                raise ConversionError(f"the network has no operator `{name}`")
            needed.add(name)
            open_names += known[name].inputs
    waiting = [step for step in steps if step.name in needed]
    while waiting:
        ready = [step for step in waiting if all(name in draft.rank or name in draft.weights for name in step.inputs)]
        if not ready:
            raise ConversionError(f"operators wait for one another: {waiting[0].name}")
        for step in ready:
            if step.kind not in OPERATORS:
                raise ConversionError(f"operator `{step.name}`: its kind {step.kind} is not translated here")
            OPERATORS[step.kind](draft, step)
        waiting = [step for step in waiting if step.name not in draft.rank]


def _read_weights(rows: Sequence[Mapping[str, Any]], content: bytes) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    offset = 0
    for row in rows:
        packed = row.get("quantization", {})
        dtype = np.dtype(packed.get("dtype", row["dtype"])).newbyteorder("<")
        num_bytes = prod(row["shape"]) * dtype.itemsize
        piece = content[offset : offset + num_bytes]
        if len(piece) != num_bytes:
            raise ConversionError(f"the weights end within `{row['name']}`")
        values = np.frombuffer(piece, dtype).reshape(row["shape"])
        if "scale" in packed:
            values = values.astype(np.float32) * np.float32(packed["scale"]) + np.float32(packed["min"])
        yield row["name"], values.astype(np.int64 if row["dtype"] == "int32" else np.float32)
        offset += num_bytes
    if offset != len(content):
        raise ConversionError(f"the weights are {len(content)} bytes, the topology names {offset}")


def _steps(topology: Mapping[str, Any]) -> tuple[list[Operator], int, int]:
    """Return operators in the file's order, with side and channels of the input."""
    if "node" in topology:
        nodes = [node for node in topology["node"] if node["op"] != "Const"]
        (entry,) = [node for node in nodes if node["op"] == "Placeholder"]
        sizes = [int(dim["size"]) for dim in entry["attr"]["shape"]["shape"]["dim"]]
        steps = [
            Operator(node["op"], node["name"], tuple(node.get("input", ())), _graph_options(node["attr"]))
            for node in nodes
        ]
        return steps, sizes[1], sizes[3]
    layers = topology["model_config"]["config"]["layers"]
    sizes = layers[0]["config"]["batch_input_shape"]
    return [_layer_step(layer) for layer in layers], sizes[1], sizes[3]


def _graph_options(attributes: Mapping[str, Any]) -> dict[str, Any]:
    def text(value: str) -> str:
        return base64.b64decode(value).decode()

    def whole(name: str) -> list[int]:
        return [int(value) for value in attributes.get(name, {}).get("list", {}).get("i", ())][1:3]

    return {
        "strides": whole("strides"),
        "size": whole("ksize"),
        "dilations": whole("dilations") or [1, 1],
        "padding": text(attributes["padding"]["s"]) if "padding" in attributes else "VALID",
        "fused": [text(name) for name in attributes.get("fused_ops", {}).get("list", {}).get("s", ())],
    }


def _layer_step(layer: Mapping[str, Any]) -> Operator:
    config, kind = layer["config"], layer["class_name"]
    inputs = tuple(entry[0] for entry in layer["inbound_nodes"][0]) if layer["inbound_nodes"] else ()
    if kind == "Activation":
        return Operator({"relu": "Relu"}.get(config["activation"], config["activation"]), layer["name"], inputs, {})
    options = {
        "strides": config.get("strides"),
        "size": config.get("pool_size"),
        "dilations": config.get("dilation_rate", [1, 1]),
        "padding": config.get("padding", "valid").upper(),
        "fused": [],
        "epsilon": config.get("epsilon"),
    }
    names = {"InputLayer": "Placeholder", "MaxPooling2D": "MaxPool", "AveragePooling2D": "AvgPool"}
    if kind == "Conv2D":
        has_bias, activation = config["use_bias"], config["activation"]
        if activation != "linear":
            raise ConversionError(f"layer `{layer['name']}`: activation {activation} is not translated here")
        inputs += (f"{layer['name']}/kernel", *((f"{layer['name']}/bias",) if has_bias else ()))
        options["fused"] = ["BiasAdd"] if has_bias else []
    return Operator(names.get(kind, kind), layer["name"], inputs, options)


def _placeholder(draft: _Draft, step: Operator) -> None:
    draft.node("Transpose", [INPUT], step.name, perm=CHANNELS_FIRST)


def _spatial(step: Operator) -> dict[str, Any]:
    padding = {"SAME": "SAME_UPPER", "VALID": "VALID"}[step.options["padding"]]
    return {"strides": list(step.options["strides"]), "auto_pad": padding}


def _convolution(draft: _Draft, step: Operator) -> None:
    kernel = draft.weight(step.inputs[1])
    if step.kind == "DepthwiseConv2dNative":
        group, shape = kernel.shape[2], (-1, 1, *kernel.shape[:2])
        laid = kernel.transpose(2, 3, 0, 1).reshape(shape)
    else:
        group, laid = 1, kernel.transpose(3, 2, 0, 1)
    inputs = [step.inputs[0], draft.constant(f"{step.name}/laid", laid)]
    fused = [name for name in step.options["fused"] if name != "BiasAdd"]
    if "BiasAdd" in step.options["fused"]:
        inputs.append(draft.constant(f"{step.name}/bias", draft.weight(step.inputs[2])))
    before = f"{step.name}/before" if fused else step.name
    options = {"dilations": list(step.options["dilations"]), **_spatial(step)}
    draft.node("Conv", inputs, before, group=group, **options)
    _activated(draft, step, fused, before, 4)


def _product(draft: _Draft, step: Operator) -> None:
    inputs = [step.inputs[0], draft.constant(f"{step.name}/laid", draft.weight(step.inputs[1]))]
    fused = [name for name in step.options["fused"] if name != "BiasAdd"]
    before = f"{step.name}/before" if fused else step.name
    if "BiasAdd" in step.options["fused"]:
        draft.node("MatMul", inputs, f"{step.name}/product", 2)
        bias = draft.constant(f"{step.name}/bias", draft.weight(step.inputs[2]))
        draft.node("Add", [f"{step.name}/product", bias], before, 2)
    else:
        draft.node("MatMul", inputs, before, 2)
    _activated(draft, step, fused, before, 2)


def _activated(draft: _Draft, step: Operator, fused: Sequence[str], before: str, rank: int) -> None:
    if fused and fused != ["Relu"]:
        raise ConversionError(f"operator `{step.name}`: {fused} is not translated here")
    if fused:
        draft.node("Relu", [before], step.name, rank)


def _elementwise(draft: _Draft, step: Operator) -> None:
    rank = max(draft.rank.get(name, 0) for name in step.inputs)
    inputs = [name if name in draft.rank else _aligned(draft, step, name, rank) for name in step.inputs]
    draft.node({"AddV2": "Add", "Minimum": "Min", "Maximum": "Max"}.get(step.kind, step.kind), inputs, step.name, rank)


def _aligned(draft: _Draft, step: Operator, name: str, rank: int) -> str:
    """Store a scalar, or a number per channel, as it meets a value of that rank."""
    values = draft.weight(name)
    if values.ndim > 1:
        raise ConversionError(f"operator `{step.name}`: a constant of shape {values.shape} is not translated here")
    shaped = values.reshape(-1, 1, 1) if values.ndim == 1 and rank == 4 else values
    return draft.constant(f"{step.name}/{name}", shaped)


def _unary(draft: _Draft, step: Operator) -> None:
    draft.node(step.kind, [step.inputs[0]], step.name, draft.rank[step.inputs[0]])


def _softmax(draft: _Draft, step: Operator) -> None:
    draft.node("Softmax", [step.inputs[0]], step.name, 2, axis=-1)


def _pool(draft: _Draft, step: Operator) -> None:
    kind = {"MaxPool": "MaxPool", "AvgPool": "AveragePool"}[step.kind]
    draft.node(kind, [step.inputs[0]], step.name, kernel_shape=list(step.options["size"]), **_spatial(step))


def _mean(draft: _Draft, step: Operator) -> None:
    if sorted(draft.weight(step.inputs[1]).reshape(-1).tolist()) != [1, 2]:
        raise ConversionError(f"operator `{step.name}`: only a mean over height and width is translated here")
    draft.node("ReduceMean", [step.inputs[0]], step.name, 2, axes=[2, 3], keepdims=0)


def _pad(draft: _Draft, step: Operator) -> None:
    around = draft.weight(step.inputs[1])[[0, 3, 1, 2]]
    pads = draft.constant(f"{step.name}/pads", around.T.reshape(-1), np.int64)
    draft.node("Pad", [step.inputs[0], pads], step.name)


def _flatten(draft: _Draft, step: Operator) -> None:
    draft.node("Transpose", [step.inputs[0]], f"{step.name}/last", perm=CHANNELS_LAST)
    shape = draft.constant(f"{step.name}/shape", draft.weight(step.inputs[1]), np.int64)
    draft.node("Reshape", [f"{step.name}/last", shape], step.name, 2)


def _concatenate(draft: _Draft, step: Operator) -> None:
    draft.node("Concat", step.inputs, step.name, axis=1)


def _normalise(draft: _Draft, step: Operator) -> None:
    mean = draft.weight(f"{step.name}/moving_mean")
    deviation = np.sqrt(draft.weight(f"{step.name}/moving_variance") + np.float32(step.options["epsilon"]))
    scale = draft.weights.get(f"{step.name}/gamma", np.ones_like(mean)) / deviation
    shift = draft.weights.get(f"{step.name}/beta", np.zeros_like(mean)) - mean * scale
    inputs = [step.inputs[0], draft.constant(f"{step.name}/scale", scale.reshape(-1, 1, 1))]
    draft.node("Mul", inputs, f"{step.name}/scaled")
    draft.node("Add", [f"{step.name}/scaled", draft.constant(f"{step.name}/shift", shift.reshape(-1, 1, 1))], step.name)


def _averaged(draft: _Draft, name: str) -> str:
    if draft.rank[name] != 4:
        return name
    draft.node("ReduceMean", [name], f"{name}/mean", 2, axes=[2, 3], keepdims=0)
    return f"{name}/mean"


def _serialised(draft: _Draft, outputs: Sequence[str], side: int, num_channels: int) -> bytes:
    from onnx import TensorProto, helper

    pixels = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["batch", side, side, num_channels])
    rows = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", None]) for name in outputs]
    graph = helper.make_graph(draft.nodes, "tfjs", [pixels], rows, list(draft.constants.values()))
    model = helper.make_model(graph, producer_name=PRODUCER, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    return bytes(model.SerializeToString())


OPERATORS: Mapping[str, Callable[[_Draft, Operator], None]] = MappingProxyType(
    {
        "Placeholder": _placeholder,
        **dict.fromkeys(("Conv2D", "_FusedConv2D", "DepthwiseConv2dNative"), _convolution),
        **dict.fromkeys(("MatMul", "_FusedMatMul"), _product),
        **dict.fromkeys(("Add", "AddV2", "Sub", "Mul", "Minimum", "Maximum"), _elementwise),
        **dict.fromkeys(("Relu", "Sigmoid", "Identity"), _unary),
        "Softmax": _softmax,
        **dict.fromkeys(("MaxPool", "AvgPool"), _pool),
        "Mean": _mean,
        "Pad": _pad,
        "Reshape": _flatten,
        "Concatenate": _concatenate,
        "BatchNormalization": _normalise,
    }
)

"""Rewrites an ONNX network so that the same outputs cost less: what is fixed is folded, what is spelled out is named.

Runtimes fold a batch normalisation into a convolution, but no learnt scale and shift of one number, as MobileOne and
PP-LCNet have them; and whatever broadcasts takes onnxruntime out of the blocked layout that it convolves in. What no
rule knows stays as it is.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from filters.conversion.graph import Array, Network, OnnxNode, read, written

_ONE_PIXEL = {"kernel_shape": [1, 1]}


def fold(model: Any) -> Any:
    """Return an ONNX model with every rule applied; its outputs differ by rounding alone.

    A model that `filters.conversion.graph` cannot read is returned as it is.
    """
    network = read(model)
    if network is None:
        return model
    for rule in RULES:
        rule(network)
    return written(network, model)


def fold_what_follows(network: Network) -> None:
    """Fold scales, shifts and batch normalisations that follow a convolution into it."""
    users = network.users()
    for node in network.in_order():
        data = next((name for name in node.inputs if name not in network.constants), "")
        if not _is_convolution(network, data) or len(users[data]) != 1:
            continue
        weights, bias = _parameters(network, data)
        axis = int(network.kind(data) == "ConvTranspose")
        affine = _affine(network, node, weights.shape[axis])
        if affine is not None:
            gain, shift = affine
            by_output = np.expand_dims(gain, [i for i in range(4) if i != axis])
            source = network.nodes[data].inputs[0]
            _convolve(network, data, node.output, source, weights * by_output, bias * gain + shift)


def name_hard_swish(network: Network) -> None:
    """Write x clip(x + 3, 0, 6) / 6 as x HardSigmoid(x), which runtimes know as the end of a convolution."""
    for node in network.in_order():
        if node.kind != "Div" or network.kind(node.inputs[0]) != "Mul" or network.scalar(node.inputs[1]) != 6:
            continue
        factors = network.nodes[node.inputs[0]].inputs
        for x, clipped in (factors, factors[::-1]):
            clip = network.nodes.get(clipped, node)
            shifted = network.nodes.get(clip.inputs[0], node)
            if (clip.kind, shifted.kind, shifted.inputs[0]) != ("Clip", "Add", x):
                continue
            if [network.scalar(name) for name in (shifted.inputs[1], *clip.inputs[1:])] == [3, 0, 6]:
                gate = network.put("HardSigmoid", (x,), f"{node.output}_gate", alpha=1 / 6, beta=0.5)
                network.put("Mul", (x, gate), node.output)
                break


def fold_what_precedes(network: Network) -> None:
    """Fold scales and shifts by one number before a convolution into it.

    Where it pads, they stay before it, since zeros are padded after them: as a convolution of one pixel.
    """
    for node in network.in_order():
        if node.kind != "Conv" or not _is_convolution(network, node.output):
            continue
        source, gain, shift = _scaled_from(network, node.inputs[0])
        if source == node.inputs[0]:
            continue
        weights, bias = _parameters(network, node.output)
        if shift == 0 or not _pads(node):
            bias = bias + shift * weights.sum(axis=(1, 2, 3))
            _convolve(network, node.output, node.output, source, weights * gain, bias)
        else:
            group = weights.shape[1] * node.attributes.get("group", 1)
            scale, shifts = network.constant(np.full((group, 1, 1, 1), gain)), network.constant([shift] * group)
            network.put("Conv", (source, scale, shifts), node.inputs[0], group=group, **_ONE_PIXEL)


def join_gates(network: Network) -> None:
    """Write x + x h as x (1 + h) where h is a gate."""
    for node in network.in_order():
        for x, other in (node.inputs, node.inputs[::-1]) if node.kind == "Add" else ():
            factors = network.nodes[other].inputs if network.kind(other) == "Mul" else ()
            gate = next((name for name in factors if name != x), "")
            if x in factors and network.kind(gate) == "HardSigmoid":
                grown = network.put("Add", (gate, network.constant(1.0)), f"{node.output}_gate")
                network.put("Mul", (x, grown), node.output)
                break


def unfold_transposed(network: Network) -> None:
    """Write a transposed convolution whose strokes lie side by side as one of one pixel whose channels are spread."""
    for node in network.in_order():
        if node.kind != "ConvTranspose" or not _is_convolution(network, node.output):
            continue
        weights, bias = _parameters(network, node.output)
        num_inputs, num_outputs, side, width = weights.shape
        plain = {"kernel_shape": [side] * 2, "strides": [side] * 2, "dilations": [1, 1], "pads": [0] * 4, "group": 1}
        given = {"kernel_shape": [side, width], "strides": [1, 1], **node.attributes}
        if any(plain.get(name) != value for name, value in given.items()):
            continue
        kernel = weights.transpose(1, 2, 3, 0).reshape(num_outputs * side**2, num_inputs, 1, 1)
        parameters = network.constant(kernel), network.constant(np.repeat(bias, side**2))
        deep = network.put("Conv", (node.inputs[0], *parameters), f"{node.output}_deep", **_ONE_PIXEL)
        _spread(network, deep, node.output, side)


def spread_late(network: Network) -> None:
    """Let what follows the spreading of channels work before it, on the map that is small and need not be moved."""
    is_done = False
    while not is_done:
        users = network.users()
        is_done = not any(_is_spread_later(network, node, users[node.output]) for node in network.in_order())


RULES: tuple[Callable[[Network], None], ...] = (
    fold_what_follows,
    name_hard_swish,
    fold_what_precedes,
    join_gates,
    unfold_transposed,
    spread_late,
)
"""In the order in which they are applied."""


def _is_spread_later(network: Network, node: OnnxNode, users: list[str]) -> bool:
    if (node.kind, node.attributes.get("mode"), len(users)) != ("DepthToSpace", b"CRD", 1) or not users[0]:
        return False
    user, side = network.nodes[users[0]], node.attributes["blocksize"]
    if user.kind in {"Relu", "Sigmoid"}:
        deep = network.put(user.kind, node.inputs, f"{user.output}_deep")
    elif user.kind == "Conv" and _is_convolution(network, user.output) and _is_of_one_pixel(user):
        weights, bias = _parameters(network, user.output)
        if weights.shape[2:] != (1, 1):
            return False
        kernel = np.kron(weights[:, :, 0, 0], np.eye(side**2))[:, :, None, None]
        deep = f"{user.output}_deep"
        _convolve(network, user.output, deep, node.inputs[0], kernel, np.repeat(bias, side**2))
    else:
        return False
    _spread(network, deep, user.output, side)
    return True


def _spread(network: Network, deep: str, output: str, side: int) -> None:
    network.put("DepthToSpace", (deep,), output, blocksize=side, mode=b"CRD")


def _is_of_one_pixel(node: OnnxNode) -> bool:
    plain = {"kernel_shape": [1, 1], "strides": [1, 1], "dilations": [1, 1], "pads": [0] * 4, "group": 1}
    return all(plain.get(name) == value for name, value in node.attributes.items())


def _pads(node: OnnxNode) -> bool:
    return any(node.attributes.get("pads", ())) or node.attributes.get("auto_pad", b"NOTSET") not in {
        b"NOTSET",
        b"VALID",
    }


def _is_convolution(network: Network, name: str) -> bool:
    """Whether a value comes from a convolution over a plane, ungrouped if it is transposed, its parameters constant."""
    if network.kind(name) not in {"Conv", "ConvTranspose"}:
        return False
    node = network.nodes[name]
    parameters = [network.constants.get(other) for other in node.inputs[1:]]
    is_known = all(values is not None and values.dtype.kind == "f" for values in parameters)
    is_plain = node.kind == "Conv" or node.attributes.get("group", 1) == 1
    return is_known and is_plain and network.constants[node.inputs[1]].ndim == 4


def _parameters(network: Network, name: str) -> tuple[Array, Array]:
    """Return weights and bias of a convolution in double precision."""
    node = network.nodes[name]
    weights = network.constants[node.inputs[1]].astype(np.float64)
    if len(node.inputs) > 2:
        return weights, network.constants[node.inputs[2]].astype(np.float64)
    return weights, np.zeros(weights.shape[0 if node.kind == "Conv" else 1])


def _convolve(network: Network, name: str, output: str, source: str, weights: Array, bias: Array) -> None:
    """Let the convolution that computes `name` compute `output`, with other parameters and from another source."""
    node = network.nodes[name]
    inputs = (source, network.constant(weights), network.constant(bias))
    network.put(node.kind, inputs, output, **node.attributes)


def _affine(network: Network, node: OnnxNode, num_channels: int) -> tuple[Array, Array] | None:
    """Return scale and shift of each channel where that is all an operator does."""
    ones, zeros = np.ones(num_channels), np.zeros(num_channels)
    if node.kind == "BatchNormalization" and set(node.attributes) <= {"epsilon", "momentum"}:
        if not set(node.inputs[1:]) <= set(network.constants):
            return None
        scale, shift, mean, variance = (network.constants[name].astype(np.float64) for name in node.inputs[1:])
        gain = scale / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
        return gain, shift - gain * mean
    values = next((network.constants[name] for name in node.inputs if name in network.constants), None)
    if node.kind not in {"Mul", "Add"} or values is None:
        return None
    if values.size != 1 and values.shape not in {(num_channels, 1, 1), (1, num_channels, 1, 1)}:
        return None
    by_channel = ones * values.astype(np.float64).ravel()
    return (by_channel, zeros) if node.kind == "Mul" else (ones, by_channel)


def _scaled_from(network: Network, name: str) -> tuple[str, float, float]:
    """Return what a value is scaled and shifted from by single numbers, the scale and the shift."""
    gain, shift = 1.0, 0.0
    while network.kind(name) in {"Mul", "Add"}:
        inputs = network.nodes[name].inputs
        number, data = next(
            ((n, d) for c, d in (inputs, inputs[::-1]) if (n := network.scalar(c)) is not None), (None, name)
        )
        if number is None:
            break
        shift += gain * number if network.kind(name) == "Add" else 0.0
        gain *= number if network.kind(name) == "Mul" else 1.0
        name = data
    return name, gain, shift

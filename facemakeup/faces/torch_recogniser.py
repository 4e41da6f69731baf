"""A recogniser that gradients flow through: the ONNX network of a recogniser of ours, operator by operator in torch.

What `facemakeup.faces.recognisers` computes, for pictures that a network has just made.

Shapes: B pictures, H and W their pixels, D numbers of an identity vector.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from facemakeup.config import Recogniser
from facemakeup.faces.align import ARCFACE_SIDE
from facemakeup.faces.recognisers import (
    ANTELOPEV2,
    INSIGHTFACE,
    MOBILEFACENET,
    RecogniserError,
    find_recogniser,
    require_same,
)
from filters.conversion.graph import read

TAKES_BYTES: Mapping[str, bool] = MappingProxyType({MOBILEFACENET: True, INSIGHTFACE: False, ANTELOPEV2: False})
"""Recognisers that are ONNX networks -> whether they take pixels 0..255, else -1..1."""
Values = list[Tensor]


class TorchRecogniser(nn.Module):
    """An ONNX recogniser as a module of torch; frozen, float32."""

    def __init__(self, model: Any, takes_bytes: bool) -> None:
        """Take over an ONNX model; `takes_bytes` says that it takes pixels 0..255, else -1..1.

        Raises:
            RecogniserError: it has an operator that is not known here.
        """
        super().__init__()
        network = read(model)
        self._nodes = network.in_order() if network is not None else []
        unknown = sorted({node.kind for node in self._nodes} - OPERATORS.keys())
        if network is None or unknown:
            raise RecogniserError(
                f"losses.identity: no gradient flows through {', '.join(unknown) or 'what is no plain ONNX network'}; "
                f"known are networks of {', '.join(sorted(OPERATORS))}"
            )
        self._takes_bytes, self._output = takes_bytes, network.outputs[0]
        (self._input,) = (entry.name for entry in model.graph.input if entry.name not in network.constants)
        self._places = {name: f"constant_{number}" for number, name in enumerate(network.constants)}
        for name, values in network.constants.items():
            self.register_buffer(self._places[name], torch.from_numpy(values.copy()))

    def forward(self, pixels_B3HW: Tensor, aligned_B23: Tensor) -> Tensor:
        """Return unit vectors, float32 (B, D), of faces in pictures of -1..1.

        `aligned_B23` brings pixels of the aligned face of 112 x 112 to those of the picture; beyond it is black.
        """
        bytes_B3SS = aligned_faces((pixels_B3HW.float() + 1) * 127.5, aligned_B23)
        return functional.normalize(self.features(bytes_B3SS), dim=1)

    def features(self, bytes_B3SS: Tensor) -> Tensor:
        """Return the vectors of aligned faces of 0..255, at the length that the network gives them."""
        values = {name: self.get_buffer(place) for name, place in self._places.items()}
        values[self._input] = bytes_B3SS if self._takes_bytes else (bytes_B3SS - 127.5) / 127.5
        for node in self._nodes:
            given = [values[name] for name in node.inputs if name]
            values[node.output] = OPERATORS[node.kind](given, node.attributes)
        return values[self._output]


def aligned_faces(bytes_B3HW: Tensor, aligned_B23: Tensor) -> Tensor:
    """Return faces turned and scaled to the template, (B, 3, 112, 112), as `facemakeup.faces.align.align` does.

    Pixels are known by whole numbers at their middles, as OpenCV has it.
    """
    height, width = bytes_B3HW.shape[2:]
    side = torch.arange(ARCFACE_SIDE, device=bytes_B3HW.device, dtype=torch.float32)
    down, across = torch.meshgrid(side, side, indexing="ij")
    places_SS3 = torch.stack([across, down, torch.ones_like(across)], dim=-1)
    places = torch.einsum("stk,bjk->bstj", places_SS3, aligned_B23)
    largest = torch.stack([torch.full_like(places[..., 0], width - 1), torch.full_like(places[..., 0], height - 1)], -1)
    grid = 2 * places / largest - 1
    return functional.grid_sample(bytes_B3HW, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def load_torch_recogniser(expected: Recogniser, accept_noncommercial: bool, device: torch.device) -> TorchRecogniser:
    """Return the recogniser that a configuration names as a module, frozen, on a device.

    Raises:
        RecogniserError: it is no ONNX network, not the one that is named, or its terms are not accepted.
        WeightsError: its weights are not here.
    """
    import onnx

    if expected.name not in TAKES_BYTES:
        raise RecogniserError(
            f"losses.identity needs a recogniser that gradients flow through, which {expected.name!r} is not; "
            f"choose one of {', '.join(TAKES_BYTES)}, or leave the loss out"
        )
    weights = find_recogniser(expected.name, accept_noncommercial)
    require_same(expected, expected.model_copy(update={"sha256": weights.sha256}), weights.path)
    made = TorchRecogniser(onnx.load(weights.path), TAKES_BYTES[expected.name])
    return made.to(device).eval()


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

"""A recogniser that gradients flow through: the ONNX network of a recogniser of ours, in torch.

What `facemakeup.faces.recognisers` computes, for pictures that a network has just made.

Shapes: B pictures, H and W their pixels, D numbers of an identity vector.
"""

from collections.abc import Mapping
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
from filters.conversion.in_torch import TorchNetwork

TAKES_BYTES: Mapping[str, bool] = MappingProxyType({MOBILEFACENET: True, INSIGHTFACE: False, ANTELOPEV2: False})
"""Recognisers that are ONNX networks -> whether they take pixels 0..255, else -1..1."""


class TorchRecogniser(nn.Module):
    """An ONNX recogniser as a module of torch; frozen, float32."""

    def __init__(self, model: Any, takes_bytes: bool) -> None:
        """Take over an ONNX model; `takes_bytes` says that it takes pixels 0..255, else -1..1.

        Raises:
            RecogniserError: it has an operator that is not known here.
        """
        super().__init__()
        try:
            self._network = TorchNetwork(model)
        except ValueError as error:
            raise RecogniserError(f"losses.identity: no gradient flows through this recogniser: {error}") from error
        self._takes_bytes = takes_bytes

    def forward(self, pixels_B3HW: Tensor, aligned_B23: Tensor) -> Tensor:
        """Return unit vectors, float32 (B, D), of faces in pictures of -1..1.

        `aligned_B23` brings pixels of the aligned face of 112 x 112 to those of the picture; beyond it is black.
        """
        bytes_B3SS = aligned_faces((pixels_B3HW.float() + 1) * 127.5, aligned_B23)
        return functional.normalize(self.features(bytes_B3SS), dim=1)

    def features(self, bytes_B3SS: Tensor) -> Tensor:
        """Return the vectors of aligned faces of 0..255, at the length that the network gives them."""
        taken = bytes_B3SS if self._takes_bytes else (bytes_B3SS - 127.5) / 127.5
        features: Tensor = self._network(taken)
        return features


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

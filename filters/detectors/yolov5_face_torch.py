"""YOLOv5-face on torch as the GPL-3.0 package `yolov5-face` builds it: optional, imported only when a recipe asks."""

import importlib
import pickle
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from filters.base import FaceCaptionError
from filters.batching import Look, in_process
from filters.detectors.base import Floats
from filters.detectors.yolov5_face import Yolov5Face, network_input
from filters.loading import Network, single_thread_torch, torch_device, torch_state_dict
from filters.weights import WeightsError

if TYPE_CHECKING:
    import torch

ARCHITECTURES = ("yolov5n-0.5", "yolov5n", "yolov5s", "yolov5m", "yolov5l")
"""The package's networks with strides 8, 16 and 32, smallest first; a file of weights fits one of them."""


class BackendError(FaceCaptionError):
    """An optional package is not installed; the message says what to type."""

    exit_code = 2


class Yolov5FaceTorch(Yolov5Face):
    """The same faces; differs from `filters.detectors.yolov5_face` in its runtime alone."""

    def _looking(self, weights: str, device: str) -> Look:
        """Return the network; torch stays in this process."""
        self._network = self._load(weights, device)
        return in_process(network_input, self._run, device)

    def _load(self, weights: str, device: str) -> Network:
        single_thread_torch()
        self._device = torch_device(device)
        self._torch_network = load_network(weights).to(self._device)
        return self.rows

    def rows(self, pixels_NCHW: Floats) -> Floats:
        """Return the network's raw output (N, anchors, 16) for RGB / 255 with sides that are multiples of 32.

        A row is centre x, centre y, width, height, objectness, five landmarks x, y, class score, in input pixels.
        """
        import torch

        with torch.inference_mode():
            output, _ = self._torch_network(torch.from_numpy(pixels_NCHW).to(self._device))
            return np.asarray(output.cpu().numpy(), dtype=np.float32)


def load_network(weights: str) -> "torch.nn.Module":
    """Return the package's network that a state dict (`.safetensors` or `.pt`) fits, on the cpu, for inference."""
    import torch

    gpl = _gpl_package()
    tensors = _read_tensors(weights)
    for architecture in ARCHITECTURES:
        network = new_network(gpl, architecture)
        if _shapes(network.state_dict()) == _shapes(tensors):
            network.load_state_dict(tensors)
            network.eval()
            with torch.inference_mode(), warnings.catch_warnings():
                # Its first grid makes torch warn, once in a process, about a default of torch.meshgrid.
                warnings.filterwarnings("ignore", message="torch.meshgrid")
                network(torch.zeros(1, 3, 64, 64))
            return network
    raise WeightsError(f"{weights}: its tensors fit none of the networks {', '.join(ARCHITECTURES)} of yolov5-face")


def new_network(gpl: Any, architecture: str) -> "torch.nn.Module":
    """Return an untrained network from the package's own yaml; the caller's random numbers are left as they were."""
    import torch

    with torch.random.fork_rng(devices=[]):
        network: torch.nn.Module = gpl.Model(str(Path(gpl.__file__).with_name(f"{architecture}.yaml")))
    return network


def _gpl_package() -> Any:
    """Import the package's module of networks, and take back the print settings that it changes for everybody."""
    import torch

    try:
        with np.printoptions():
            gpl = importlib.import_module("yolov5_face.models.yolo")
    except ModuleNotFoundError as error:
        raise BackendError(
            f"the detector yolov5-face-torch needs {error.name}, which is not installed. Its package yolov5-face is"
            " licensed under GPL-3.0 and therefore no part of facecaptionhq; to accept that licence and install it:"
            " pip install --no-deps yolov5-face==0.0.2"
            " (--no-deps, since it would bring a second cv2; detector yolov5-face needs no such package)"
        ) from error
    torch.set_printoptions(profile="default")  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return gpl


def _read_tensors(path: str) -> "dict[str, torch.Tensor]":
    suffix = Path(path).suffix
    if suffix == ".safetensors":
        return _read_safetensors(path)
    if suffix not in {".pt", ".pth"}:
        raise WeightsError(
            f"{path}: detector yolov5-face-torch reads a state dict in .safetensors or .pt;"
            " for .onnx use detector yolov5-face"
        )
    try:
        tensors = torch_state_dict(path)
        _shapes(tensors)
    except (pickle.UnpicklingError, AttributeError) as error:
        raise WeightsError(
            f"{path} holds something else than a state dict of tensors, such as a pickled network, and nothing but"
            " tensors is ever unpickled; backends/yolov5-face/README.md says how to get weights as .safetensors"
        ) from error
    return tensors


def _read_safetensors(path: str) -> "dict[str, torch.Tensor]":
    try:
        safetensors = importlib.import_module("safetensors.torch")
    except ModuleNotFoundError as error:
        raise BackendError(
            f"{path}: reading it needs the package safetensors: pip install --no-deps safetensors==0.8.0"
        ) from error
    tensors: dict[str, torch.Tensor] = safetensors.load_file(path)
    return tensors


def _shapes(tensors: "dict[str, torch.Tensor]") -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}

"""The networks that a device server runs: exports by name, with pixels as their input."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from filters.base import FaceCaptionError, RgbImage
from filters.conversion.pixels import PIXELS, Pixels, from_pixels
from filters.device.messages import Opening
from filters.loading import onnx_session, with_dtype
from filters.weights import sha256_of

Floats = npt.NDArray[np.float32]
MODULES: Mapping[str, str] = MappingProxyType(
    {
        "centerface": "centerface",
        "craft": "craft",
        "craft_int8": "craft",
        "efficientnet_lite": "efficientnet_lite",
        "ppocr": "ppocr",
        "yolov5_face": "yolov5_face",
    }
)
"""Exporter -> the module of `filters.detectors` whose PIXELS say what its networks take."""
OF_WINDOWS = ("craft", "craft_int8")
"""Exporters of networks that cost a hundred times the others: they have a lane of their own."""


class ServedNetwork:
    """One network on one device, from pixels to outputs."""

    def __init__(self, opening: Opening, folder: Path, device: str) -> None:
        """Load an export of `folder` on "cpu" or "cuda:N".

        Raises:
            FaceCaptionError: there is no such export, or its bytes are not what its name says.
        """
        import onnx

        exporter = opening.name.partition("-")[0]
        self.is_of_windows, pixels = exporter in OF_WINDOWS, _pixels_of(exporter)
        wanted = with_dtype(str(_verified(opening.name, folder)), device, opening.dtype)
        model = from_pixels(onnx.load(wanted) if isinstance(wanted, str) else onnx.load_from_string(wanted), pixels)
        self._session = onnx_session(bytes(model.SerializeToString()), device)
        others = [value.name for value in self._session.get_inputs() if value.name != PIXELS]
        if len(others) != len(opening.given):
            raise FaceCaptionError(f"{opening.name}: takes {len(others)} further inputs, not {len(opening.given)}")
        self._given = {name: np.array(one, np.float32) for name, one in zip(others, opening.given, strict=True)}
        self._outputs = [value.name for value in self._session.get_outputs()]
        self.is_on_gpu = device != "cpu"
        self._number = 0 if device == "cpu" else int(device.partition(":")[2] or 0)

    def run(self, pixels_NHW3: npt.NDArray[np.uint8]) -> list[Floats]:
        """Return every output for a batch of pictures, batch first; they stay on the device until all are there."""
        binding: Any = self._session.io_binding()
        binding.bind_cpu_input(PIXELS, pixels_NHW3)
        for name, value in self._given.items():
            binding.bind_cpu_input(name, value)
        for name in self._outputs:
            binding.bind_output(name, "cuda" if self.is_on_gpu else "cpu", self._number)
        self._session.run_with_iobinding(binding)
        return [np.asarray(output, dtype=np.float32) for output in binding.copy_outputs_to_cpu()]

    def outputs_of(self, pictures: list[RgbImage]) -> list[tuple[Floats, ...]]:
        """Return each picture's outputs, without the axis of the batch."""
        outputs = self.run(np.stack(pictures))
        return [tuple(output[row] for output in outputs) for row in range(len(pictures))]


def _verified(name: str, folder: Path) -> Path:
    """Return an export whose name is plain and ends in the sha256 of its bytes."""
    path, sha256 = folder / name, name.removesuffix(".onnx").rpartition("-")[2]
    if Path(name).name != name or not name.endswith(".onnx") or not path.is_file() or sha256_of(path) != sha256:
        raise FaceCaptionError(f"{folder}: holds no export {name!r}, or another than its name says")
    return path


def _pixels_of(exporter: str) -> Pixels:
    if exporter not in MODULES:
        raise FaceCaptionError(f"exports of {exporter!r} are not served; these are: {', '.join(MODULES)}")
    pixels: Pixels = importlib.import_module(f"filters.detectors.{MODULES[exporter]}").PIXELS
    return pixels

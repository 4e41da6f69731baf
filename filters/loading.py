"""How models come onto a device: one thread each, since workers are spread one to a core."""

from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from filters.base import FaceCaptionError, RgbImage
from filters.boxes import Letterbox
from filters.optimised import optimised

if TYPE_CHECKING:
    import torch
    from onnxruntime import InferenceSession, SessionOptions


Floats = npt.NDArray[np.float32]
Network = Callable[[Floats], Floats]
"""One input to the first output, on whatever runtime."""
OnnxRuntime = Literal["onnxruntime", "openvino"]
Dtype = Literal["float32", "bfloat16", "float16"]
OnnxDtype = Literal["float32", "float16"]
"""What onnxruntime computes in; float16 on a GPU alone."""
CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"}
"""Convolutions are chosen by rule: a trial of each new shape takes long and picks what was fastest just then, which two
runs need not agree on. And float32 is float32, not the 19 bits of it that newer GPUs would take."""
NUM_SHARED = 16
"""Networks that a process keeps, at most, for whoever asks for the same."""


class DeviceError(FaceCaptionError):
    """A device is named that cannot be used here; the message says which can."""

    exit_code = 2


@cache
def single_thread() -> None:
    """Keep OpenCV to one thread in this process; called by every builder."""
    import cv2

    cv2.setNumThreads(1)


@cache
def single_thread_torch() -> None:
    """Keep torch to one thread in this process."""
    import torch

    torch.set_num_threads(1)


def onnx_session(model: str | bytes, device: str) -> "InferenceSession":
    """Return an onnxruntime session for a file or for serialised bytes, on "cpu" or "cuda:N".

    Raises:
        DeviceError: the installed onnxruntime cannot run on that device.
    """
    import onnxruntime

    require_onnx_device(device)
    provider: Any = "CPUExecutionProvider"
    if device == "cpu" and isinstance(model, str):
        model, options = optimised(model, _options)
        return onnxruntime.InferenceSession(model, options, providers=[provider])
    if device != "cpu":
        provider = ("CUDAExecutionProvider", {"device_id": _cuda_index(device), **CUDA_OPTIONS})
    return onnxruntime.InferenceSession(model, _options(), providers=[provider])


def _options() -> "SessionOptions":
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def require_onnx_device(device: str) -> None:
    """Check that the installed onnxruntime runs on "cpu" or "cuda:N", as far as it tells without loading anything.

    Raises:
        DeviceError: it does not.
    """
    import onnxruntime

    if device == "cpu":
        return
    _cuda_index(device)
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise DeviceError(f"device {device!r}: the installed onnxruntime runs on cpu only; install onnxruntime-gpu")


def require_dtype(runtime: str, dtype: str) -> None:
    """Check that a runtime has an arithmetic at all, before anything is loaded.

    Raises:
        ValueError: it has not, which makes it an error of the recipe.
    """
    has = {"onnxruntime": ("float32", "float16"), "openvino": ("float32", "bfloat16"), "torch": ("float32", "bfloat16")}
    if dtype not in has[runtime]:
        other = next(name for name, arithmetics in has.items() if dtype in arithmetics)
        raise ValueError(f"runtime {runtime} computes in {' and '.join(has[runtime])}, not in {dtype}; {other} does")


def onnx_network(path: str, device: str, runtime: str, dtype: str) -> Network:
    """Return an ONNX file's network on a runtime (`OnnxRuntime`), in an arithmetic (`Dtype`) that it has.

    Whoever asks for the same in one process, such as a filter and its screen, has the same: to load it takes up to half
    a second and its memory.

    Raises:
        DeviceError: the runtime is not installed, cannot run on that device, or the device cannot compute in `dtype`.
    """
    file = Path(path)
    return _network(path, file.stat().st_mtime_ns if file.exists() else 0, device, runtime, dtype)


@lru_cache(maxsize=NUM_SHARED)
def _network(path: str, changed_ns: int, device: str, runtime: str, dtype: str) -> Network:
    if runtime == "openvino":
        return _openvino_network(path, device, dtype)
    require_dtype(runtime, dtype)
    session = onnx_session(with_dtype(path, device, dtype), device)
    name: str = session.get_inputs()[0].name
    return lambda pixels_NCHW: np.asarray(session.run(None, {name: pixels_NCHW})[0], dtype=np.float32)


def with_dtype(path: str, device: str, dtype: str) -> str | bytes:
    """Return a network's file, or where another arithmetic than the file's is wanted, the network serialised in it.

    Raises:
        DeviceError: the arithmetic is a GPU's, and the device is none: it would be other evidence under the same name.
    """
    if dtype == "float32":
        return path
    if device == "cpu":
        raise DeviceError(f"float16 is computed on a GPU, not on {device}: choose float32, or device = cuda")
    import onnx

    from filters.conversion.half import in_half

    return bytes(in_half(onnx.load(path)).SerializeToString())


def _openvino_network(path: str, device: str, dtype: str) -> Network:
    if device != "cpu":
        raise DeviceError(f"device {device!r}: the runtime openvino runs on cpu; use onnxruntime")
    try:
        import openvino
    except ImportError as error:
        how = "type `pip install facecaptionhq[openvino]`"
        raise DeviceError(f"the runtime openvino is not installed: {how}") from error
    core = openvino.Core()
    precision, capability = {"float32": ("f32", "FP32"), "bfloat16": ("bf16", "BF16")}[dtype]
    if capability not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        raise DeviceError(f"this CPU does not compute in {dtype}: choose float32")
    options = {
        "INFERENCE_NUM_THREADS": 1,
        "NUM_STREAMS": 1,
        # Pinned, every process of a machine would sit on the same core.
        "ENABLE_CPU_PINNING": False,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
    }
    compiled = core.compile_model(core.read_model(path), "CPU", options)
    return lambda pixels_NCHW: np.array(compiled(pixels_NCHW)[0], dtype=np.float32)


def torch_state_dict(path: str) -> dict[str, "torch.Tensor"]:
    """Return a file's tensors by name, without the prefix that DataParallel adds; nothing else is unpickled."""
    import torch

    tensors = torch.load(path, map_location="cpu", weights_only=True)
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}


def torch_device(device: str) -> "torch.device":
    """Return the torch device for "cpu" or "cuda:N".

    Raises:
        DeviceError: torch sees no such device.
    """
    import torch

    if device != "cpu" and not (torch.cuda.is_available() and _cuda_index(device) < torch.cuda.device_count()):
        raise DeviceError(f"device {device!r}: torch sees {torch.cuda.device_count()} CUDA devices; use cpu")
    return torch.device(device)


def lay_out(image: RgbImage, box: Letterbox, fill: int) -> npt.NDArray[np.uint8]:
    """Return a picture on its letterbox canvas, (canvas height, canvas width, 3) uint8, the margin filled."""
    canvas = np.full((box.canvas_height, box.canvas_width, 3), fill, dtype=np.uint8)
    target = canvas[box.top : box.top + box.height, box.left : box.left + box.width]
    target[:] = shrink(image, box.width, box.height)
    return canvas


def resize(image: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    """Return a picture at another size: by area when it shrinks, linearly when it grows."""
    import cv2

    shrinks = width * height < image.shape[0] * image.shape[1]
    scaled = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return np.asarray(scaled, dtype=np.uint8)


def shrink(image: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    """Return a picture at another size for a detector: halved while it stays large enough, then scaled linearly.

    At a small part of the cost of `resize`, which averages over fractions of pixels. An odd last row or column is cut
    off before halving, which moves nothing by more than a pixel of the result.
    """
    import cv2

    while image.shape[0] >= 2 * height and image.shape[1] >= 2 * width:
        half_height, half_width = image.shape[0] // 2, image.shape[1] // 2
        even = image[: 2 * half_height, : 2 * half_width]
        image = np.asarray(cv2.resize(even, (half_width, half_height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)


def _cuda_index(device: str) -> int:
    kind, _, index = device.partition(":")
    index = index or "0"
    if kind != "cuda" or not index.isdecimal():
        raise DeviceError(f"device {device!r}: use cpu or cuda:N")
    return int(index)

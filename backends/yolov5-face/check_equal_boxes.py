"""Carries the weights of a YOLOv5-face ONNX file into the torch network, to show that both runtimes see equal faces."""

import argparse
import dataclasses
import importlib
import importlib.util
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from PIL import Image, ImageOps

from filters.base import RgbImage
from filters.boxes import letterbox
from filters.detectors.base import Face
from filters.detectors.yolov5_face import Yolov5Face
from filters.detectors.yolov5_face_torch import ARCHITECTURES, Yolov5FaceTorch, new_network
from filters.loading import lay_out, onnx_session

SETTINGS: dict[str, Any] = {"side": 640, "confidence_floor": 0.1, "max_iou": 0.5, "device": "cpu"}
PACKAGE_PHOTOS = {
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
    "skimage": ("data/astronaut.png", "data/camera.png", "data/chelsea.png", "data/coffee.png", "data/rocket.jpg"),
}
PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".ppm"}
ROW_BOX, ROW_LANDMARKS, ROW_SCORES = slice(0, 4), slice(5, 15), [4, 15]


@dataclass(frozen=True)
class OnnxConv:
    """One convolution of the ONNX graph, batch normalisation already folded into it."""

    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    geometry: tuple[tuple[int, ...], ...]
    """Strides, padding of each edge, groups."""


@dataclass(frozen=True)
class Differences:
    """Greatest absolute differences between the two runtimes over a set of photos.

    Raw figures are over every anchor of every photo, in canvas pixels; faces are those above the confidence floor
    after suppression, in picture pixels.
    """

    num_photos: int
    num_rows: int
    raw_box_px: float
    raw_landmark_px: float
    raw_score: float
    num_faces_onnx: int
    num_faces_torch: int
    num_photos_with_other_counts: int
    face_box_px: float
    face_landmark_px: float
    face_confidence: float


def transplant(onnx_path: Path) -> dict[str, torch.Tensor]:
    """Return a state dict for the package's unfused network that computes what the ONNX file computes.

    Convolutions are paired in the order in which they run; each batch normalisation becomes the identity plus the
    ONNX convolution's bias.

    Raises:
        ValueError: the file fits none of the networks, or a pair differs in shape, stride, padding or groups.
    """
    convs = list(read_convs(onnx_path))
    gpl = importlib.import_module("yolov5_face.models.yolo")
    for architecture in ARCHITECTURES:
        network = new_network(gpl, architecture).eval()
        pairs = run_order(network)
        if [tuple(conv.weight.shape) for conv, _ in pairs] == [conv.weight.shape for conv in convs]:
            for (conv, norm), source in zip(pairs, convs, strict=True):
                fill(conv, norm, source)
            return {name: tensor.clone().contiguous() for name, tensor in network.state_dict().items()}
    raise ValueError(f"{onnx_path}: its {len(convs)} convolutions fit none of {', '.join(ARCHITECTURES)}")


def read_convs(onnx_path: Path) -> Iterator[OnnxConv]:
    """Yield the convolutions of an ONNX file in graph order; weights may pass through a Cast from half precision."""
    graph = onnx.load(onnx_path).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in constants:
            constants[node.output[0]] = constants[node.input[0]]
        elif node.op_type == "Conv":
            if len(node.input) != 3:
                raise ValueError(f"{onnx_path}: {node.output[0]} has no bias; its batch normalisation is not folded")
            attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            geometry = (tuple(attributes["strides"]), tuple(attributes["pads"]), (attributes["group"],))
            weight, bias = (constants[name].astype(np.float32) for name in node.input[1:])
            yield OnnxConv(weight, bias, geometry)


def run_order(network: torch.nn.Module) -> list[tuple[torch.nn.Conv2d, torch.nn.BatchNorm2d | None]]:
    """Return every convolution, in the order in which they run, with the batch normalisation that follows it."""
    ran: list[torch.nn.Module] = []
    layers = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.BatchNorm2d)]
    handles = [layer.register_forward_hook(lambda module, _inputs, _output: ran.append(module)) for layer in layers]
    network.train()  # trains nothing: only leaves out the decoding of boxes
    network(torch.zeros(1, 3, 64, 64))
    network.eval()
    for handle in handles:
        handle.remove()
    pairs: list[tuple[torch.nn.Conv2d, torch.nn.BatchNorm2d | None]] = []
    for layer, following in zip(ran, [*ran[1:], None], strict=True):
        if isinstance(layer, torch.nn.Conv2d):
            pairs.append((layer, following if isinstance(following, torch.nn.BatchNorm2d) else None))
    return pairs


def fill(conv: torch.nn.Conv2d, norm: torch.nn.BatchNorm2d | None, source: OnnxConv) -> None:
    """Write one ONNX convolution into a torch convolution and, if there is one, its batch normalisation."""
    vertical, horizontal = (int(x) for x in conv.padding)
    geometry = (tuple(conv.stride), (vertical, horizontal) * 2, (conv.groups,))
    if geometry != source.geometry:
        raise ValueError(f"a convolution has strides, padding, groups {geometry} in torch, {source.geometry} in ONNX")
    with torch.no_grad():
        conv.weight.copy_(torch.from_numpy(source.weight))
        bias = conv.bias if norm is None else norm.bias
        if bias is None:
            raise ValueError("a convolution has neither bias nor batch normalisation in torch")
        bias.copy_(torch.from_numpy(source.bias))
        if norm is not None and norm.running_mean is not None and norm.running_var is not None:
            norm.weight.fill_(1)
            norm.running_mean.fill_(0)
            norm.running_var.fill_(1 - norm.eps)


def save(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Write a state dict as .safetensors."""
    importlib.import_module("safetensors.torch").save_file(tensors, str(path))


def compare(onnx_path: Path, state_path: Path, photos: Sequence[Path]) -> Differences:
    """Run both runtimes over photos and return how far apart they are."""
    on_onnx, on_torch = Yolov5Face(str(onnx_path), **SETTINGS), Yolov5FaceTorch(str(state_path), **SETTINGS)
    session = onnx_session(str(onnx_path), "cpu")
    raw, faces, counts, num_rows = np.zeros(3), np.zeros(3), [], 0
    for image in map(read_picture, photos):
        pixels_NCHW = network_input(image)
        expected = session.run(None, {session.get_inputs()[0].name: pixels_NCHW})[0][0]
        apart = np.abs(expected - on_torch.rows(pixels_NCHW)[0])
        raw = np.maximum(raw, [apart[:, columns].max() for columns in (ROW_BOX, ROW_LANDMARKS, ROW_SCORES)])
        num_rows += len(expected)
        onnx_faces, torch_faces = on_onnx.detect(image), on_torch.detect(image)
        counts.append((len(onnx_faces), len(torch_faces)))
        for face in onnx_faces:
            faces = np.maximum(faces, nearest(face, torch_faces))
        for face in torch_faces:
            faces = np.maximum(faces, nearest(face, onnx_faces))
    return Differences(
        num_photos=len(photos),
        num_rows=num_rows,
        raw_box_px=float(raw[0]),
        raw_landmark_px=float(raw[1]),
        raw_score=float(raw[2]),
        num_faces_onnx=sum(num_onnx for num_onnx, _ in counts),
        num_faces_torch=sum(num_torch for _, num_torch in counts),
        num_photos_with_other_counts=sum(num_onnx != num_torch for num_onnx, num_torch in counts),
        face_box_px=float(faces[0]),
        face_landmark_px=float(faces[1]),
        face_confidence=float(faces[2]),
    )


def network_input(image: RgbImage) -> npt.NDArray[np.float32]:
    """Return what both networks see of a picture, (1, 3, H, W), RGB / 255 on the grey canvas."""
    canvas = letterbox(image.shape[1], image.shape[0], SETTINGS["side"])
    pixels_HWC = lay_out(image, canvas, 114).astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(pixels_HWC.transpose(2, 0, 1)[None])


def nearest(face: Face, others: Sequence[Face]) -> tuple[float, float, float]:
    """Return how far a face is from the nearest other: box px, landmarks px, confidence; infinite if there is none."""
    differences = [
        (
            float(np.abs(np.subtract(face.box, other.box)).max()),
            float(np.abs(np.subtract(face.landmarks, other.landmarks)).max()),
            abs(face.confidence - other.confidence),
        )
        for other in others
    ]
    return min(differences, default=(np.inf, np.inf, np.inf))


def read_picture(path: Path) -> RgbImage:
    """Return a picture's pixels after EXIF orientation."""
    with Image.open(path) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"), dtype=np.uint8)


def package_photos() -> list[Path]:
    """Return the photos that installed packages carry; packages that are absent are passed over."""
    found = []
    for package, names in PACKAGE_PHOTOS.items():
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            found += [Path(spec.origin).parent / name for name in names]
    return [path for path in found if path.is_file()]


def photos_in(folder: Path) -> list[Path]:
    """Return the pictures in a folder and below it, in the order of their paths."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)


def main() -> None:
    """Compare the runtimes on the packages' photos and on those in folders; print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("onnx", type=Path, help="YOLOv5-face in deepcam's export layout")
    parser.add_argument("--photos", type=Path, action="append", default=[], help="folder of photos; may be repeated")
    parser.add_argument("--save", type=Path, help="where to leave the weights, *.safetensors")
    arguments = parser.parse_args()
    sets = {"packages": package_photos()}
    for folder in arguments.photos:
        sets[str(folder)] = photos_in(folder)
    with tempfile.TemporaryDirectory() as folder:
        state_path = arguments.save or Path(folder) / "transplanted.safetensors"
        save(transplant(arguments.onnx), state_path)
        for name, photos in sets.items():
            differences = compare(arguments.onnx, state_path, photos)
            print(json.dumps({"weights": arguments.onnx.name, "photos": name} | dataclasses.asdict(differences)))


if __name__ == "__main__":
    main()

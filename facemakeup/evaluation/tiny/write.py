"""A folder with all that an evaluation of the five methods needs, and the configuration that names it."""

from pathlib import Path

from facemakeup.config import Recogniser
from facemakeup.evaluation.tiny import bases, checkpoints, judges, recognition
from facemakeup.faces.recognisers import INSIGHTFACE, MOBILEFACENET
from facemakeup.model.tiny_base import SIDE
from facemakeup.model.tiny_sdxl import write_sdxl
from filters.weights import catalogue, sha256_of

MOBILEFACENET_WIDTH = 128
NOTE = "Every network but the detector of faces is tiny and random: this table shows that it can be made, nothing else."
METHODS = """
[[methods]]
name = "Face-MakeUp"
[methods.generator]
kind = "face-makeup"
adapter = "face-makeup"
recogniser_file = "recogniser.onnx"
sampling = {{ num_steps = {steps}, guidance_scale = 5.0 }}
height = {side}
width = {side}

[[methods]]
name = "IP-Adapter"
[methods.generator]
kind = "ip-adapter-faceid-plus"
checkpoint = {{ file = "ip-adapter-faceid-plusv2_sd15.bin" }}
image_encoder = {{ source = "sd15" }}
image_encoder_subfolder = "image_encoder"
identity = {{ name = "insightface_512d", file = "recogniser.onnx" }}
base = {{ source = "sd15" }}
steps = {steps}
height = {side}
width = {side}

[[methods]]
name = "PhotoMaker"
[methods.generator]
kind = "photomaker"
version = "v2"
checkpoint = {{ file = "photomaker-v2.bin" }}
identity = {{ name = "insightface_512d", file = "recogniser.onnx" }}
base = {{ source = "sdxl" }}
steps = {steps}
height = {side}
width = {side}

[[methods]]
name = "InstantID"
[methods.generator]
kind = "instantid"
checkpoint = {{ file = "instantid/ip-adapter.bin" }}
controlnet = {{ source = "instantid" }}
controlnet_subfolder = "ControlNetModel"
identity = {{ name = "antelopev2_512d", file = "recogniser.onnx" }}
base = {{ source = "sdxl" }}
steps = {steps}
height = {side}
width = {side}

[[methods]]
name = "PuLID"
[methods.generator]
kind = "pulid"
checkpoint = {{ file = "pulid_v1.1.safetensors" }}
eva = {{ file = "eva.pt" }}
parser = {{ file = "parser.onnx" }}
identity = {{ name = "antelopev2_512d", file = "recogniser.onnx" }}
base = {{ source = "sdxl" }}
steps = {steps}
height = {side}
width = {side}
"""
HEAD = """note = "{note}"

[set]
name = "{name}"
manifest = '{manifest}'

[judges]
recognisers = []
clip = {{ source = "clip" }}
dino = {{ source = "dino" }}
{others}

[faces]
detector = "{detector}"
weights = "{weights}"
"""
LARGE = """vlm = {{ source = "vlm" }}
fid_inception = {{ file = "inception.pth" }}
celeba_attributes = {{ file = "attributes.pth" }}"""


def write_methods(folder: Path) -> Path:
    """Write bases and checkpoints of every method."""
    from diffusers import UNet2DConditionModel

    folder.mkdir(parents=True, exist_ok=True)
    recogniser = recognition.write_recogniser(folder / "recogniser.onnx")
    recognition.write_parser(folder / "parser.onnx")
    sd15, sdxl = bases.write_sd15(folder / "sd15"), write_sdxl(folder / "sdxl")
    small, large = (UNet2DConditionModel.from_pretrained(base, subfolder="unet") for base in (sd15, sdxl))
    known = Recogniser(name=INSIGHTFACE, width=recognition.IDENTITY_WIDTH, sha256=sha256_of(recogniser))
    checkpoints.write_adapter(folder / "face-makeup", sd15.resolve(), known)
    checkpoints.write_face_id_plus(folder / "ip-adapter-faceid-plusv2_sd15.bin", small)
    checkpoints.write_instantid(folder / "instantid", large)
    for version in ("v1", "v2"):
        checkpoints.write_photomaker(folder / f"photomaker-{version}.bin", large, version)
    checkpoints.write_pulid(folder / "pulid_v1.bin", large, "v1")
    checkpoints.write_pulid(folder / "pulid_v1.1.safetensors", large, "v1.1")
    checkpoints.write_eva(folder / "eva.pt")
    return folder


def write_adapter_of(folder: Path, recogniser: str = MOBILEFACENET) -> Path:
    """Write a base and an adapter that works with a recogniser of the catalogue, and return the adapter's folder.

    `facecaptionhq generate` and `studio` open it.
    """
    (entry,) = [entry for entry in catalogue() if entry.name == recogniser]
    known = Recogniser(name=recogniser, width=MOBILEFACENET_WIDTH, sha256=entry.sha256)
    base = bases.write_sd15(folder / "sd15")
    return checkpoints.write_adapter(folder / "face-makeup", base.resolve(), known)


def write_evaluation(
    folder: Path,
    manifest: Path,
    detector: str = "yolov5-face",
    weights: str = "yolov5n-face",
    steps: int = 2,
    has_every_judge: bool = True,
) -> Path:
    """Write methods, judges and `evaluation.toml`, and return the latter.

    Without `has_every_judge` those are left out that take seconds per picture on a core.
    """
    write_methods(folder)
    judges.write_clip(folder / "clip")
    judges.write_dino(folder / "dino")
    if has_every_judge:
        judges.write_vlm(folder / "vlm")
        judges.write_inception(folder / "inception.pth")
        judges.write_attributes(folder / "attributes.pth")
    head = HEAD.format(
        note=NOTE, name=f"{manifest.stem} (tiny random weights)", manifest=manifest.resolve(), detector=detector,
        weights=weights, others=LARGE.format() if has_every_judge else "",
    )  # fmt: skip
    path = folder / "evaluation.toml"
    path.write_text(head + METHODS.format(steps=steps, side=SIDE), encoding="utf-8")
    return path

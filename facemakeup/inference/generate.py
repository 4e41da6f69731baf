"""Pictures of a person from an exported adapter, files in and files out: what `facecaptionhq generate` does."""

import json
import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from curation.errors import UsageError
from curation.images.decode import UnreadableError, decode
from curation.recipe.settings import DecodeLimits
from curation.storage.publish import TEMP_FOLDER, publish, publish_json
from curation.version import CODE_VERSION
from facemakeup.faces.condition import FaceCondition, prepare_face
from facemakeup.faces.crop import Size
from facemakeup.faces.recognisers import FaceRecogniser, load_recogniser
from facemakeup.inference.export import RECORD_NAME, read_record
from facemakeup.inference.marking import mark
from facemakeup.inference.pipeline import DEFAULT_SIZE, FaceMakeUpPipeline
from facemakeup.inference.screening import require_decent
from facemakeup.model.denoise import Sampling, Scales
from filters import faces
from filters.base import Filter, RgbImage, Settings

RECORD = "generate.json"
log = logging.getLogger(__name__)


class FaceFinder(Settings):
    """Who finds and recognises faces in photos.

    Example:
        finder = FaceFinder(detector="centerface", weights="centerface")
    """

    detector: str = "yolov5-face"
    """Of `filters.faces.Measure`."""
    weights: str = "yolov5n-face"
    """Catalogue name or path of the detector's weights; empty for a detector that brings its own."""
    accept_noncommercial: bool = False
    """Set by someone who has read the recogniser's terms and accepts them."""

    @model_validator(mode="after")
    def _detector_is_known(self) -> Self:
        faces.require_detector(self.detector, self.weights)
        return self

    @property
    def measure(self) -> faces.Measure:
        """What the filter `faces` is built with."""
        return faces.Measure(detector=self.detector, weights=self.weights)


class DrawRequest(Settings):
    """What is drawn.

    Example:
        request = DrawRequest(prompts=("a person wearing a red hat",), seed=7)
    """

    prompts: tuple[str, ...] = Field(min_length=1)
    negative_prompt: str = ""
    mix: tuple[float, ...] | None = None
    """Weights of the faces; None weighs them alike."""
    scales: Scales = Scales()
    sampling: Sampling = Sampling()
    seed: int = Field(default=42, ge=0)
    """Where the noise of every picture comes from."""
    height: int | None = Field(default=None, ge=8)
    width: int | None = Field(default=None, ge=8)
    """Pixels, multiples of 8; None takes the side that the adapter was trained at."""
    adapter: bool = True
    """False draws what the base model draws."""
    consent: str | None = None
    """What the person of the reference photos agreed to, and how that is known; recorded with the pictures."""

    @property
    def drawn_words(self) -> tuple[str, ...]:
        """All that pictures are drawn towards: below a guidance of 1 that is the negative prompt, too."""
        guidance = self.sampling.guidance_scale  # no base is drawn with less than 1
        return (*self.prompts, self.negative_prompt) if guidance is not None and guidance < 1 else self.prompts

    @property
    def size(self) -> Size:
        """How large pictures are."""
        return Size(self.height or DEFAULT_SIZE.height, self.width or DEFAULT_SIZE.width)

    def on(self, pipe: FaceMakeUpPipeline, facts: Mapping[str, Any]) -> "DrawRequest":
        """Return the same with what it leaves to the base and to how the adapter was trained, which `facts` tell."""
        side = trained_side(facts)
        said = {"height": self.height or side, "width": self.width or side, "sampling": pipe.settled(self.sampling)}
        return self.model_copy(update=said)


def generate(
    adapter: Path,
    faces: Sequence[Path],
    pose: Path | None,
    target: Path,
    request: DrawRequest,
    finder: FaceFinder,
    base: str | None = None,
    image_encoder: str | None = None,
    device: str = "cpu",
) -> list[Path]:
    """Write one PNG per prompt and a record of how they were made, and return the PNGs; each carries a mark.

    `faces` and `pose` are photos (JPEG, PNG, WEBP) or conditions that `FaceCondition.save` wrote (.npz).

    Example:
        request = DrawRequest(prompts=("a person wearing a red hat",))
        generate(Path("adapter"), [Path("photo.jpg")], None, Path("pictures"), request, FaceFinder())

    Raises:
        UsageError: a file is not a picture, shows no face, or something does not fit.
        RecogniserError: the adapter's recogniser is not here, or its terms are not accepted.
        SafetyError: a prompt asks for an intimate picture.
    """
    require_decent(request.drawn_words)
    if not (request.consent or "").strip():
        log.warning("no consent of the person in the reference photos is stated (--consent); the record says so")
    if (target / RECORD).exists():
        raise UsageError(f"{target}: holds pictures already ({RECORD}); name another folder")
    record = read_record(adapter)
    pipe = FaceMakeUpPipeline.from_pretrained(adapter, base, image_encoder, device)
    read = FaceReader(pipe, finder)
    conditions, request = [read.condition(path) for path in faces], request.on(pipe, record["facts"])
    pose_map = read.condition(pose).pose(request.size, crop_factor(record["facts"])) if pose else None
    if not request.adapter:
        pipe.disable_adapter()
    pictures = [drawn(pipe, prompt, conditions, pose_map, request) for prompt in request.prompts]
    return _write(pictures, target, request, adapter, faces, pose)


def drawn(
    pipe: FaceMakeUpPipeline, prompt: str, faces: Sequence[FaceCondition], pose: RgbImage | None, request: DrawRequest
) -> RgbImage:
    """Return the picture of one prompt; `pose` is a pose map of its size."""
    (picture,) = pipe(
        (prompt,),
        faces,
        request.mix,
        pose,
        request.scales,
        request.sampling,
        request.negative_prompt,
        (request.seed,),
        request.size,
    )
    return picture


def crop_factor(facts: Mapping[str, Any]) -> float | None:
    """Return how tightly the adapter saw faces in training; None where it saw whole pictures."""
    return None if facts.get("crop_mode") == "full" else float(facts.get("crop_factor", 1.5))


def trained_side(facts: Mapping[str, Any]) -> int:
    """Return the side in pixels of the pictures that an adapter was trained on, or of squares as large as they."""
    return int(facts.get("crop_size", DEFAULT_SIZE.height))


class FaceReader:
    """Turns photos into conditions; detector and recogniser are loaded when the first one comes."""

    def __init__(self, pipe: FaceMakeUpPipeline, finder: FaceFinder) -> None:
        """Keep whose faces they are, and who finds them."""
        self._pipe = pipe
        self._finder = finder
        self._parts: tuple[Filter, FaceRecogniser] | None = None

    def condition(self, path: Path) -> FaceCondition:
        """Return what `FaceCondition.save` wrote, or the face of a photo.

        Raises:
            UsageError: it is neither, or shows no face.
        """
        return FaceCondition.load(path) if path.suffix == ".npz" else self.face(read_picture(path), str(path))

    def face(self, rgb: RgbImage, name: str) -> FaceCondition:
        """Return the face of a photo, which errors call `name`.

        Raises:
            UsageError: it shows none.
        """
        finder, recogniser = self._loaded()
        try:
            crop = self._pipe.model.config.clip_crop
            return prepare_face(rgb, finder, recogniser, self._pipe.encoders.clip_side, crop)
        except UsageError as error:
            raise UsageError(f"{name}: {error}") from error

    def _loaded(self) -> tuple[Filter, FaceRecogniser]:
        if self._parts is None:
            expected = self._pipe.model.config.recogniser
            recogniser = load_recogniser(expected, self._finder.accept_noncommercial)
            self._parts = faces.build(self._finder.measure, "cpu"), recogniser
        return self._parts


def read_picture(path: Path) -> RgbImage:
    """Return the upright pixels of a picture file.

    Raises:
        UsageError: there is no such file, or the decode gate refuses it.
    """
    try:
        return pixels_of(path.read_bytes(), str(path))
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such file") from error


def pixels_of(content: bytes, name: str) -> RgbImage:
    """Return the upright pixels of a picture's bytes, which errors call `name`.

    Raises:
        UsageError: the decode gate refuses it.
    """
    try:
        return decode(content, DecodeLimits().admitting_all()).rgb
    except UnreadableError as error:
        raise UsageError(f"{name}: {error}") from error


def _write(
    pictures: Sequence[RgbImage],
    target: Path,
    request: DrawRequest,
    adapter: Path,
    faces: Sequence[Path],
    pose: Path | None,
) -> list[Path]:
    target.mkdir(parents=True, exist_ok=True)
    files = {}
    for number, picture in enumerate(pictures):
        path = target / f"{number:03d}.png"
        files[path.name] = write_marked(path, picture)
    record = {
        "code_version": CODE_VERSION,
        "adapter": str(adapter),
        "adapter_files": json.loads((adapter / RECORD_NAME).read_text(encoding="utf-8"))["files"],
        "faces": [str(path) for path in faces],
        "pose": str(pose) if pose else None,
        "request": request.model_dump(mode="json"),
        "files": files,
    }
    publish_json(target / RECORD, record)
    (target / TEMP_FOLDER).rmdir()
    return [target / name for name in files]


def write_marked(path: Path, picture: RgbImage) -> str:
    """Write a drawn picture as PNG with its mark for machines, whole or not at all, and return the file's sha256."""
    from PIL import Image

    return publish(path, partial(Image.fromarray(picture).save, format="PNG", pnginfo=mark())).sha256

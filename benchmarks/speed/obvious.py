"""The obvious pipeline: the five published sentences as a competent reader would write them down in an afternoon.

    FACECAPTIONHQ_MODELS=... python -m benchmarks.speed.obvious SHARD.tar [--recipe facecaptionhq-4m]

Pillow decodes in full; numpy takes the standard deviation of every pixel; EasyOCR's `Reader.detect` runs at its
defaults (canvas 2560, torch, float32); YOLOv5n-face runs at 640 px, on torch where the GPL package is installed and
otherwise on onnxruntime, which is faster and so favours the opponent; the anime cascade runs at full size with its
README's parameters. Filters run in the published order and the first that certainly rejects ends it. One thread.

It measures naively and decides with our recipe, screens left aside, so that verdicts are comparable. Two things that
the recipe decides on are no part of the sentences: the toning residual, and the number of characters, which EasyOCR's
box maker estimates where it is asked to. Both are taken beside it, in stages of their own (`ON_THE_HOUSE`) that are
charged to nobody.
"""

import argparse
import importlib.util
import io
import sys
import tarfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.provenance import surroundings
from benchmarks.speed.contenders import CHARACTERS, DECODE, TONING, Clock, Outcome, outcome, plans_of
from benchmarks.variants import plain
from curation.errors import UsageError
from curation.measure.arrow import from_struct
from curation.recipe.judge import NotYet, Verdict, judge
from curation.recipe.recipe import Recipe, load_recipe, recipe_of
from curation.storage.publish import digest
from filters import anime, colour, faces, text
from filters.base import RgbImage
from filters.detectors.base import FaceDetector
from filters.detectors.lbp_cascade import LbpCascade
from filters.weights import find_weights

VERSION = 1
ORDER = ("colour", "text", "faces", "anime")
UNPUBLISHED = frozenset({"drawn"})
MEASURED = {
    "colour": {"mean_channel_std", "toning_residual"},
    "text": {
        "area_fraction",
        "num_characters",
        "num_regions",
        "largest_region_fraction",
        "face_overlap_fraction",
        "text_prominence",
    },
    "faces": {"num_faces", "largest_face_side_px", "largest_face_fraction", "max_confidence"},
    "anime": {"num_hits", "max_line_to_nose", "max_neighbours", "largest_hit_fraction", "num_uncontested_hits"},
}
EVIDENCE: Mapping[str, Any] = {
    "colour": colour.ColourEvidence,
    "text": text.TextEvidence,
    "faces": faces.FacesEvidence,
    "anime": anime.AnimeEvidence,
}
CANVAS_SIDE = 2560
"""Longest side in pixels of the canvas of `detect`."""
TORCH_WEIGHTS = "yolov5n-face-torch"


def _published(recipe: Recipe) -> Recipe:
    """Return the recipe without what nobody reads in the five sentences."""
    values = recipe.file.model_dump(mode="json", exclude_unset=True)
    values["filters"] = [stanza for stanza in values["filters"] if stanza["name"] not in UNPUBLISHED]
    if order := values.get("curate", {}).get("order"):
        values["curate"]["order"] = [name for name in order if name not in UNPUBLISHED]
    return recipe_of(values, recipe.path)


class Obvious:
    """The pipeline with its models loaded."""

    def __init__(self, recipe: Recipe) -> None:
        """Load the models; `recipe` decides.

        Raises:
            UsageError: the recipe decides on something that is not measured here.
        """
        self.recipe, self._clock = _published(plain(recipe)), Clock()
        for plan in self.recipe.filters:
            if unmeasured := sorted(set(plan.keep) - MEASURED.get(plan.name, set())):
                raise UsageError(f"{recipe.path}: filter {plan.name}: {', '.join(unmeasured)} is not measured here")
        self._order = tuple(name for name in ORDER if any(plan.name == name for plan in self.recipe.filters))
        measures = [plan.measure for plan in self.recipe.filters if plan.name == "colour"]
        self._toning: Any = measures[0] if measures else colour.Measure()
        self._faces = _face_detector()
        if "text" in self._order:
            self._reader, self._maps = _text_reader()
        self._cascade = _anime_detector()
        self.key = digest(
            [
                "obvious",
                VERSION,
                face_runtime(),
                self._toning.model_dump(mode="json"),
                surroundings(
                    TORCH_WEIGHTS if face_runtime() == "torch" else "yolov5n-face",
                    "lbpcascade_animeface",
                    *(["craft_mlt_25k"] if "text" in self._order else []),
                ),
            ]
        )

    def read(self, tar: Path) -> Iterator[bytes]:
        """Yield the pictures of a shard."""
        yield from pictures(tar)

    def examine(self, image_bytes: bytes, stored: Outcome | None = None) -> Outcome:
        """Return the verdict on one picture; evidence of before is judged again, only what it lacks is measured."""
        known: dict[str, Any] = {plan.name: None for plan in self.recipe.filters}
        if stored is not None:
            known |= {name: from_struct(EVIDENCE[name], value) for name, value in stored.evidence.items()}
        self._clock.seconds = dict(stored.seconds) if stored else {}
        image: RgbImage | None = None
        verdict: Verdict | NotYet = NotYet(self._order)
        for name in self._order:
            if known[name] is None:
                image = self._decoded(image_bytes) if image is None else image
                known[name] = getattr(self, f"_{name}_of")(image)
            verdict = judge(known, self.recipe.criteria)
            if isinstance(verdict, Verdict) and not verdict.kept:
                break
        assert isinstance(verdict, Verdict)
        return outcome(verdict, known, plans_of(self.recipe), self._clock.seconds)

    def _decoded(self, image_bytes: bytes) -> RgbImage:
        with self._clock.stage(DECODE):
            return np.array(Image.open(io.BytesIO(image_bytes)).convert("RGB"))

    def _colour_of(self, image: RgbImage) -> colour.ColourEvidence:
        with self._clock.stage("colour"):
            spread = float(image.std(axis=2).mean())
        with self._clock.stage(TONING):
            residual = colour.toning_residual(image, self._toning)
        return colour.ColourEvidence(spread, 0.0, 0.0, residual)

    def _text_of(self, image: RgbImage) -> text.TextEvidence:
        with self._clock.stage("text"):
            self._reader.detect(image)
        with self._clock.stage(CHARACTERS):
            regions = _counted(self._maps.pop(), image)
        polygons = tuple(tuple(map(float, np.ravel(corners))) for corners, _ in regions)
        return text.TextEvidence(image.shape[1], image.shape[0], polygons, tuple(int(count) for _, count in regions))

    def _faces_of(self, image: RgbImage) -> faces.FacesEvidence:
        with self._clock.stage("faces"):
            return faces.FacesEvidence(image.shape[1], image.shape[0], self._faces.detect(image))

    def _anime_of(self, image: RgbImage) -> anime.AnimeEvidence:
        with self._clock.stage("anime"):
            return anime.AnimeEvidence(image.shape[1], image.shape[0], self._cascade.detect(image))


def pictures(tar: Path) -> Iterator[bytes]:
    """Yield the pictures of a shard, as tarfile reads them."""
    with tarfile.open(tar) as shard:
        for member in shard:
            if member.name.endswith((".jpg", ".jpeg", ".png", ".webp")):
                file = shard.extractfile(member)
                assert file is not None
                yield file.read()


def face_runtime() -> str:
    """Return what runs YOLOv5-face here: `torch` where the GPL package is installed, else `onnxruntime`."""
    return "onnxruntime" if importlib.util.find_spec("yolov5_face") is None else "torch"


def _face_detector() -> FaceDetector:
    """Return YOLOv5n-face at 640 px."""
    settings = faces.Measure()
    options: Mapping[str, Any] = {
        "side": 640, "confidence_floor": settings.confidence_floor, "max_iou": settings.nms_iou, "device": "cpu",
    }  # fmt: skip
    if face_runtime() == "torch":
        from filters.detectors.yolov5_face_torch import Yolov5FaceTorch

        return Yolov5FaceTorch(find_weights(TORCH_WEIGHTS).path, **options)
    from filters.detectors.yolov5_face import Yolov5Face

    return Yolov5Face(find_weights("yolov5n-face").path, **options)


def _anime_detector() -> LbpCascade:
    """Return the cascade as its README scans."""
    return LbpCascade(
        find_weights("lbpcascade_animeface").path,
        view_side=65535, scale_factor=1.1, min_neighbours=5, min_side_px=24, equalise=True,
    )  # fmt: skip


def _text_reader() -> tuple[Any, list[Any]]:
    """Return EasyOCR's reader, and where each call of `detect` leaves the maps that its network made."""
    import easyocr
    import easyocr_en_models
    import torch

    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # dynamic quantisation, EasyOCR's default on a CPU
        warnings.simplefilter("ignore", UserWarning)
        reader = easyocr.Reader(
            ["en"], gpu=False, model_storage_directory=easyocr_en_models.model_dir(), download_enabled=False,
            recognizer=False, verbose=False,
        )  # fmt: skip
    maps: list[Any] = []
    reader.detector.register_forward_hook(lambda network, inputs, outputs: maps.append(outputs[0][0].numpy()))
    return reader, maps


def _counted(maps_HW2: Any, image: RgbImage) -> list[tuple[Any, int]]:
    """Return the boxes of EasyOCR's maps with its estimate of their characters, at the thresholds of `detect`."""
    from easyocr.craft_utils import adjustResultCoordinates, getDetBoxes

    settings = text.Measure()
    thresholds = settings.text_threshold, settings.link_threshold, settings.low_text
    boxes, _, counts = getDetBoxes(maps_HW2[:, :, 0], maps_HW2[:, :, 1], *thresholds, False, True)
    longer = max(image.shape[:2])
    scale = longer / min(longer, CANVAS_SIDE)
    return list(zip(adjustResultCoordinates(boxes, scale, scale), counts, strict=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what becomes of every picture of a shard."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.obvious",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tar", type=Path)
    parser.add_argument("--recipe", default="facecaptionhq-4m")
    options = parser.parse_args(arguments)
    obvious = Obvious(load_recipe(options.recipe))
    for number, image_bytes in enumerate(obvious.read(options.tar)):
        judged = obvious.examine(image_bytes)
        stages = "  ".join(f"{name} {1000 * seconds:.0f}" for name, seconds in judged.seconds.items())
        print(f"{number:5} {judged.rejected_by or 'kept':8} {judged.reason or '':28} ms: {stages}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

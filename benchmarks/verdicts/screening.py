"""The pictures that a screen is calibrated on, and a bank that measures each of them once per filter and parameters."""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol

from benchmarks.verdicts import derivatives, random_text
from benchmarks.verdicts.calibrate import Photos
from curation.measure.arrow import from_struct, to_struct
from curation.storage.publish import digest
from filters.base import FilterModule, RgbImage, Settings
from filters.weights import find_weights

CACHE = Path("build/screens")
LABELS = ("single", "text", "group", "noface", "anime", "bw", "sepia")
DERIVED = {
    "single mirrored": derivatives.mirrored,
    "single shrunk": derivatives.shrunk,
    "single watermarked": derivatives.watermarked,
    "single captioned": derivatives.captioned,
}


class Pictures(Protocol):
    """Photos by their file."""

    def picture(self, file: str) -> RgbImage:
        """Return one photo as every filter sees it."""
        ...


@dataclass(frozen=True)
class Picture:
    """One picture of the calibration: a photo, what is done to it, and what it stands for."""

    group: str
    file: str
    change: Callable[[RgbImage], RgbImage] | None = None
    detail: str = ""

    @property
    def name(self) -> str:
        """Unique in a corpus."""
        return f"{self.group}/{self.file}{self.detail}"

    def pixels(self, photos: Pictures) -> RgbImage:
        """Return it as every filter sees it."""
        image = photos.picture(self.file)
        return self.change(image) if self.change else image


def text_corpus(photos: Photos, num_lettered: int, seed: int = 0) -> list[Picture]:
    """Return labelled photos, derivatives and `num_lettered` letterings on photos of one person, well mixed."""
    singles = photos.of("single")
    pictures = [Picture(label, file) for label in LABELS for file in photos.of(label)]
    pictures += [Picture(group, file, change) for group, change in DERIVED.items() for file in singles]
    for number in range(num_lettered):
        drawn = random_text.random_lettering(number)
        change = partial(random_text.lettered, lettering=drawn)
        pictures.append(Picture("single lettered", singles[number % len(singles)], change, f"#{number}"))
    random.Random(seed).shuffle(pictures)
    return pictures


@dataclass(frozen=True)
class Gauge:
    """A filter with parameters: what measures, and where its evidence is kept."""

    name: str
    module: FilterModule
    measure: Settings

    @cached_property
    def cache(self) -> Path:
        """Where the evidence lies, by measurement key; every line names the pixels that it is of."""
        weights = [find_weights(name).sha256 for name in self.module.weights(self.measure)]
        parameters = self.measure.model_dump(mode="json")
        key = digest({"version": self.module.VERSION, "measure": parameters, "weights": weights})
        return CACHE / f"{self.name}-{key[:16]}.jsonl"

    def known(self) -> dict[str, Any]:
        """Return picture -> evidence, as far as it is measured."""
        return {row["picture"]: from_struct(self.module.EVIDENCE, row["evidence"]) for row in self._rows()}

    def seen(self) -> dict[str, str]:
        """Return picture -> fingerprint of the pixels that were measured under its name."""
        return {row["picture"]: row["pixels"] for row in self._rows()}

    def _rows(self) -> list[dict[str, Any]]:
        lines = self.cache.read_text(encoding="utf-8").splitlines() if self.cache.is_file() else []
        return [json.loads(line) for line in lines if line.endswith("}")]


def fingerprint(image: RgbImage) -> str:
    """Return what tells these pixels from others."""
    return hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest()[:16]


def measure(photos: Pictures, pictures: Sequence[Picture], gauges: Sequence[Gauge]) -> Iterator[str]:
    """Measure what is missing or was measured on other pixels; yields the names of those that are complete."""
    seen = {gauge.cache: gauge.seen() for gauge in gauges}
    ready: dict[Path, Any] = {}
    CACHE.mkdir(parents=True, exist_ok=True)
    for picture in pictures:
        image = picture.pixels(photos)
        pixels = fingerprint(image)
        for gauge in gauges:
            if seen[gauge.cache].get(picture.name) == pixels:
                continue
            if gauge.cache not in ready:
                ready[gauge.cache] = gauge.module.build(gauge.measure, "cpu")
            evidence = to_struct(ready[gauge.cache].measure([image])[0])
            with gauge.cache.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"picture": picture.name, "pixels": pixels, "evidence": evidence}) + "\n")
        yield picture.name


def by_picture(gauges: Mapping[str, Gauge], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return picture -> gauge -> evidence for the pictures that every gauge has measured."""
    known = {name: gauge.known() for name, gauge in gauges.items()}
    complete = [picture for picture in names if all(picture in evidence for evidence in known.values())]
    return {picture: {name: evidence[picture] for name, evidence in known.items()} for picture in complete}

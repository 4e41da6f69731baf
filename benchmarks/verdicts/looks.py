"""Measures one filter with many parameters over the labelled photos and their derivatives, and keeps what it found.

Evidence and CPU time lie in `build/looks`, one file per variant, so that a new question costs only what is new.
"""

import csv
import hashlib
import importlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

from benchmarks.verdicts import derivatives
from benchmarks.verdicts.calibrate import Photos
from curation.measure.arrow import from_struct, to_struct
from filters.base import RgbImage

CACHE = Path("build/looks")
DERIVED = ("single", "group", "noface", "anime")
"""Labels whose derivatives are measured too; of the others the originals alone."""


@dataclass(frozen=True)
class Variant:
    """One filter with some measuring parameters."""

    filter: str
    parameters: Mapping[str, Any]

    @property
    def module(self) -> ModuleType:
        """The filter's module."""
        return importlib.import_module(f"filters.{self.filter}")

    @cached_property
    def path(self) -> Path:
        """Where its evidence is kept; the name follows the parameters with their defaults and the filter's version."""
        measure = self.module.Measure.model_validate(self.parameters).model_dump(mode="json")
        key = json.dumps([self.module.VERSION, measure, _source_of_derivatives()], sort_keys=True)
        return CACHE / f"{self.filter}-{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"


@dataclass(frozen=True)
class Look:
    """What one variant found in one picture."""

    file: str
    label: str
    derivative: str
    """Empty for the photo itself."""
    evidence: Any
    cpu_ms: float


def looks(photos: Photos, variants: Sequence[Variant]) -> list[list[Look]]:
    """Return, for each variant, what it found in every picture; only what no file holds yet is measured."""
    missing = [variant for variant in variants if not variant.path.is_file()]
    if missing:
        built = [
            variant.module.build(variant.module.Measure.model_validate(variant.parameters), "cpu")
            for variant in missing
        ]
        tables: list[list[dict[str, Any]]] = [[] for _ in missing]
        for file, label, derivative, picture in pictures(photos, missing[0].filter):
            print(f"{file} {derivative}", file=sys.stderr)
            for detector, rows in zip(built, tables, strict=True):
                started = time.process_time()
                (evidence,) = detector.measure([picture])
                cpu_ms = (time.process_time() - started) * 1000
                rows.append(
                    {
                        "file": file,
                        "label": label,
                        "derivative": derivative,
                        "cpu_ms": cpu_ms,
                        "evidence": to_struct(evidence),
                    }
                )
        CACHE.mkdir(parents=True, exist_ok=True)
        for variant, rows in zip(missing, tables, strict=True):
            variant.path.write_text(json.dumps(rows), encoding="utf-8")
    return [_read(variant) for variant in variants]


def pictures(photos: Photos, filter_name: str) -> Iterator[tuple[str, str, str, RgbImage]]:
    """Yield file, label, derivative and pixels of every picture that a filter is looked at with."""
    changes = {**derivatives.SAME_SCENE, **(derivatives.SMALLER_FACES if filter_name == "faces" else {})}
    for file, label in originals(photos):
        picture = photos.picture(file)
        yield file, label, "", picture
        for derivative, change in changes.items() if label in DERIVED else ():
            yield file, label, derivative, change(picture)


def originals(photos: Photos) -> Iterator[tuple[str, str]]:
    """Yield file and label of every photo that the decode gate reads."""
    with (photos.folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        labels = sorted({row["label"] for row in csv.DictReader(file)})
    for label in labels:
        yield from ((name, label) for name in photos.of(label))


def _read(variant: Variant) -> list[Look]:
    rows = json.loads(variant.path.read_text(encoding="utf-8"))
    return [Look(**{**row, "evidence": from_struct(variant.module.EVIDENCE, row["evidence"])}) for row in rows]


def _source_of_derivatives() -> str:
    return hashlib.sha256(Path(derivatives.__file__).read_bytes()).hexdigest()

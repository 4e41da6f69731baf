"""Shards with poison in them, and the recipe whose filter swallows it."""

import io
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

import filters
from curation.recipe.recipe import Recipe
from tests.curation.shards import colourful, recipe_from, sample_members, write_shard
from tests.pictures import encode, solid
from tests.places import ROOT

THIRD_PARTY = ROOT / "tests" / "third_party"
RECIPE = """
schema_version = 1
name = "poisoned"
[curate]
num_batch_samples = 3
max_decode_s = 0.5
max_measure_s = 1.5
max_measure_mib = 1024
max_quarantined = 8
[[filters]]
name = "poison"
measure.marks = "{marks}"
keep.brightness = {{ min = 0 }}
"""


def use_third_party(monkeypatch: pytest.MonkeyPatch) -> None:
    """Find the filters of `tests/third_party` here, in cells and in Ray's workers."""
    monkeypatch.setenv("FACECAPTIONHQ_FILTERS", str(THIRD_PARTY))
    monkeypatch.setattr(filters, "__path__", [*filters.__path__, str(THIRD_PARTY)])


def poison_recipe(folder: Path, *changes: tuple[str, str]) -> Recipe:
    """The recipe; attempts on poison are written down in `marks` in its folder."""
    text = RECIPE.format(marks=folder / "marks")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return recipe_from(folder, text)


def poison(number: int, place: int = 0) -> bytes:
    """A picture that tells the filter what to do, and which one of its kind it is."""
    picture = solid((255, 0, number), 32, 32)
    picture[0, 1] = (place, place, place)
    return encode(picture, "png")


def poisoned_shard(folder: Path, name: str, numbers: Sequence[int]) -> Path:
    """A shard of one sample per number: poison of that kind, or a harmless picture for 0."""
    samples = []
    for place, number in enumerate(numbers):
        image_bytes = poison(number, place) if number else colourful(place, "PNG")
        samples.append(sample_members(f"{name}-{place:03d}", image_bytes, "png"))
    return write_shard(folder, name, samples)


def scan_bomb(side: int, num_scans: int) -> bytes:
    """A JPEG of a few hundred kilobytes whose last progressive scan comes again and again."""
    file = io.BytesIO()
    Image.new("L", (side, side), 128).save(file, "JPEG", progressive=True, quality=50)
    jpeg = file.getvalue()
    scan = jpeg[jpeg.rindex(b"\xff\xda") : -2]
    return jpeg[:-2] + scan * num_scans + b"\xff\xd9"


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (ProcessLookupError, FileNotFoundError):
        return False

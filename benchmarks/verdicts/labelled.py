"""The labelled photos that `FACECAPTIONHQ_GOLD` and `FACECAPTIONHQ_GOLD2` name, and which of them are alike."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.pictures.photos import UNREADABLE_HERE
from curation.dataset.labelled import manifest_rows
from curation.images.decode import decode
from curation.recipe.settings import DecodeLimits
from filters.base import RgbImage

FOLDERS = ("FACECAPTIONHQ_GOLD", "FACECAPTIONHQ_GOLD2")


BUSINESS = {
    "colour": ("bw", "sepia"),
    "text": ("text",),
    "faces": ("group", "noface"),
    "anime": ("anime",),
    "drawn": ("anime", "noface"),
}
"""Filter -> the labels that it should reject; `single` should be kept."""


@dataclass(frozen=True)
class Labelled:
    """One line of a manifest."""

    path: Path
    label: str
    tags: tuple[str, ...]
    source: str
    """The repository; pictures of one are alike and belong into one fold."""
    sha256: str

    @property
    def picture(self) -> RgbImage:
        """The photo as every filter sees it."""
        return decode(self.path.read_bytes(), DecodeLimits()).rgb


def labelled(folders: Sequence[Path]) -> list[Labelled]:
    """Return the photos of folders with `manifest.csv` that the decode gate reads, the same bytes once, by sha256."""
    known: dict[str, Labelled] = {}
    for photo in (photo for folder in folders for photo in _of(folder)):
        known.setdefault(photo.sha256, photo)
    return [known[sha256] for sha256 in sorted(known)]


def folders_named(variables: Sequence[str] = FOLDERS) -> list[Path]:
    """Return the folders that these environment variables name; those that are unset are left out."""
    return [Path(os.environ[name]) for name in variables if name in os.environ]


def _of(folder: Path) -> Iterator[Labelled]:
    for row in manifest_rows(folder / "manifest.csv"):
        if not row.file.endswith(UNREADABLE_HERE):
            yield Labelled(folder / "images" / row.file, row.label, row.tags, row.source, row.sha256)

"""Labelled photos for the benchmarks: a corpus that `benchmarks.pictures.corpus` built, or those themselves."""

import csv
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.pictures.corpus import MANIFEST
from curation.dataset.labelled import manifest_rows
from curation.dataset.sample import uid_of_bytes
from curation.dataset.tar import read_samples, write_tar
from curation.errors import UsageError
from curation.images.containers import sniff_format

GOLD = "gold"
LABELLED = {GOLD: "FACECAPTIONHQ_GOLD", "gold2": "FACECAPTIONHQ_GOLD2"}
"""Names of the folders of labelled photos -> the variables that say where they are."""
UNREADABLE_HERE = ".ppm"
"""A format that the decode gate refuses."""


@dataclass(frozen=True)
class Photo:
    """One photo that can be named before it is read."""

    key: str
    label: str
    kind: str
    path: Path
    """The tar that holds it, or the photo itself."""
    source: str = ""
    """Where it comes from: photos of one source are alike. Crops of a corpus have none."""

    @property
    def uid(self) -> str:
        """Return what the benchmarks call it in tars of their own."""
        return uid_of_bytes(self.key.encode())


def photos_of(place: str) -> list[Photo]:
    """Return the photos of a corpus folder, or the labelled ones where `place` is `gold` or `gold2`.

    Raises:
        UsageError: the folder is no corpus.
    """
    if place in LABELLED:
        return _labelled(Path(os.environ[LABELLED[place]]))
    folder = Path(place)
    if not (folder / MANIFEST).is_file():
        raise UsageError(
            f"{folder}: no {MANIFEST} here; build a corpus with python -m benchmarks.pictures.corpus --out {place}"
        )
    with (folder / MANIFEST).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [Photo(row["key"], row["label"], row["kind"], folder / f"{row['shard']}.tar") for row in rows]


def stratified(photos: Sequence[Photo], num_photos: int, seed: int) -> list[Photo]:
    """Return so many photos with the labels in the shares of the whole, chosen and mixed by the seed.

    Of one label no source gives a second photo before every other has given one.
    """
    if num_photos >= len(photos):
        return list(photos)
    numbers = np.random.default_rng(seed)
    mixed = _spread([photos[int(i)] for i in numbers.permutation(len(photos))])
    exact = {
        label: count * num_photos / len(photos) for label, count in Counter(photo.label for photo in mixed).items()
    }
    room = {label: int(share) for label, share in exact.items()}
    for label in sorted(exact, key=lambda label: (room[label] - exact[label], label))[
        : num_photos - sum(room.values())
    ]:
        room[label] += 1
    chosen = []
    for photo in mixed:
        if room[photo.label] > 0:
            room[photo.label] -= 1
            chosen.append(photo)
    return chosen


def _labelled(folder: Path) -> list[Photo]:
    rows = sorted((row.file, row.label, row.source) for row in manifest_rows(folder / MANIFEST))
    return [
        Photo(name, label, "photo", folder / "images" / name, source)
        for name, label, source in rows
        if not name.endswith(UNREADABLE_HERE)
    ]


def _spread(photos: Sequence[Photo]) -> list[Photo]:
    """Return photos in the same order but for those whose source gave one of that label before: these come later."""
    given: Counter[tuple[str, str]] = Counter()
    turns: list[list[Photo]] = []
    for photo in photos:
        turn = given[photo.label, photo.source] if photo.source else 0
        given[photo.label, photo.source] += 1
        turns += [[]] * (turn == len(turns))
        turns[turn].append(photo)
    return [photo for turn in turns for photo in turn]


def read(photos: Sequence[Photo]) -> Iterator[tuple[Photo, bytes]]:
    """Yield photos with their bytes, those of one tar together."""
    wanted = {photo.key: photo for photo in photos if photo.path.suffix == ".tar"}
    for path in sorted({photo.path for photo in wanted.values()}):
        for sample in read_samples(path):
            if sample.key in wanted and wanted[sample.key].path == path:
                yield wanted[sample.key], sample.image_bytes
    for photo in photos:
        if photo.key not in wanted:
            yield photo, photo.path.read_bytes()


def write(photos: Sequence[Photo], path: Path) -> list[Photo]:
    """Write photos into a tar in the order given, under their uids, and return them."""
    contents = {photo.key: image_bytes for photo, image_bytes in read(photos)}
    names = {key: sniff_format(image_bytes) or "bin" for key, image_bytes in contents.items()}
    write_tar(path, ((f"{photo.uid}.{names[photo.key]}", contents[photo.key]) for photo in photos))
    return list(photos)

"""Small pictures for the report, read back from the shards and drawn over with what the filters saw."""

import base64
import hashlib
import io
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from curation.commands.curate.examine import clean
from curation.commands.report.choice import RowPlace
from curation.commands.report.origins import CuratedFrom
from curation.dataset.captions import clean_caption
from curation.dataset.sample import Sample
from curation.dataset.tar import read_samples
from curation.errors import ShardError
from curation.images.decode import UnreadableError, decode
from curation.measure.arrow import from_struct
from curation.recipe.settings import DecodeLimits
from filters import faces
from filters.base import RgbImage

MAX_SIDE_PX = 384
"""Longer side of a picture as the page holds it, where nobody asks for another."""
JPEG_QUALITY = 82
MAX_CAPTION_CHARACTERS = 240
MAX_MARKS = 150
"""Marks drawn on one thumbnail; a page of print has hundreds of text regions."""
MAX_FACES_WITH_LANDMARKS = 6


@dataclass(frozen=True)
class Thumbnail:
    """A small copy of a picture, or why there is none."""

    data_uri: str = ""
    """JPEG without metadata; empty where there is a problem."""
    width: int = 0
    height: int = 0
    caption: str = ""
    """The sample's caption on one line, cut."""
    problem: str = ""


@dataclass(frozen=True)
class Mark:
    """One outline or point over a thumbnail, in pixels of the decoded picture."""

    kind: str
    """`face`, `faint` (a face that does not count), `landmark`, `text` or `hit`."""
    points: str
    """Corners as SVG has them, `x,y x,y ...`; a landmark has one."""


def load_thumbnails(  # long: what it takes and returns
    tars: Mapping[str, Path],
    origin: CuratedFrom,
    rows: Mapping[RowPlace, Mapping[str, Any]],
    limits: DecodeLimits,
    max_side_px: int = MAX_SIDE_PX,
) -> dict[RowPlace, Thumbnail]:
    """Return a picture for every row, from the curated tars (by stem of the ledger) or from what was curated.

    In a curated tar a kept sample lies under its uid; a rejected one lies in the shard that was curated, under its key.
    Every shard is read once, and one picture is held at a time.
    """
    kept: dict[str, dict[str, list[RowPlace]]] = defaultdict(lambda: defaultdict(list))
    others: dict[str, dict[str, list[RowPlace]]] = defaultdict(lambda: defaultdict(list))
    for place, row in rows.items():
        if row["kept"]:
            kept[place.shard][row["uid"]].append(place)
        else:
            others[row["shard"]][row["key"]].append(place)
    found: dict[RowPlace, Thumbnail] = {}

    def take(samples: Iterator[Sample], places: Mapping[str, list[RowPlace]]) -> None:
        for sample in samples:
            here = [place for place in places.get(clean(sample.key), ()) if place not in found]
            own = [place for place in here if _is_of(sample, rows[place])]
            if here:
                place = (own or here)[0]
                thumbnail = _thumbnail(sample, rows[place], limits, max_side_px)
                if own or len(here) == 1:
                    found[place] = thumbnail

    for stem, places in sorted(kept.items()):
        with _told(found, places, "its shard cannot be read"):
            take(read_samples(tars[stem], places.keys()), places)
    for shard, places in sorted(others.items()):
        if shard not in origin.shards or not origin.shards[shard].path.exists():
            lost = [place for group in places.values() for place in group]
            found.update({place: Thumbnail(problem="its shard is not here") for place in lost})
            continue
        with _told(found, places, "its shard cannot be read"), origin.samples(shard, set(places)) as samples:
            take(samples, places)
    return {place: found.get(place, Thumbnail(problem="its shard does not hold it")) for place in rows}


@contextmanager
def _told(found: dict[RowPlace, Thumbnail], places: Mapping[str, list[RowPlace]], problem: str) -> Iterator[None]:
    """Say of all pictures of a shard that are not found yet why they never will be, where it cannot be read."""
    try:
        yield
    except (ShardError, OSError):
        left = [place for group in places.values() for place in group if place not in found]
        found.update({place: Thumbnail(problem=problem) for place in left})


def _is_of(sample: Sample, row: Mapping[str, Any]) -> bool:
    return bool(row["sha256"]) and hashlib.sha256(sample.image_bytes).hexdigest() == row["sha256"]


def shrink(rgb: RgbImage, max_side_px: int = MAX_SIDE_PX) -> tuple[str, int, int]:
    """Return (data URI, width, height) of a picture as a JPEG of at most so many pixels a side."""
    image = Image.fromarray(rgb)
    image.thumbnail((max_side_px, max_side_px), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}", image.width, image.height


def marks_of(row: Mapping[str, Any], counts: Mapping[str, Any]) -> tuple[Mark, ...]:
    """Return what the filters saw in a sample; `counts` are the settings that say which faces count."""
    return tuple(mark for mark in _marks(row, counts) if "nan" not in mark.points)[:MAX_MARKS]


def _thumbnail(sample: Sample, row: Mapping[str, Any], limits: DecodeLimits, max_side_px: int) -> Thumbnail:
    caption = clean_caption(sample.caption or "", MAX_CAPTION_CHARACTERS)
    if row["sha256"] is None:
        return Thumbnail(problem="it came without a picture", caption=caption)
    if hashlib.sha256(sample.image_bytes).hexdigest() != row["sha256"]:
        return Thumbnail(problem="its shard holds other bytes than the ledger names")
    try:
        picture = decode(sample.image_bytes, limits)
    except UnreadableError as error:
        return Thumbnail(problem=error.reason, caption=caption)
    return Thumbnail(*shrink(picture.rgb, max_side_px), caption=caption)


def _marks(row: Mapping[str, Any], counts: Mapping[str, Any]) -> Iterator[Mark]:
    if (evidence := row.get("faces_evidence")) is not None:
        counted = faces.counted(from_struct(faces.FacesEvidence, evidence), faces.Score.model_validate(counts))
        boxes = {face.box for face in counted}
        for face in from_struct(faces.FacesEvidence, evidence).faces:
            yield Mark("face" if face.box in boxes else "faint", _corners(*face.box))
        for face in counted if len(counted) <= MAX_FACES_WITH_LANDMARKS else ():
            yield from (Mark("landmark", point) for point in _points(face.landmarks))
    for hit in (row.get("anime_evidence") or {}).get("hits", ()):
        yield Mark("hit", _corners(hit["x1"], hit["y1"], hit["x2"], hit["y2"]))
    for polygon in (row.get("text_evidence") or {}).get("polygons", ()):
        yield Mark("text", " ".join(_points(polygon)))


def _corners(left: float, top: float, right: float, bottom: float) -> str:
    return " ".join(_points([left, top, right, top, right, bottom, left, bottom]))


def _points(flat: Sequence[float]) -> list[str]:
    return [
        f"{x:.1f},{y:.1f}" if math.isfinite(x) and math.isfinite(y) else "nan"
        for x, y in zip(flat[::2], flat[1::2], strict=False)
    ]

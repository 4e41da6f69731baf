"""Small pictures for the report, read back from the shards and drawn over with what the filters saw."""

import base64
import hashlib
import io
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from curation.commands.report.choice import RowPlace
from curation.dataset.captions import clean_caption
from curation.dataset.sample import Sample
from curation.dataset.tar import read_samples
from curation.errors import ShardError
from curation.images.decode import UnreadableError, decode
from curation.measure.arrow import from_struct
from curation.recipe.settings import DecodeLimits
from filters import faces
from filters.base import RgbImage

MAX_SIDE_PX = 128
JPEG_QUALITY = 82
MAX_CAPTION_CHARACTERS = 240
MAX_MARKS = 150
"""Marks drawn on one thumbnail; a page of print has hundreds of text regions."""
MAX_FACES_WITH_LANDMARKS = 6


@dataclass(frozen=True)
class Thumbnail:
    """A picture of at most 128 pixels a side, or why there is none."""

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


def load_thumbnails(
    tars: Mapping[RowPlace, Path], rows: Mapping[RowPlace, Mapping[str, Any]], limits: DecodeLimits
) -> dict[RowPlace, Thumbnail]:
    """Return a thumbnail for every row; in `tars` a kept sample lies under its uid, another under its key.

    Every shard is read once, and one picture is held at a time.
    """
    wanted: dict[Path, dict[str, RowPlace]] = defaultdict(dict)
    for place, row in rows.items():
        wanted[tars[place]][row["uid"] if row["kept"] else row["key"]] = place
    thumbnails: dict[RowPlace, Thumbnail] = {}
    for tar, places in sorted(wanted.items()):
        try:
            for sample in read_samples(tar, places.keys()):
                place = places[sample.key]
                thumbnails[place] = _thumbnail(sample, rows[place], limits)
        except ShardError:
            missing = Thumbnail(problem="its shard cannot be read" if tar.exists() else "its shard is not in this run")
            thumbnails.update({place: missing for place in places.values() if place not in thumbnails})
    return {place: thumbnails.get(place, Thumbnail(problem="its shard does not hold it")) for place in rows}


def shrink(rgb: RgbImage) -> tuple[str, int, int]:
    """Return (data URI, width, height) of a picture as a JPEG of at most 128 pixels a side."""
    image = Image.fromarray(rgb)
    image.thumbnail((MAX_SIDE_PX, MAX_SIDE_PX), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}", image.width, image.height


def marks_of(row: Mapping[str, Any], counts: Mapping[str, Any]) -> tuple[Mark, ...]:
    """Return what the filters saw in a sample; `counts` are the settings that say which faces count."""
    return tuple(mark for mark in _marks(row, counts) if "nan" not in mark.points)[:MAX_MARKS]


def _thumbnail(sample: Sample, row: Mapping[str, Any], limits: DecodeLimits) -> Thumbnail:
    caption = clean_caption(sample.caption or "", MAX_CAPTION_CHARACTERS)
    if row["sha256"] is None:
        return Thumbnail(problem="it came without a picture", caption=caption)
    if hashlib.sha256(sample.image_bytes).hexdigest() != row["sha256"]:
        return Thumbnail(problem="its shard holds other bytes than the ledger names")
    try:
        picture = decode(sample.image_bytes, limits)
    except UnreadableError as error:
        return Thumbnail(problem=error.reason, caption=caption)
    return Thumbnail(*shrink(picture.rgb), caption=caption)


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

"""Do the judges behave: does every similarity fall, and every distance rise, as a face is damaged or becomes another's?

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_GOLD2=... python -m benchmarks.evaluation.ladder SCRATCH

One row of the table of `evaluate` per rung: the photo itself, blur, noise, tighter and tighter crops, another photo of
the person, somebody else. Photos never leave their folders: figures do, and what was found of faces is kept in SCRATCH.
Nobody wrote down who is on the photos, so people with several photos are found by MobileFaceNet (cosine above .6, other
pictures by pHash): what that one says of another photo of the person is circular, what the others say is not.
"""

import csv
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.provenance import RESULTS, ROOT, commit, machine
from curation.measure.fingerprint import phash_distance
from facemakeup.evaluation.columns import (
    Background,
    JudgedPicture,
    Measured,
    ScoreCell,
    calibrations,
    feature,
    row_cells,
)
from facemakeup.evaluation.copy_paste import NO_OTHER_PHOTO
from facemakeup.evaluation.estimate import Failure, Floats
from facemakeup.evaluation.panel import FACE, Panel, load_panel
from facemakeup.evaluation.seen import FoundFace, Seen
from facemakeup.evaluation.settings import JudgeSettings
from facemakeup.faces.recognisers import MOBILEFACENET
from facemakeup.inference.generate import read_picture
from filters import faces
from filters.base import Filter, RgbImage
from filters.boxes import Box
from filters.look import phash_of

NUM_PEOPLE = 24
MAX_SIDE = 640
"""Photos are shrunk to this, so that damage means the same for all."""
SAME_PERSON, OTHER_PICTURE = 0.6, 12
Damage = Callable[[RgbImage, Box, int], RgbImage]


@dataclass(frozen=True)
class Photo:
    """A photo with one face."""

    path: str
    box: Box
    vector_D: Floats
    phash: str


def main() -> int:
    """Climb the ladder, write its figures, and draw them."""
    scratch = Path(sys.argv[1])
    panel = load_panel(JudgeSettings(recognisers=(MOBILEFACENET,)), accept_noncommercial=True)
    detector = faces.build(faces.Measure(), "cpu")
    people = chosen(found_photos(scratch / "photos.npz", panel, detector))
    rows = climbed(people, panel, detector)
    result = {"num_people": len(people), "rungs": rows, "misbehaviour": misbehaviour(rows)}
    origin = {"machine": machine(), "commit": commit()}
    (RESULTS / "ladder.json").write_text(json.dumps({**result, **origin}, indent=2) + "\n", encoding="utf-8")
    draw(rows, ROOT / "docs" / "evaluation-ladder.png")
    print(json.dumps(result["misbehaviour"], indent=2))
    return 0


def found_photos(path: Path, panel: Panel, detector: Filter) -> list[Photo]:
    """Return every photo labelled `single` that shows one face, found once and kept in `path`."""
    if not path.is_file():
        photos = [photo for name in _labelled() if (photo := _photo(name, panel, detector)) is not None]
        fields = ("path", "box", "vector_D", "phash")
        np.savez(path, **{field: np.array([getattr(photo, field) for photo in photos]) for field in fields})
    with np.load(path) as kept:
        columns = zip(kept["path"], kept["box"], kept["vector_D"], kept["phash"], strict=True)
        return [Photo(str(name), tuple(box), vector, str(phash)) for name, box, vector, phash in columns]


def chosen(photos: Sequence[Photo]) -> list[list[Photo]]:
    """Return people, each with the photos that are theirs: those with several first."""
    people: list[list[Photo]] = []
    for photo in photos:
        mine = [person for person in people if any(_is_same(photo, other) for other in person)]
        if any(_is_same_picture(photo, other) for person in mine for other in person):
            continue
        together = [other for person in mine for other in person]
        people = [*(person for person in people if person not in mine), [*together, photo]]
    return sorted(people, key=lambda person: -len(person))[:NUM_PEOPLE]


def climbed(people: Sequence[Sequence[Photo]], panel: Panel, detector: Filter) -> dict[str, Any]:
    """Return rung -> column -> what its cell says."""
    names = [f"person {number}" for number in range(len(people))]
    originals = [_shrunk(person[0]) for person in people]
    references = [panel.measure(Seen(rgb, detector)) for rgb, _ in originals]
    others: list[Measured] = [
        panel.measure(Seen(_shrunk(person[1])[0], detector)) if len(person) > 1 else Failure(NO_OTHER_PHOTO)
        for person in people
    ]
    also = {f"{name}, other": other for name, other in zip(names, others, strict=True)}
    real = {**dict(zip(names, references, strict=True)), **also}
    owners = {name: name.removesuffix(", other") for name in real}
    background = Background(dict(zip(names, references, strict=True)), owners, calibrations(real, owners))
    made: dict[str, Sequence[Measured]] = {"the photo itself": references}
    for rung, damage in RUNGS.items():
        damaged = (damage(rgb, box, number) for number, (rgb, box) in enumerate(originals))
        made[rung] = [panel.measure(Seen(rgb, detector)) for rgb in damaged]
        print(rung, file=sys.stderr, flush=True)
    made["another photo of the person"] = others
    made["somebody else"] = [*references[1:], references[0]]
    return {rung: _row(names, measured, references, others, panel, background) for rung, measured in made.items()}


def misbehaviour(rows: dict[str, Any]) -> list[str]:
    """Return every step down a ladder at which a similarity rises or a distance falls.

    Other people are the same photos in another order, and so at no distance: of people only similarities are asked.
    """
    said = []
    for kind, ladder in LADDERS.items():
        judged = ("FaceSim",) if kind == "people" else ("FaceSim", "Frechet", "KID")
        for better, worse in pairwise(ladder):
            for column in sorted(rows[better].keys() & rows[worse].keys()):
                one, other = rows[better][column], rows[worse][column]
                if column.startswith(judged) and None not in (one["value"], other["value"]):
                    rose = other["value"] - one["value"] if one["better"] == "higher" else one["value"] - other["value"]
                    if rose > 0:
                        said.append(f"{column}: better at `{worse}` than at `{better}` by {rose:.3g}")
    return said


def draw(rows: dict[str, Any], path: Path) -> None:
    """Draw every judge on every rung, with intervals: recognisers above, what else there is below."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    columns = [column for column in rows["the photo itself"] if not column.startswith("Copy-paste")]
    ranks = [column for column in columns if column.startswith(("FaceSim", "Margin"))]
    others = [column for column in columns if column not in ranks]
    width = max(len(ranks), len(others))
    figure, axes = plt.subplots(2, width, figsize=(3.1 * width, 8.4), sharey=True, layout="constrained")
    for line, judged in zip(axes, (sorted(ranks), others), strict=True):
        for axis, column in zip(line, judged, strict=False):
            _draw_column(axis, column, rows)
        for axis in line[len(judged) :]:
            axis.remove()
        line[0].set_yticks(range(len(rows)), list(rows))
    axes[0][0].invert_yaxis()
    figure.savefig(path, dpi=80, metadata={"Software": None})


def _draw_column(axis: Any, column: str, rows: dict[str, Any]) -> None:
    for place, rung in enumerate(rows):
        cell = rows[rung].get(column)
        if cell is not None and cell["value"] is not None:
            low, high = cell["interval"] or (cell["value"], cell["value"])
            axis.plot([low, high], [place, place], color="tab:blue")
            axis.plot(cell["value"], place, "o", color="tab:blue", markersize=4)
    axis.set_title(column.replace("_insightface_128d", ""), fontsize=9)
    axis.grid(axis="x", alpha=0.3)


def _row(
    names: Sequence[str],
    made: Sequence[Measured],
    references: Sequence[Measured],
    others: Sequence[Measured],
    panel: Panel,
    background: Background,
) -> dict[str, Any]:
    pictures = [JudgedPicture(*row) for row in zip(names, [""] * len(names), made, references, others, strict=True)]
    return {cell.column: _told(cell) for cell in row_cells(pictures, panel, background, None)}


def _told(cell: ScoreCell) -> dict[str, Any]:
    return {**cell.score.as_json(), "judge": cell.judge, "kind": cell.kind}


def _blur(share: float) -> Damage:
    def damage(rgb: RgbImage, box: Box, number: int) -> RgbImage:
        return np.asarray(cv2.GaussianBlur(rgb, (0, 0), share * max(box[2] - box[0], box[3] - box[1])), np.uint8)

    return damage


def _noise(deviation: float) -> Damage:
    def damage(rgb: RgbImage, box: Box, number: int) -> RgbImage:
        drawn = np.random.default_rng(number).normal(0, deviation, rgb.shape)
        return np.clip(rgb + drawn, 0, 255).astype(np.uint8)

    return damage


def _crop(sides: float) -> Damage:
    def damage(rgb: RgbImage, box: Box, number: int) -> RgbImage:
        half = sides * max(box[2] - box[0], box[3] - box[1]) / 2
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        top, left = max(0, int(y - half)), max(0, int(x - half))
        return np.ascontiguousarray(rgb[top : int(y + half) + 1, left : int(x + half) + 1])

    return damage


RUNGS: dict[str, Damage] = {
    **{f"blur, {share:.0%} of the face": _blur(share) for share in (0.02, 0.05, 0.1)},
    **{f"noise, deviation {deviation}": _noise(deviation) for deviation in (20, 60, 120)},
    **{f"crop, {sides:g} faces wide": _crop(sides) for sides in (1.5, 1.0, 0.75)},
}
LADDERS = {
    kind: ["the photo itself", *(rung for rung in RUNGS if rung.startswith(kind))] for kind in ("blur", "noise", "crop")
} | {"people": ["the photo itself", "another photo of the person", "somebody else"]}
"""Within each, every rung is worse than the one before."""


def _labelled() -> list[Path]:
    paths = []
    for variable in ("FACECAPTIONHQ_GOLD", "FACECAPTIONHQ_GOLD2"):
        folder = Path(os.environ[variable])
        with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        rows = [row for row in rows if row["label"] == "single" and row.get("derived", "no") == "no"]
        paths += [folder / "images" / row["file"] for row in rows]
    return paths


def _photo(path: Path, panel: Panel, detector: Filter) -> Photo | None:
    rgb = read_picture(path)
    seen = Seen(rgb, detector)
    (evidence,) = detector.measure([rgb])
    if len(faces.counted(evidence, faces.Score())) != 1 or not isinstance(seen.face, FoundFace):
        return None
    vector = feature(panel.measure(seen), f"{FACE}/{MOBILEFACENET}")
    return Photo(str(path), seen.face.box, vector, phash_of(rgb)) if isinstance(vector, np.ndarray) else None


def _shrunk(photo: Photo) -> tuple[RgbImage, Box]:
    rgb = read_picture(Path(photo.path))
    scale = min(1.0, MAX_SIDE / max(rgb.shape[:2]))
    size = round(rgb.shape[1] * scale), round(rgb.shape[0] * scale)
    left, top, right, bottom = (float(edge) * scale for edge in photo.box)
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8), (left, top, right, bottom)


def _is_same_picture(one: Photo, other: Photo) -> bool:
    return phash_distance(one.phash, other.phash) <= OTHER_PICTURE


def _is_same(one: Photo, other: Photo) -> bool:
    return float(one.vector_D @ other.vector_D) > SAME_PERSON


if __name__ == "__main__":
    raise SystemExit(main())

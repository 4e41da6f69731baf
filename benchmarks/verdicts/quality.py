"""What each limit on quality costs and tells: on labelled photos, and on copies: blurred, blown up, recompressed.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_GOLD2=... python -m benchmarks.verdicts.quality [--photos 80]

Nothing is taught: every score is a formula, and figures on copies rest on one photo from each source, so that no source
counts twice. Only figures leave.
"""

import argparse
import json
import os
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.provenance import RESULTS, commit, machine, wilson
from benchmarks.verdicts.derivatives import Derivative, grey, recompressed, shrunk, watermarked
from benchmarks.verdicts.labelled import FOLDERS, Labelled, folders_named, labelled
from curation.measure.fingerprint import phash_distance
from curation.recipe.joint_scores import Known
from curation.recipe.judge import Criterion
from curation.recipe.recipe import Recipe, load_recipe
from filters import detail, face_quality, look
from filters.base import RgbImage
from filters.detectors.base import largest_face
from filters.faces import build as build_faces

MOST_SIDE = 900
ENLARGING = (cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
BLURS = (0.01, 0.02, 0.04)
"""Standard deviations of a blur, in sides of the face."""
FACTORS = (1.5, 2.0, 3.0, 4.0)
Rng = random.Random


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", default="facecaptionhq-strict")
    parser.add_argument("--photos", type=int, default=80, help="photos, each from a source of its own, that are copied")
    parser.add_argument("--out", type=Path, default=RESULTS / "quality.json")
    options = parser.parse_args()
    recipe, photos = load_recipe(options.recipe), labelled(folders_named())
    single = [photo for photo in photos if photo.label == "single"]
    faces = build_faces(_plan(recipe, "faces").measure, "cpu")  # type: ignore[arg-type]
    quality = face_quality.build(_plan(recipe, "face_quality").measure, "cpu")  # type: ignore[arg-type]
    bank = {"faces": faces, "face_quality": quality, "detail": detail.build(detail.Measure(), "cpu")}
    rows = [(photo, _measured(photo.picture, bank)) for photo in single]
    one_each = [random.Random(name).choice(group) for name, group in sorted(_by_source(single).items())]
    chosen = random.Random(0).sample(one_each, min(options.photos, len(one_each)))
    result = {
        "limits": {f"{c.filter}.{c.score}": _cost(c, rows) for c in _criteria(recipe)},
        "all_limits": _share(sum(any(_fails(c, known) for c in _criteria(recipe)) for _, known in rows), len(rows)),
        "occlusion": _occlusion(rows),
        "copies": _copies(chosen, bank, recipe),
        "num_sources_of_copies": len(chosen),
        "machine": machine(),
        "commit": commit(),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _plan(recipe: Recipe, name: str) -> Any:
    return next(plan for plan in recipe.filters if plan.name == name)


def _criteria(recipe: Recipe) -> list[Criterion]:
    pose = {"yaw_deg", "pitch_deg", "roll_deg", "eyes_distance_px"}
    return [one for one in recipe.criteria if one.filter in ("face_quality", "detail") or one.score in pose]


def _measured(image: RgbImage, bank: Mapping[str, Any]) -> Known:
    (faces,) = bank["faces"].measure([image])
    (quality,) = bank["face_quality"].measure([image], [faces])
    (spectrum,) = bank["detail"].measure([image])
    return {"faces": faces, "face_quality": quality, "detail": spectrum}


def _fails(criterion: Criterion, known: Known) -> bool:
    return criterion.keep.failure(criterion.bounds(known)) is not None


def _cost(criterion: Criterion, rows: Sequence[tuple[Labelled, Known]]) -> dict[str, Any]:
    """Return how many portraits a limit loses, in all, on the second set, and by tag, and where their scores lie."""
    lost = [(photo, _fails(criterion, known)) for photo, known in rows]
    second = [one for photo, one in lost if photo.path.is_relative_to(os.environ[FOLDERS[1]])]
    tags = sorted({tag for photo, _ in lost for tag in photo.tags})
    by_tag = {tag: [one for photo, one in lost if tag in photo.tags] for tag in tags}
    values = [criterion.bounds(known).low for _, known in rows]
    return {
        "keep": criterion.keep.model_dump(exclude_none=True),
        "lost": _share(sum(one for _, one in lost), len(lost)),
        "lost_of_second": _share(sum(second), len(second)),
        "lost_by_tag": {tag: [sum(ones), len(ones)] for tag, ones in by_tag.items() if len(ones) >= 10},
        "percentiles": dict(zip((1, 5, 50, 95, 99), np.percentile(values, (1, 5, 50, 95, 99)).round(3), strict=True)),
    }


def _occlusion(rows: Sequence[tuple[Labelled, Known]]) -> dict[str, Any]:
    paleness = [("mask" in photo.tags, known["face_quality"].lower_face_paleness) for photo, known in rows]
    values = {side: [value for is_masked, value in paleness if is_masked == side] for side in (True, False)}
    return {"num_masked": len(values[True]), "auc_masked": auc(values[True], values[False])}


def _copies(photos: Sequence[Labelled], bank: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    found: dict[str, list[tuple[float, ...]]] = {}
    for photo in photos:
        for name, values in _scored(_middle(photo.picture), Rng(photo.sha256), bank):
            found.setdefault(name, []).append(values)
    limits = {one.score: one.keep for one in _criteria(recipe)}
    fall, block, sharp = (limits[name] for name in ("spectral_fall_db", "blockiness", "sharpness"))

    def told(start: str, honest: str, limit: float | None, sign: int = 1) -> dict[str, Any]:
        names = [name for name in found if name.startswith(start)]
        return {name: _told(found, name, honest, limit, sign) for name in names}

    return {
        "blown_up": told("fall of x", "fall of photo", fall.max),
        "recompressed": told("blocks of q", "blocks of photo", block.max),
        "blurred": told("sharpness at", "sharpness of face", sharp.min, -1),
        "near": {
            name.removeprefix("hash of "): {
                "most_bits": max(bits for bits, _ in values),
                "most_fine_bits": max(fine for _, fine in values),
                "within": _share(sum(_is_near(one, recipe) for one in values), len(values)),
            }
            for name, values in found.items()
            if name.startswith("hash of")
        },
    }  # fmt: skip


def _is_near(distances: Sequence[float], recipe: Recipe) -> bool:
    pack = recipe.file.pack
    return distances[0] <= (pack.near_duplicate_bits or 0) and distances[1] <= pack.near_duplicate_fine_bits


def _told(
    found: Mapping[str, Sequence[tuple[float, ...]]], name: str, honest: str, limit: float | None, sign: int = 1
) -> dict[str, Any]:
    """Return how well a score tells the copies from the photos: AUC, and what lies beyond the limit on either side."""
    bad, good = ([sign * value for (value,) in found[which]] for which in (name, honest))
    bound = sign * (limit or 0.0)
    told, lost = (_share(sum(value > bound for value in values), len(values)) for values in (bad, good))
    return {"auc": auc(bad, good), "told": told, "photos_beyond": lost}


def _scored(image: RgbImage, rng: Rng, bank: Mapping[str, Any]) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Yield the scores of a photo and of its copies, by what they are of."""
    yield from _detail("photo", image, bank)
    for quality in (10, 25, 75):
        yield from _detail(f"q{quality}", recompressed(image, quality), bank)
    for factor in FACTORS:
        yield from _detail(f"x{factor}", _blown_up(image, factor, rng), bank)
    (faces,) = bank["faces"].measure([image])
    if (face := largest_face(faces.faces, 0.5)) is not None:
        yield "sharpness of face", (face_quality.quality_of(image, face).sharpness,)
        for blur in BLURS:
            blurred = np.asarray(cv2.GaussianBlur(image, (0, 0), max(0.3, blur * face.side_px)), np.uint8)
            yield f"sharpness at blur {blur}", (face_quality.quality_of(blurred, face).sharpness,)
    one = [look.phash_of(image), look.phash_of(image, look.FINE_SIDE)]
    for name, change in NEARLY.items():
        copy = change(image)
        other = [look.phash_of(copy), look.phash_of(copy, look.FINE_SIDE)]
        yield f"hash of {name}", tuple(phash_distance(a, b) for a, b in zip(one, other, strict=True))


def _detail(name: str, image: RgbImage, bank: Mapping[str, Any]) -> Iterator[tuple[str, tuple[float, ...]]]:
    (evidence,) = bank["detail"].measure([image])
    scores = detail.scores(evidence, detail.Score())
    yield f"fall of {name}", (scores["spectral_fall_db"],)
    yield f"blocks of {name}", (scores["blockiness"],)


def _blown_up(image: RgbImage, factor: float, rng: Rng) -> RgbImage:
    """The picture as a small JPEG that was enlarged to its size, by any way, and saved again or not."""
    height, width = image.shape[:2]
    small = cv2.resize(image, (round(width / factor), round(height / factor)), interpolation=cv2.INTER_AREA)
    small = recompressed(np.asarray(small, np.uint8), rng.choice((60, 75, 90)))
    grown = np.asarray(cv2.resize(small, (width, height), interpolation=rng.choice(ENLARGING)), np.uint8)
    quality = rng.choice((None, 75, 90, 95))
    return grown if quality is None else recompressed(grown, quality)


def _middle(image: RgbImage) -> RgbImage:
    """The middle of a picture at its own resolution, at most `MOST_SIDE` pixels a side."""
    top, left = (max(0, (side - MOST_SIDE) // 2) for side in image.shape[:2])
    return np.ascontiguousarray(image[top : top + MOST_SIDE, left : left + MOST_SIDE])


def _cut(share: float) -> Derivative:
    def cut(image: RgbImage) -> RgbImage:
        rows, columns = (round(side * share) for side in image.shape[:2])
        return np.ascontiguousarray(image[rows : image.shape[0] - rows, columns : image.shape[1] - columns])

    return cut


def _brighter(image: RgbImage) -> RgbImage:
    return np.asarray((255 * (image / 255.0) ** 0.77).round(), np.uint8)


NEARLY: Mapping[str, Derivative] = {
    "recompressed": recompressed,
    "shrunk": lambda image: recompressed(shrunk(image, 256), 60),
    "brighter": _brighter,
    "watermarked": watermarked,
    "grey": grey,
    "cut by 1 %": _cut(0.01),
    "cut by 3 %": _cut(0.03),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
}


def auc(higher: Sequence[float], lower: Sequence[float]) -> float:
    """Return the share of pairs in which the first is higher, ties counted half."""
    one, other = np.asarray(higher)[:, None], np.asarray(lower)[None]
    return round(float((one > other).mean() + (one == other).mean() / 2), 3)


def _by_source(photos: Sequence[Labelled]) -> dict[str, list[Labelled]]:
    groups: dict[str, list[Labelled]] = {}
    for photo in photos:
        groups.setdefault(photo.source, []).append(photo)
    return groups


def _share(num_hits: int, num_trials: int) -> dict[str, Any]:
    return {"hits": num_hits, "of": num_trials, "wilson_95": wilson(num_hits, num_trials)}


if __name__ == "__main__":
    main()

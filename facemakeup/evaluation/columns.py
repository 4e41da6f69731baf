"""From what judges measured to the cells of a table: one function per metric, each over all pictures of a row."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from facemakeup.evaluation import attributes, copy_paste, frechet, image_similarity, kernel, traits, vlm
from facemakeup.evaluation.estimate import Failure, Floats, Metric, Score, Variant
from facemakeup.evaluation.face_similarity import Calibration, calibrate, face_similarity
from facemakeup.evaluation.panel import COMPAT_FACE, FACE, Feature, Kind, Panel

NO_PROMPT = "no_prompt"
NOT_MEASURED = "not_measured"
MIN_OF_DISTANCE = 4
"""Pictures, and references, below which no distance between sets is told."""
FRECHET_MIXED5 = Metric("Frechet distance of mixed5", 0.0, float("inf"), "lower")
KID_MIXED5 = Metric("KID of mixed5", float("-inf"), float("inf"), "lower")

Measured = Mapping[str, Feature] | Failure
"""What every judge said of a picture, or why it could not be looked at."""


@dataclass(frozen=True)
class JudgedPicture:
    """A picture of a row, beside the photos that it is judged by."""

    identity: str
    prompt: str
    generated: Measured
    reference: Measured
    other: Measured
    """Another photo of the person; the failure `no_other_photo` where there is none."""


@dataclass(frozen=True)
class ScoreCell:
    """A score in a column of the table."""

    column: str
    judge: str
    kind: Kind
    score: Score


@dataclass(frozen=True)
class Background:
    """What all rows of a table are judged against."""

    references: Mapping[str, Measured]
    """Reference photo's key -> what was measured of it."""
    identities: Mapping[str, str]
    calibrations: Mapping[str, Calibration]
    """Name of a feature of a recogniser -> its own means."""


def row_cells(
    pictures: Sequence[JudgedPicture], panel: Panel, background: Background, conditioned_on: str | None
) -> list[ScoreCell]:
    """Return every cell of a row; what no judge is here for has none."""
    cells: list[ScoreCell] = []
    for judge in panel.judges:
        make = MAKERS.get(judge.name)
        if make is not None:
            made = make(pictures, background, panel)
        else:
            made = _face_columns(judge.name, pictures, background, judge.name == conditioned_on)
        cells += [ScoreCell(column, judge.name, judge.kind, score) for column, score in made]
    return cells


def feature(measured: Measured, name: str) -> Feature:
    """Return one feature of a picture, or why there is none."""
    return measured if isinstance(measured, Failure) else measured.get(name, Failure(NOT_MEASURED))


def vector(measured: Measured, name: str) -> Floats | Failure:
    """Return a feature that is an array."""
    value = feature(measured, name)
    assert isinstance(value, Failure | np.ndarray), f"{name} is no array"
    return value


def calibrations(photos: Mapping[str, Measured], identities: Mapping[str, str]) -> dict[str, Calibration]:
    """Return the own means of every recogniser over real photos, by the feature's name."""
    names = sorted({name for measured in photos.values() if not isinstance(measured, Failure) for name in measured})
    found = {}
    for name in names:
        if name.split("/")[0] in (FACE, COMPAT_FACE):
            there = {key: row for key, m in photos.items() if not isinstance(row := vector(m, name), Failure)}
            rows = np.stack(list(there.values())) if there else np.zeros((0, 1))
            found[name] = calibrate(rows, [identities[key] for key in there])
    return found


Columns = Iterator[tuple[str, Score]]
Maker = Callable[[Sequence[JudgedPicture], Background, Panel], Columns]


def _clip(pictures: Sequence[JudgedPicture], background: Background, panel: Panel) -> Columns:
    assert panel.read_text is not None, "a judge that sees pictures reads prompts too"
    prompts = {prompt: panel.read_text(prompt) for prompt in {picture.prompt for picture in pictures} if prompt}
    texts = [prompts.get(picture.prompt, Failure(NO_PROMPT)) for picture in pictures]
    who, ours = _people(pictures), [vector(picture.generated, "clip/projected") for picture in pictures]
    yield "CLIP-T", image_similarity.similarity(image_similarity.CLIP_T, "std", who, ours, texts)
    yield _against_reference("CLIP-I", image_similarity.CLIP_I, "std", "clip/projected", pictures)
    yield _against_reference("CLIP-I (compat)", image_similarity.CLIP_I, "compat", "clip/pooled", pictures)


def _dino(pictures: Sequence[JudgedPicture], background: Background, panel: Panel) -> Columns:
    yield _against_reference("DINO", image_similarity.DINO, "std", "dino/class_token", pictures)
    said = (image_similarity.RANDOM_POOLER,)
    yield _against_reference("DINO (compat)", image_similarity.DINO, "compat", "dino/pooled", pictures, said)


def _face_columns(name: str, pictures: Sequence[JudgedPicture], background: Background, is_shared: bool) -> Columns:
    who = _people(pictures)
    kinds: tuple[tuple[str, Variant, str], ...] = (
        (f"{FACE}/{name}", "std", f"FaceSim ({name})"),
        (f"{COMPAT_FACE}/{name}", "compat", f"FaceSim ({name}, compat)"),
    )
    for key, variant, column in kinds:
        if key in background.calibrations:
            ours, theirs = _both(key, pictures)
            own = background.calibrations[key]
            yield column, face_similarity(variant, who, ours, theirs, own, is_shared)
    key = f"{FACE}/{name}"
    ours, theirs = _both(key, pictures)
    others = [vector(picture.other, key) for picture in pictures]
    yield f"Copy-paste ({name})", copy_paste.copy_paste_score("std", who, ours, others, theirs)
    gallery = {k: row for k, m in background.references.items() if not isinstance(row := vector(m, key), Failure)}
    if gallery:
        people = [background.identities[k] for k in gallery]
        margin = copy_paste.stranger_margin(who, ours, theirs, np.stack(list(gallery.values())), people)
        yield f"Margin ({name})", margin


def _inception(pictures: Sequence[JudgedPicture], background: Background, panel: Panel) -> Columns:
    for variant, suffix in (("std", ""), ("compat", " (compat)")):
        key = f"inception/{variant}"
        yield from _distances(key, variant, suffix, pictures, background, frechet.FID, kernel.KID)  # type: ignore[arg-type]


def _mixed5(pictures: Sequence[JudgedPicture], background: Background, panel: Panel) -> Columns:
    yield from _distances("mixed5", "std", "", pictures, background, FRECHET_MIXED5, KID_MIXED5)


def _distances(
    key: str,
    variant: Variant,
    suffix: str,
    pictures: Sequence[JudgedPicture],
    background: Background,
    distance: Metric,
    discrepancy: Metric,
) -> Columns:
    there = [(p.identity, row) for p in pictures if not isinstance(row := vector(p.generated, key), Failure)]
    real = [row for m in background.references.values() if not isinstance(row := vector(m, key), Failure)]
    metrics = {f"{distance.name}{suffix}": distance} | ({discrepancy.name: discrepancy} if variant == "std" else {})
    if min(len(there), len(real)) < MIN_OF_DISTANCE:
        why = f"{len(there)} pictures and {len(real)} references; a distance takes {MIN_OF_DISTANCE} of each"
        failures = {"too_few": len(there), "no_features": len(pictures) - len(there)}
        for name, metric in metrics.items():
            yield name, Score(metric, variant, None, None, 0, 0, {r: n for r, n in failures.items() if n}, {}, (why,))
        return
    who, ours, theirs = [name for name, _ in there], np.stack([row for _, row in there]), np.stack(real)
    num_failed = len(pictures) - len(there)
    yield f"{distance.name}{suffix}", frechet.fid(variant, who, ours, theirs, num_failed, distance)
    if variant == "std":
        yield discrepancy.name, kernel.kid(variant, who, ours, theirs, num_failed, discrepancy)


def _attributes(pictures: Sequence[JudgedPicture], background: Background, panel: Panel) -> Columns:
    who, whole = _people(pictures), [vector(picture.generated, "attributes/whole") for picture in pictures]
    yield "Attr_c (compat)", attributes.attribute_count(who, whole)
    yield "Attribute F1", attributes.attribute_f1(who, *_both("attributes/face", pictures))


def _traits(name: str) -> Maker:
    def columns(pictures: Sequence[JudgedPicture], background: Background, panel: Panel) -> Columns:
        sides = [[feature(side, name) for side in pair] for pair in ((p.generated, p.reference) for p in pictures)]
        ours, theirs = [[side[i] for side in sides] for i in (0, 1)]
        for score in traits.trait_agreement(_people(pictures), ours, theirs):  # type: ignore[arg-type]
            yield score.metric.name, score

    return columns


def _vlm(pictures: Sequence[JudgedPicture], background: Background, panel: Panel) -> Columns:
    kinds: tuple[tuple[Variant, str, str], ...] = (
        ("std", "vlm/greedy", "VLM-score"),
        ("compat", "vlm/sampled", "VLM-score (compat)"),
    )
    for variant, key, column in kinds:
        replies = [feature(picture.generated, key) for picture in pictures]
        yield column, vlm.vlm_score(variant, _people(pictures), replies)  # type: ignore[arg-type]


MAKERS: Mapping[str, Maker] = {
    "clip": _clip,
    "dino": _dino,
    "fid_inception": _inception,
    "mixed5": _mixed5,
    "celeba_attributes": _attributes,
    "age and gender": _traits("age_and_gender"),
    "emotion": _traits("expression"),
    "vlm": _vlm,
}
"""Name of a judge -> its columns; recognisers have theirs in common."""


def _people(pictures: Sequence[JudgedPicture]) -> list[str]:
    return [picture.identity for picture in pictures]


def _both(key: str, pictures: Sequence[JudgedPicture]) -> tuple[list[Floats | Failure], list[Floats | Failure]]:
    return [vector(p.generated, key) for p in pictures], [vector(p.reference, key) for p in pictures]


def _against_reference(
    column: str,
    metric: Metric,
    variant: Variant,
    key: str,
    pictures: Sequence[JudgedPicture],
    warnings: Sequence[str] = (),
) -> tuple[str, Score]:
    return column, image_similarity.similarity(metric, variant, _people(pictures), *_both(key, pictures), warnings)

"""By what the pictures of a run are told apart for an audit: what its ledgers hold already, and what somebody labelled.

Nothing here says who a person is: slices are of light, size, address, language and words, and of tags that whoever
labelled some pictures gave these.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.commands.decide.stage import shards_by_name
from curation.dataset.captions import captions_of
from curation.dataset.manifest import Manifest
from curation.dataset.sources import source_samples
from curation.dataset.urls import host_of
from curation.measure.arrow import from_struct
from curation.measure.cascade import in_shadow
from curation.recipe.recipe import Recipe
from curation.run.labelled_rows import LabelledRow
from filters.detectors.base import largest_face
from filters.faces import EVIDENCE as FACES

Doubles = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
NUM_TLDS = 12
NO_FACE = "no face"
STEPS: Mapping[str, tuple[float, ...]] = {
    "picture side": (256, 512, 1024),
    "face side": (64, 128, 256),
    "face luminance": (64, 128, 192),
    "face lightness": (35, 50, 65),
    "face hue": (40, 55, 70),
}
"""Where numbers are cut: pixels of the shorter side, luminance 0..255, L* 0..100, degrees of hue in CIELAB."""
LEAST_CHROMA = 6.0
"""Chroma in CIELAB below which a face has no hue to speak of."""


@dataclass(frozen=True)
class AuditRows:
    """The pictures that a run's filters judged, (N,) each."""

    uids: Sequence[str]
    kept: Mask
    columns: Mapping[str, Sequence[Any]]
    """Of the ledgers, as far as they hold them."""
    fraction: float
    """Share of the rejected of which everything was measured, by chance."""


@dataclass(frozen=True)
class Attribute:
    """One way to tell pictures apart."""

    name: str
    values: Sequence[str | None]
    """Of each picture; None where nothing is known."""
    weights: Doubles
    """How many pictures each stands for; 0 where it is left out."""
    basis: str
    """Which pictures it is known of, in words."""


def attributes(rows: AuditRows, recipe: Recipe) -> tuple[list[Attribute], dict[str, str]]:
    """Return what the ledgers tell pictures apart by, and what they do not, with the reason."""
    found, lacking = [], {}
    for name, values in _of_all(rows):
        found.append(Attribute(name, values, np.ones(len(rows.uids)), f"all {len(rows.uids):,} pictures"))
    for name, column, value in _measured(recipe):
        if column not in rows.columns:
            known_by = column.removesuffix("_scores").removesuffix("_evidence")
            lacking[name] = f"the filter `{known_by}` is not in the recipe (with it there, `decide` measures again)"
            continue
        outcome = _weighed(name, [None if cell is None else value(cell) for cell in rows.columns[column]], rows)
        if isinstance(outcome, Attribute):
            found.append(outcome)
        else:
            lacking[name] = outcome
    return found, lacking


def labelled_attributes(rows: AuditRows, labelled: Sequence[LabelledRow], among: str | None) -> list[Attribute]:
    """Return an attribute for each tag, among pictures of one label; without tags, one for each label."""
    by_uid = {row.row["uid"]: row.picture for row in labelled}
    pictures = [by_uid.get(uid) for uid in rows.uids]
    has_tags = any(picture is not None and picture.tags for picture in pictures)
    if has_tags and among is not None:
        pictures = [picture if picture is not None and picture.label == among else None for picture in pictures]
    said = [None if picture is None else {*picture.tags} if has_tags else {picture.label} for picture in pictures]
    weights = np.array([0.0 if picture is None else picture.weight for picture in pictures])
    number = int(np.count_nonzero(weights))
    words = sorted({word for one in said if one is not None for word in one})
    basis = f"{number:,} labelled pictures" + (f" ({among})" if has_tags and among is not None else "")
    return [
        Attribute(f"label {word}", [None if one is None else _yes(word in one) for one in said], weights, basis)
        for word in words
    ]


def word_attributes(
    rows: AuditRows, words: Sequence[str], said: Mapping[str, frozenset[str]]
) -> tuple[list[Attribute], dict[str, str]]:
    """Return an attribute for each word: whether a caption has it; `said` are the words in each picture's captions."""
    lost = sum(uid not in said for uid in rows.uids)
    if lost:
        reason = f"the captions of {lost:,} pictures are in no tar that is here (--source FOLDER)"
        return [], {f"caption {word}": reason for word in words}
    ones, basis = np.ones(len(rows.uids)), f"all {len(rows.uids):,} pictures"
    return [
        Attribute(f"caption {word}", [_yes(word in said[uid]) for uid in rows.uids], ones, basis) for word in words
    ], {}


def words_said(manifest: Manifest, source: Path, words: Sequence[str]) -> dict[str, frozenset[str]]:
    """Return uid -> which of the words stand in a picture's captions, whole and in any case, from the source's tars."""
    patterns = {word: re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE) for word in words}
    shards, said = shards_by_name(source), dict[str, frozenset[str]]()
    for report in manifest.shards:
        shard = shards.get(report.shard)
        if shard is None or not shard.path.exists():
            continue
        with shard.opened() as tar:
            for sample in source_samples(shard, tar):
                texts = [caption.text for caption in captions_of(sample.caption, sample.metadata)]
                hits = (word for word, pattern in patterns.items() if any(map(pattern.search, texts)))
                said.setdefault(sample.uid(shard.name), frozenset(hits))
    return said


def _of_all(rows: AuditRows) -> Iterator[tuple[str, list[str | None]]]:
    """Yield what is known of every picture that was decoded."""
    sides = zip(rows.columns["width"], rows.columns["height"], strict=True)
    yield "picture side", [None if None in side else _step("picture side", min(side)) for side in sides]
    if any(url is not None for url in rows.columns["url"]):
        hosts = [host_of(url).rpartition(".")[2] or None for url in rows.columns["url"]]
        common = {name for name, _ in Counter(host for host in hosts if host).most_common(NUM_TLDS)}
        yield "domain", [None if host is None else host if host in common else "other" for host in hosts]
    if (captions := rows.columns.get("captions")) is not None:
        yield "language", [facts[0]["language"] if facts else None for facts in captions]


def _measured(recipe: Recipe) -> Iterator[tuple[str, str, Callable[[Any], str]]]:
    """Yield name, column, and how a cell of it is read, of what filters measure of the face."""
    confidence = next((plan.score.model_dump()["confidence"] for plan in recipe.filters if plan.name == "faces"), 0.5)

    def face_side(cell: Any) -> str:
        face = largest_face(from_struct(FACES, cell).faces, confidence)
        return NO_FACE if face is None else _step("face side", face.side_px)

    def luminance(cell: Any) -> str:
        value = cell["mean_luminance"]
        return NO_FACE if value == 0 else _step("face luminance", value)

    def lightness(cell: Any) -> str:
        return NO_FACE if cell["lightness"] == 0 else _step("face lightness", cell["lightness"])

    def hue(cell: Any) -> str:
        if cell["lightness"] == 0:
            return NO_FACE
        return "no colour" if cell["chroma"] < LEAST_CHROMA else _step("face hue", cell["hue_deg"])

    yield "face side", "faces_evidence", face_side
    yield "face luminance", "face_quality_scores", luminance
    yield "face lightness", "face_tone_scores", lightness
    yield "face hue", "face_tone_scores", hue


def _weighed(name: str, values: list[str | None], rows: AuditRows) -> Attribute | str:
    """Return the attribute of what only some pictures were measured for, or why it says nothing.

    Where rejected pictures were not measured, the shadow sample stands for all of them.
    """
    known = np.array([value is not None for value in values], dtype=bool)
    if not known[rows.kept].all():
        return f"not measured for {int((rows.kept & ~known).sum()):,} of the kept pictures"
    if known.all():
        return Attribute(name, values, np.ones(len(values)), f"all {len(values):,} pictures")
    if rows.fraction == 0:
        return "not measured for the rejected, and the run has no shadow sample (curate.shadow_fraction)"
    shadow = np.array([in_shadow(uid, rows.fraction) for uid in rows.uids], dtype=bool) & known & ~rows.kept
    weights = np.where(rows.kept, 1.0, np.where(shadow, 1 / rows.fraction, 0.0))
    basis = f"{int(rows.kept.sum()):,} kept pictures, and {int(shadow.sum()):,} of the shadow sample for the rejected"
    return Attribute(name, values, weights, basis)


def _step(name: str, value: float) -> str:
    steps = STEPS[name]
    above = [step for step in steps if value >= step]
    if not above:
        return f"< {steps[0]:g}"
    return f">= {steps[-1]:g}" if len(above) == len(steps) else f"{above[-1]:g} to {steps[len(above)]:g}"


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"

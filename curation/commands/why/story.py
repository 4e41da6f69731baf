"""One image's whole story: every stage, every score, the limits, what decided, and what was never measured and why."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.dataset.captions import captions_of
from curation.dataset.manifest import Manifest, read_manifest
from curation.dataset.sample import Sample
from curation.dataset.stages import CURATE, FORGET, PACK, STAGES
from curation.dataset.tar import members_of, read_samples, split_name
from curation.dataset.tombstones import tombstones_of
from curation.errors import FaceCaptionError, UsageError
from curation.measure.columns import known_of
from curation.recipe.recipe import Recipe, recipe_of
from curation.run.folders import StageFolder, derived_stages, stages_of
from curation.run.lookup import LedgerEntry, find_images
from curation.storage.paths import local_copy


@dataclass(frozen=True)
class StagePart:
    """What one stage made of the image."""

    stage: str
    folder: str
    """The stage's folder, by its way from the run or its address: there may be several of one stage."""
    shard: str
    kept: bool
    rejected_by: str | None
    reason: str | None
    facts: Mapping[str, Any]
    """The identity that the stage knew, and what else stands in its row but evidence and scores."""
    recipe_name: str | None
    recipe_digest: str | None
    code_version: str | None
    file: str | None
    """The tar or part in which it lies now, relative to the run; None where it lies in none."""
    offset: int | None
    """Where its picture's tar header stands in that file, in bytes from its beginning."""


@dataclass(frozen=True)
class CriterionPart:
    """What one keep range made of the image."""

    filter: str
    score: str
    min: float | None
    max: float | None
    value: float | None
    """What was measured, whoever decided; None where the evidence does not settle it."""
    result: str
    """`holds`, `fails` (with how), or `undecided`."""
    decided: bool
    """Whether this is the one that the ledger names as the reason."""
    proven_by: str | None
    """The screen that proved it, so that its filter need not measure."""
    why_unmeasured: str | None
    """Why a filter that it needs has not measured, where one has not."""


@dataclass(frozen=True)
class Story:
    """All that a run knows of one image."""

    uid: str
    url: str | None
    stages: tuple[StagePart, ...]
    criteria: tuple[CriterionPart, ...]
    scores: Mapping[str, Any]
    evidence: Mapping[str, Any]
    unmeasured: Mapping[str, str]
    """Filter -> why it has not measured."""
    captions: tuple[Mapping[str, Any], ...]
    caption_binding: Mapping[str, Any]
    """The packed sample's caption: which was chosen, where from, and to which face it is bound or why not."""
    weights: Mapping[str, str]
    """Name -> sha256 of what judged the run's pictures."""
    weights_used: tuple[str, ...] = ()
    """Those among them that measured this picture."""

    @property
    def values(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = {**vars(self), "stages": [vars(part) for part in self.stages]}
        return {**values, "criteria": [vars(part) for part in self.criteria], "captions": list(self.captions)}


def why(run: Path, identity: str) -> list[Story]:
    """Return the story of every image that `identity` (uid, URL, key, sha256, or the path of its file) may mean.

    Raises:
        UsageError: no stage of the run ever saw it.
    """
    places = (*stages_of(run), *derived_stages(run))
    images = find_images(places, identity)
    if not images:
        forgotten = "what was forgotten is known by its uid alone"
        if tombstones_of(run).names(identity):
            forgotten = "it was forgotten: only its tombstone is left"
        raise UsageError(
            f"{identity}: no stage of {run} knows it now (as uid, URL, key, sha256 or path of its file); {forgotten}"
        )
    manifests = {place.folder: _manifest(place) for place in places}
    return [_story(rows, manifests) for rows in images]


def _manifest(place: StageFolder) -> Manifest | None:
    try:
        return read_manifest(place.folder)
    except UsageError:
        return None  # not finished yet


def _story(rows: Sequence[LedgerEntry], manifests: Mapping[Path, Manifest | None]) -> Story:
    judged = next((entry for entry in reversed(rows) if entry.place.stage == CURATE.name and entry.row["kept"]), None)
    judged = judged or next((entry for entry in rows if entry.place.stage == CURATE.name), None)
    manifest = None if judged is None else manifests[judged.place.folder]
    recipe = None if judged is None else _recipe(manifest, str(judged.place.folder))
    known = {} if judged is None or recipe is None else known_of(judged.row, recipe)
    unmeasured = {} if judged is None or recipe is None else dict(_unmeasured(judged.row, known, recipe))
    samples = [(entry, sample) for entry in rows if (sample := _sample(entry)) is not None]
    captions, binding = _captions(samples, [entry.row for entry in rows])
    return Story(
        uid=rows[0].row["uid"],
        url=next((entry.row["url"] for entry in rows if entry.row["url"]), None),
        stages=tuple(_stage_part(entry, manifests.get(entry.place.folder)) for entry in rows),
        criteria=() if judged is None or recipe is None else tuple(_criteria(judged.row, known, recipe, unmeasured)),
        scores={} if judged is None else _columns(judged.row, "_scores"),
        evidence={} if judged is None else _columns(judged.row, "_evidence"),
        unmeasured=unmeasured,
        captions=captions,
        caption_binding=binding,
        weights={} if manifest is None else manifest.weights,
        weights_used=() if recipe is None else _used(known, recipe),
    )


def _used(known: Mapping[str, Any], recipe: Recipe) -> tuple[str, ...]:
    """Return the names of the weights of whatever measured."""
    plans = [plan for plan in recipe.measurers if known[plan.name] is not None]
    return tuple(sorted({name for plan in plans for name in plan.module.weights(plan.measure)}))


def _recipe(manifest: Manifest | None, where: str) -> Recipe | None:
    return None if manifest is None else recipe_of(manifest.recipe, where)


def _columns(row: Mapping[str, Any], ending: str) -> dict[str, Any]:
    return {name.removesuffix(ending): value for name, value in row.items() if name.endswith(ending)}


def _unmeasured(row: Mapping[str, Any], known: Mapping[str, Any], recipe: Recipe) -> Iterator[tuple[str, str]]:
    names = {plan.name for plan in recipe.filters}
    for name, evidence in known.items():
        if evidence is not None:
            continue
        if row["kept"]:
            yield name, "not needed: every keep range was decided without it"
        elif row["rejected_by"] == FORGET:
            yield name, "forgotten: what was measured is gone"
        elif row["rejected_by"] in names:
            yield name, f"cut short: {row['rejected_by']} had rejected it ({row['reason']}), nothing could rescue it"
        else:
            yield name, f"nothing was looked at: {row['rejected_by']} turned it away ({row['reason']})"


def _criteria(
    row: Mapping[str, Any], known: Mapping[str, Any], recipe: Recipe, unmeasured: Mapping[str, str]
) -> Iterator[CriterionPart]:
    for criterion in recipe.criteria:
        settled = criterion.settle(known)
        measured, failure = criterion.bounds(known), settled.failure
        result = f"fails ({failure})" if failure else "holds" if settled.holds else "undecided"
        unasked = [name for name in criterion.inputs if name in unmeasured and settled.by is None]
        is_reason = (row["rejected_by"], row["reason"]) == (criterion.filter, f"{criterion.score}_{failure}")
        yield CriterionPart(
            filter=criterion.filter, score=criterion.score, min=criterion.keep.min, max=criterion.keep.max,
            value=measured.low if measured.low == measured.high else None, result=result,
            decided=failure is not None and is_reason, proven_by=settled.by,
            why_unmeasured="; ".join(f"{name}: {unmeasured[name]}" for name in unasked) or None,
        )  # fmt: skip


def _stage_part(entry: LedgerEntry, manifest: Manifest | None) -> StagePart:
    row, file, offset = entry.row, *_lies_in(entry)
    left_out = ("kept", "rejected_by", "reason", "shard", "offset")
    facts = {
        name: value
        for name, value in row.items()
        if value is not None and name not in left_out and not name.endswith(("_scores", "_evidence"))
    }
    return StagePart(
        stage=entry.place.stage,
        folder=entry.place.shown,
        shard=row.get("shard") or (entry.report.shard if entry.report is not None else ""),
        kept=row["kept"],
        rejected_by=row["rejected_by"],
        reason=row["reason"],
        facts=facts,
        recipe_name=None if manifest is None else manifest.recipe_name,
        recipe_digest=None if manifest is None else manifest.recipe_digest,
        code_version=None if manifest is None else manifest.code_version,
        file=None if file is None else f"{entry.place.shown}/{file.name}",
        offset=offset,
    )


def _lies_in(entry: LedgerEntry) -> tuple[Path | None, int | None]:
    """Return the file in which an image lies in a stage, and where its picture's tar header stands there."""
    if not entry.row["kept"] or entry.report is None:
        return None, None
    if not STAGES[entry.place.stage].writes_tars and not STAGES[entry.place.stage].is_selection:
        return entry.ledger, None
    if STAGES[entry.place.stage].is_selection:
        parts = [name for name in entry.report.files if entry.row["key"].startswith(Path(name).stem)]
        return (entry.place.folder / max(parts, key=len), None) if parts else (None, None)
    path = entry.report.file(entry.place.folder, ".tar")
    if entry.row.get("offset") is not None:
        return path, entry.row["offset"]
    with local_copy(path) as tar:
        own = [member.offset for member in members_of(tar, path) if split_name(member.name)[0] == _key_in_tar(entry)]
    return path, own[0] if own else None


def _key_in_tar(entry: LedgerEntry) -> str:
    return str(entry.row[STAGES[entry.place.stage].member_key])


def _sample(entry: LedgerEntry) -> Sample | None:
    if not STAGES[entry.place.stage].writes_tars or not entry.row["kept"] or entry.report is None:
        return None
    path = entry.report.file(entry.place.folder, ".tar")
    try:
        with local_copy(path) as tar:
            return next(read_samples(tar, {_key_in_tar(entry)}, path), None)
    except FaceCaptionError:
        return None  # `verify` names what is wrong with the tar


def _captions(
    samples: Sequence[tuple[LedgerEntry, Sample]], rows: Sequence[Mapping[str, Any]]
) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    """Return every caption as it came, then a model's reply, and what `pack` chose."""
    came = next((sample for entry, sample in samples if entry.place.stage != PACK.name), None)
    packed = next(((entry.row, sample) for entry, sample in samples if entry.place.stage == PACK.name), None)
    listed = () if came is None else captions_of(came.caption, came.metadata)
    captions = tuple({"text": caption.text, "source": caption.source, "box": caption.box} for caption in listed)
    replies = (row["reply"] for row in rows if row.get("reply") is not None)
    captions += tuple({"text": reply, "source": "model", "box": None} for reply in replies)
    if packed is None:
        return captions, {}
    row, sample = packed
    names = ("face_box", "face_confidence")
    binding = {
        "caption": sample.caption,
        "source": row["caption_source"],
        "binding": row["caption_binding"],
    }
    return captions, {**binding, **{name: sample.metadata[name] for name in names if name in sample.metadata}}

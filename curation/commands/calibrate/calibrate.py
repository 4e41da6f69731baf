"""Holds labels against the scores of a run's ledgers, and chooses limits between them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from curation.commands.decide.stage import places_of
from curation.dataset.labelled import LabelSet, read_label_set
from curation.dataset.manifest import Manifest
from curation.dataset.stages import CURATE
from curation.dataset.tombstones import consult
from curation.errors import UsageError
from curation.learning.heads import NUM_FOLDS, folds_of
from curation.learning.limits import (
    MIN_OF_EACH,
    Curve,
    LimitFigures,
    Scored,
    Side,
    SourcesLeftOut,
    Target,
    choose,
    curve_of,
    figures_at,
    rises,
    with_sources_left_out,
)
from curation.recipe.limits import LimitsLock, LockedLimit, labels_file, measuring
from curation.recipe.recipe import Recipe, recipe_of
from curation.run.labelled_rows import LabelledRow, labelled_rows
from curation.run.target import finished
from curation.storage.publish import sha256_of
from curation.version import CODE_VERSION

KEEP = ("single",)
"""Labels of what is to stay, unless it is said otherwise."""
REJECT: Mapping[str, tuple[str, ...]] = {
    "mean_channel_std": ("bw",),
    "toning_residual": ("bw", "sepia"),
    "text_prominence": ("text",),
    "area_fraction": ("text",),
    "num_characters": ("text",),
    "face_overlap_fraction": ("text",),
    "num_faces": ("group", "noface"),
    "max_line_to_nose": ("anime", "drawn"),
    "num_hits": ("anime", "drawn"),
    "drawn_logit": ("anime", "drawn"),
    "drawn_probability": ("anime", "drawn"),
    "nonhuman_logit": ("noface", "nonhuman"),
    "nonhuman_probability": ("noface", "nonhuman"),
}
"""Score -> labels of what its limit is to reject, unless it is said otherwise."""


@dataclass(frozen=True)
class Question:
    """One score of a run, and which labels lie on which side of its limit."""

    filter: str
    score: str
    column: str
    """Where it stands in the ledgers, as `struct.field`."""
    reject: tuple[str, ...]
    keep: tuple[str, ...]
    side: Side | None
    """None: the side on which what is to go lies."""
    limit: float | None
    """The run's own."""

    @property
    def name(self) -> str:
        """`filter.score`."""
        return f"{self.filter}.{self.score}"


@dataclass(frozen=True)
class CalibratedLimit:
    """What labels say of one score."""

    question: Question
    side: Side
    limit: float
    figures: LimitFigures
    own: LimitFigures | None
    """Of the run's own limit."""
    left_out: SourcesLeftOut | None
    curve: Curve
    short_of: Mapping[str, int]
    """How many more labels what was aimed at needs."""
    num_labels: Mapping[str, int]
    num_unmeasured: int
    num_sources: int


@dataclass(frozen=True)
class ChosenLimits:
    """All limits that were asked for."""

    target: Target
    limits: tuple[CalibratedLimit, ...]
    skipped: Mapping[str, str]
    """Scores with a limit that labels say nothing of, and why."""
    lock: LimitsLock
    num_disputed: int
    num_unknown: int
    """Labelled pictures that the run has not seen."""
    recipe: Mapping[str, Any]
    """The run's, resolved."""


@dataclass(frozen=True)
class WantedLimits:
    """What whoever calls wants to know."""

    filter: str | None = None
    score: str | None = None
    reject: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    side: Side | None = None


def calibrate(run: Path, labels: Path, asked: WantedLimits, target: Target, seed: int = 0) -> ChosenLimits:
    """Return limits for a curated run's scores, and the lock that holds them.

    Raises:
        UsageError: the run has no such score, or the labels do not tell a limit for it: too few on one side, or no
            limit that meets the target.
    """
    file = labels_file(labels)
    label_set = read_label_set(file)
    folder, _ = places_of(run)
    consult(folder)
    manifest = finished(folder, CURATE)
    recipe = recipe_of(manifest.recipe, f"{folder}: the recipe in its manifest")
    questions, skipped = _questions(recipe, label_set, asked)
    rows = labelled_rows(label_set, folder, manifest, [question.column for question in questions])
    limits = []
    for question in questions:
        outcome = calibrated(question, rows, target, seed)
        if isinstance(outcome, CalibratedLimit):
            limits.append(outcome)
        elif asked.filter is not None:
            raise UsageError(f"{question.name}: {outcome}")
        else:
            skipped[question.name] = outcome
    if not limits:
        told = "; ".join(f"{name}: {reason}" for name, reason in skipped.items())
        raise UsageError(f"{labels}: no limit of {folder} can be chosen by these labels ({_listed(label_set)}): {told}")
    lock = LimitsLock(
        labels_sha256=sha256_of(file),
        ledger_state=manifest.state,
        recipe=manifest.recipe_name,
        recipe_digest=manifest.recipe_digest,
        date=datetime.now(UTC).date().isoformat(),
        code_version=CODE_VERSION,
        limits=tuple(_locked(limit, recipe, manifest, target) for limit in limits),
    )
    num_unknown = len(label_set.pictures) - len(rows)
    return ChosenLimits(target, tuple(limits), skipped, lock, label_set.num_disputed, num_unknown, manifest.recipe)


def _questions(recipe: Recipe, labels: LabelSet, asked: WantedLimits) -> tuple[list[Question], dict[str, str]]:
    """Return what is asked, and the run's own limits that are not, with the reason."""
    if asked.score is not None and asked.filter is None:
        raise UsageError(f"--score {asked.score}: name its filter too, with --filter")
    plans = [plan for plan in recipe.filters if asked.filter in (None, plan.name)]
    if not plans:
        names = ", ".join(plan.name for plan in recipe.filters)
        raise UsageError(f"--filter {asked.filter}: the run's recipe has {names}")
    found, skipped = [], {}
    for plan in plans:
        for score in (asked.score,) if asked.score is not None else plan.keep:
            keep = plan.keep.get(score)
            ends = {} if keep is None else keep.model_dump(exclude_none=True)
            own_side, own = next(iter(ends.items())) if len(ends) == 1 else (None, None)
            reject = asked.reject or tuple(label for label in REJECT.get(score, ()) if label in labels.counts)
            column = f"joint_scores.{score}" if score in plan.joint else f"{plan.name}_scores.{score}"
            if not reject:
                skipped[f"{plan.name}.{score}"] = "no label says what it is to reject (--reject LABEL)"
            elif len(ends) == 2 and asked.side is None:
                skipped[f"{plan.name}.{score}"] = "its keep range has two ends (--side min or --side max)"
            else:
                side: Side | None = asked.side or own_side  # type: ignore[assignment]
                own = own if asked.side in (None, own_side) else None
                kept = asked.keep or KEEP
                found.append(Question(plan.name, score, column, reject, kept, side, own))
    if asked.filter is not None and not found:
        name, reason = next(iter(skipped.items()), (asked.filter, "it keeps by no score: name one with --score"))
        raise UsageError(f"{name}: {reason}; labelled here: {_listed(labels)}")
    return found, skipped


def calibrated(question: Question, rows: Sequence[LabelledRow], target: Target, seed: int) -> CalibratedLimit | str:
    """Return the limit, or why there is none."""
    ours = [row for row in rows if row.picture.label in (*question.reject, *question.keep)]
    measured = [row for row in ours if (value := row.value(question.column)) is not None and math.isfinite(value)]
    goes = np.array([row.picture.label in question.reject for row in measured], dtype=bool)
    if min(goes.sum(), (~goes).sum()) < MIN_OF_EACH:
        return _too_few(question, goes, len(ours) - len(measured))
    sources = [row.source for row in measured]
    scored = Scored(
        np.array([row.value(question.column) for row in measured], dtype=np.float64),
        goes,
        np.array([row.picture.weight for row in measured]),
        folds_of(sources, seed, min(NUM_FOLDS, len(set(sources)))),
    )
    side: Side = question.side or ("max" if rises(scored) else "min")
    limit = choose(scored, side, target)
    curve = curve_of(scored, side)
    if limit is None:
        best = {"precision": curve.precision, "recall": curve.recall}.get(target.measure, curve.recall).max(initial=0.0)
        return f"no limit has a {target}; the best that can be had is {best:.3f}"
    figures = figures_at(scored, limit, side)
    return CalibratedLimit(
        question=question,
        side=side,
        limit=limit,
        figures=figures,
        own=None if question.limit is None else figures_at(scored, question.limit, side),
        left_out=with_sources_left_out(scored, side, target),
        curve=curve,
        short_of=figures.short_of(target),
        num_labels={
            label: sum(row.picture.label == label for row in measured) for label in (*question.reject, *question.keep)
        },
        num_unmeasured=len(ours) - len(measured),
        num_sources=len(set(sources)),
    )


def _too_few(question: Question, goes: np.ndarray, num_unmeasured: int) -> str:
    """Say what is needed, and how to come by it."""
    more = "label more of them"
    if num_unmeasured:
        more = (
            f"{num_unmeasured} more are labelled and were not measured, since the cascade ended before: `curate` (or "
            f"`look PHOTOS --out RUN`) into a new folder with `--set curate.measure=all` measures all"
        )
    return (
        f"{goes.sum()} labelled {' or '.join(question.reject)} and {(~goes).sum()} {' or '.join(question.keep)} have "
        f"this score, and {MIN_OF_EACH} of each are needed at least; {more}"
    )


def _locked(limit: CalibratedLimit, recipe: Recipe, manifest: Manifest, target: Target) -> LockedLimit:
    question = limit.question
    measured = measuring(recipe.filters, question.filter, question.score)
    plans = [plan for plan in recipe.filters if plan.name in measured]
    names = {name for plan in plans for name in plan.module.weights(plan.measure)}
    return LockedLimit(
        filter=question.filter,
        score=question.score,
        **{limit.side: limit.limit},
        measured=measured,
        weights={name: manifest.weights[name] for name in sorted(names) if name in manifest.weights},
        evidence=evidence_of(limit, target),
    )


def evidence_of(limit: CalibratedLimit, target: Target) -> dict[str, object]:
    """Return what speaks for a limit, as plain values."""
    left_out = limit.left_out
    return {
        "target": str(target),
        "reject": list(limit.question.reject),
        "keep": list(limit.question.keep),
        "num_labels": dict(limit.num_labels),
        "num_sources": limit.num_sources,
        "num_unmeasured": limit.num_unmeasured,
        "is_enough": not limit.short_of,
        "num_more": dict(limit.short_of),
        **_values(limit.figures),
        **({} if limit.own is None else {"own": {"limit": limit.question.limit, **_values(limit.own)}}),
        **(
            {}
            if left_out is None
            else {
                "sources_left_out": {
                    "num_judged": left_out.num_judged,
                    "lowest_limit": min(left_out.limits),
                    "highest_limit": max(left_out.limits),
                    **_values(left_out.figures),
                }
            }
        ),
    }


def _values(figures: LimitFigures) -> dict[str, list[float]]:
    """Return share, low and high end of its interval, and the effective number of pictures, of each figure."""
    shares = {name: getattr(figures, name) for name in ("precision", "recall", "lost")}
    return {
        name: [round(share.value, 4), round(share.low, 4), round(share.high, 4), round(share.num_effective, 1)]
        for name, share in shares.items()
    }


def _listed(labels: LabelSet) -> str:
    return ", ".join(f"{label} {number}" for label, number in labels.counts.items())

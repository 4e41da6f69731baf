"""Whom a run keeps less often than others: the four-fifths rule with intervals, and which filter does it.

The rule is that of the Uniform Guidelines (29 CFR 1607.4 D): a slice that is kept at less than four fifths of the rate
of the one that is kept most often. It counts as shown only where the whole interval of the ratio (Katz et al., 1978)
lies below. A filter amplifies exclusion where it rejects a slice more than 1.25 times as often as all others, by the
whole interval: what is rare already becomes rarer (Hong et al., arXiv 2405.08209).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from curation.commands.decide.stage import places_of
from curation.commands.fairness.slices import (
    NO_FACE,
    Attribute,
    AuditRows,
    Mask,
    attributes,
    labelled_attributes,
    word_attributes,
    words_said,
)
from curation.commands.order.observe import shadow_fraction
from curation.commands.report.criteria import criteria_of, scores_in
from curation.commands.report.ledgers import column_names
from curation.dataset.labelled import read_label_set
from curation.dataset.ledger import ledger_batches
from curation.dataset.manifest import Manifest
from curation.dataset.stages import CURATE
from curation.dataset.tombstones import consult
from curation.errors import UsageError
from curation.intervals import katz
from curation.learning.shares import WeighedShare, share_of
from curation.recipe.limits import labels_file
from curation.recipe.recipe import recipe_of
from curation.run.labelled_rows import labelled_rows
from curation.run.target import finished
from curation.storage.paths import local_copy

FOUR_FIFTHS = 0.8
AMPLIFIES = 1 / FOUR_FIFTHS
MIN_SLICE = 30
"""Effective pictures below which a slice is neither judged nor what others are held against."""
WANTED = ("uid", "url", "width", "height", "kept", "rejected_by")
OF_FACES = ("faces_evidence", "face_quality_scores", "face_tone_scores", "captions")
MIN_REJECTED = 3
"""Effective rejections in a slice below which no filter is said to amplify anything: one or two are anybody."""
Finding = Literal["adverse", "unsure", "even", "too few", "reference"]


@dataclass(frozen=True)
class Ratio:
    """A ratio of two shares with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Amplification:
    """What one filter does to a slice, of what it judged."""

    rejected: WeighedShare
    ratio: Ratio
    """To the share that it rejects of all others."""

    @property
    def is_shown(self) -> bool:
        """Whether the whole interval says that it rejects the slice more often, and not of one or two pictures."""
        rejected = self.rejected.value * self.rejected.num_effective
        return self.ratio.low > AMPLIFIES and rejected > MIN_REJECTED - 0.5 and self.rejected.num_effective >= MIN_SLICE


@dataclass(frozen=True)
class SliceFigures:
    """One slice of one attribute."""

    attribute: str
    value: str
    kept: WeighedShare
    impact: Ratio | None
    """Its share kept, to that of the slice that is kept most often; None for that one, and for slices of too few."""
    finding: Finding
    before: float
    """Its share of the pictures that the filters judged."""
    after: float
    """Its share of those that were kept."""
    filters: Mapping[str, Amplification]


@dataclass(frozen=True)
class Audit:
    """All slices."""

    num_judged: int
    num_kept: int
    slices: tuple[SliceFigures, ...]
    basis: Mapping[str, str]
    """Attribute -> which pictures it is known of."""
    lacking: Mapping[str, str]
    """Attribute -> why nothing is said of it."""

    @property
    def adverse(self) -> tuple[SliceFigures, ...]:
        """The slices that are kept at less than four fifths, by the whole interval."""
        return tuple(figures for figures in self.slices if figures.finding == "adverse")


@dataclass(frozen=True)
class FilterMasks:
    """What a filter did to the pictures, (N,)."""

    judged: Mask
    rejected: Mask


def audit(
    run: Path,
    labels: Path | None = None,
    *,
    among: str | None = "single",
    words: Sequence[str] = (),
    source: Path | None = None,
) -> Audit:
    """Return the audit of a curated run.

    Raises:
        UsageError: the run is not finished, its filters judged nothing, or none of the labels is of it.
    """
    folder, came_from = places_of(run, source)
    consult(folder)
    manifest = finished(folder, CURATE)
    recipe = recipe_of(manifest.recipe, f"{folder}: the recipe in its manifest")
    rows, masks = _read(folder, manifest)
    if not len(rows.uids):
        raise UsageError(f"{folder}: no filter has judged a picture here")
    found, lacking = attributes(rows, recipe)
    if labels is not None:
        label_set = read_label_set(labels_file(labels))
        found += labelled_attributes(rows, labelled_rows(label_set, folder, manifest), among)
    if words:
        more, others = word_attributes(rows, words, words_said(manifest, came_from, words))
        found, lacking = found + more, lacking | others
    slices = tuple(figures for attribute in found for figures in slices_of(attribute, rows.kept, masks))
    basis = {attribute.name: attribute.basis for attribute in found}
    return Audit(len(rows.uids), int(rows.kept.sum()), slices, basis, lacking)


def slices_of(attribute: Attribute, kept: Mask, masks: Mapping[str, FilterMasks]) -> list[SliceFigures]:
    """Return the slices of one attribute, the largest first; none where it tells nobody apart."""
    weights, values = attribute.weights, np.array([value or "" for value in attribute.values])
    usable = (weights > 0) & (values != "") & (values != NO_FACE)
    names = [name for name, _ in Counter(values[usable].tolist()).most_common()]
    if len(names) < 2:
        return []
    members = {name: usable & (values == name) for name in names}
    shares = {name: share_of(kept[member], weights[member]) for name, member in members.items()}
    large = [name for name in names if shares[name].num_effective >= MIN_SLICE]
    best = max(large, key=lambda name: shares[name].value, default=None)
    total, total_kept = weights[usable].sum(), weights[usable & kept].sum()
    figures = []
    for name, member in members.items():
        impact = None if best in (None, name) or name not in large else _ratio(shares[name], shares[str(best)])
        figures.append(
            SliceFigures(
                attribute.name,
                name,
                shares[name],
                impact,
                _finding(name, best, impact),
                before=float(weights[member].sum() / total),
                after=float(weights[member & kept].sum() / total_kept) if total_kept else 0.0,
                filters={
                    filter_name: _amplification(member, usable & ~member, mask, weights)
                    for filter_name, mask in masks.items()
                },
            )
        )
    return figures


def _finding(name: str, best: str | None, impact: Ratio | None) -> Finding:
    if name == best:
        return "reference"
    if impact is None:
        return "too few"
    if impact.high < FOUR_FIFTHS:
        return "adverse"
    return "unsure" if impact.value < FOUR_FIFTHS else "even"


def _amplification(member: Mask, others: Mask, mask: FilterMasks, weights: np.ndarray[Any, Any]) -> Amplification:
    here, there = member & mask.judged, others & mask.judged
    rejected = share_of(mask.rejected[here], weights[here])
    return Amplification(rejected, _ratio(rejected, share_of(mask.rejected[there], weights[there])))


def _ratio(one: WeighedShare, other: WeighedShare) -> Ratio:
    hits = one.value * one.num_effective, other.value * other.num_effective
    return Ratio(*katz(hits, (one.num_effective, other.num_effective)))


def _read(folder: Path, manifest: Manifest) -> tuple[AuditRows, dict[str, FilterMasks]]:
    """Return what the filters judged, and what each did; whom no filter could look at is left out."""
    criteria = criteria_of(manifest.recipe)
    names = list(dict.fromkeys(criterion.filter for criterion in criteria))
    columns: dict[str, list[Any]] = {}
    judged: dict[str, list[Mask]] = {name: [] for name in names}
    failed: dict[str, list[Mask]] = {name: [] for name in names}
    for report in manifest.shards:
        with local_copy(report.file(folder, ".parquet")) as path:
            there = [name for name in OF_FACES if name in column_names(path)]
            for batch in ledger_batches(path, [*WANTED, *there, *dict.fromkeys(one.column for one in criteria)]):
                by = np.array([name or "" for name in batch.column("rejected_by").to_pylist()])
                kept = batch.column("kept").to_numpy(zero_copy_only=False)
                ours = kept | np.isin(by, names)
                for name in (*WANTED, *there):
                    cells = batch.column(name).to_pylist()
                    columns.setdefault(name, []).extend(cells[i] for i in np.flatnonzero(ours))
                for name in names:
                    measured, outside = np.zeros(len(kept), bool), by == name
                    for criterion in (one for one in criteria if one.filter == name):
                        scores = scores_in(batch, criterion)
                        measured |= ~np.isnan(scores)
                        outside |= ~np.isnan(scores) & ~criterion.holds(scores) & ~kept
                    judged[name].append((measured | outside | kept)[ours])
                    failed[name].append(outside[ours])
    masks = {
        name: FilterMasks(np.concatenate(judged[name]), np.concatenate(failed[name])) for name in names if judged[name]
    }
    kept_all = np.array(columns.get("kept", ()), dtype=bool)
    return AuditRows(columns.get("uid", ()), kept_all, columns, shadow_fraction(manifest, folder)), masks

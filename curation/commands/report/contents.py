"""Everything a report says, gathered once: the page and `report.json` are two forms of the same values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.commands.report.against import Comparison, compare
from curation.commands.report.choice import NUM_PER_SHEET, choose
from curation.commands.report.composition import Property, composition_of
from curation.commands.report.criteria import criteria_of
from curation.commands.report.flow import REQUIRED_STAGE, Check, FinishedStage, check_stages, read_stages
from curation.commands.report.ledgers import ledger_paths
from curation.commands.report.making import Making, making_of
from curation.commands.report.origins import find_origin
from curation.commands.report.proofs import proofs_of
from curation.commands.report.scores import ScoreSpread, check_verdicts, spread_of
from curation.commands.report.sheets import Decision, Sheet, SheetSource, Tile, read_sheets
from curation.commands.report.thumbnails import MAX_SIDE_PX
from curation.dataset.manifest import HISTORY
from curation.dataset.stages import FETCH, RANK
from curation.measure.cascade import QUARANTINE, UNREADABLE
from curation.measure.meanings import about, meaning_of
from curation.run.costs import Cost, cost_values, costs
from curation.run.target import work_of
from curation.storage.paths import location
from filters.weights import catalogue

REPORT_SCHEMA_VERSION = 1
CASCADE = "lbpcascade_animeface"
SOURCE_STAGE = FETCH.name
NEVER_SHOWN = frozenset({UNREADABLE, QUARANTINE})
"""Whose pictures no contact sheet decodes: they cannot be, or do harm."""


@dataclass(frozen=True)
class ReportOptions:
    """What somebody wants of a report beyond the run itself; `report.json` says it, so it can be made again."""

    source: str | None = None
    """What was curated; without it the run's `fetch`, or what its done records name."""
    against: str | None = None
    """Another run, to hold this one against."""
    num_per_group: int = NUM_PER_SHEET
    """Pictures of one group."""
    seed: int = 0
    """Another one draws other pictures."""
    max_side_px: int = MAX_SIDE_PX
    """Longer side of a picture on the page."""


NOTHING_ASKED = ReportOptions()


@dataclass(frozen=True)
class Weights:
    """Trained weights that the run used, and what the catalogue says of them."""

    name: str
    sha256: str
    licence: str
    terms: str
    about: str
    is_catalogued: bool
    """Whether the catalogue knows this name with these very bytes."""


@dataclass(frozen=True)
class Problem:
    """One reason why a file never reached the filters."""

    stage: str
    rejected_by: str
    reason: str
    meaning: str
    count: int


@dataclass(frozen=True)
class Report:
    """What the report of one run says."""

    recipe: Mapping[str, Any]
    stages: tuple[FinishedStage, ...]
    unfinished: tuple[str, ...]
    checks: tuple[Check, ...]
    spreads: tuple[ScoreSpread, ...]
    sheets: tuple[Sheet, ...]
    problems: tuple[Problem, ...]
    costs: tuple[Cost, ...]
    """Where the time of `curate`, or of `decide` where it came after, went; dearest step first."""
    weights: tuple[Weights, ...]
    has_source: bool
    """Whether what was curated is to be found, so that rejected pictures can be shown."""
    makings: tuple[Making, ...] = ()
    """When, where and with what each stage was made."""
    composition: tuple[Property, ...] = ()
    comparison: Comparison | None = None
    """The other run, where one is to be held against this."""
    asked: ReportOptions = NOTHING_ASKED
    is_fetched: bool = False
    """Whether its pictures were downloaded by `fetch`, in this run or in the one that they were curated from."""

    @property
    def curated(self) -> FinishedStage:
        """The stage that every report has."""
        return next(stage for stage in self.stages if stage.name == REQUIRED_STAGE)

    @property
    def costs_of(self) -> str:
        """The command whose time `costs` tells: done records say how the files came about that are there now."""
        return "decide" if HISTORY in self.curated.manifest.extra else REQUIRED_STAGE

    @property
    def has_screens(self) -> bool:
        """Whether screens were asked before filters."""
        is_on = self.recipe["curate"].get("screens", "on") == "on"
        return is_on and any(stanza.get("screens") for stanza in self.recipe["filters"])

    @property
    def filter_names(self) -> tuple[str, ...]:
        """The recipe's filters in declared order."""
        return tuple(stanza["name"] for stanza in self.recipe["filters"])

    @property
    def faults(self) -> Mapping[str, Mapping[str, int]]:
        """Dirt that `rank` found in the metadata: source -> fault -> number of rows; empty without that stage."""
        faults: Mapping[str, Mapping[str, int]] = self._ranking.get("faults", {})
        return faults

    @property
    def num_metadata_rows(self) -> Mapping[str, int]:
        """Rows of metadata that `rank` read, by source; empty without that stage."""
        return {source: self._ranking[f"num_{source}_rows"] for source in self.faults}

    @property
    def blind_gates(self) -> tuple[str, ...]:
        """Gates of `rank` that no row had a value for, and that a waiver let be."""
        return tuple(self._ranking.get("blind_gates", ()))

    @property
    def waiver(self) -> str:
        """Why they were let be."""
        return self._ranking.get("waiver") or ""

    @property
    def _ranking(self) -> Mapping[str, Any]:
        return next((stage.manifest.extra for stage in self.stages if stage.name == RANK.name), {})


def read_report(run: Path, asked: ReportOptions = NOTHING_ASKED) -> Report:
    """Read a run's stages and gather what the report says of them.

    Raises:
        UsageError: there is no finished `curate` in the run, or in the one that it is held against.
        ShardError: a ledger that a manifest names cannot be read.
        RecipeError: the recipe in the manifest has screens, and a key of it does not hold.
        VerificationError: a shard's own counts do not add up.
    """
    stages, unfinished = read_stages(run)
    curated = next(stage for stage in stages if stage.name == REQUIRED_STAGE)
    recipe = curated.manifest.recipe
    ledgers = ledger_paths(curated.folder, curated.manifest)
    proofs = proofs_of(recipe, curated.folder)
    spreads = tuple(spread_of(criterion, ledgers, proofs) for criterion in criteria_of(recipe))
    filter_names = [stanza["name"] for stanza in recipe["filters"]]
    rejectors = [by for by, _ in curated.losses(filter_names) if by not in NEVER_SHOWN]
    choices = choose(ledgers, spreads, rejectors, asked.num_per_group, asked.seed)
    compared = _comparison(curated, asked)
    origin = find_origin(run, None if asked.source is None else location(asked.source))
    shown = SheetSource(curated.folder, curated.manifest.shards, origin, spreads, recipe, proofs, asked.max_side_px)
    return Report(
        recipe=recipe,
        stages=stages,
        unfinished=unfinished,
        checks=(*check_stages(stages), check_verdicts(spreads)),
        spreads=spreads,
        sheets=read_sheets(shown, [*choices, *(() if compared is None else compared.choices)]),
        problems=tuple(problem for stage in stages for problem in _problems(stage, filter_names)),
        costs=costs(curated.folder, curated.manifest),
        weights=tuple(_weights(name, sha256) for name, sha256 in sorted(curated.manifest.weights.items())),
        has_source=origin.folder is not None,
        makings=tuple(making_of(stage) for stage in stages),
        composition=composition_of(curated, stages),
        comparison=compared,
        asked=asked,
        is_fetched=any(stage.name == FETCH.name for stage in stages) or _is_of_fetch(origin.folder),
    )


def _is_of_fetch(folder: Path | None) -> bool:
    claim = work_of(folder) if folder is not None and folder.is_dir() else None
    return claim is not None and claim["stage"] == FETCH.name


def _comparison(curated: FinishedStage, asked: ReportOptions) -> Comparison | None:
    if asked.against is None:
        return None
    return compare(curated, location(asked.against), asked.num_per_group, asked.seed)


def report_values(report: Report) -> dict[str, Any]:
    """Return the report as plain values for JSON: every number that the page shows."""
    return {
        "schema_version": REPORT_SCHEMA_VERSION,
        "recipe": report.recipe,
        "recipe_digest": report.curated.manifest.recipe_digest,
        "stages": [_stage_values(stage) for stage in report.stages],
        "unfinished": list(report.unfinished),
        "all_hold": all(check.holds for check in report.checks),
        "checks": [vars(check) for check in report.checks],
        "scores": [_spread_values(spread) for spread in report.spreads],
        "sheets": [
            {
                "kind": sheet.choice.kind,
                "name": sheet.choice.name,
                "num_available": sheet.choice.num_available,
                "samples": [_tile_values(tile) for tile in sheet.tiles],
            }
            for sheet in report.sheets
        ],
        "problems": [vars(problem) for problem in report.problems],
        "costs": cost_values(report.costs),
        "costs_of": report.costs_of,
        "metadata_faults": report.faults,
        "num_metadata_rows": report.num_metadata_rows,
        "blind_gates": list(report.blind_gates),
        "waiver": report.waiver,
        "weights": [vars(weights) for weights in report.weights],
        "making": [vars(making) for making in report.makings],
        "composition": [{**vars(part), "slices": [vars(row) for row in part.slices]} for part in report.composition],
        "against": _comparison_values(report.comparison),
        "asked": vars(report.asked),
        "has_source": report.has_source,
    }


def _comparison_values(comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    moves = [{**vars(move), "kind": move.kind} for move in comparison.moves]
    differences = [vars(difference) for difference in comparison.differences]
    values = {name: value for name, value in vars(comparison).items() if name != "choices"}
    return {**values, "moves": moves, "differences": differences}


def _problems(stage: FinishedStage, filter_names: list[str]) -> list[Problem]:
    """Return what stopped files before the filters: in `fetch` anything, in `curate` all but the filters."""
    if stage.name not in (SOURCE_STAGE, REQUIRED_STAGE):
        return []
    return [
        Problem(stage.name, by, reason, meaning_of(by, reason), count)
        for by, reasons in stage.losses(filter_names)
        if by not in filter_names
        for reason, count in sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    ]


def _weights(name: str, sha256: str) -> Weights:
    entry = next((entry for entry in catalogue() if entry.name == name and entry.sha256 == sha256), None)
    if entry is None:
        return Weights(name, sha256, "unstated", "not in the catalogue: vouched for by whoever ran this", "", False)
    return Weights(name, sha256, entry.licence or "unstated", entry.terms, entry.about, True)


def _stage_values(stage: FinishedStage) -> dict[str, Any]:
    manifest = stage.manifest
    return {
        "stage": stage.name,
        "num_seen": manifest.num_seen,
        "num_kept": manifest.num_kept,
        "num_rejected": stage.num_rejected,
        "rejected": manifest.rejected,
        "num_shards": len(manifest.shards),
        "failed": manifest.failed,
        "recipe_digest": manifest.recipe_digest,
        "code_version": manifest.code_version,
        "manifest_sha256": stage.manifest_sha256,
    }


def _spread_values(spread: ScoreSpread) -> dict[str, Any]:
    left_out = ("criterion", "histogram", "quantiles")
    values = {name: value for name, value in vars(spread).items() if name not in left_out}
    criterion, histogram = spread.criterion, spread.histogram
    return {
        "filter": criterion.filter,
        "score": criterion.score,
        "meaning": about(criterion.filter, criterion.score),
        "min": criterion.min,
        "max": criterion.max,
        **values,
        "reach": spread.reach,
        "histogram": None if histogram is None else vars(histogram),
    }


def _tile_values(tile: Tile) -> dict[str, Any]:
    decision = tile.decision
    return {
        "uid": tile.uid,
        "shard": tile.shard,
        "key": tile.key,
        "kept": tile.kept,
        "rejected_by": tile.rejected_by or None,
        "reason": tile.reason or None,
        "meaning": tile.meaning or None,
        "deciding": None if decision is None else decision.criterion.name,
        "score": _score_value(decision),
        "proven_by": None if decision is None else decision.proven_by,
        **({} if tile.near is None else {"near_score": _score_value(tile.near)}),
        "picture": tile.thumbnail.problem or "shown",
        "scores": [
            {"name": one.name, "score": _json_number(one.score), "proven_by": one.proven_by} for one in tile.scores
        ],
    }


def _score_value(decision: Decision | None) -> float | str | None:
    return None if decision is None else _json_number(decision.score)


def _json_number(score: float | None) -> float | str | None:
    return score if score is None or math.isfinite(score) else str(score)

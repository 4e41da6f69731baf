"""The records of one stage: manifest, recipe, claim, done records, leases, each against its seal and the others."""

import json
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from curation.commands.caption.arrived import REPLIES
from curation.commands.curate.work import curate_work, curate_work_id
from curation.commands.rank.stage import rank_work
from curation.commands.verify.faults import Fault, Note
from curation.commands.verify.shards import as_values
from curation.dataset.manifest import (
    MANIFEST_NAME,
    RECIPE_NAME,
    STATS_SUFFIX,
    WORK_NAME,
    Manifest,
    ShardReport,
    read_manifest,
    read_report,
    total,
)
from curation.dataset.stages import CURATE, LEFT_OUT_NAME, RANK, STAGES
from curation.errors import FaceCaptionError, RecipeError, VerificationError
from curation.measure.filter_set import measurement_keys
from curation.recipe.recipe import Recipe, recipe_of
from curation.run.derived import DERIVED_FOLDER
from curation.run.folders import StageFolder, names_in
from curation.storage.lock import LEASE_FOLDER
from curation.storage.publish import TEMP_FOLDER, is_there, json_bytes, read_sealed, sha256_of
from filters.weights import find_all

SEALED_FOLDERS = (f"{LEASE_FOLDER}/", f"{DERIVED_FOLDER}/")
"""Folders of records that belong to no shard."""
WHOLE_RECORD = "the record as it was written, which its seal proves"


@dataclass
class StageRecords:
    """What one stage's records say, and what is wrong with them."""

    place: StageFolder
    names: dict[str, int]
    """Every file of the folder with its size."""
    manifest: Manifest | None = None
    stats: dict[str, ShardReport] = field(default_factory=dict)
    recipe: Recipe | None = None
    keys: dict[str, str] | None = None
    """Measurement key of every filter; None where they cannot be re-derived here."""
    faults: list[Fault] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)

    @property
    def stage(self) -> str:
        """Which stage it is."""
        return self.place.stage

    @property
    def reports(self) -> list[ShardReport]:
        """The shards that the manifest names; where there is none, those that are done."""
        return list(self.manifest.shards) if self.manifest is not None else list(self.stats.values())

    @property
    def is_unfinished(self) -> bool:
        """Whether it has not ended, or stands aside and has failed in part: nothing that is there is wrong."""
        has_failed = self.manifest is not None and bool(self.manifest.failed) and STAGES[self.stage].is_aside
        return MANIFEST_NAME not in self.names or has_failed

    @property
    def can_derive(self) -> bool:
        """Whether the stage still makes of its inputs what it made then, so that identities can be derived again."""
        return self.manifest is not None and self.manifest.output_version == STAGES[self.stage].output_since

    def are_ledgers_whole(self, broken: Container[str]) -> bool:
        """Whether no ledger of its shards is among the files that have a fault."""
        names = (name for report in self.reports for name in report.files if name.endswith(".parquet"))
        return not any(f"{self.place.shown}/{name}" in broken for name in names)

    def fault(self, name: str, wrong: str, right: str, shard: str | None = None) -> None:
        """Take note of something that is not as it should be."""
        self.faults.append(Fault(f"{self.place.shown}/{name}", wrong, right, shard))

    def note(self, name: str, what: str) -> None:
        """Take note of something that is no fault."""
        self.notes.append(Note(f"{self.place.shown}/{name}", what))


def read_records(place: StageFolder) -> StageRecords:
    """Read every record of a stage's folder and hold them against each other."""
    records = StageRecords(place, names_in(place.folder))
    _read_sealed_files(records)
    _read_recipe(records)
    if records.manifest is not None:
        _check_counts(records, records.manifest)
        _check_done(records, records.manifest)
        _check_files(records, records.manifest)
    _note_others(records)
    return records


def _read_sealed_files(records: StageRecords) -> None:
    folder = records.place.folder
    work: dict[str, Any] | None = None
    for name in records.names:
        path = folder / name
        if name == MANIFEST_NAME:
            records.manifest = _sealed(records, name, lambda path=path: read_manifest(path.parent))  # type: ignore[misc]
        elif name == WORK_NAME or (name.startswith(SEALED_FOLDERS) and name.endswith(".json")):
            sealed = _sealed(records, name, lambda path=path: read_sealed(path))  # type: ignore[misc]
            work = sealed if name == WORK_NAME else work
        elif name.endswith(STATS_SUFFIX) and "/" not in name:
            report = _sealed(records, name, lambda path=path: read_report(path))  # type: ignore[misc]
            if report is not None and name == f"{report.shard}{STATS_SUFFIX}":
                records.stats[report.shard] = report
            elif report is not None:
                records.fault(name, f"says it is of shard {report.shard!r}", "the record of the shard that names it")
    if WORK_NAME not in records.names:
        records.fault(WORK_NAME, "missing", "the piece of work that this folder belongs to")
    manifest = records.manifest
    if manifest is not None and manifest.stage != records.stage:
        records.fault(MANIFEST_NAME, f"written by {manifest.stage!r}", f"the manifest of {records.stage!r}")
    if manifest is not None and work is not None:
        right = {"stage": manifest.stage, "work_digest": manifest.work_digest}
        if work != right:
            records.fault(WORK_NAME, f"claims {work}", f"{right}, as the manifest says")
    if MANIFEST_NAME not in records.names:
        records.note(MANIFEST_NAME, "none: the stage has not finished; only the shards that are done were verified")


def _sealed(records: StageRecords, name: str, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except VerificationError as error:
        records.fault(name, str(error).partition(": ")[2], WHOLE_RECORD)
    except (FaceCaptionError, OSError, TypeError, KeyError, ValueError, AttributeError) as error:
        records.fault(name, f"cannot be read: {error}", WHOLE_RECORD)
    return None


def _read_recipe(records: StageRecords) -> None:
    manifest = records.manifest
    if manifest is None:
        return
    try:
        recipe = recipe_of(manifest.recipe, f"{records.place.shown}/{MANIFEST_NAME}: its recipe")
    except RecipeError as error:
        records.fault(MANIFEST_NAME, f"its recipe is none of this version: {error}", "the recipe with all defaults")
        return
    records.recipe = recipe
    if RECIPE_NAME not in records.names:
        records.fault(RECIPE_NAME, "missing", "the recipe in the manifest, once more for people to read")
    elif (records.place.folder / RECIPE_NAME).read_bytes() != json_bytes(dict(manifest.recipe)):
        records.fault(RECIPE_NAME, "not the recipe in the manifest", "its copy; run the stage again to write it")
    if manifest.recipe_digest != recipe.digest:
        records.fault(MANIFEST_NAME, f"recipe_digest {manifest.recipe_digest}", f"{recipe.digest}, of its recipe")
    if manifest.recipe_name != recipe.name:
        records.fault(MANIFEST_NAME, f"recipe_name {manifest.recipe_name!r}", f"{recipe.name!r}, of its recipe")
    _check_work(records, manifest, recipe)


def _check_work(records: StageRecords, manifest: Manifest, recipe: Recipe) -> None:
    """Derive the stage's identity again, as far as its own folder tells it."""
    if not records.can_derive:
        version = manifest.output_version
        records.note(MANIFEST_NAME, f"its output is of version {version}: identities are not derived again")
        return
    if records.stage == RANK.name and "inputs" in manifest.extra:
        _expect_work(records, manifest, rank_work(recipe.file.rank, manifest.extra["inputs"]))
    if records.stage != CURATE.name:
        return
    if manifest.extra.get("curate_digest") != recipe.curate_digest:
        records.fault(MANIFEST_NAME, f"curate_digest {manifest.extra.get('curate_digest')}", recipe.curate_digest)
    try:
        names = sorted({name for plan in recipe.measurers for name in plan.module.weights(plan.measure)})
        needed = {file.name for file in find_all(names)}
        if needed != set(manifest.weights):
            wrong = f"names the weights {sorted(manifest.weights)}"
            records.fault(MANIFEST_NAME, wrong, f"{sorted(needed)}, which the recipe needs")
            return
        records.keys = measurement_keys(recipe, manifest.weights)
    except (FaceCaptionError, KeyError) as error:
        records.note(MANIFEST_NAME, f"measurement keys are not derived again: {error}")
        return
    _expect_work(records, manifest, curate_work(recipe, manifest.weights))


def _expect_work(records: StageRecords, manifest: Manifest, right: str) -> None:
    if manifest.work_digest != right:
        records.fault(MANIFEST_NAME, f"work_digest {manifest.work_digest}", f"{right}, of recipe, weights and inputs")


def expect_work_id(records: StageRecords, report: ShardReport, right: str | None) -> None:
    """Hold a shard's work id against the one derived again."""
    if right is not None and records.can_derive and report.work_id != right:
        wrong = f"shard {report.shard}: work_id {report.work_id}"
        records.fault(MANIFEST_NAME, wrong, f"{right}, of its source, recipe and weights", report.shard)


def curate_id(records: StageRecords, report: ShardReport, source_sha256: str) -> str | None:
    """Return the work id that a curated shard must have; None where it cannot be derived here."""
    if records.recipe is None or records.manifest is None or records.keys is None:
        return None
    return curate_work_id(report.shard, source_sha256, records.recipe, records.manifest.weights)


def _check_counts(records: StageRecords, manifest: Manifest) -> None:
    num_rejected = sum(sum(reasons.values()) for reasons in manifest.rejected.values())
    if manifest.num_seen != manifest.num_kept + num_rejected:
        right = "every sample is kept or rejected with a reason"
        records.fault(MANIFEST_NAME, f"{manifest.num_seen} seen = {manifest.num_kept} + {num_rejected}?", right)
    if STAGES[records.stage].rejects_before_shards:
        return  # what it rejects before it cuts shards stands in its ledger; see `across`
    num_seen, num_kept, rejected = total(manifest.shards, {})
    stated = (manifest.num_seen, manifest.num_kept, json.dumps(manifest.rejected, sort_keys=True))
    if stated != (num_seen, num_kept, json.dumps(rejected, sort_keys=True)):
        records.fault(MANIFEST_NAME, f"states {stated}", f"{(num_seen, num_kept, rejected)}, the sum of its shards")


def _check_done(records: StageRecords, manifest: Manifest) -> None:
    for report in manifest.shards:
        name = f"{report.shard}{STATS_SUFFIX}"
        if name not in records.names:
            records.fault(name, "missing", "the done record of a shard that the manifest names", report.shard)
        done = records.stats.get(report.shard)
        if done is None:
            continue
        is_, should_be = as_values(done), as_values(report)
        for key in is_:
            if is_[key] != should_be[key]:
                records.fault(name, f"{key} {is_[key]}", f"{should_be[key]}, as the manifest says", report.shard)


def _check_files(records: StageRecords, manifest: Manifest) -> None:
    for name, record in manifest.files.items():
        path = records.place.folder / name
        if name not in records.names:
            records.fault(name, "missing", f"{record.num_bytes} bytes, sha256 {record.sha256}")
        elif not is_there(path, record) or sha256_of(path) != record.sha256:
            records.fault(name, f"sha256 {sha256_of(path)}", f"sha256 {record.sha256}, as the manifest says")


def known_names(records: StageRecords) -> set[str]:
    """Return every file that some record names, or that is a record itself."""
    named = {MANIFEST_NAME, RECIPE_NAME, WORK_NAME}
    for report in (*records.reports, *records.stats.values()):
        named |= {*report.files, f"{report.shard}{STATS_SUFFIX}"}
    return named | (set(records.manifest.files) if records.manifest is not None else {LEFT_OUT_NAME})


def _note_others(records: StageRecords) -> None:
    known = known_names(records)
    for name in records.names:
        if name.endswith(REPLIES):
            records.note(name, "replies about a shard that is not done; run caption again, which takes them")
        elif name.startswith(f"{TEMP_FOLDER}/"):
            records.note(name, "a temporary file; `gc` removes those of dead runs")
        elif name not in known and not name.startswith(SEALED_FOLDERS) and not _is_broken_record(records, name):
            records.note(name, "named by no manifest and no done record; `gc` removes it if it is the stage's own")
    if records.manifest is not None:
        named = {report.shard for report in records.manifest.shards}
        for shard in records.stats.keys() - named:
            records.note(f"{shard}{STATS_SUFFIX}", "a shard that is done but that the manifest does not name")
        for shard, error in records.manifest.failed.items():
            wrong = f"shard {shard} failed and counts nowhere: {error.splitlines()[-1]}"
            if STAGES[records.stage].is_aside:  # what it was to add to goes on without it
                records.note(MANIFEST_NAME, f"{wrong}; the same command again asks only for what failed")
            else:
                records.fault(MANIFEST_NAME, wrong, "a shard that is done; run the stage again")


def _is_broken_record(records: StageRecords, name: str) -> bool:
    return any(fault.file == f"{records.place.shown}/{name}" for fault in records.faults)


def sealed_faults(folder: Path, shown: str) -> Iterator[Fault]:
    """Yield the JSON records below a folder that are not as they were written."""
    for name in names_in(folder):
        if name.endswith(".json"):
            try:
                read_sealed(folder / name)
            except (VerificationError, OSError) as error:
                yield Fault(f"{shown}/{name}", str(error).partition(": ")[2], WHOLE_RECORD)

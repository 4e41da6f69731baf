"""What holds between files of different shards and stages: conservation, one place per uid, the index, the report."""

from collections.abc import Container, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from curation.commands.caption.beside import places_of
from curation.commands.caption.shard import caption_work, caption_work_id
from curation.commands.caption.stage import captions_of_folder
from curation.commands.fetch.again import asked_before, num_asked_again
from curation.commands.fetch.work import ROBOTS_WAIVER, fetch_work, fetch_work_id
from curation.commands.pack.plan import chosen, planned
from curation.commands.pack.stage import CAPTIONS_FROM, pack_jobs, pack_work, pack_work_id
from curation.commands.verify.faults import Fault
from curation.commands.verify.records import StageRecords, curate_id, expect_work_id
from curation.commands.verify.shards import Before
from curation.dataset.manifest import MADE_FROM, MANIFEST_NAME, Manifest, ShardReport, read_manifest
from curation.dataset.stages import CAPTION, CURATE, FETCH, FORGET, PACK, STAGES
from curation.errors import FaceCaptionError
from curation.recipe.recipe import Recipe

Records = Mapping[str, StageRecords]
NEW_CAPTIONS = (
    "superseded: packed with captions that are not those beside curate now; it is whole, but pack again into a new "
    "folder to have these"
)


def check_flow(stages: Records, records: StageRecords) -> None:
    """Hold the counts of a stage against those of the one before it.

    What was forgotten later stands as a row in every ledger that it ever entered, kept in none.
    """
    before = _before(stages, records.stage)
    if before is None or records.manifest is None:
        return
    if before.manifest is None:
        if MANIFEST_NAME not in before.names:
            before.fault(MANIFEST_NAME, "missing", f"the manifest of a stage that {records.stage} was built on")
        return
    num_forgotten = sum(records.manifest.rejected.get(FORGET, {}).values())
    came, went = before.manifest.num_kept, records.manifest.num_seen - num_forgotten - num_asked_again(records.manifest)
    if came != went and not records.manifest.failed:
        wrong = f"{records.manifest.num_seen} seen, {num_forgotten} of them forgotten"
        records.fault(MANIFEST_NAME, wrong, f"the {came} that {before.stage} kept, no more and no less")


def check_identities(stages: Records, records: StageRecords, broken: Container[str]) -> None:
    """Derive a stage's identities again that depend on the stage before, where that is known.

    `broken` names the files that have a fault already; none of them is read.
    """
    before, manifest, recipe = _before(stages, records.stage), records.manifest, records.recipe
    if manifest is None or recipe is None or not records.can_derive:
        return
    check = IDENTITIES.get(records.stage)
    if check is not None:
        check(Rederived(stages, records, manifest, recipe, before, broken))


@dataclass(frozen=True)
class Rederived:
    """A finished stage whose identities can be derived again, and what they are derived from."""

    stages: Records
    records: StageRecords
    manifest: Manifest
    recipe: Recipe
    before: StageRecords | None
    """The stage before it, where that lies in the run."""
    broken: Container[str]
    """Files that have a fault already."""


def _check_fetched(stage: Rederived) -> None:
    settings, limits = stage.recipe.file.fetch, stage.recipe.file.decode
    safety = stage.manifest.extra.get("safety", {})
    lists, heeds_robots = safety.get("hash_lists", {}), ROBOTS_WAIVER not in safety
    asked = {one.shard: one.identity for one in asked_before(stage.records.place.folder, stage.manifest)}
    for report in stage.manifest.shards:
        origin = origin_of(stage.stages, FETCH.name, report)
        identity = asked.get(report.shard, None if origin is None else origin.sha256)
        if identity is not None:
            work_id = fetch_work_id(report.shard, identity, settings, limits, lists, heeds_robots)
            expect_work_id(stage.records, report, work_id)
    if stage.before is not None and stage.before.manifest is not None:
        work = fetch_work(stage.before.manifest.work_digest, settings, limits, lists, heeds_robots)
        if stage.manifest.work_digest != work:
            wrong = f"work_digest {stage.manifest.work_digest}"
            stage.records.fault(MANIFEST_NAME, wrong, "that of the selection beside it")


def _check_curated(stage: Rederived) -> None:
    for report in stage.manifest.shards:
        if (origin := origin_of(stage.stages, CURATE.name, report)) is not None:
            expect_work_id(stage.records, report, curate_id(stage.records, report, origin.sha256))


def _check_captioned(stage: Rederived) -> None:
    if stage.recipe.file.caption is None:
        stage.records.fault(MANIFEST_NAME, "its recipe has no table [caption]", "the recipe by which it was asked")
        return
    curated = None if stage.before is None else stage.before.manifest
    if stage.before is None or curated is None:
        return
    work = caption_work(stage.before.place.folder.name, stage.recipe.file.caption)
    if stage.manifest.work_digest != work:
        stage.records.fault(MANIFEST_NAME, f"work_digest {stage.manifest.work_digest}", f"{work}, of what is asked")
    if stage.manifest.extra.get(MADE_FROM) != curated.state:
        stage.records.note(
            MANIFEST_NAME, "superseded: of an earlier state of curate; run caption again, it asks only what is new"
        )
        return
    for report in stage.manifest.shards:
        if (origin := origin_of(stage.stages, CAPTION.name, report)) is not None:
            expect_work_id(stage.records, report, caption_work_id(report.shard, origin.sha256, stage.recipe))


def _check_packed(stage: Rederived) -> None:
    if stage.before is not None and stage.before.manifest is not None:
        _check_packing(stage.records, stage.manifest, stage.before, stage.recipe, stage.broken)


IDENTITIES = {
    FETCH.name: _check_fetched,
    CURATE.name: _check_curated,
    CAPTION.name: _check_captioned,
    PACK.name: _check_packed,
}
"""Stage -> what derives its identities again; `rank`'s follow from its own folder (`records`)."""


def _check_packing(
    records: StageRecords, manifest: Manifest, before: StageRecords, recipe: Recipe, broken: Container[str]
) -> None:
    curated = before.manifest
    if curated is None or not before.are_ledgers_whole(broken):
        return
    if manifest.work_digest != pack_work(curated, recipe):
        records.fault(MANIFEST_NAME, f"work_digest {manifest.work_digest}", "that of the curated shards beside it")
        return
    if recipe.file.caption is not None and manifest.extra.get(CAPTIONS_FROM) != _captions_now(before.place.folder):
        records.note(MANIFEST_NAME, NEW_CAPTIONS)
        return
    source, target = before.place.folder, records.place.folder
    with ExitStack() as stack:
        with chosen(source, curated, recipe, places_of(source, recipe), target, manifest) as choice:
            plan = stack.enter_context(planned(choice, recipe))
        right = {job.shard: pack_work_id(job) for job in pack_jobs(source, target, recipe, curated, plan)}
    for report in manifest.shards:
        expect_work_id(records, report, right.get(report.shard, "none: nothing is planned for such a shard"))
    for shard in right.keys() - {report.shard for report in manifest.shards} - set(manifest.failed):
        records.fault(MANIFEST_NAME, f"names no shard {shard}", "every shard that the curated ledgers plan", shard)


def _captions_now(source: Path) -> str | None:
    folder = captions_of_folder(source)
    return read_manifest(folder).state if (folder / MANIFEST_NAME).is_file() else None


def origin_of(stages: Records, name: str, report: ShardReport) -> Before | None:
    """Return what a shard was made from, where that is one shard or part of the stage before, and lies in the run."""
    before = _before(stages, name)
    if before is None or before.manifest is None or not STAGES[name].follows_shards:
        return None
    if STAGES[before.stage].is_selection:
        return _part_of(before.manifest, before.place.folder, report.shard)
    source = next((origin for origin in before.manifest.shards if origin.shard == report.shard), None)
    if source is None:
        return None
    try:
        tar, ledger = (source.file(before.place.folder, suffix) for suffix in (".tar", ".parquet"))
        return Before(ledger, source.files[ledger.name], source.files[tar.name].sha256)
    except FaceCaptionError:
        return None


def _part_of(selection: Manifest, folder: Path, shard: str) -> Before | None:
    """Return the part of a selection that a shard was fetched from."""
    files = {file: record for ranked in selection.shards for file, record in ranked.files.items()}
    part = files.get(f"{shard}.parquet")
    return None if part is None else Before(folder / f"{shard}.parquet", part, part.sha256)


def check_report(run: Path) -> Iterator[Fault]:
    """Derive the report's numbers and page again: they depend on the run, and on what was asked of it, alone."""
    from curation.commands.report.contents import read_report, report_values
    from curation.commands.report.page import render
    from curation.commands.report.write import PAGE_NAME, VALUES_NAME, asked_of
    from curation.storage.publish import json_bytes

    folder = run / "report"
    try:
        report = read_report(run, asked_of(folder))
    except FaceCaptionError as error:
        yield Fault("report", f"cannot be made again: {error}", "a run that a report can be made of")
        return
    right = {VALUES_NAME: json_bytes(report_values(report)), PAGE_NAME: render(report).encode("utf-8")}
    for name, content in right.items():
        path = folder / name
        if not path.is_file() or path.read_bytes() != content:
            yield Fault(f"report/{name}", "not what the run gives", "the report of this run: run `report` again")


def _before(stages: Records, name: str) -> StageRecords | None:
    return stages.get(STAGES[name].before or "")

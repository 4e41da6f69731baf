"""Prepares `pack` without some images: shards keep their cuts, index and ledger follow, an empty shard goes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.commands.caption.beside import places_of
from curation.commands.forget.prepare import StageBurial, Told, bury_shards, put_records, state_of, whole_file
from curation.commands.pack.plan import chosen, planned
from curation.commands.pack.stage import CAPTIONS_FROM, pack_jobs, pack_work, pack_work_id
from curation.dataset.ledger import in_row_groups, ledger_batches, read_ledger, rejections_of, write_tables
from curation.dataset.manifest import (
    BEFORE_FORGET,
    MADE_FROM,
    WORK_NAME,
    Manifest,
    ShardReport,
    stats_path,
)
from curation.dataset.redaction import bury
from curation.dataset.stages import FORGET, INDEX_NAME, LEDGER_NAME, PACK
from curation.recipe.recipe import Recipe
from curation.run.journal import Preparation
from curation.run.lookup import is_in
from curation.run.target import work_of
from curation.storage.paths import local_copy
from curation.storage.publish import FileRecord, read_sealed, record_of, sealed_bytes

WHY = ["rejected_by", "reason"]


def bury_packed(
    stage: StageBurial,
    before: StageBurial | None,
    preparation: Preparation,
    uids: frozenset[str],
    told: Told,
) -> None:
    """Prepare everything of `pack` that the images have touched, and the identities of what stays."""
    bury_shards(stage, None, preparation, uids)
    empty = [shard for shard, report in stage.new.items() if report.num_kept == 0]
    work = _refresh(stage, before, uids)
    if work:
        path = stage.place.folder / WORK_NAME
        values = {**read_sealed(path), **work}
        preparation.put(stage.file(WORK_NAME), record_of(path), lambda temp: temp.write_bytes(sealed_bytes(values)))
    recipe = stage.recipe()
    if stage.manifest is None or recipe is None:
        for shard in empty:
            _take_out(stage, shard, preparation)
        put_records(stage, preparation, told)
        return
    if stage.new == stage.old and not work and not _has_others(stage, uids):
        return
    files, rejected = _put_tables(stage, recipe, uids, empty, preparation)
    for shard in empty:
        _take_out(stage, shard, preparation)
    changes: dict[str, Any] = {"files": files, "rejected_before": rejected, **work}
    extra = _extra(stage.manifest, before if work else None, stage.captions)
    changes |= {"extra": extra} if extra != stage.manifest.extra else {}
    put_records(stage, preparation, told, **changes)


def _extra(packed: Manifest, before: StageBurial | None, replies: StageBurial | None) -> dict[str, Any]:
    """Return what the manifest says besides, of the states that what it was made from will have."""
    extra = dict(packed.extra)
    if before is not None and before.manifest is not None and MADE_FROM in extra:
        extra[MADE_FROM] = state_of(before)
    if replies is not None and replies.manifest is not None:
        known = (replies.manifest.state, *replies.manifest.extra.get(BEFORE_FORGET, ()))
        extra |= {CAPTIONS_FROM: state_of(replies)} if extra.get(CAPTIONS_FROM) in known else {}
    return extra


def _refresh(stage: StageBurial, before: StageBurial | None, uids: frozenset[str]) -> dict[str, str]:
    """Give every shard the identity of the work that it now is; return the folder's own, where it has changed."""
    recipe = stage.recipe(before)
    if before is None or before.manifest is None or recipe is None:
        return {}
    was, claimed = before.manifest, work_of(stage.place.folder)
    is_late = stage.manifest is not None and stage.manifest.extra.get(MADE_FROM) in was.extra.get(BEFORE_FORGET, ())
    if claimed is None or not (is_late or claimed["work_digest"] == pack_work(was, recipe)):
        return {}  # packed from something else: running `pack` again is refused or does it anew
    is_ = replace(was, shards=tuple(before.new.values()))
    source, target = before.place.folder, stage.place.folder
    with ExitStack() as stack:
        with chosen(source, was, recipe, places_of(source, recipe), target, stage.manifest) as choice:
            plan = stack.enter_context(planned(choice, recipe))
        old, new = (pack_jobs(source, target, recipe, curated, plan) for curated in (was, is_))
        for shard, seats in plan.chunks:
            left = tuple(replace(seat, is_forgotten=True) if seat.uid in uids else seat for seat in seats)
            is_known = shard in stage.new and (
                is_late or stage.new[shard].work_id == pack_work_id(old.of(shard, seats))
            )
            if is_known and not all(seat.is_forgotten for seat in left):
                stage.new[shard] = replace(stage.new[shard], work_id=pack_work_id(new.of(shard, left)))
    work = pack_work(is_, recipe)
    return {} if work == claimed["work_digest"] else {"work_digest": work}


def _has_others(stage: StageBurial, uids: frozenset[str]) -> bool:
    """Whether an image is among those that `pack` never packed."""
    assert stage.manifest is not None
    with whole_file(stage.place.folder / LEDGER_NAME, stage.manifest.files[LEDGER_NAME]) as copy:
        batches = map(pa.table, ledger_batches(copy, ["uid", "rejected_by"]))
        rows = (row for table in batches for row in table.filter(is_in(table["uid"], uids)).to_pylist())
        return any(row["rejected_by"] != FORGET for row in rows)


def _put_tables(
    stage: StageBurial, recipe: Recipe, uids: frozenset[str], empty: Sequence[str], preparation: Preparation
) -> tuple[dict[str, FileRecord], dict[str, dict[str, int]]]:
    """Prepare index and ledger; return the manifest's files, and the rejections of what is in no shard."""
    assert stage.manifest is not None
    files, rejected = dict(stage.manifest.files), Counter[tuple[str, str]]()
    packed = [report for shard, report in sorted(stage.new.items()) if shard not in empty]
    emptied = [stage.new[shard] for shard in empty]
    footer = {"stage": PACK.name, "recipe_name": recipe.name, "recipe_digest": recipe.digest}
    with whole_file(stage.place.folder / LEDGER_NAME, files[LEDGER_NAME]) as copy:
        schema = pq.read_schema(copy).remove_metadata()

        def tables(reports: Sequence[ShardReport]) -> Iterator[pa.Table]:
            return (_table(stage, report, preparation) for report in reports)

        def rest() -> Iterator[pa.Table]:
            """Yield the rows of what is in no shard: what never was, then what filled a shard that is empty now."""
            for table in chain(_left(stage, copy, uids), tables(emptied)):
                rejected.update((row["rejected_by"], row["reason"]) for row in table.select(WHY).to_pylist())
                yield table

        ledger = chain(tables(packed), in_row_groups(rest(), sum(report.num_seen for report in packed)))
        index = (table.filter(table["kept"]) for table in tables(packed))
        for name, whole in ((INDEX_NAME, index), (LEDGER_NAME, ledger)):
            write = partial(write_tables, tables=whole, schema=schema, footer=footer)
            files[name] = preparation.put(stage.file(name), files[name], write)
    return files, rejections_of(rejected)


def _table(stage: StageBurial, report: ShardReport, preparation: Preparation) -> pa.Table:
    """Return a shard's rows as they will be."""
    name = report.file(stage.place.folder, ".parquet").name
    prepared = preparation.path_of(stage.file(name))
    with local_copy(prepared if prepared.exists() else stage.place.folder / name) as copy:
        return read_ledger(copy).replace_schema_metadata()


def _left(stage: StageBurial, ledger: Path, uids: frozenset[str]) -> Iterator[pa.Table]:
    """Yield the rows behind those of the shards as they will be: of what never was in one."""
    num_packed = sum(report.num_seen for report in stage.old.values())
    for table in map(pa.table, ledger_batches(ledger)):
        rest, num_packed = table.slice(num_packed).replace_schema_metadata(), max(0, num_packed - table.num_rows)
        yield bury(rest, is_in(rest["uid"], uids))


def _take_out(stage: StageBurial, shard: str, preparation: Preparation) -> None:
    """Take a shard out of which nothing is left: its files go, prepared ones too."""
    report = stage.new.pop(shard)
    names = [*report.files, stats_path(stage.place.folder, shard).name]
    gone = {stage.file(name) for name in names}
    preparation.moves = [move for move in preparation.moves if move.file not in gone]
    preparation.deletions += sorted(gone)

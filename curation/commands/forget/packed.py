"""Prepares `pack` without some images: shards keep their cuts, index and ledger follow, an empty shard goes."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pyarrow as pa

from curation.commands.caption.beside import places_in, places_of
from curation.commands.caption.stage import captions_of_folder
from curation.commands.forget.prepare import StageBurial, Told, bury_shards, put_records, state_of, whole_file
from curation.commands.pack.placement import Placed
from curation.commands.pack.stage import (
    CAPTIONS_FROM,
    left_out,
    pack_jobs,
    pack_work,
    pack_work_id,
    place_samples,
)
from curation.dataset.ledger import count_rejections, read_ledger, write_table
from curation.dataset.manifest import (
    BEFORE_FORGET,
    MADE_FROM,
    MANIFEST_NAME,
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
from curation.storage.publish import read_sealed, record_of, sealed_bytes


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
    tables = {shard: _table(stage, report, preparation) for shard, report in sorted(stage.new.items())}
    rest = _rest(stage, uids, [tables.pop(shard) for shard in empty])
    for shard in empty:
        _take_out(stage, shard, preparation)
    packed = pa.concat_tables([*tables.values()] or [rest.schema.empty_table()])
    footer = {"stage": PACK.name, "recipe_name": recipe.name, "recipe_digest": recipe.digest}
    ledger, index = pa.concat_tables([packed, rest]), packed.filter(packed["kept"])
    files = dict(stage.manifest.files)
    for name, table in ((INDEX_NAME, index), (LEDGER_NAME, ledger)):
        write = partial(write_table, table=table, footer=footer)
        files[name] = preparation.put(stage.file(name), stage.manifest.files[name], write)
    rows = rest.select(["kept", "rejected_by", "reason"]).to_pylist()
    changes: dict[str, Any] = {"files": files, "rejected_before": count_rejections(rows), **work}
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


def seats_of(curated: StageBurial, uids: frozenset[str]) -> dict[str, frozenset[int]] | None:
    """Return the rows of these images that `pack` places, by curated shard; None where `curate` has not finished.

    Whom one recipe leaves out of its pack, another packs: a seat in the curated ledger is for all, and each pack's own
    table says who has none in it.
    """
    if curated.manifest is None:
        return None
    seats: dict[str, set[int]] = {}
    source = curated.place.folder
    replies = captions_of_folder(source)
    told = places_in(replies, source) if (replies / MANIFEST_NAME).is_file() else {}
    for seat in place_samples(source, curated.manifest, told=told)[0]:
        if seat.uid in uids:
            seats.setdefault(seat.source_shard, set()).add(seat.row)
    return {shard: frozenset(rows) for shard, rows in seats.items()}


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
    out = left_out(before.place.folder, was, recipe, stage.place.folder, stage.manifest)
    placed, _ = place_samples(before.place.folder, was, out=out, told=places_of(before.place.folder, recipe))
    left = [replace(seat, is_forgotten=seat.is_forgotten or seat.uid in uids) for seat in placed]
    old, new = _work_ids(stage, before, recipe, was, placed), _work_ids(stage, before, recipe, is_, left)
    for shard, report in stage.new.items():
        if (is_late or report.work_id == old.get(shard)) and shard in new:
            stage.new[shard] = replace(report, work_id=new[shard])
    work = pack_work(is_, recipe)
    return {} if work == claimed["work_digest"] else {"work_digest": work}


def _work_ids(
    stage: StageBurial, before: StageBurial, recipe: Recipe, curated: Manifest, placed: Sequence[Placed]
) -> dict[str, str]:
    jobs = pack_jobs(before.place.folder, stage.place.folder, recipe, curated, placed, None)
    return {job.shard: pack_work_id(job) for job in jobs}


def _has_others(stage: StageBurial, uids: frozenset[str]) -> bool:
    """Whether an image is among those that `pack` never packed."""
    assert stage.manifest is not None
    with whole_file(stage.place.folder / LEDGER_NAME, stage.manifest.files[LEDGER_NAME]) as copy:
        table = read_ledger(copy, ["uid", "rejected_by"])
    rows = table.filter(is_in(table["uid"], uids)).to_pylist()
    return any(row["rejected_by"] != FORGET for row in rows)


def _table(stage: StageBurial, report: ShardReport, preparation: Preparation) -> pa.Table:
    """Return a shard's rows as they will be."""
    name = report.file(stage.place.folder, ".parquet").name
    prepared = preparation.path_of(stage.file(name))
    with local_copy(prepared if prepared.exists() else stage.place.folder / name) as copy:
        return read_ledger(copy).replace_schema_metadata()


def _rest(stage: StageBurial, uids: frozenset[str], emptied: Sequence[pa.Table]) -> pa.Table:
    """Return the rows of what is in no shard: what never was, then what filled a shard that is empty now."""
    assert stage.manifest is not None
    num_packed = sum(report.num_seen for report in stage.old.values())
    with whole_file(stage.place.folder / LEDGER_NAME, stage.manifest.files[LEDGER_NAME]) as copy:
        rest = read_ledger(copy).replace_schema_metadata().slice(num_packed)
    return pa.concat_tables([bury(rest, is_in(rest["uid"], uids)), *emptied])


def _take_out(stage: StageBurial, shard: str, preparation: Preparation) -> None:
    """Take a shard out of which nothing is left: its files go, prepared ones too."""
    report = stage.new.pop(shard)
    names = [*report.files, stats_path(stage.place.folder, shard).name]
    gone = {stage.file(name) for name in names}
    preparation.moves = [move for move in preparation.moves if move.file not in gone]
    preparation.deletions += sorted(gone)

"""Prepares the files of a run without some of its images: only those that hold one, and the records that name them."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.commands.caption.arrived import files_of, lines_without
from curation.commands.caption.shard import caption_work_id
from curation.commands.curate.work import curate_work_id_of
from curation.commands.fetch.placeholders import found_in
from curation.commands.fetch.work import ROBOTS_WAIVER, fetch_work_id
from curation.commands.pack.members import picture_offsets
from curation.dataset.ledger import LEDGER_SCHEMA_VERSION, read_ledger, write_table, write_tables
from curation.dataset.manifest import (
    BEFORE_FORGET,
    MADE_FROM,
    MANIFEST_NAME,
    Manifest,
    ShardReport,
    manifest_values,
    stats_path,
    total,
)
from curation.dataset.redaction import bury, recount
from curation.dataset.stages import FINDINGS_NAME, FORGET, LEDGER_NAME, STAGES, Stage
from curation.dataset.tar import copy_without
from curation.errors import ShardError
from curation.recipe.recipe import Recipe, recipe_of
from curation.run.folders import StageFolder, reports_of
from curation.run.journal import Preparation
from curation.run.lookup import is_in
from curation.storage.paths import local_copy
from curation.storage.publish import FileRecord, read_sealed, record_of, sealed_bytes

SOURCE_SHA256 = b"source_sha256"
Told = Callable[[str], bool]
"""Whether a message of a run names one of the images."""
VERDICT = ["uid", "kept", "rejected_by", "reason"]


@dataclass
class StageBurial:
    """One stage, as it is and as it will be."""

    place: StageFolder
    manifest: Manifest | None
    old: dict[str, ShardReport]
    new: dict[str, ShardReport]
    num_rows: int = 0
    """Rows that become tombstones."""
    num_samples: int = 0
    """Samples that leave a tar."""
    keys: dict[str, dict[str, str]] = field(default_factory=dict)
    """Shard -> measurement keys, of ledgers that were read."""
    captions: "StageBurial | None" = None
    """The replies that lie beside what it was made from, where such were prepared."""

    @property
    def stage(self) -> Stage:
        """What the table of stages says of it."""
        return STAGES[self.place.stage]

    def file(self, name: str) -> str:
        """Return a file's name relative to the run."""
        return f"{self.place.shown}/{name}"

    def recipe(self, before: "StageBurial | None" = None) -> Recipe | None:
        """Return the recipe in the manifest; of a stage that is unfinished, perhaps that of the one before it.

        Whether it is the one, the identities show that are derived with it.
        """
        for stage in (self, before):
            if stage is not None and stage.manifest is not None:
                return recipe_of(stage.manifest.recipe, f"{stage.place.folder}: the recipe in its manifest")
        return None


def open_stage(place: StageFolder) -> StageBurial:
    """Return a stage as it is."""
    manifest, reports = reports_of(place.folder)
    shards = {report.shard: report for report in reports}
    return StageBurial(place, manifest, shards, dict(shards))


@contextmanager
def whole_file(path: Path, record: FileRecord) -> Iterator[Path]:
    """Yield a local file with the bytes that a record names: what is rotten is not carried over as if it were right.

    Raises:
        ShardError: it has other bytes.
    """
    if not path.exists():
        raise ShardError(f"{path}: missing; run `verify`, mend the run, then forget")
    with local_copy(path) as copy:
        if record_of(copy) != record:
            raise ShardError(
                f"{path}: not the bytes that its done record names; run `verify`, mend the run, then forget"
            )
        yield copy


def bury_selection(stage: StageBurial, preparation: Preparation, uids: frozenset[str]) -> None:
    """Prepare `rank` without images: rows of parts go, rows of the ledger become tombstones."""
    for shard, report in stage.old.items():
        files, gone = dict(report.files), []
        for name, record in report.files.items():
            path = stage.place.folder / name
            with whole_file(path, record) as copy:
                here = _rows_of(copy, uids, VERDICT if name == LEDGER_NAME else ["uid"])
                if not here:
                    continue
                change = _bury if name == LEDGER_NAME else _drop
                gone += here if name == LEDGER_NAME else []
                files[name] = preparation.put(stage.file(name), record, _rewriting(copy, change, uids))
        if files != dict(report.files):
            num_kept, rejected = recount(report.rejected, report.num_kept, gone)
            stage.new[shard] = replace(report, files=files, num_kept=num_kept, rejected=rejected)
            stage.num_rows += len(gone)


def _rows_of(path: Path, uids: frozenset[str], columns: list[str]) -> list[dict[str, Any]]:
    """Return some columns of the rows of these images that are no tombstones yet."""
    rows: list[dict[str, Any]] = []
    with pq.ParquetFile(path) as file:
        for table in map(pa.table, file.iter_batches(columns=columns, use_threads=False)):
            mask = is_in(table["uid"], uids)
            if "rejected_by" in columns:
                mask = pc.and_(mask, _living(table))
            rows += table.filter(mask).to_pylist()
    return rows


def _living(table: pa.Table) -> pa.ChunkedArray:
    return pc.fill_null(pc.not_equal(table["rejected_by"], FORGET), True)


def _bury(table: pa.Table, uids: frozenset[str]) -> pa.Table:
    return bury(table, pc.and_(is_in(table["uid"], uids), _living(table)))


def _drop(table: pa.Table, uids: frozenset[str]) -> pa.Table:
    return table.filter(pc.invert(is_in(table["uid"], uids)))


def _rewriting(
    source: Path, change: Callable[[pa.Table, frozenset[str]], pa.Table], uids: frozenset[str]
) -> Callable[[Path], object]:
    """Return what writes a changed copy of a table, a row group at a time."""

    def write(target: Path) -> None:
        with pq.ParquetFile(source) as came:
            schema = came.schema_arrow
            with pq.ParquetWriter(target, schema, compression="zstd", version="2.6") as writer:
                for number in range(came.num_row_groups):
                    writer.write_table(change(came.read_row_group(number), uids).cast(schema))

    return write


def bury_shards(
    stage: StageBurial,
    before: StageBurial | None,
    preparation: Preparation,
    uids: frozenset[str],
) -> None:
    """Prepare the shards of `fetch`, `curate` or `pack` that hold one of the images; all others stay as they are."""
    for shard, report in stage.old.items():
        buried = _bury_shard(stage, before, report, preparation, uids)
        if buried is not None:
            stage.new[shard] = buried


def _bury_shard(
    stage: StageBurial,
    before: StageBurial | None,
    report: ShardReport,
    preparation: Preparation,
    uids: frozenset[str],
) -> ShardReport | None:
    folder, column = stage.place.folder, stage.stage.member_key
    ledger = report.file(folder, ".parquet")
    with ExitStack() as stack:
        copy = stack.enter_context(whole_file(ledger, report.files[ledger.name]))
        rows = _rows_of(copy, uids, [*VERDICT, "key"])
        if not rows:
            return None
        table, files = read_ledger(copy), dict(report.files)
        keys = {row[column] for row in rows if row["kept"]} if stage.stage.writes_tars else set()
        offsets: dict[str, int] = {}
        if keys:
            tar = report.file(folder, ".tar")
            whole = stack.enter_context(whole_file(tar, report.files[tar.name]))

            def write(temp: Path) -> None:
                offsets.update(copy_without(whole, temp, keys, tar))

            files[tar.name] = preparation.put(stage.file(tar.name), report.files[tar.name], write)
        footer = dict(table.schema.metadata)
        stage.keys[report.shard] = json.loads(footer.get(b"measurement_keys", b"{}"))
        if before is not None and footer.get(SOURCE_SHA256) == _tar_sha256(before.old.get(report.shard)):
            footer[SOURCE_SHA256] = _tar_sha256(before.new[report.shard])
        table = _bury(table, uids)
        if "offset" in table.schema.names and keys:
            table = _with_offsets(table, offsets)
        files[ledger.name] = preparation.put(
            stage.file(ledger.name), report.files[ledger.name], lambda temp: write_table(temp, table, _said(footer))
        )
    num_kept, rejected = recount(report.rejected, report.num_kept, rows)
    stage.num_rows += len(rows)
    stage.num_samples += len(keys)
    return replace(report, files=files, num_kept=num_kept, rejected=rejected)


def _tar_sha256(report: ShardReport | None) -> bytes:
    """Return the sha256 of a shard's tar as a footer has it; empty where there is no such shard."""
    return b"" if report is None else report.files[report.file(Path(), ".tar").name].sha256.encode()


def _said(footer: Mapping[bytes, bytes]) -> dict[str, str]:
    said = {key.decode(): value.decode() for key, value in footer.items() if key != b"ARROW:schema"}
    assert said.pop("schema_version") == LEDGER_SCHEMA_VERSION, "read_ledger has looked"
    return said


def _with_offsets(table: pa.Table, offsets: Mapping[str, int]) -> pa.Table:
    """Return the rows of a packed shard with the places that their pictures have now."""
    pictures = picture_offsets(offsets)
    places = [pictures.get(key) for key in table["key"].to_pylist()]
    column = table.schema.get_field_index("offset")
    return table.set_column(column, table.schema.field("offset"), pa.array(places, pa.int64()))


def refresh_fetched(stage: StageBurial, before: StageBurial | None) -> None:
    """Give fetched shards whose part has changed the identity of the work that they now are."""
    selection = None if before is None else next(iter(before.old.values()), None)
    recipe = stage.recipe(before)
    if before is None or selection is None or recipe is None:
        return
    settings, limits, changed = recipe.file.fetch, recipe.file.decode, before.new[selection.shard]
    safety = {} if stage.manifest is None else stage.manifest.extra.get("safety", {})
    lists, heeds_robots = safety.get("hash_lists", {}), ROBOTS_WAIVER not in safety
    for shard, report in stage.new.items():
        old, new = (record.files.get(f"{shard}.parquet") for record in (selection, changed))
        if old is None or new is None:
            continue
        if report.work_id == fetch_work_id(shard, old.sha256, settings, limits, lists, heeds_robots):
            work_id = fetch_work_id(shard, new.sha256, settings, limits, lists, heeds_robots)
            stage.new[shard] = replace(report, work_id=work_id)


def find_again(stage: StageBurial, preparation: Preparation) -> dict[str, Any]:
    """Prepare what `fetch` found over all its shards without the images; return the manifest's fields that change."""
    recipe = stage.recipe()
    if stage.manifest is None or recipe is None or FINDINGS_NAME not in stage.manifest.files or not stage.num_rows:
        return {}
    ledgers = []
    for report in sorted(stage.new.values(), key=lambda report: report.shard):
        name = report.file(stage.place.folder, ".parquet").name
        prepared = preparation.path_of(stage.file(name))
        ledgers.append(prepared if prepared.exists() else stage.place.folder / name)
    old = stage.manifest.files[FINDINGS_NAME]
    with whole_file(stage.place.folder / FINDINGS_NAME, old) as copy:
        schema = pq.read_schema(copy)
    with found_in(ledgers, recipe.file.fetch) as findings:
        plain = schema.remove_metadata()
        write = partial(write_tables, tables=findings.tables(), schema=plain, footer=_said(schema.metadata))
        record = preparation.put(stage.file(FINDINGS_NAME), old, write)
        told = findings.summary()
    return {
        "files": {**stage.manifest.files, FINDINGS_NAME: record},
        "extra": {**stage.manifest.extra, "findings": told},
    }


def refresh_curated(stage: StageBurial, before: StageBurial | None) -> None:
    """Give curated shards whose source tar has changed the identity of the work that they now are."""
    recipe = stage.recipe(before)
    if before is None or recipe is None:
        return
    for shard, keys in stage.keys.items():
        report, old, new = stage.new[shard], before.old.get(shard), before.new.get(shard)
        if old is None or new is None:
            continue
        was, is_ = (record.files[record.file(Path(), ".tar").name].sha256 for record in (old, new))
        if report.work_id == curate_work_id_of(shard, was, recipe, keys):
            stage.new[shard] = replace(report, work_id=curate_work_id_of(shard, is_, recipe, keys))


def bury_arrived(stage: StageBurial, preparation: Preparation, uids: frozenset[str]) -> None:
    """Prepare the replies that came before their shard was done, without those about the images."""
    folder = stage.place.folder
    for path in files_of(folder):
        if (left := lines_without(path, uids)) is None:
            continue
        file = stage.file(path.relative_to(folder).as_posix())
        if left:
            preparation.put(file, record_of(path), partial(Path.write_bytes, data=left))
        else:
            preparation.deletions.append(file)


def refresh_captioned(stage: StageBurial, before: StageBurial | None) -> dict[str, Any]:
    """Give shards of replies whose curated tar has changed the identity of the work that they now are.

    Returns the manifest's fields that change: which state of the curated folder they are about.
    """
    recipe = stage.recipe(before)
    if before is None or recipe is None or recipe.file.caption is None:
        return {}
    for shard, report in stage.new.items():
        old, new = before.old.get(shard), before.new.get(shard)
        if old is None or new is None or old == new:
            continue
        was, is_ = (record.files[record.file(Path(), ".tar").name].sha256 for record in (old, new))
        if report.work_id == caption_work_id(shard, was, recipe):
            stage.new[shard] = replace(report, work_id=caption_work_id(shard, is_, recipe))
    if stage.manifest is None:
        return {}
    extra = dict(stage.manifest.extra)
    if before.manifest is not None and extra.get(MADE_FROM) == before.manifest.state:
        extra[MADE_FROM] = state_of(before)
    if stage.new != stage.old:
        extra[BEFORE_FORGET] = [*extra.get(BEFORE_FORGET, ()), stage.manifest.state]
    return {} if extra == stage.manifest.extra else {"extra": extra}


def state_of(stage: StageBurial) -> str:
    """Return the state that a finished stage will have."""
    assert stage.manifest is not None
    return replace(stage.manifest, shards=tuple(stage.new.values())).state


def put_records(stage: StageBurial, preparation: Preparation, told: Told, **changes: Any) -> None:
    """Prepare the done records of changed shards, and the manifest last.

    `told` says whether a message of a run names one of the images; `changes` are further fields of the manifest.
    """
    for shard, report in stage.new.items():
        if report != stage.old[shard]:
            path = stats_path(stage.place.folder, shard)
            values = {**read_sealed(path), **{name: value for name, value in asdict(report).items() if name != "run"}}
            if "messages" in values["run"]:
                messages = {text: num for text, num in values["run"]["messages"].items() if not told(text)}
                values["run"] = {**values["run"], "messages": messages}
            _put_sealed(preparation, stage.file(path.name), path, values)
    if stage.manifest is None or (stage.new == stage.old and not changes):
        return
    num_seen, num_kept, rejected = total(list(stage.new.values()), changes.pop("rejected_before", {}))
    manifest = replace(
        stage.manifest, shards=tuple(stage.new.values()),
        num_seen=num_seen, num_kept=num_kept, rejected=rejected, **changes,
    )  # fmt: skip
    path = stage.place.folder / MANIFEST_NAME
    _put_sealed(preparation, stage.file(MANIFEST_NAME), path, manifest_values(manifest))


def _put_sealed(preparation: Preparation, file: str, path: Path, values: dict[str, Any]) -> None:
    preparation.put(file, record_of(path), lambda temp: temp.write_bytes(sealed_bytes(values)))

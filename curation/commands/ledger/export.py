"""A stage's whole ledger as one file of another form; memory does not grow with the number of rows."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from curation.commands.ledger.cells import flat, guarded, json_of
from curation.dataset.ledger import require_base
from curation.dataset.manifest import MANIFEST_NAME, WORK_NAME, Manifest
from curation.dataset.stages import CURATE, STAGES
from curation.dataset.tombstones import consult
from curation.errors import ShardError, UsageError
from curation.run.derived import EXPORTED, register
from curation.run.folders import StageFolder, stages_of
from curation.run.lookup import ledgers_of
from curation.run.target import finished
from curation.storage.paths import local_copy
from curation.storage.publish import publish_alone

NUM_BATCH_ROWS = 8192
Batches = Iterator[pa.RecordBatch]
Write = Callable[[Path, pa.Schema, Batches], None]


def export_ledger(run: Path, target: Path, stage: str | None = None) -> int:
    """Write all rows of a stage's ledger to a `.csv`, `.jsonl` or `.parquet`, and return how many there are.

    `stage` is the stage of a run, `curate` unless named; a stage's own folder is its own.

    The file leaves its card in the stage's folder, by which `forget` finds it.

    Raises:
        UsageError: there is no such ledger, the stage has not finished, a `forget` was interrupted, or `target` is no
            place for it.
        ShardError: a ledger cannot be read; nothing is written then.
    """
    write = _form_of(target)
    place = _place(run, stage)
    consult(place.folder)
    manifest = _finished(place)
    paths = list(dict.fromkeys(path for path, _ in ledgers_of(place)))
    if not paths:
        raise UsageError(f"{place.folder}: has no ledger yet")
    schema = pa.unify_schemas([_schema(path) for path in paths], promote_options="permissive")
    counted = [0]

    def fill(temp: Path) -> None:
        write(temp, schema, _counting(_batches(paths, schema), counted))

    register(place.folder, target, EXPORTED, manifest.state)
    publish_alone(target, fill)
    return counted[0]


def _finished(place: StageFolder) -> Manifest:
    if not (place.folder / MANIFEST_NAME).exists():
        raise UsageError(f"{place.folder}: {place.stage} has not finished; run it to its end first")
    return finished(place.folder, STAGES[place.stage])


def _form_of(target: Path) -> Write:
    if target.suffix not in FORMS:
        raise UsageError(f"{target}: give a name that ends in {', '.join(FORMS)}")
    if target.exists():
        raise UsageError(f"{target}: is there already; name another file, or remove it")
    if not target.parent.is_dir() or any((target.parent / name).exists() for name in (MANIFEST_NAME, WORK_NAME)):
        raise UsageError(f"{target}: give a folder that is there, and is no stage's own")
    return FORMS[target.suffix]


def _place(run: Path, stage: str | None) -> StageFolder:
    places = stages_of(run)
    if len(places) == 1 and stage in (None, places[0].stage):
        return places[0]
    wanted = stage or CURATE.name
    found = next((place for place in places if place.stage == wanted), None)
    if found is None:
        raise UsageError(f"{run}: has no folder of {wanted}; there is {', '.join(place.stage for place in places)}")
    return found


def _schema(path: Path) -> pa.Schema:
    with _opened(path) as ledger:
        require_base(ledger.schema_arrow, path)
        return ledger.schema_arrow.remove_metadata()


def _batches(paths: Sequence[Path], schema: pa.Schema) -> Batches:
    for path in paths:
        with local_copy(path) as copy, _opened(copy) as ledger:
            for batch in ledger.iter_batches(batch_size=NUM_BATCH_ROWS, use_threads=False):
                table = pa.Table.from_batches([batch.replace_schema_metadata()])
                yield from _in_schema(table, schema).to_batches()


def _in_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table[field.name] if field.name in table.column_names else pa.nulls(len(table), field.type) for field in schema
    ]
    return pa.table(columns, names=schema.names).cast(schema)


def _counting(batches: Batches, counted: list[int]) -> Batches:
    for batch in batches:
        counted[0] += batch.num_rows
        yield batch


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{path}: not a readable ledger: {error}") from error


def _csv(path: Path, schema: pa.Schema, batches: Batches) -> None:
    empty = _cells(pa.RecordBatch.from_pylist([], schema))
    with pa_csv.CSVWriter(path, empty.schema) as writer:
        for batch in batches:
            writer.write_batch(_cells(batch))


def _cells(batch: pa.RecordBatch) -> pa.RecordBatch:
    columns = {name: guarded(column) for name, column in flat(batch)}
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def _jsonl(path: Path, _: pa.Schema, batches: Batches) -> None:
    with path.open("w", encoding="ascii", newline="\n") as file:
        for batch in batches:
            file.writelines(f"{json_of(row)}\n" for row in batch.to_pylist())


def _parquet(path: Path, schema: pa.Schema, batches: Batches) -> None:
    with pq.ParquetWriter(path, schema, compression="zstd", version="2.6") as writer:
        for batch in batches:
            writer.write_batch(batch)


FORMS: Mapping[str, Write] = MappingProxyType({".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet})
"""What writes a file, by its suffix."""

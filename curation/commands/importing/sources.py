"""Every shape in which rows of metadata lie on disk, as columns under the source's own names."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from curation.commands.importing.delimited import BLANK, COMMA, TAB, records_of, rows_of
from curation.commands.importing.faults import Faults
from curation.commands.importing.files import TAR, listing
from curation.commands.importing.lines import OPENERS, lines, suffix_of
from curation.commands.importing.parquet import batches, naming, opened
from curation.commands.importing.values import Column, Written
from curation.dataset.captions import CAPTION_KEYS, captions_of
from curation.dataset.tar import read_samples
from curation.errors import ShardError, UsageError

HUB = "hf://"
"""Before the name of a data set of the Hugging Face Hub: a path that is mistyped asks nobody else."""
NUM_BATCH_ROWS = 50_000
IsWanted = Callable[[str], bool]
"""Whether a column of that name is of use."""


@dataclass(frozen=True)
class SourceRows:
    """Some rows of one file, column by column; a name may occur twice."""

    file: str
    names: Sequence[str]
    columns: Sequence[Column]
    numbers: Sequence[int]
    """Where each row stands in its file."""
    unit: str = "row"

    def where(self, place: int) -> str:
        """Return where in its file a row stands."""
        return f"{self.file} {self.unit} {self.numbers[place]}"


@dataclass(frozen=True)
class Source:
    """What is read: the files, and what of a folder is left alone."""

    rows: Iterator[SourceRows]
    left_out: Mapping[str, str]


def source_of(source: str, is_wanted: IsWanted, faults: Faults, beside: Path | None = None) -> Source:
    """Return the rows of a source; a file of no rows yields its names once.

    Raises:
        UsageError: there is nothing to read.
    """
    path = Path(source)
    if path.is_file():
        return Source(_reader_of(path)(path, is_wanted, faults), {})
    if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        return Source(_saved_dataset(path, is_wanted), {})
    if path.is_dir():
        found = listing(path, READERS, beside)
        if not found.files:
            raise UsageError(f"{path}: holds no {', '.join(READERS)}; give a file or a folder of such files")
        parts = (_reader_of(file)(file, is_wanted, faults) for file in found.files)
        return Source(chain.from_iterable(parts), found.left_out)
    if source.startswith(HUB):
        return Source(_hub_dataset(source.removeprefix(HUB), is_wanted), {})
    raise UsageError(f"{source}: no such file or folder; a data set of the Hugging Face Hub is {HUB}NAME/DATASET")


def _reader_of(path: Path) -> "Reader":
    suffix, packed = suffix_of(path)
    if suffix not in READERS:
        raise UsageError(f"{path}: cannot be imported; the choices are .pth, {', '.join(READERS)}")
    if packed and suffix in (".parquet", TAR):
        raise UsageError(f"{path}: only text may be packed ({', '.join(filter(None, OPENERS))}); unpack it")
    return READERS[suffix]


def _parquet(path: Path, is_wanted: IsWanted, faults: Faults) -> Iterator[SourceRows]:
    with opened(path) as file, naming(path):
        names = file.schema_arrow.names
    yield SourceRows(path.name, names, (), ())
    wanted = [name for name in names if is_wanted(name)]
    first = 1
    for batch in batches(path, wanted, NUM_BATCH_ROWS):
        numbers = range(first, first := first + batch.num_rows)
        yield SourceRows(path.name, batch.schema.names, batch.columns, numbers)


def _delimited(delimiter: bytes, path: Path, is_wanted: IsWanted, faults: Faults) -> Iterator[SourceRows]:
    records = records_of(lines(path), delimiter)
    header = next((record for record in records if record.problem != BLANK), None)
    names = [] if header is None else [_name(field, delimiter) for field in header.fields]
    wanted = [place for place, name in enumerate(names) if is_wanted(name)]
    yield SourceRows(path.name, names, (), ())
    rows = rows_of(records, path.name, len(names), faults)
    while part := list(islice(rows, NUM_BATCH_ROWS)):
        columns = [pa.array([record.fields[place] for record in part], pa.binary()) for place in wanted]
        yield SourceRows(path.name, [names[place] for place in wanted], columns, [r.number for r in part], "line")


def _name(field: bytes | None, delimiter: bytes) -> str:
    name = (field or b"").decode("utf-8", "replace").strip()
    return name.replace('"', "") if delimiter == TAB else name


def _list(path: Path, is_wanted: IsWanted, faults: Faults) -> Iterator[SourceRows]:
    """Read a list of URLs, one a line."""
    rows = rows_of(records_of(lines(path), b"\n"), path.name, 1, faults)
    yield SourceRows(path.name, ["url"], (), ())
    while part := list(islice(rows, NUM_BATCH_ROWS)):
        column = pa.array([(record.fields[0] or b"").strip() for record in part], pa.binary())
        yield SourceRows(path.name, ["url"], [column], [record.number for record in part], "line")


def _json_lines(path: Path, is_wanted: IsWanted, faults: Faults) -> Iterator[SourceRows]:
    rows = _objects(path, faults)
    while part := list(islice(rows, NUM_BATCH_ROWS)):
        yield _of_objects(path.name, part, "line", is_wanted)


def _objects(path: Path, faults: Faults) -> Iterator[tuple[int, dict[str, Any]]]:
    for record in rows_of(records_of(lines(path), b"\n"), path.name, 1, faults):
        place = f"{path.name} line {record.number}"
        try:
            row = json.loads(record.fields[0] or b"", parse_float=Written, object_pairs_hook=_Object)
        except UnicodeDecodeError:
            faults.lose("not_utf8", place)
            continue
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, _Object):
            faults.lose("line_broken", place)
            continue
        if row.has_twice:
            faults.note("column_named_twice", place)
        yield record.number, row


class _Object(dict[str, Any]):
    """An object of JSON; of a name that stands there twice, the first value counts."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(reversed(pairs))
        self.has_twice = len(self) != len(pairs)


def _of_objects(file: str, rows: Sequence[tuple[int, Mapping[str, Any]]], unit: str, is_wanted: IsWanted) -> SourceRows:
    names = [name for name in dict.fromkeys(name for _, row in rows for name in row) if is_wanted(name)]
    columns: list[Column] = [[row.get(name) for _, row in rows] for name in names]
    return SourceRows(file, names, columns, [number for number, _ in rows], unit)


def _tar(path: Path, is_wanted: IsWanted, faults: Faults) -> Iterator[SourceRows]:
    rows: list[tuple[int, Mapping[str, Any]]] = []
    try:
        for number, sample in enumerate(read_samples(path), 1):
            faults.note("sample_broken", f"{path.name} sample {number}", int(sample.problem is not None))
            rows.append((number, {"key": sample.key} | _with_caption(sample.caption, sample.metadata)))
    except ShardError:
        faults.lose("tar_broken", path.name)
        return
    for first in range(0, len(rows), NUM_BATCH_ROWS):
        yield _of_objects(path.name, rows[first : first + NUM_BATCH_ROWS], "sample", is_wanted)


def _with_caption(caption: str | None, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return metadata with what `curate` and `pack` take for the caption in place of all that might be one."""
    rest = {name: value for name, value in metadata.items() if name.casefold() not in CAPTION_KEYS}
    texts = [said.text for said in captions_of(caption, metadata) if said.source != "facecaption"]
    return rest | {"text": next(iter(texts), caption)} | ({"captions": texts} if len(texts) > 1 else {})


def _saved_dataset(path: Path, is_wanted: IsWanted) -> Iterator[SourceRows]:
    from datasets import DatasetDict, load_from_disk

    with naming(path):
        loaded = load_from_disk(str(path))
    for name, split in loaded.items() if isinstance(loaded, DatasetDict) else ((path.name, loaded),):
        wanted = [column for column in split.column_names if is_wanted(column)]
        plain = split.select_columns(wanted).with_format("arrow")
        for first in range(0, len(plain), NUM_BATCH_ROWS):
            with naming(path):
                table = plain[first : first + NUM_BATCH_ROWS]
            yield _of_table(str(name), table, first)


def _hub_dataset(name: str, is_wanted: IsWanted) -> Iterator[SourceRows]:
    from datasets import load_dataset

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its warnings while it tries again say no more
    try:
        splits = load_dataset(name, streaming=True)
        for split_name, split in splits.items():
            first = 0
            for batch in split.iter(NUM_BATCH_ROWS):
                table = pa.table({column: values for column, values in batch.items() if is_wanted(column)})
                yield _of_table(str(split_name), table, first)
                first += table.num_rows
    except (OSError, ValueError) as error:
        raise UsageError(f"{HUB}{name}: the Hugging Face Hub does not give it: {error}") from error


def _of_table(file: str, table: pa.Table, first: int) -> SourceRows:
    columns = [column.combine_chunks() for column in table.columns]
    arrays = [column.chunk(0) if isinstance(column, pa.ChunkedArray) else column for column in columns]
    return SourceRows(file, table.column_names, arrays, range(first + 1, first + 1 + table.num_rows))


Reader = Callable[[Path, IsWanted, Faults], Iterator[SourceRows]]
READERS: Mapping[str, Reader] = {
    ".parquet": _parquet,
    ".csv": partial(_delimited, COMMA),
    ".tsv": partial(_delimited, TAB),
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".txt": _list,
    TAR: _tar,
}

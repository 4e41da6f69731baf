"""Every shape in which rows of metadata lie on disk, as tables of the source's own columns."""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from curation.dataset.tar import read_samples
from curation.errors import ShardError, UsageError

log = logging.getLogger(__name__)

NUM_BATCH_ROWS = 50_000


def tables(source: str, faults: Counter[str]) -> Iterator[pa.Table]:
    """Yield the rows of a source in tables of its own columns."""
    path = Path(source)
    if path.is_file():
        yield from _reader_of(path)(path, faults)
    elif (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        yield from _saved_dataset(path)
    elif path.is_dir():
        files = [file for file in sorted(path.iterdir()) if file.suffix in READERS]
        tars = [file for file in files if file.suffix == ".tar"]
        if not files:
            raise UsageError(f"{path}: holds no {', '.join(READERS)}; give a file or a folder of such files")
        for file in tars or files:
            yield from _reader_of(file)(file, faults)
    elif source.count("/") == 1 and not source.startswith((".", "/")):
        yield from _hub_dataset(source)
    else:
        raise UsageError(f"{source}: no such file or folder, and no NAME/DATASET of the Hub")


def _reader_of(path: Path) -> "Reader":
    if path.suffix not in READERS:
        raise UsageError(f"{path}: cannot be imported; the choices are .pth, {', '.join(READERS)}")
    return READERS[path.suffix]


def _parquet(path: Path, faults: Counter[str]) -> Iterator[pa.Table]:
    try:
        with pq.ParquetFile(path) as parquet:
            for batch in parquet.iter_batches(NUM_BATCH_ROWS):
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, OSError) as error:
        raise UsageError(f"{path}: cannot be read as parquet: {error}") from error


def _csv(path: Path, faults: Counter[str]) -> Iterator[pa.Table]:
    def skip(row: Any) -> str:
        faults["row_broken"] += 1
        return "skip"

    delimiter = "\t" if path.suffix == ".tsv" else ","
    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=skip)
    read = pa.csv.ReadOptions(use_threads=False)
    try:
        with path.open("rb") as file:
            names = file.readline().decode().strip().replace('"', "").split(delimiter)
        texts = pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=True)
        with path.open("rb") as file, pa.csv.open_csv(file, read, parse, texts) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])
    except (pa.ArrowException, UnicodeError) as error:
        raise UsageError(f"{path}: cannot be read as {path.suffix[1:]}: {error}") from error


def _json_lines(path: Path, faults: Counter[str]) -> Iterator[pa.Table]:
    rows: list[dict[str, Any]] = []
    with path.open("rb") as file:
        for line in file:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                faults["line_broken"] += 1
                continue
            rows.append(row)
            if len(rows) == NUM_BATCH_ROWS:
                yield _table(rows)
                rows = []
    if rows:
        yield _table(rows)


def _tar(path: Path, faults: Counter[str]) -> Iterator[pa.Table]:
    rows: list[dict[str, Any]] = []
    try:
        for sample in read_samples(path):
            faults["sample_broken"] += sample.problem is not None
            rows.append({"text": sample.caption, "key": sample.key} | dict(sample.metadata))
    except ShardError as error:
        faults["tar_broken"] += 1
        log.warning("%s; its metadata is left out", error)
        return
    for first in range(0, len(rows), NUM_BATCH_ROWS):
        yield _table(rows[first : first + NUM_BATCH_ROWS])


def _saved_dataset(path: Path) -> Iterator[pa.Table]:
    from datasets import DatasetDict, load_from_disk

    loaded = load_from_disk(str(path))
    for split in loaded.values() if isinstance(loaded, DatasetDict) else (loaded,):
        plain = split.with_format("arrow")
        for first in range(0, len(plain), NUM_BATCH_ROWS):
            yield plain[first : first + NUM_BATCH_ROWS]


def _hub_dataset(name: str) -> Iterator[pa.Table]:
    from datasets import load_dataset

    try:
        splits = load_dataset(name, streaming=True)
        for split in splits.values():
            for batch in split.iter(NUM_BATCH_ROWS):
                yield pa.table(batch)
    except (OSError, ValueError) as error:
        raise UsageError(f"{name}: no such file here, and the Hub does not give it: {error}") from error


Reader = Callable[[Path, Counter[str]], Iterator[pa.Table]]
READERS: Mapping[str, Reader] = {
    ".parquet": _parquet,
    ".csv": _csv,
    ".tsv": _csv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".tar": _tar,
}


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    """Return rows of loose values as columns of text; what is neither text nor null is written as JSON."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: pa.array([as_text(row.get(name)) for row in rows], pa.string()) for name in names})


def as_text(value: Any) -> str | None:
    """Return a value as text that is UTF-8; what is neither text nor null is written as JSON."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()

"""How many pictures a tar should hold, by the files that lie beside it."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.dataset.tar.headers import mend
from curation.dataset.tar.read import Layout, require_usual_end
from curation.errors import ShardError
from curation.storage.paths import local_copy

STATED_IN_STATS = ("num_kept", "successes")
"""Where a done record says how many samples its tar holds: ours, and img2dataset's."""
MAX_STATS_BYTES = 16 << 20
SIZES_NAME = "sizes.json"
"""Name of every tar of a folder -> its number of samples, as data sets for open_clip have it."""


def held_against_counts(layout: Layout, shown: Path, *, is_counted: bool) -> None:
    """Refuse a tar that holds another number of pictures than is said beside it, or that may have lost some unsaid.

    Raises:
        ShardError: the numbers differ; none is said, and the tar is empty or ends in more zeros than is usual; or a
            file that says a number cannot be read.
    """
    stated = stated_count(shown) if is_counted else None
    if stated is None:
        require_usual_end(layout, shown)
        if is_counted and not layout.groups and not layout.skipped:
            raise ShardError(f"{shown}: holds no member at all, and nothing beside it says so; take it out of there")
        return
    number, where = stated
    if number != layout.num_pictures:
        raise ShardError(f"{shown}: holds {layout.num_pictures} pictures, and {where} says {number}; {mend(shown)}")


def stated_count(tar: Path) -> tuple[int, str] | None:
    """Return how many pictures are said to be in a tar, and by which file; None where none says.

    Raises:
        ShardError: a file that says it cannot be read.
    """
    stem = tar.name.partition(".tar")[0]
    for name, count in ((f"{stem}_stats.json", _of_stats), (f"{stem}.parquet", _of_table), (SIZES_NAME, _of_sizes)):
        path = tar.parent / name
        if not path.is_file():
            continue
        try:
            number = count(path, tar.name)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise ShardError(f"{path}: says how many pictures {tar.name} holds, but cannot be read: {error}") from error
        if number is not None:
            return number, name
    return None


def _of_stats(path: Path, _: str) -> int | None:
    values = _json(path)
    return next((int(values[key]) for key in STATED_IN_STATS if type(values.get(key)) is int), None)


def _of_sizes(path: Path, name: str) -> int | None:
    number: Any = _json(path).get(name)
    return int(number) if type(number) is int else None


def _of_table(path: Path, _: str) -> int | None:
    """Return how many rows a ledger of ours keeps, or img2dataset calls a success."""
    with local_copy(path) as local, pq.ParquetFile(local) as table:
        names = table.schema_arrow.names
        if "kept" in names:
            return sum(bool(kept) for kept in table.read(["kept"])["kept"].to_pylist())
        if "status" in names:
            return sum(bool(status == "success") for status in table.read(["status"])["status"].to_pylist())
    return None


def _json(path: Path) -> dict[str, Any]:
    if path.stat().st_size > MAX_STATS_BYTES:
        raise ValueError(f"{path.stat().st_size} bytes of JSON")
    try:
        values = json.loads(path.read_bytes())
    except RecursionError as error:
        raise ValueError("JSON of too many levels") from error
    return values if isinstance(values, dict) else {}

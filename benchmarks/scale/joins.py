"""What do joins over all rows hold and take, in what DuckDB may hold: those of `verify`, and near duplicates?

    python -m benchmarks.scale.joins [--rows 1000000 3000000] [--looks 300000] [--out benchmarks/results/joins.json]

Rows are made up by DuckDB itself: each was kept once and packed once. Hashes of looks are drawn by lot, so that keys
meet by chance alone. Each is run in a process of its own; its most memory is what the kernel counts (VmHWM).
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.provenance import RESULTS, commit, machine
from benchmarks.scale.rows import in_child
from curation.commands.pack.near_duplicates import near_duplicates_in
from curation.commands.verify.packed import LOST_SQL, STRANGE_SQL
from curation.storage.scratch import MEMORY_LIMIT, fetched, insert, scratch_database

NUM_AT_ONCE = 50_000
ROWS_SQL = """
INSERT INTO {name} SELECT format('{{:032x}}', hash(i)), format('{{:05d}}', i // 1000),
    format('{{:032x}}{{:032x}}', hash(i + 1), i), i FROM range({first}, {last}) AS made(i)
"""
LOOKS_SQL = """
CREATE TABLE pictures (uid VARCHAR, num_captions INTEGER, face_side DOUBLE, shard INTEGER, number INTEGER,
    phash VARCHAR, fine_phash VARCHAR)
"""
NUM_BITS, NUM_FINE_BITS = 6, 48


def main(arguments: Sequence[str] | None = None) -> int:
    """Run each, and write what it held and took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale.joins", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 3_000_000])
    parser.add_argument("--looks", type=int, nargs="+", default=[300_000])
    parser.add_argument("--out", type=Path, default=RESULTS / "joins.json")
    chosen = parser.parse_args(arguments)
    runs: dict[str, dict[int, dict[str, float]]] = {"verify": {}, "near_duplicates": {}}
    result: dict[str, Any] = {"memory_limit": MEMORY_LIMIT, "runs": runs, "machine": machine(), "commit": commit()}
    works = [
        *(("verify", joined, num) for num in chosen.rows),
        *(("near_duplicates", compared, n) for n in chosen.looks),
    ]
    for name, work, num in works:
        runs[name][num] = in_child(partial(work, num))
        print(name, num, runs[name][num], flush=True)
        chosen.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


def joined(num_rows: int) -> None:
    """Hold what was packed against what was kept, as `verify` does."""
    with scratch_database() as database:
        for name in ("kept", "went"):
            database.execute(f"CREATE TABLE {name} (uid VARCHAR, shard VARCHAR, sha256 VARCHAR, place BIGINT)")
            for first in range(0, num_rows, NUM_AT_ONCE):
                last = min(num_rows, first + NUM_AT_ONCE)
                database.execute(ROWS_SQL.format(name=name, first=first, last=last))
        assert not [*fetched(database, STRANGE_SQL), *fetched(database, LOST_SQL)]


def compared(num_looks: int) -> None:
    """Look for near duplicates among pictures that have none, but by chance."""
    with scratch_database() as database:
        database.execute(LOOKS_SQL)
        insert(database, "INSERT INTO pictures BY NAME FROM came", _looks(num_looks))
        near_duplicates_in(database, NUM_BITS, NUM_FINE_BITS)
        assert database.execute("SELECT count(*) FROM near").fetchall() == [(0,)]


def _looks(num: int) -> Iterator[pa.Table]:
    random = np.random.default_rng(0)
    for first in range(0, num, NUM_AT_ONCE):
        numbers = range(first, min(num, first + NUM_AT_ONCE))
        yield pa.table(
            {
                "uid": [f"{n:032x}" for n in numbers],
                "num_captions": pa.array([1] * len(numbers), pa.int32()),
                "face_side": [0.0] * len(numbers),
                "shard": pa.array([n // 1000 for n in numbers], pa.int32()),
                "number": pa.array([n % 1000 for n in numbers], pa.int32()),
                "phash": [random.bytes(8).hex() for _ in numbers],
                "fine_phash": [random.bytes(32).hex() for _ in numbers],
            }
        )


if __name__ == "__main__":
    sys.exit(main())

"""The ledgers of a pack and of its run as tables of a database, each file held against its record first."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from curation.commands.card.numbers import Number, Value
from curation.commands.card.origin import Origin
from curation.dataset.manifest import read_manifest
from curation.dataset.stages import INDEX_NAME, PACK
from curation.dataset.tombstones import KINDS, Tombstones, consult
from curation.errors import VerificationError
from curation.run.folders import StageFolder
from curation.run.journal import receipts_of
from curation.run.lookup import ledgers_of
from curation.storage.paths import local_copy
from curation.storage.publish import digest, read_sealed, sha256_of
from curation.storage.scratch import scratch_database, scratch_folder

if TYPE_CHECKING:
    import duckdb

LEDGER = "_ledger"
"""How the table of a stage's rows ends; a stage of which every shard failed has none."""
REQUESTS = pa.schema([("kind", pa.string()), ("hash", pa.string()), ("num_images", pa.int64())])
TOMBSTONES = pa.schema([("kind", pa.string()), ("hash", pa.string())])
LIMITS = pa.schema([("filter", pa.string()), ("score", pa.string()), ("least", pa.float64()), ("most", pa.float64())])


@dataclass(frozen=True)
class Ledgers:
    """Tables that numbers are asked of."""

    database: "duckdb.DuckDBPyConnection"
    columns: Mapping[str, frozenset[str]]
    """Table -> its columns."""
    digests: Mapping[str, str]
    """`stage/file` -> sha256 of every ledger among them."""
    takedowns: str | None = None
    """Digest of every tombstone that counts for the pack; None where its run is not known."""

    def ask(self, number: Number) -> Value:
        """Return a number's value; None where a table or column that it needs is not there."""
        if not all(self._has(name) for name in number.needs):
            return None
        rows = self.database.execute(number.query).fetchall()
        return [list(row) for row in rows] if number.is_table else rows[0][0]

    def _has(self, name: str) -> bool:
        table, _, column = name.partition(".")
        return table in self.columns and (not column or column in self.columns[table])


@contextmanager
def opened(origin: Origin, samples: Path) -> Iterator[Ledgers]:
    """Open all ledgers that are known of, and `samples`, the published Parquet file.

    Raises:
        VerificationError: a ledger is not the one that its manifest names.
        UsageError: a `forget` was interrupted in the run.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder("card"))
        database = stack.enter_context(scratch_database())
        digests: dict[str, str] = {}
        of_stages: list[str] = []
        for name, place, files in _tables(origin, samples):
            copies = [stack.enter_context(local_copy(path)) for path in files]
            digests |= {} if place is None else _digests(place, files, copies)
            of_stages += [name] if name.endswith(LEDGER) else []
            _view(database, name, [_linked(folder / f"{name}-{i}.parquet", copy) for i, copy in enumerate(copies)])
        kept_out = (f"SELECT uid FROM {name} WHERE rejected_by = 'forget'" for name in of_stages)
        database.execute(f"CREATE VIEW forgotten AS {' UNION ALL '.join(kept_out)}")
        for name, table in _said(origin).items():
            database.register(name, table)
        takedowns = None if origin.run is None else digest(_tombstones(_stones(origin, origin.run)).to_pylist())
        yield Ledgers(database, _columns(database), digests, takedowns)


def _tables(origin: Origin, samples: Path) -> Iterator[tuple[str, StageFolder | None, list[Path]]]:
    """Yield each table with the stage that wrote it, and its files."""
    yield "samples", None, [samples]
    yield "packed", origin.pack, [origin.pack.folder / INDEX_NAME]
    for place in origin.stages:
        if files := list(dict.fromkeys(path for path, _ in ledgers_of(place))):
            yield f"{place.stage}{LEDGER}", place, files


def _digests(place: StageFolder, files: Sequence[Path], copies: Sequence[Path]) -> dict[str, str]:
    manifest = read_manifest(place.folder)
    records = dict(manifest.files) | {name: r for report in manifest.shards for name, r in report.files.items()}
    digests = {path.name: sha256_of(copy) for path, copy in zip(files, copies, strict=True)}
    for name, found in digests.items():
        if name not in records or records[name].sha256 != found:
            raise VerificationError(
                f"{place.folder / name}: not the ledger that the manifest names; `verify` says what is wrong, and no "
                f"number is taken from it"
            )
    return {f"{place.stage}/{name}": found for name, found in digests.items()}


def _linked(link: Path, file: Path) -> Path:
    """Return a plain name for a file, whatever stands in its own: DuckDB takes names for patterns."""
    link.symlink_to(file.resolve())
    return link


def _view(database: "duckdb.DuckDBPyConnection", name: str, files: Sequence[Path]) -> None:
    listed = ", ".join(f"'{file}'" for file in files)
    read = f"read_parquet([{listed}], union_by_name = true, hive_partitioning = false)"
    database.execute(f"CREATE VIEW {name} AS SELECT * FROM {read}")


def _columns(database: "duckdb.DuckDBPyConnection") -> dict[str, frozenset[str]]:
    listed = database.execute("SELECT table_name, column_name FROM information_schema.columns").fetchall()
    return {table: frozenset(column for name, column in listed if name == table) for table, _ in listed}


def _said(origin: Origin) -> dict[str, pa.Table]:
    """Return what is said elsewhere than in a ledger: requests to be forgotten, tombstones, the recipe's limits."""
    limits = [
        {"filter": stanza["name"], "score": score, "least": ends.get("min"), "most": ends.get("max")}
        for stanza in origin.manifest.recipe.get("filters", ())
        for score, ends in stanza.get("keep", {}).items()
    ]
    tables = {"limits": pa.Table.from_pylist(limits, LIMITS)}
    if origin.run is None:
        return tables
    stones = _stones(origin, origin.run)
    answers = (answer for path in receipts_of(origin.run) for answer in read_sealed(path)["requests"])
    asked = [{"kind": a["kind"], "hash": a["sha256"], "num_images": a["num_images"]} for a in answers]
    return tables | {"tombstones": _tombstones(stones), "requests": pa.Table.from_pylist(asked, REQUESTS)}


def _stones(origin: Origin, run: Path) -> Tombstones:
    return consult(origin.pack.folder) | consult(run / PACK.name)


def _tombstones(stones: Tombstones) -> pa.Table:
    rows: list[dict[str, Any]] = [
        {"kind": kind, "hash": each} for kind in KINDS for each in sorted(getattr(stones, kind))
    ]
    return pa.Table.from_pylist(rows, TOMBSTONES)

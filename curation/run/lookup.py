"""Finds rows in the ledgers of a run by who they are, reading no more than the columns that say so."""

import logging
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.dataset.ledger import NUM_BATCH_ROWS, ledger_batches, rows_where
from curation.dataset.manifest import ShardReport
from curation.dataset.sample import uid_of_url
from curation.dataset.stages import LEDGER_NAME, STAGES
from curation.dataset.tar.names import picture_stem, split_name
from curation.dataset.tar.write import fitting_key
from curation.dataset.urls import address_of, addresses_of, is_address, with_scheme
from curation.errors import UsageError
from curation.run.folders import StageFolder, reports_of
from curation.storage.paths import filesystem, is_local, local_copy
from curation.storage.publish import sha256_of

IDENTITY = pa.schema(
    [
        ("uid", pa.string()),
        ("key", pa.string()),
        ("sha256", pa.string()),
        ("source_sha256", pa.string()),
        ("shard", pa.string()),
    ]
)
"""What a ledger may know of who a row is; columns that it lacks read as null."""
NUM_SCANNED = 64
"""Ledgers that are scanned at once."""
log = logging.getLogger(__name__)
HEX_UID = re.compile(r"[0-9a-f]{32}")
HEX_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Wanted:
    """Identities to look for: a row that matches any of them is found."""

    uids: frozenset[str] = field(default_factory=frozenset)
    keys: frozenset[str] = field(default_factory=frozenset)
    sha256s: frozenset[str] = field(default_factory=frozenset)
    addresses: frozenset[str] = field(default_factory=frozenset)
    """What URLs ask for (`curation.dataset.urls`); a row is found by its own URL, and by where that led."""
    phashes: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class LedgerEntry:
    """One row of one stage's ledger."""

    place: StageFolder
    ledger: Path
    report: ShardReport | None
    """The record of its shard; None where it is in none."""
    row: dict[str, Any]


def wanted_by(identity: str) -> Wanted:
    """Return what an identity may mean: an http(s) address, a uid, a sha256, or a key.

    Raises:
        UsageError: it is an address of another kind.
    """
    if is_address(identity):
        address = address_of(identity)
        if address is None:
            raise UsageError(f"{identity}: not an http(s) URL")
        return Wanted(frozenset({uid_of_url(with_scheme(identity))}), addresses=frozenset({address}))
    text = identity.lower()
    if HEX_SHA256.fullmatch(text):
        return Wanted(sha256s=frozenset({text}))
    if HEX_UID.fullmatch(text):
        return Wanted(uids=frozenset({text}))
    return Wanted(keys=frozenset({identity}))


def ledgers_of(place: StageFolder) -> list[tuple[Path, ShardReport | None]]:
    """Return the ledgers that together hold one row per sample that a stage saw, each with its shard if of one."""
    (manifest, reports), stage = reports_of(place.folder), STAGES[place.stage]
    if manifest is not None and LEDGER_NAME in manifest.files:
        return [(place.folder / LEDGER_NAME, None)]
    if stage.is_selection:
        return [(place.folder / LEDGER_NAME, report) for report in reports]
    return [(report.file(place.folder, ".parquet"), report) for report in reports]


def find_rows(places: Sequence[StageFolder], wanted: Wanted) -> list[LedgerEntry]:
    """Return every row of every stage that is wanted, in the order of stages, shards and rows."""
    return [entry for place in places for entry in _find_in(place, wanted)]


def find_images(places: Sequence[StageFolder], identity: str) -> list[list[LedgerEntry]]:
    """Return, for each image that an identity may mean, its rows in all stages.

    Raises:
        UsageError: the identity is an address of another kind than http(s).
    """
    wanted = wanted_by(identity)
    wanted = replace(wanted, uids=wanted.uids | _uids_at(places, wanted.addresses))
    rows = find_rows(places, wanted) or _rows_at(places, identity)
    uids = frozenset(entry.row["uid"] for entry in rows)
    if uids and uids != wanted.uids:
        rows = find_rows(places, Wanted(uids=uids))
    return [[entry for entry in rows if entry.row["uid"] == uid] for uid in sorted(uids)]


def _rows_at(places: Sequence[StageFolder], path: str) -> Sequence[LedgerEntry]:
    """Return the rows of a picture that is named by the path of its file, whole or from some folder on.

    Of the keys that its parts may be, the longest counts that there is. A file that lies there is known by its bytes:
    one of the same name elsewhere is another picture, and where its tar or table numbers its samples, it has another
    key. An address is no path. Where no file lies and its parts are taken for a key, one is told of which.
    """
    is_file = os.path.isfile(path)  # noqa: PTH113  takes any text: also one that is too long for a name
    if is_address(path) and not is_file:
        return []
    sha256 = sha256_of(Path(path)) if is_file else None
    for key in keys_at(path):
        if rows := _that_may_have(sha256, places, find_rows(places, Wanted(keys=frozenset(key)))):
            if not is_file and key[0] != next(keys_at(path))[0]:
                log.warning("%s: no such file here; taken for %s, the longest end of it that is known", path, key[0])
            return rows
    return [] if sha256 is None else find_rows(places, Wanted(sha256s=frozenset({sha256})))


def _that_may_have(
    sha256: str | None, places: Sequence[StageFolder], rows: Sequence[LedgerEntry]
) -> Sequence[LedgerEntry]:
    """Return the rows of images of which no stage knows other bytes than these."""
    if sha256 is None or not rows:
        return rows
    known: dict[str, set[str]] = {}
    for entry in find_rows(places, Wanted(uids=frozenset(entry.row["uid"] for entry in rows))):
        said = (entry.row.get("sha256"), entry.row.get("source_sha256"))
        known.setdefault(entry.row["uid"], set()).update(filter(None, said))
    return [entry for entry in rows if not (of := known[entry.row["uid"]]) or sha256 in of]


def keys_at(path: str) -> Iterator[tuple[str, ...]]:
    """Yield the keys that a file may have in a source, by its path from every folder on, with suffix first."""
    parts = [part for part in path.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    for start in range(len(parts)):
        name = "/".join(parts[start:])
        keys = [key for key in (name, split_name(name)[0], picture_stem(name)) if key]
        yield tuple(dict.fromkeys((*keys, *map(fitting_key, keys))))


def _uids_at(places: Sequence[StageFolder], addresses: frozenset[str]) -> frozenset[str]:
    """Return the uids of rows whose URL asks for one of the addresses, or was led there."""
    found: set[str] = set()
    for path in (path for place in places for path, _ in ledgers_of(place) if addresses and path.exists()):
        with local_copy(path) as copy:
            names = [name for name in ("url", "final_url") if name in pq.read_schema(copy).names]
            for table in map(pa.table, ledger_batches(copy, ["uid", *names], shown=path)):
                for name in names:
                    asked = pa.chunked_array([addresses_of(table[name])], pa.string())
                    found |= set(table["uid"].filter(is_in(asked, addresses)).to_pylist())
    return frozenset(found)


def _find_in(place: StageFolder, wanted: Wanted) -> Iterator[LedgerEntry]:
    ledgers = {path: report for path, report in ledgers_of(place) if path.exists()}
    reports = {report.shard: report for report in reports_of(place.folder)[1]}
    for path in _files_with(list(ledgers), wanted):
        with local_copy(path) as copy:
            for row in rows_where(copy, IDENTITY.names, partial(_matches, wanted=wanted), shown=path):
                yield LedgerEntry(place, path, ledgers[path] or reports.get(row.get("shard") or ""), row)


def _files_with(ledgers: Sequence[Path], wanted: Wanted) -> list[Path]:
    """Return the ledgers with at least one wanted row, by the columns of identity alone.

    A scan keeps what the footers of all its files say, so it is one of so many files at a time.
    """
    some = (ledgers[first : first + NUM_SCANNED] for first in range(0, len(ledgers), NUM_SCANNED))
    return [path for at_once in some for path in _scanned(at_once, wanted)]


def _scanned(ledgers: Sequence[Path], wanted: Wanted) -> list[Path]:
    import pyarrow.dataset as ds

    if is_local(ledgers[0]):
        names, files = {str(path): path for path in ledgers}, None
    else:
        files, _ = filesystem(ledgers[0])
        names = {filesystem(path)[1]: path for path in ledgers}
    dataset = ds.dataset(list(names), schema=IDENTITY, format="parquet", filesystem=files)
    columns = (
        ("uid", wanted.uids),
        ("key", wanted.keys),
        ("sha256", wanted.sha256s),
        ("source_sha256", wanted.sha256s),
    )
    matches = [ds.field(name).isin(sorted(values)) for name, values in columns if values]
    if not matches:
        return []
    anything = matches[0]
    for match in matches[1:]:
        anything = anything | match
    ahead = {"batch_size": NUM_BATCH_ROWS, "batch_readahead": 1, "fragment_readahead": 2}
    found = dataset.scanner(columns=["__filename"], filter=anything, **ahead).to_table()
    hits = set(found["__filename"].to_pylist())
    return [path for name, path in names.items() if name in hits or name.lstrip("/") in hits]


def _matches(table: pa.Table, wanted: Wanted) -> pa.ChunkedArray:
    matches = is_in(table["uid"], wanted.uids)
    matches = pc.or_(matches, is_in(table["key"], wanted.keys))
    for name in ("sha256", "source_sha256"):
        if name in table.column_names:
            matches = pc.or_(matches, is_in(table[name], wanted.sha256s))
    return matches


def is_in(column: pa.ChunkedArray, values: Iterable[str]) -> pa.ChunkedArray:
    """Return which values of a column are among `values`; null is not."""
    return pc.is_in(column, value_set=pa.array(sorted(values), pa.string()), skip_nulls=True)

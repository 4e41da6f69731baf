"""Finds every image that a list of requests means, in every ledger of a run, by reading the columns of identity."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation.commands.forget.takedowns import Request
from curation.dataset.sample import normalise_url
from curation.dataset.stages import FORGET
from curation.dataset.tombstones import Tombstones, hashed
from curation.dataset.urls import above, address_of, addresses_of, host_of
from curation.errors import ShardError
from curation.run.folders import StageFolder
from curation.run.lookup import Wanted, is_in, ledgers_of
from curation.storage.paths import local_copy

COLUMNS = ("uid", "key", "url", "final_url", "sha256", "source_sha256", "phash", "rejected_by")
URLS = ("url", "final_url")
Row = Mapping[str, Any]


@dataclass
class Sought:
    """What the requests mean in one run."""

    uids: set[str] = field(default_factory=set)
    """Every image to forget."""
    stones: Tombstones = field(default_factory=Tombstones)
    """What must never return."""
    urls: set[str] = field(default_factory=set)
    """URLs of the images, as the ledgers have them; never written anywhere."""
    led_to: set[str] = field(default_factory=set)
    """Where redirects led from there; never written anywhere."""
    contents: set[str] = field(default_factory=set)
    """sha256 of their bytes, in every form that a stage gave them; only hashes of them are written."""
    rows: dict[Path, set[str]] = field(default_factory=dict)
    """Stage's folder -> uids of the rows to bury there."""
    found: dict[Request, dict[str, set[str]]] = field(default_factory=dict)
    """Request -> stage -> uids of the rows that it names there."""


def seek(places: Sequence[StageFolder], requests: Sequence[Request], known: frozenset[str] = frozenset()) -> Sought:
    """Return the images that the requests name, with all copies of their content, and the tombstones to write.

    Every picture of the run with the very same bytes is meant too, wherever it came from, and every one that asked for
    the same address, or was led there. `known` are uids that were forgotten before: where they live on, they are meant.
    """
    sought = Sought(found={request: {} for request in requests})
    index = _Index(requests)
    uids, contents, addresses = (index.values(kind) for kind in ("uid", "sha256", "address"))
    uids |= known
    size = -1
    while size < len(uids) + len(contents) + len(addresses):
        size = len(uids) + len(contents) + len(addresses)
        wanted = Wanted(
            frozenset(uids), frozenset(index.values("key")), frozenset(contents), frozenset(addresses),
            frozenset(index.values("phash")),
        )  # fmt: skip
        for place, row in _rows(places, wanted, frozenset(index.values("domain"))):
            for request in index.named_by(row):
                sought.found[request].setdefault(place.stage, set()).add(row["uid"])
            sought.uids.add(row["uid"])
            sought.rows.setdefault(place.folder, set()).add(row["uid"])
            sought.urls |= {row["url"]} - {None}
            sought.led_to |= {row["final_url"]} - {None}
            contents |= {row["sha256"], row["source_sha256"]} - {None}
            addresses |= _served_by(row)
        uids |= sought.uids
    sought.contents = contents
    sought.stones = _tombstones(requests, sought, contents, addresses)
    return sought


def _served_by(row: Row) -> set[str]:
    """Return the addresses that stand for an image: its own, and the one that a redirect found it at."""
    urls = [row["url"], row["final_url"] if row["sha256"] is not None else None]
    return {address for url in urls if (address := address_of(url)) is not None}


def _tombstones(
    requests: Sequence[Request], sought: Sought, contents: Iterable[str], addresses: Iterable[str]
) -> Tombstones:
    urls = {hashed(request.value) for request in requests if request.kind == "url"}
    for url in sought.urls:
        try:
            urls.add(hashed(normalise_url(url)))
        except ValueError:
            continue  # rank's ledger also names rows whose URL is none
    return Tombstones(
        uid=frozenset(sought.uids | {request.value for request in requests if request.kind == "uid"}),
        url=frozenset(urls),
        address=frozenset(map(hashed, addresses)),
        content=frozenset(map(hashed, contents)),
        domain=frozenset(hashed(request.value) for request in requests if request.kind == "domain"),
    )


class _Index:
    """Requests by what they name."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._by: dict[tuple[str, str], list[Request]] = {}
        for request in requests:
            names = [(request.kind, request.value)]
            if request.address is not None:
                names = [("address", request.address), ("uid", str(request.uid))]
            for name in names:
                self._by.setdefault(name, []).append(request)

    def values(self, kind: str) -> set[str]:
        """Return what the requests name of one kind."""
        return {value for name, value in self._by if name == kind}

    def named_by(self, row: Row) -> list[Request]:
        """Return the requests that name a row by themselves."""
        names = [(kind, row[kind]) for kind in ("uid", "key", "phash", "sha256")]
        names.append(("sha256", row["source_sha256"]))
        for url in (row[name] for name in URLS if row[name] is not None):
            names += [("address", address_of(url)), *(("domain", domain) for domain in above(host_of(url)))]
        return list(dict.fromkeys(request for name in names for request in self._by.get(name, ())))


def _rows(
    places: Sequence[StageFolder], wanted: Wanted, domains: frozenset[str]
) -> Iterator[tuple[StageFolder, dict[str, Any]]]:
    """Yield the rows that are wanted or came from one of the domains, and are no tombstones yet."""
    for place in places:
        for path, _ in ledgers_of(place):
            if not path.exists():
                continue
            with local_copy(path) as copy:
                for table in _tables(copy, path):
                    for row in table.filter(_mask(table, wanted, domains)).to_pylist():
                        yield place, {**dict.fromkeys(COLUMNS), **row}


def _tables(copy: Path, shown: Path) -> Iterator[pa.Table]:
    try:
        with pq.ParquetFile(copy) as ledger:
            columns = [name for name in COLUMNS if name in ledger.schema_arrow.names]
            for batch in ledger.iter_batches(columns=columns, use_threads=False):
                yield pa.Table.from_batches([batch])
    except (OSError, pa.ArrowException) as error:
        raise ShardError(f"{shown}: not a readable ledger: {error}; `verify` says what else is wrong") from error


def _mask(table: pa.Table, wanted: Wanted, domains: frozenset[str]) -> pa.ChunkedArray:
    mask = pc.or_(is_in(table["uid"], wanted.uids), is_in(table["key"], wanted.keys - {""}))
    for name in ("sha256", "source_sha256"):
        if name in table.column_names and wanted.sha256s:
            mask = pc.or_(mask, is_in(table[name], wanted.sha256s))
    if "phash" in table.column_names and wanted.phashes:
        mask = pc.or_(mask, is_in(table["phash"], wanted.phashes))
    for name in (name for name in URLS if name in table.column_names):
        if wanted.addresses:
            asked = pa.chunked_array([addresses_of(table[name])], pa.string())
            mask = pc.or_(mask, is_in(asked, wanted.addresses))
        if domains:
            hosts = [host_of(url) for url in table[name].to_pylist()]
            covered = {host for host in set(hosts) if not domains.isdisjoint(above(host))}
            mask = pc.or_(mask, is_in(pa.chunked_array([hosts], pa.string()), covered))
    living = pc.fill_null(pc.not_equal(table["rejected_by"], FORGET), True)
    return pc.and_(mask, living)

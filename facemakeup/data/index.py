"""Where every sample lies: shard, offset and size in bytes, so that any sample is one read away.

The rows come from the `index.parquet` that `pack` wrote beside the tars, where a tar is still as the manifest says.
Any other tar is walked once, header by header, and the result is cached.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from curation.dataset.tar import END_OF_ARCHIVE_BYTES
from curation.run.derived import WORK
from curation.storage.publish import publish
from facemakeup.data.rows import Rows
from facemakeup.data.scan import SCAN_VERSION, scan
from facemakeup.data.shards import Shard, ShardStore, read_text
from facemakeup.data.takedowns import forgotten_of, leave_cards, remembering, require_remembered
from facemakeup.faults import REASONS, DataError, SampleFault, count

PACK_INDEX = "index.parquet"


@dataclass(frozen=True)
class TarIndex:
    """Every usable sample of all tars, and every one that is already known to be unusable."""

    shards: tuple[Shard, ...]
    rows: Rows
    faults: tuple[SampleFault, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def key(self, row: int) -> str:
        """Return the key of a row."""
        return str(self.rows.key[row].as_py())

    def where(self, row: int) -> tuple[Shard, int, int]:
        """Return shard, offset and number of bytes of a row."""
        rows = self.rows
        return self.shards[int(rows.shard[row])], int(rows.offset[row]), int(rows.num_bytes[row])


def build_index(shards: Sequence[Shard], store: ShardStore, scans: Path) -> TarIndex:
    """Index all tars; those that `pack` does not vouch for are walked, and their scans kept in the folder `scans`.

    Raises:
        DataError: not one sample can be used.
        SafetyError: a sample was forgotten.
    """
    import pyarrow as pa

    addresses = [shard.address for shard in shards]
    leave_cards(addresses, [(WORK, scans), (WORK, store.cache)])
    vouched = {folder: _vouched(folder) for folder in {shard.folder for shard in shards}}
    tables, faults = [], []
    for number, shard in enumerate(shards):
        known = vouched[shard.folder].get(shard.name)
        if known is not None and known[0] == shard.num_bytes:
            table = known[1]
        else:
            table, torn = _scan_once(shard, store, scans)
            faults += [*torn, *_lost(shard, known[1] if known else None, table, torn)]
        tables.append(table.append_column("shard", pa.array(np.full(len(table), number, np.int64))))
    whole = pa.concat_tables(tables)
    if len(whole) == 0:
        raise DataError(*_nothing(shards, faults))
    require_remembered(addresses, whole["key"], forgotten_of(addresses))
    return TarIndex(tuple(shards), Rows.of(whole, scans), tuple(faults))


def _nothing(shards: Sequence[Shard], faults: Sequence[SampleFault]) -> Iterator[str]:
    """Say in lines why not one sample is left."""
    if not faults:
        yield f"no sample is in the {len(shards)} tars; the first: {shards[0].address}"
        return
    yield (
        f"none of {len(faults)} samples in {len(shards)} tars can be used; train on tars that `facecaptionhq pack` "
        f"wrote."
    )
    yield from (f"  {reason}: {number}, {REASONS[reason]}" for reason, number in count(faults).items())
    yield f"The first: {faults[0]}"


def _vouched(folder: str) -> dict[str, tuple[int, Any]]:
    """Return shard name -> size of its tar and rows, as `pack` wrote them; empty where it did not."""
    import fsspec
    import pyarrow as pa
    import pyarrow.parquet as pq

    text = read_text(f"{folder}/manifest.json")
    filesystem, path = fsspec.core.url_to_fs(f"{folder}/{PACK_INDEX}")
    if text is None or not filesystem.exists(path):
        return {}
    sizes = _tar_sizes(json.loads(text))
    with filesystem.open(path, "rb") as file:
        table = pq.read_table(file, columns=["shard", "key", "offset", "width", "height"])
    table = table.sort_by([("shard", "ascending"), ("offset", "ascending")])
    encoded = table["shard"].combine_chunks().dictionary_encode()
    numbers, names = encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
    firsts = np.flatnonzero(np.diff(numbers, prepend=-1)).tolist()
    vouched = {}
    for first, last in pairwise([*firsts, len(table)]):
        name = names[int(numbers[first])]
        if name not in sizes:
            continue
        part = table.slice(first, last - first).drop_columns(["shard"])
        starts = part["offset"].to_numpy()
        ends = np.append(starts[1:], sizes[name] - END_OF_ARCHIVE_BYTES)
        vouched[name] = (sizes[name], _typed(part.append_column("num_bytes", pa.array(ends - starts))))
    return vouched


def _tar_sizes(manifest: Mapping[str, Any]) -> dict[str, int]:
    files = [record for shard in manifest.get("shards", ()) for record in shard["files"].items()]
    return {name.removesuffix(".tar"): int(r["num_bytes"]) for name, r in files if name.endswith(".tar")}


def _lost(shard: Shard, promised: Any, table: Any, named: Sequence[SampleFault]) -> list[SampleFault]:
    """Return the samples that the index of `pack` names and a tar that has changed since does not hold."""
    if promised is None:
        return []
    here = {*table["key"].to_pylist(), *(fault.key for fault in named)}
    missing = [key for key in promised["key"].to_pylist() if key not in here]
    return [
        SampleFault("torn_tar", shard.address, key, f"{PACK_INDEX} names it, the tar ends before it") for key in missing
    ]


def _scan_once(shard: Shard, store: ShardStore, scans: Path) -> tuple[Any, list[SampleFault]]:
    """Return a tar's rows and faults from the cached scan, or scan it now."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    cached = scans / f"{shard.identity[:32]}-{SCAN_VERSION}.parquet"
    if not cached.is_file():
        rows, faults = scan(shard, store.path(shard))
        footer = {"faults": json.dumps([[f.reason, f.key, f.detail] for f in faults])}
        table = _typed(pa.Table.from_pylist(rows, schema=_schema())).replace_schema_metadata(footer)
        with remembering(scans, [shard.address]) as forgotten:
            require_remembered([shard.address], table["key"], forgotten)
            publish(cached, lambda temp: pq.write_table(table, temp))
    table = pq.read_table(cached)
    listed = json.loads(table.schema.metadata[b"faults"])
    faults = [SampleFault(reason, shard.address, key, detail) for reason, key, detail in listed]
    return table.replace_schema_metadata(), faults


def _schema() -> Any:
    import pyarrow as pa

    names: Iterable[str] = ("offset", "num_bytes", "width", "height")
    return pa.schema([pa.field("key", pa.string()), *(pa.field(name, pa.int64()) for name in names)])


def _typed(table: Any) -> Any:
    schema = _schema()
    return table.select(schema.names).cast(schema).replace_schema_metadata()

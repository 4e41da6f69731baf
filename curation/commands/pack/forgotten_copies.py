"""Which forgotten pictures were copies of one another, and who of them is packed before whom.

Who of several copies holds a place depends on their bytes, their faces, and what is asked of captions, and that is
another one for another pack. Of a forgotten row none of it is left but the uid, so `forget` writes down, before the
rows become tombstones, who were one and in which order: by that every pack places them as it did when they lived.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import Manifest
from curation.dataset.stages import FORGET
from curation.dataset.tombstones import FORGOTTEN_FOLDER
from curation.run.lookup import is_in
from curation.storage.paths import named, spellings
from curation.storage.publish import publish_sealed, read_sealed

COPIES_NAME = "copies.json"
"""Lies beside the tombstones of the run that the curated folder lies in."""
FACES, FACE_SIDE = "faces", "largest_face_side_px"
"""The filter and the score of it that say how large a picture's native face is."""
SCHEMA = pa.schema(
    [
        ("uid", pa.string()), ("sha256", pa.string()), ("num_captions", pa.int32()), ("face_side", pa.float64()),
        ("number", pa.int32()),
    ]
)  # fmt: skip


@dataclass(frozen=True)
class ForgottenCopy:
    """One of several forgotten rows that were the same picture, or came from the same address."""

    bytes_of: str
    """Names whose bytes they were, by the row that comes first; those of equal bytes have it in common."""
    place: int
    """From 1: who has the smaller one is packed before the other."""


Copies = Mapping[str, Mapping[str, ForgottenCopy]]
"""Curated shard -> uid -> what is known of its row; a uid stands there once among those that were kept."""


def face_sides(table: pa.Table, *, has_faces: bool) -> pa.ChunkedArray | pa.Array:
    """Return the native side of each picture's largest face, in pixels; 0 where nobody has looked for one."""
    sides = pc.struct_field(table[f"{FACES}_scores"], FACE_SIDE) if has_faces else pa.nulls(len(table), pa.float64())
    return pc.fill_null(sides, 0.0)


def has_faces_in(curated: Manifest) -> bool:
    """Whether a curated folder says how large faces are."""
    return any(stanza["name"] == FACES for stanza in curated.recipe["filters"])


def copies_in(source: Path) -> Copies:
    """Return what is known of the forgotten copies of a curated folder."""
    found: dict[str, dict[str, ForgottenCopy]] = {}
    for place in dict.fromkeys(spellings(source)):
        for shard, rows in _recorded(place).items():
            found.setdefault(shard, {}).update({uid: ForgottenCopy(*copy) for uid, copy in rows.items()})
    return found


def write_copies(source: Path, curated: Manifest, uids: Collection[str]) -> None:
    """Write down who of these images, which live on in a curated folder and will be forgotten, are copies.

    All copies of an image are forgotten with it, so no others have to be known. What was written before stays.
    """
    source, ranked = named(source), sorted(_rows(source, curated, uids), key=_rank)
    equal, alike = (Counter(row[name] for row in ranked) for name in ("sha256", "uid"))
    first: dict[str, str] = {}
    found: dict[str, dict[str, Any]] = {}
    for place, row in enumerate(ranked, 1):
        bytes_of = first.setdefault(row["sha256"], f"{row['shard']}/{row['uid']}")
        if equal[row["sha256"]] > 1 or alike[row["uid"]] > 1:
            found.setdefault(row["shard"], {})[row["uid"]] = [bytes_of, place]
    if not found:
        return
    before = _recorded(source)
    known = {shard: {**before.get(shard, {}), **found.get(shard, {})} for shard in sorted({*before, *found})}
    publish_sealed(_path(source), {**_record(source), source.name: known})


def rows_of(ledger: Path, copies: Mapping[str, ForgottenCopy], told: Collection[int]) -> pa.Table:
    """Return what is compared of the forgotten copies of one shard, as of those that live; `told` have a new caption.

    For the bytes stands what they have in common, for the face its rank: below all that live.
    """
    rows = read_ledger(ledger, ["uid", "num_captions", "rejected_by", "format"]).to_pylist() if copies else []
    held = [
        {
            "uid": row["uid"], "sha256": copies[row["uid"]].bytes_of, "num_captions": row["num_captions"],
            "face_side": -float(copies[row["uid"]].place), "number": number,
        }
        for number, row in enumerate(rows)
        if row["rejected_by"] == FORGET and row["format"] is not None and row["uid"] in copies
        and (row["num_captions"] or number in told)
    ]  # fmt: skip
    return pa.Table.from_pylist(held, schema=SCHEMA)


def _rank(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return by what copies are put in order, the best first: as `dedup` has it."""
    return -row["face_side"], -row["num_captions"], row["uid"], row["shard"]


def _rows(source: Path, curated: Manifest, uids: Collection[str]) -> Iterator[dict[str, Any]]:
    has_faces = has_faces_in(curated)
    columns = ["uid", "sha256", "num_captions", "kept", *([f"{FACES}_scores.{FACE_SIDE}"] if has_faces else [])]
    for report in curated.shards:
        table = read_ledger(report.file(source, ".parquet"), columns)
        table = table.filter(pc.and_(table["kept"], is_in(table["uid"], uids)))
        table = table.append_column("face_side", face_sides(table, has_faces=has_faces))
        for row in table.select(["uid", "sha256", "num_captions", "face_side"]).to_pylist():
            yield {**row, "shard": report.shard}


def _path(source: Path) -> Path:
    return source.parent / FORGOTTEN_FOLDER / COPIES_NAME


def _record(source: Path) -> dict[str, Any]:
    return read_sealed(_path(source)) if _path(source).is_file() else {}


def _recorded(source: Path) -> dict[str, dict[str, Any]]:
    """Return what stands of this folder in the record of the run that it lies in."""
    found: dict[str, dict[str, Any]] = _record(source).get(source.name, {})
    return found

"""The published table: a row for every packed sample, all that its `.json` says but no pixel."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.commands.card.origin import Origin
from curation.dataset.rights import UNKNOWN
from curation.dataset.stages import INDEX_NAME
from curation.dataset.tar import METADATA_SUFFIX
from curation.dataset.tar.read import layout_of
from curation.errors import VerificationError
from curation.storage.paths import local_copy

NUM_GROUP_ROWS = 10_000
FIELDS = (
    pa.field("uid", pa.string(), nullable=False),
    pa.field("url", pa.string()),
    pa.field("caption", pa.string()),
    pa.field("caption_source", pa.string()),
    pa.field("caption_binding", pa.string()),
    pa.field("captions", pa.list_(pa.string())),
    pa.field("license", pa.string()),
    pa.field("author", pa.string()),
    pa.field("rights_json", pa.string()),
    pa.field("format", pa.string()),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("num_bytes", pa.int64()),
    pa.field("sha256", pa.string()),
    pa.field("source_sha256", pa.string()),
    pa.field("shard", pa.string(), nullable=False),
)
FACE_FIELDS = ("face_x1", "face_y1", "face_x2", "face_y2", "face_confidence")
URN = "urn:"
"""How the URL of a sample begins that has none."""


def write_samples(origin: Origin, path: Path) -> pa.Schema:
    """Write the table of all packed samples in the order of the tars; memory does not grow with their number.

    Raises:
        ShardError: a tar cannot be read.
        VerificationError: the tars hold another number of samples than the index.
    """
    schema = schema_of(origin.manifest.extra.get("schema", {}))
    num_rows, waiting = 0, list[dict[str, Any]]()
    with pq.ParquetWriter(path, schema, compression="zstd", version="2.6") as writer:
        for row in _rows(origin, schema):
            waiting.append(row)
            num_rows += 1
            if len(waiting) == NUM_GROUP_ROWS:
                writer.write_table(pa.Table.from_pylist(waiting, schema))
                waiting.clear()
        writer.write_table(pa.Table.from_pylist(waiting, schema))
    with local_copy(origin.pack.folder / INDEX_NAME) as index:
        num_packed = pq.read_metadata(index).num_rows
    if num_rows != num_packed:
        raise VerificationError(f"{origin.pack.folder}: its tars hold {num_rows} samples, {INDEX_NAME} {num_packed}")
    return schema


def schema_of(said: Mapping[str, Any]) -> pa.Schema:
    """Return the columns for a pack, of what its manifest says of the `.json` member."""
    faces = FACE_FIELDS if said.get("has_face_fields") else ()
    measured = {**said.get("scores", {}), "joint": said.get("joint_scores", ())}
    scores = [f"{name}_{score}" for name, own in measured.items() for score in own]
    return pa.schema([*FIELDS, *(pa.field(name, pa.float64()) for name in (*faces, *scores))])


def _rows(origin: Origin, schema: pa.Schema) -> Iterator[dict[str, Any]]:
    for report in sorted(origin.manifest.shards, key=lambda report: report.shard):
        path = report.file(origin.pack.folder, ".tar")
        with local_copy(path) as copy, copy.open("rb") as tar:
            for group in layout_of(copy, path).groups:
                member = group.members[METADATA_SUFFIX]
                tar.seek(member.start)
                yield row_of(json.loads(tar.read(member.num_bytes)), report.shard, schema)


def row_of(fields: Mapping[str, Any], shard: str, schema: pa.Schema) -> dict[str, Any]:
    """Return a sample's row, of what its `.json` says."""
    url = fields["url"]
    own = {
        **{name: fields.get(name) for name in schema.names},
        "url": None if url.startswith(URN) else url,
        "license": _known(fields.get("license")),
        "author": _known(fields.get("author")),
        "shard": shard,
    }
    if box := fields.get("face_box"):
        own |= dict(zip(FACE_FIELDS, box, strict=False))
    scores = fields.get("scores", {})
    return own | {f"{name}_{score}": value for name, measured in scores.items() for score, value in measured.items()}


def _known(text: str | None) -> str | None:
    return None if text == UNKNOWN else text

"""The rows that a curated run's ledgers hold of labelled pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.dataset.labelled import LabelledPicture, LabelSet
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import Manifest
from curation.dataset.urls import host_of
from curation.errors import UsageError
from curation.run.lookup import is_in
from curation.storage.paths import local_copy

IDENTITY = ("uid", "sha256", "url", "kept", "rejected_by", "reason")


@dataclass(frozen=True)
class LabelledRow:
    """A labelled picture, and its row."""

    picture: LabelledPicture
    shard: str
    row: Mapping[str, Any]

    @property
    def source(self) -> str:
        """Where it comes from: what its label says, else the host of its URL, else nobody knows of another like it."""
        return self.picture.source or host_of(self.row["url"]) or self.row["uid"]

    def value(self, column: str) -> Any:
        """Return what stands in a column or, as `struct.field`, in a field of one; None where nothing does."""
        name, _, field = column.partition(".")
        value = self.row.get(name)
        return value if not field or value is None else value.get(field)


def labelled_rows(labels: LabelSet, target: Path, manifest: Manifest, columns: Sequence[str] = ()) -> list[LabelledRow]:
    """Return the labelled pictures that a curated folder has seen, by identity, with some of its columns.

    `struct.field` asks for a whole struct. Of several rows of one picture (a duplicate is measured once) the first
    counts in which a column says something.

    Raises:
        UsageError: it has seen none of them, or has no such column.
    """
    pictures = {picture.identity: picture for picture in labels.pictures}
    found: dict[str, LabelledRow] = {}
    for report in manifest.shards:
        with local_copy(report.file(target, ".parquet")) as path:
            table = _table(path, columns)
        for row in table.filter(is_in(table[labels.column], pictures.keys())).to_pylist():
            labelled = LabelledRow(pictures[row[labels.column]], report.shard, row)
            before = found.setdefault(labelled.picture.identity, labelled)
            if all(before.value(column) is None for column in columns):
                found[labelled.picture.identity] = labelled if columns else before
    if not found:
        raise UsageError(
            f"{target}: none of the {len(pictures)} labelled pictures is among its samples (by {labels.column}): "
            f"labels of another run?"
        )
    return [found[identity] for identity in sorted(found)]


def _table(path: Path, columns: Sequence[str]) -> pa.Table:
    schema = pq.read_schema(path)
    for column in columns:
        name, _, field = column.partition(".")
        kind = schema.field(name).type if name in schema.names else None
        if kind is None or (field and kind.get_field_index(field) < 0):
            scores = [name.removesuffix("_scores") for name in schema.names if name.endswith("_scores")]
            raise UsageError(f"{path.name}: no column {column!r}; it holds scores of {', '.join(scores)}")
    return read_ledger(path, list(dict.fromkeys([*IDENTITY, *(column.partition(".")[0] for column in columns)])))

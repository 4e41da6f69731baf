"""What must not be asked, whatever led there: what was forgotten, and what the selection's blocklists name."""

from functools import lru_cache
from pathlib import Path

import pyarrow.parquet as pq

from curation.dataset.stages import BLOCKED_NAME, FORGOTTEN
from curation.dataset.tombstones import Tombstones
from curation.dataset.urls import host_of
from curation.errors import ShardError
from curation.storage.publish import FileRecord, sha256_of


def why_not(stones: Tombstones, blocked: Tombstones, url: str) -> str | None:
    """Return why a URL must not be asked, a row's own or one that a redirect leads to; None where it may be."""
    if stones.reach(url):
        return FORGOTTEN
    if blocked.covers(host_of(url)):
        return "blocked_domain"
    return "blocked_url" if blocked.reach(url) else None


@lru_cache(maxsize=1)
def blocked_by(source: Path, record: FileRecord | None) -> Tombstones:
    """Return the blocklists that the selection in `source` was made with, as hashes.

    Raises:
        ShardError: they are not those that rank's manifest names: this gate fails closed.
    """
    if record is None:
        return Tombstones()
    path = source / BLOCKED_NAME
    if not path.is_file() or sha256_of(path) != record.sha256:
        raise ShardError(f"{path}: missing, or not the blocklists that rank's manifest names; run rank again")
    listed: dict[str, set[str]] = {"address": set(), "domain": set()}
    for row in pq.read_table(path, partitioning=None).to_pylist():
        listed[row["kind"]].add(row["sha256"])
    return Tombstones(**{kind: frozenset(hashes) for kind, hashes in listed.items()})

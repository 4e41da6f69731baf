"""What was forgotten, as hashes only, and the one rule by which every stage keeps it out for good.

`RUN/forgotten/tombstones.json` names forgotten images by the sha256 of their normalised URL, of what that asks for
(`address`: one for all spellings of a URL), of their content's sha256, and of domains (which stand for their subdomains
too). A stage asks for those of the run its target lies in.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curation.dataset.sample import NUM_UID_BYTES, uid_of_url
from curation.dataset.stages import FORGET
from curation.dataset.urls import above, address_of, addresses_of, ascii_host, host_of, is_address, with_scheme
from curation.errors import UsageError
from curation.storage.paths import spellings
from curation.storage.publish import publish_sealed, read_sealed

if TYPE_CHECKING:
    import pyarrow as pa

FORGOTTEN_FOLDER = "forgotten"
"""Lies in the run, beside the stages' folders."""
TOMBSTONES_NAME = "tombstones.json"
JOURNAL_NAME = "journal.json"
"""Lies there while a `forget` is changing the run; whoever runs it again completes it."""
PREPARED_FOLDER = "prepared"
KINDS = ("uid", "url", "address", "content", "domain")
IDENTITY = ("uid", "key", "url", "final_url", "sha256", "source_sha256", "rejected_by")
"""Columns of a ledger that tell whom a row is about, and whether it is a tombstone."""


@dataclass(frozen=True)
class Tombstones:
    """Hashes of what must never return; a domain stands for its subdomains too."""

    uid: frozenset[str] = field(default_factory=frozenset)
    """Uids as they are: 32 hex digits of a sha256."""
    url: frozenset[str] = field(default_factory=frozenset)
    """sha256 of normalised URLs, in hex; a uid is the first half of one."""
    address: frozenset[str] = field(default_factory=frozenset)
    """sha256 of what URLs ask for, in hex: those of images, and those that redirects led to."""
    content: frozenset[str] = field(default_factory=frozenset)
    """sha256 of the sha256 of pictures, in hex."""
    domain: frozenset[str] = field(default_factory=frozenset)
    """sha256 of domains in lower case, in hex."""

    def __bool__(self) -> bool:
        return any(getattr(self, kind) for kind in KINDS)

    def __or__(self, other: "Tombstones") -> "Tombstones":
        return Tombstones(**{kind: getattr(self, kind) | getattr(other, kind) for kind in KINDS})

    @cached_property
    def uids(self) -> frozenset[str]:
        """Every uid that is forgotten by itself or by its URL."""
        return self.uid | {url_hash[: 2 * NUM_UID_BYTES] for url_hash in self.url}

    def names(self, identity: str) -> bool:
        """Whether a uid, URL or sha256 is forgotten."""
        if is_address(identity) and address_of(identity) is not None:
            return self.hold(uid_of_url(with_scheme(identity)), identity)
        return self.hold(identity.lower(), None, None) or self.hold(None, None, identity.lower())

    def hold(self, uid: str | None, url: str | None = None, *sha256s: str | None, final_url: str | None = None) -> bool:
        """Whether an image is forgotten by its uid, any of its contents' sha256s, its URL, or where that led."""
        if uid in self.uids or any(sha256 is not None and hashed(sha256) in self.content for sha256 in sha256s):
            return True
        return self.reach(url) or (final_url is not None and self.reach(final_url))

    def reach(self, url: str | None) -> bool:
        """Whether a URL, in whatever spelling, or its host is forgotten."""
        if url is None or not (self.address or self.domain):
            return False
        address = address_of(url) if self.address else None
        return (address is not None and hashed(address) in self.address) or self.covers(host_of(url))

    def hold_row(self, row: Mapping[str, Any]) -> bool:
        """Whether a ledger's row, whatever of the columns of `IDENTITY` it has, is about a forgotten image."""
        sha256s = row.get("sha256"), row.get("source_sha256")
        return self.hold(row["uid"], row["url"], *sha256s, final_url=row.get("final_url"))

    def row(self, row: Mapping[str, Any], schema: "pa.Schema") -> dict[str, Any]:
        """Return a ledger's row as it is, or its tombstone where the image is forgotten."""
        if not self or not self.hold_row(row):
            return dict(row)
        from curation.dataset.redaction import buried

        return buried(row, schema)

    def bury(self, table: "pa.Table") -> "pa.Table":
        """Return a ledger in which every forgotten image is a tombstone."""
        if not self:
            return table
        from curation.dataset.redaction import bury

        return bury(table, self.mask(table))

    def without(self, table: "pa.Table") -> "pa.Table":
        """Return a table without the rows of forgotten images."""
        if not self:
            return table
        import pyarrow.compute as pc

        return table.filter(pc.invert(self.mask(table)))

    def mask(self, table: "pa.Table") -> "pa.ChunkedArray":
        """Return which rows of a table with `uid` and `url` are forgotten images."""
        import pyarrow as pa

        uids, urls = table["uid"].to_pylist(), table["url"].to_pylist()
        asked = addresses_of(table["url"]).to_pylist() if self.address else [None] * len(uids)
        held = [
            uid in self.uids
            or (address is not None and hashed(address) in self.address)
            or (bool(self.domain) and self.covers(host_of(url)))
            for uid, url, address in zip(uids, urls, asked, strict=True)
        ]
        return pa.chunked_array([held], pa.bool_())

    def holds_any(self, ledger: "pa.Table") -> bool:
        """Whether a ledger has a row, alive, of a forgotten image."""
        return next(self.alive(ledger), None) is not None

    def alive(self, ledger: "pa.Table | pa.RecordBatch") -> Iterator[str]:
        """Yield the uids of forgotten images that a ledger still tells of."""
        names = [name for name in IDENTITY if name in ledger.schema.names]
        for row in ledger.select(names).to_pylist():
            if not is_buried(row) and self.hold_row(row):
                yield str(row["uid"])

    def covers(self, host: str) -> bool:
        """Whether a host is a forgotten domain or lies below one."""
        if not self.domain:
            return False
        return any(hashed(domain) in self.domain for domain in above(ascii_host(host)))


def hashed(text: str) -> str:
    """Return the sha256 of a text in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def is_buried(row: Mapping[str, Any]) -> bool:
    """Whether a row says nothing any more of what it was."""
    return row["rejected_by"] == FORGET and not row["key"] and row["url"] is None and row["sha256"] is None


def tombstones_of(run: Path) -> Tombstones:
    """Return the tombstones of a run; none where nothing was ever forgotten.

    Raises:
        VerificationError: they are not as they were written.
    """
    path = run / FORGOTTEN_FOLDER / TOMBSTONES_NAME
    if not path.exists():
        return Tombstones()
    values = read_sealed(path)
    return Tombstones(**{kind: frozenset(values.get(kind, ())) for kind in KINDS})


def write_tombstones(run: Path, tombstones: Tombstones) -> None:
    """Commit the tombstones of a run."""
    values = {kind: sorted(getattr(tombstones, kind)) for kind in KINDS}
    publish_sealed(run / FORGOTTEN_FOLDER / TOMBSTONES_NAME, values)


def consult(target: Path) -> Tombstones:
    """Return what must not come into a stage's folder: the tombstones of the run that it lies in.

    Where the folder is a link, or is reached by one, it lies in two runs, and the tombstones of both count.

    Raises:
        UsageError: a `forget` was interrupted while it changed the run.
        VerificationError: the tombstones are not as they were written.
    """
    stones = Tombstones()
    for run in dict.fromkeys(place.parent for place in spellings(target)):
        if (run / FORGOTTEN_FOLDER / JOURNAL_NAME).exists():
            raise UsageError(f"{run}: a `forget` was interrupted here; run `facecaptionhq forget` again first")
        stones |= tombstones_of(run)
    return stones

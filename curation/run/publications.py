"""What was published of a run: before anything is sent, `publish` leaves a record in `RUN/published/`.

By these a card at the hub is known for one of this run, and `forget` and `verify` name a publication that still holds
whom the run has forgotten since, with the command that mends it.
"""

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curation.dataset.manifest import MANIFEST_NAME, read_manifest
from curation.errors import FaceCaptionError, VerificationError
from curation.printable import counted
from curation.storage.paths import local_copy, location
from curation.storage.publish import digest, publish_sealed, read_sealed, remove
from curation.storage.scratch import fetched, insert, scratch_database

PUBLISHED_FOLDER = "published"
NUM_ID_DIGITS = 16
UNREADABLE = "not a record as it was written, or one of another version: nobody knows what it says was published"
TYPED = ("form", "rights", "contact", "retention", "title")
"""Statements that are options of `publish` by their own names."""


@dataclass(frozen=True)
class PublishedPack:
    """One publication as it was about to be sent."""

    endpoint: str
    """Address of the hub."""
    repo: str
    """`NAMESPACE/NAME`."""
    pack: str
    """The pack's folder: its way from the run, or its address where it lies elsewhere."""
    card_sha256: str
    """Of the `card.json` that is sent last."""
    stated: Mapping[str, Any]
    """What was stated of it, defaults left out."""
    is_public: bool
    forgotten: tuple[str, ...]
    """Uids that were forgotten by then, so that they are not in it."""
    packed: str
    """Digest of the uids of all that was ever packed there, which forgetting leaves (`digest_of_pack`)."""

    @property
    def place(self) -> str:
        """Where the hub shows it."""
        return f"{self.endpoint}/datasets/{self.repo}"

    def is_at(self, place: str) -> bool:
        """Whether the hub shows it there; in names of repositories no case counts."""
        return self.place.casefold() == place.casefold()

    @property
    def name(self) -> str:
        """Name of its record."""
        return f"{digest([self.endpoint, self.repo.casefold(), self.card_sha256])[:NUM_ID_DIGITS]}.json"


@dataclass(frozen=True)
class StillPublished:
    """A publication that holds forgotten images, as far as its record tells."""

    record: str
    """The file that says so, below the run."""
    place: str
    wrong: str
    mend: str


def leave_record(run: Path, published: PublishedPack) -> None:
    """Record a publication in the run that it is of, before anything of it is sent.

    Raises:
        StorageError: the run cannot be written to: then nobody could find what is published of it.
    """
    publish_sealed(run / PUBLISHED_FOLDER / published.name, asdict(published))


def settle_record(run: Path, published: PublishedPack) -> None:
    """Let go of records of what lay in the repository before: it holds this publication now, whole."""
    for name, earlier in publications_of(run).items():
        if earlier.is_at(published.place) and name != published.name:
            remove(run / PUBLISHED_FOLDER / name)


def publications_of(run: Path) -> dict[str, PublishedPack]:
    """Return what was published of a run, by the name of its record; those that cannot be read are left out."""
    return {name: published for name, published in _records(run) if published is not None}


def still_published(run: Path, forgotten: frozenset[str]) -> Iterator[StillPublished]:
    """Yield the publications of a run that were sent while images were in them that are `forgotten` now, by uid.

    A record that cannot be read may be of one, and stops nobody from forgetting.
    """
    for name, published in _records(run):
        if published is None:
            at = f"{PUBLISHED_FOLDER}/{name}"
            look = "look at the hub what was published of this run, publish that again with --replace --without-history"
            yield StillPublished(at, at, UNREADABLE, f"{look}, and remove {run / PUBLISHED_FOLDER / name}")
            continue
        gone = forgotten - set(published.forgotten)
        if gone and (held := _held(run, published, gone)):
            are = "is" if held == 1 else "are"
            yield StillPublished(
                f"{PUBLISHED_FOLDER}/{name}",
                published.place,
                f"published, and holds {counted(held, 'image')} that {are} forgotten",
                f"`{_command(run, published)}`; where that repository is gone, remove {run / PUBLISHED_FOLDER / name}",
            )


def digest_of_pack(folder: Path) -> str:
    """Return what tells a pack from every other one that may come to lie there, and stays where images are forgotten.

    Raises:
        FaceCaptionError, OSError, pa.ArrowException: its manifest or a ledger of it cannot be read.
    """
    return _counted(_packed_in(folder), frozenset())[1]


def _records(run: Path) -> Iterator[tuple[str, PublishedPack | None]]:
    folder = run / PUBLISHED_FOLDER
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            values = read_sealed(path)
            yield path.name, PublishedPack(**{**values, "forgotten": tuple(values["forgotten"])})
        except (VerificationError, OSError, KeyError, TypeError):
            yield path.name, None


def _held(run: Path, published: PublishedPack, gone: frozenset[str]) -> int:
    """Return how many of these were ever packed there; all where the pack is not there to be asked, or another one."""
    try:
        folder = location(published.pack) if _is_elsewhere(published) else run / published.pack
        uids = _packed_in(folder) if (folder / MANIFEST_NAME).is_file() else iter(())
        num_held, packed = _counted(uids, gone)
    except (FaceCaptionError, OSError, pa.ArrowException):
        return len(gone)
    return num_held if packed == published.packed else len(gone)


def _counted(uids: Iterator[str], gone: frozenset[str]) -> tuple[int, str]:
    """Return how many of sorted uids are `gone`, and the digest of them all (`digest` of the list), as they come."""
    num_held, sha256, between = 0, hashlib.sha256(b"["), b""
    for uid in uids:
        num_held += uid in gone
        sha256.update(between + json.dumps(uid).encode())
        between = b","
    sha256.update(b"]")
    return num_held, sha256.hexdigest()


def _packed_in(folder: Path) -> Iterator[str]:
    """Yield every uid that was ever packed there once, in order."""

    def tables() -> Iterator[pa.Table]:
        for report in read_manifest(folder).shards:
            with local_copy(report.file(folder, ".parquet")) as path:
                yield pq.read_table(path, columns=["uid"], partitioning=None).replace_schema_metadata()

    with scratch_database() as database:
        database.execute("CREATE TABLE packed (uid VARCHAR)")
        insert(database, "INSERT INTO packed FROM came", tables())
        yield from (uid for (uid,) in fetched(database, "SELECT DISTINCT uid FROM packed ORDER BY uid"))


def _is_elsewhere(published: PublishedPack) -> bool:
    return "://" in published.pack or published.pack.startswith("/")


def _command(run: Path, published: PublishedPack) -> str:
    """Return the command that sends it again without them, and leaves no earlier commit."""
    is_elsewhere = _is_elsewhere(published)
    words = ["facecaptionhq", "publish", published.pack if is_elsewhere else str(run / published.pack), published.repo]
    words += ["--run", str(run)] if is_elsewhere else []
    words += [word for name in TYPED if (said := published.stated.get(name)) for word in (f"--{name}", str(said))]
    words += ["--notes", "NOTES.md"] if published.stated.get("notes") else []
    return shlex.join([*words, *(["--public"] if published.is_public else []), "--without-history", "--yes"])

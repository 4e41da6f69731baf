"""What was published of a run: before anything is sent, `publish` leaves a record in `RUN/published/`.

By these a card at the hub is known for one of this run, and `forget` and `verify` name a publication that still holds
whom the run has forgotten since, with the command that mends it.
"""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curation.dataset.manifest import MANIFEST_NAME, read_manifest
from curation.printable import counted
from curation.run.folders import shown_from
from curation.storage.paths import local_copy, location, resolved
from curation.storage.publish import digest, publish_sealed, read_sealed, remove

PUBLISHED_FOLDER = "published"
NUM_ID_DIGITS = 16
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

    @property
    def place(self) -> str:
        """Where the hub shows it."""
        return f"{self.endpoint}/datasets/{self.repo}"

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
        if earlier.place.casefold() == published.place.casefold() and name != published.name:
            remove(run / PUBLISHED_FOLDER / name)


def publications_of(run: Path) -> dict[str, PublishedPack]:
    """Return what was published of a run, by the name of its record.

    Raises:
        VerificationError: a record is not as it was written.
    """
    folder = run / PUBLISHED_FOLDER
    paths = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return {path.name: _published(read_sealed(path)) for path in paths}


def still_published(run: Path, forgotten: frozenset[str]) -> Iterator[StillPublished]:
    """Yield the publications of a run that were sent while images were in them that are `forgotten` now, by uid."""
    for name, published in publications_of(run).items():
        gone = forgotten - set(published.forgotten)
        if gone and (held := _held(run, published, gone)):
            are = "is" if held == 1 else "are"
            yield StillPublished(
                f"{PUBLISHED_FOLDER}/{name}",
                published.place,
                f"published, and holds {counted(held, 'image')} that {are} forgotten",
                f"`{_command(run, published)}`; where that repository is gone, remove {run / PUBLISHED_FOLDER / name}",
            )


def _published(values: Mapping[str, Any]) -> PublishedPack:
    return PublishedPack(**{**values, "forgotten": tuple(values["forgotten"])})


def _pack_of(run: Path, published: PublishedPack) -> Path:
    is_address = "://" in published.pack or published.pack.startswith("/")
    return location(published.pack) if is_address else run / published.pack


def _held(run: Path, published: PublishedPack, gone: frozenset[str]) -> int:
    """Return how many of these were ever packed there; all where the pack is not there to be asked."""
    folder = _pack_of(run, published)
    if not (folder / MANIFEST_NAME).is_file():
        return len(gone)
    uids: set[str] = set()
    for report in read_manifest(folder).shards:
        with local_copy(report.file(folder, ".parquet")) as path:
            uids.update(pq.read_table(path, columns=["uid"], partitioning=None)["uid"].to_pylist())
    return len(gone & uids)


def _command(run: Path, published: PublishedPack) -> str:
    """Return the command that sends it again without them, and leaves no earlier commit."""
    pack = _pack_of(run, published)
    words = ["facecaptionhq", "publish", str(pack), published.repo]
    words += [] if shown_from(resolved(run), resolved(pack)) != str(resolved(pack)) else ["--run", str(run)]
    words += [word for name in TYPED if (said := published.stated.get(name)) for word in (f"--{name}", str(said))]
    words += ["--notes", "NOTES.md"] if published.stated.get("notes") else []
    return shlex.join([*words, *(["--public"] if published.is_public else []), "--without-history", "--yes"])

"""A set of real photos to generate from and to judge against, named by a manifest; the photos are the user's own.

`manifest.csv` has a row per photo. Needed are `key` (unique; generated pictures are found by it) and `file` (relative
to the manifest). `identity` says whose photo it is (default: the key, so nobody has two), `role` is `reference` (the
default; what a method is given) or `other` (another photo of a person: ceiling, copy-paste, the recogniser's own
means), `caption`, `url` and `sha256` are what they are called.
"""

import csv
import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from curation.dataset.sample import uid_of_bytes, uid_of_url
from curation.errors import UsageError

COLUMNS = ("key", "file", "identity", "role", "caption", "url", "sha256")
NEEDED = ("key", "file")
ROLES = ("reference", "other")


@dataclass(frozen=True)
class Photo:
    """One row of a manifest, its file there and its bytes as they should be."""

    key: str
    path: Path
    identity: str
    role: str
    caption: str
    sha256: str
    uid: str
    """Of the URL, as the pipeline names pictures, else of the bytes."""


@dataclass(frozen=True)
class ReferenceSet:
    """Photos in the manifest's order."""

    name: str
    photos: tuple[Photo, ...]

    @cached_property
    def references(self) -> tuple[Photo, ...]:
        """Photos that methods are given."""
        return tuple(photo for photo in self.photos if photo.role == "reference")

    @cached_property
    def other_of(self) -> Mapping[str, Photo]:
        """Identity -> its first other photo."""
        found: dict[str, Photo] = {}
        for photo in self.photos:
            if photo.role == "other":
                found.setdefault(photo.identity, photo)
        return found

    def stranger_of(self, number: int) -> Photo | None:
        """Return the next reference of somebody else, so that everybody is a stranger to somebody; None if nobody."""
        turned = self.references[number + 1 :] + self.references[:number]
        return next((photo for photo in turned if photo.identity != self.references[number].identity), None)


def read_manifest(path: Path, name: str) -> ReferenceSet:
    """Read a manifest and check every file that it names.

    Raises:
        UsageError: it is missing or empty, a column is unknown, or a row does not hold; the message names the lines.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such manifest; it is a CSV with the columns {', '.join(COLUMNS)}")
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or ()
        missing = [column for column in NEEDED if column not in columns]
        unknown = [column for column in columns if column not in COLUMNS]
        if missing or unknown:
            raise UsageError(f"{path}: columns missing {missing}, unknown {unknown}; known: {', '.join(COLUMNS)}")
        rows = list(enumerate(reader, start=2))
    faults: list[str] = []
    photos = [photo for line, row in rows if (photo := _photo(path, line, row, faults)) is not None]
    faults += [f"key {key!r} comes {n} times" for key, n in Counter(p.key for p in photos).items() if n > 1]
    if not faults and not any(photo.role == "reference" for photo in photos):
        faults.append("not one row is a reference")
    if faults:
        raise UsageError(f"{path}: {len(faults)} faults:", *(f"  {fault}" for fault in faults))
    return ReferenceSet(name, tuple(photos))


def _photo(manifest: Path, line: int, row: Mapping[str, str | None], faults: list[str]) -> Photo | None:
    values = {column: (row.get(column) or "").strip() for column in COLUMNS}
    path = manifest.parent / values["file"]
    problem = None
    if None in row or not all(values[column] for column in NEEDED):
        problem = f"needs {' and '.join(NEEDED)}, and no more cells than columns"
    elif "/" in values["key"] or values["key"].startswith("."):
        problem = f"key {values['key']!r} cannot be a file's name"
    elif values["role"] not in ("", *ROLES):
        problem = f"role {values['role']!r}; it is one of {', '.join(ROLES)}"
    elif not path.is_file():
        problem = f"no such file: {path}"
    content = b"" if problem else path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if not problem and values["sha256"] not in ("", digest):
        problem = f"{path} has sha256 {digest}, not {values['sha256']}"
    if problem:
        faults.append(f"line {line}: {problem}")
        return None
    return Photo(
        key=values["key"],
        path=path,
        identity=values["identity"] or values["key"],
        role=values["role"] or "reference",
        caption=values["caption"],
        sha256=digest,
        uid=uid_of_url(values["url"]) if values["url"] else uid_of_bytes(content),
    )

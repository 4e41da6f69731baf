"""What people say that pictures show, in either form: `labels.jsonl`, or the manifest of a labelled folder."""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from curation.dataset.labels import HAND_PICKED, LABEL, read_labels
from curation.dataset.urls import host_of
from curation.errors import UsageError

SHA256 = re.compile(r"[0-9a-f]{64}")
MANIFEST_COLUMNS = ("file", "label", "sha256")
"""What a labelled folder's `manifest.csv` says at least; `tags` (words) and `source` may stand beside."""


@dataclass(frozen=True)
class LabelledPicture:
    """One picture, and what whoever looked at it agrees that it shows."""

    identity: str
    """Its uid, or its sha256."""
    label: str
    tags: tuple[str, ...] = ()
    source: str | None = None
    """Where it comes from, as somebody says: pictures of one source are alike. None: nobody says."""
    stratum: str = HAND_PICKED
    probability: float = 1.0
    """With which it was drawn to be labelled."""

    @property
    def weight(self) -> float:
        """How many pictures of the run it stands for."""
        return 1 / self.probability


@dataclass(frozen=True)
class LabelSet:
    """The labels of one file."""

    column: str
    """Column of the ledgers that its identities are of: `uid` or `sha256`."""
    pictures: tuple[LabelledPicture, ...]
    """By identity, each once."""
    num_disputed: int
    """Pictures that are left out, since as many say one thing as another."""

    @property
    def counts(self) -> Mapping[str, int]:
        """Return label -> number of pictures, the most first."""
        return dict(Counter(picture.label for picture in self.pictures).most_common())


@dataclass(frozen=True)
class ManifestRow:
    """One line of a labelled folder's manifest."""

    file: str
    """Below `images`."""
    label: str
    tags: tuple[str, ...]
    source: str
    """The host of a URL; of a place such as `github:owner/name:path` its first two parts; else the text itself."""
    sha256: str


def read_label_set(file: Path) -> LabelSet:
    """Return the labels of a `labels.jsonl`, or of a `manifest.csv`.

    Where several said something of a picture, what most say counts. Its probability is the greatest that it was drawn
    with, so 1 where somebody picked it by hand.

    Raises:
        UsageError: the file cannot be read, or says nothing.
    """
    if file.suffix.lower() == ".csv":
        column = "sha256"
        said = [LabelledPicture(row.sha256, row.label, row.tags, row.source or None) for row in manifest_rows(file)]
    else:
        column = "uid"
        said = [
            LabelledPicture(label.uid, label.label, stratum=label.stratum, probability=label.probability)
            for label in read_labels(file)
        ]
    if not said:
        raise UsageError(f"{file}: holds no label yet; `facecaptionhq review RUN` opens the page to give some")
    pictures, num_disputed = _agreed(said)
    return LabelSet(column, pictures, num_disputed)


def manifest_rows(file: Path) -> Iterator[ManifestRow]:
    """Yield the lines of a labelled folder's `manifest.csv`.

    Raises:
        UsageError: it cannot be read, or lacks a column.
    """
    try:
        with file.open(newline="", encoding="utf-8") as text:
            lines = csv.DictReader(text)
            if lacking := [name for name in MANIFEST_COLUMNS if name not in (lines.fieldnames or ())]:
                raise UsageError(f"{file}: no column {lacking[0]!r}; {', '.join(MANIFEST_COLUMNS)} are wanted")
            for line in lines:
                words = {name: line.get(name) or "" for name in (*MANIFEST_COLUMNS, "tags", "source")}
                if not LABEL.fullmatch(words["label"]) or not SHA256.fullmatch(words["sha256"].strip().lower()):
                    raise UsageError(
                        f"{file}, line {lines.line_num}: label {words['label']!r:.50}, sha256 {words['sha256']!r:.80}: "
                        f"a label is up to 40 of a-z, 0-9, - and _, a sha256 64 hex digits"
                    )
                yield ManifestRow(
                    words["file"], words["label"], tuple(words["tags"].split()),
                    _source_of(words["source"]), words["sha256"].strip().lower(),
                )  # fmt: skip
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{file}: no labels can be read: {error}") from error


def _source_of(text: str) -> str:
    return host_of(text) or ":".join(text.split(":")[:2])


def _agreed(said: Iterable[LabelledPicture]) -> tuple[tuple[LabelledPicture, ...], int]:
    """Return each picture once with the label that most give it, and how many have none such."""
    by_identity: dict[str, list[LabelledPicture]] = {}
    for picture in said:
        by_identity.setdefault(picture.identity, []).append(picture)
    agreed, num_disputed = [], 0
    for _, voices in sorted(by_identity.items()):
        (label, most), *others = Counter(voice.label for voice in voices).most_common()
        if others and others[0][1] == most:
            num_disputed += 1
            continue
        likeliest = max(voices, key=lambda voice: voice.probability)
        first = next(voice for voice in voices if voice.label == label)
        agreed.append(replace(first, stratum=likeliest.stratum, probability=likeliest.probability))
    return tuple(agreed), num_disputed

"""What people say that pictures show: `labels.jsonl`, one JSON object a line, to which lines are only ever added.

A line is a label or takes an earlier one back. Of several labels of one reviewer for one picture the last counts; what
several reviewers say of one picture stands side by side. A label keeps how its picture came before the reviewer's eyes:
the stratum of the queue and the probability with which that queue drew it, so that a share of labels can be weighed
back to a share of the run (Horvitz and Thompson, JASA 47, 1952).
"""

import json
import re
from collections.abc import Iterable
from dataclasses import MISSING, asdict, dataclass, fields
from hashlib import sha256
from math import isinf
from pathlib import Path
from typing import Any

from curation.errors import UsageError

UID = re.compile(r"[0-9a-f]{32}")
LABEL = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
HAND_PICKED = "hand-picked"
"""The stratum of a picture that no queue drew."""


@dataclass(frozen=True)
class Label:
    """One reviewer's word for one picture."""

    uid: str
    label: str
    """Such as `single`, `drawn`, `group`, or a word of one's own: small letters, digits, `-` and `_`, at most 40."""
    reviewer: str
    time: str
    """When it was given: UTC, ISO 8601."""
    stratum: str = HAND_PICKED
    probability: float = 1.0
    """With which the queue drew the picture from its stratum, above 0 and at most 1."""

    def __post_init__(self) -> None:
        for name in ("uid", "label", "reviewer", "time", "stratum"):
            if not isinstance(getattr(self, name), str):
                raise UsageError(f"{name} {getattr(self, name)!r:.40} of a label: a text is wanted")
        if not LABEL.fullmatch(self.label):
            raise UsageError(f"label {self.label!r}: up to 40 of a-z, 0-9, - and _, the first a letter or a digit")
        if not UID.fullmatch(self.uid):
            raise UsageError(f"uid {self.uid!r:.80} of a label: 32 hex digits in small letters, as the ledger has it")
        if not self.reviewer:
            raise UsageError("a label names its reviewer")
        if not 0 < self.probability <= 1 or isinf(1 / self.probability):
            raise UsageError(f"probability {self.probability!r} of a label: above 0, at most 1")

    @property
    def id(self) -> str:
        """Sixteen hex digits that name this line."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Retraction:
    """An earlier line of the same reviewer, taken back."""

    undo: str
    reviewer: str
    time: str


def line_of(entry: Label | Retraction) -> str:
    """Return the line that an entry is in the file, with its end."""
    named = {"id": entry.id} if isinstance(entry, Label) else {}
    return json.dumps(named | asdict(entry), ensure_ascii=False) + "\n"


def parse_lines(lines: Iterable[str], name: str = "labels.jsonl") -> list[Label | Retraction]:
    """Read entries; blank lines say nothing.

    Raises:
        UsageError: a line is no entry; names the line.
    """
    entries = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                entries.append(_entry_of(json.loads(line)))
            except (ValueError, TypeError, UsageError) as error:
                raise UsageError(f"{name}, line {number}: no label: {error}") from error
    return entries


def standing(entries: Iterable[Label | Retraction]) -> list[Label]:
    """Return the labels that count: of each reviewer the last for each picture that was not taken back."""
    given: dict[tuple[str, str], list[Label]] = {}
    for entry in entries:
        if isinstance(entry, Label):
            given.setdefault((entry.uid, entry.reviewer), []).append(entry)
        else:
            for (_, reviewer), labels in given.items():
                if reviewer == entry.reviewer:
                    labels[:] = [label for label in labels if label.id != entry.undo]
    return [labels[-1] for labels in given.values() if labels]


def read_labels(path: Path) -> list[Label]:
    """Return the labels of a file that count, in the order of their pictures' first labels.

    Raises:
        UsageError: the file cannot be read, or a line of it is no entry.
    """
    if not path.exists():
        raise UsageError(
            f"{path}: no such file; `facecaptionhq review RUN` opens the page that writes one, in RUN/review"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: no labels can be read: {error}") from error
    return standing(parse_lines(text.split("\n"), str(path)))


def _entry_of(values: Any) -> Label | Retraction:
    if not isinstance(values, dict):
        raise UsageError("a JSON object is wanted")
    named = values.pop("id", None) if "undo" not in values else None
    kind: type[Label | Retraction] = Retraction if "undo" in values else Label
    known = {field.name: field.default is MISSING for field in fields(kind)}
    if unknown := sorted(values.keys() - known):
        raise UsageError(f"unknown field {unknown[0]!r}")
    if missing := [name for name, is_needed in known.items() if is_needed and name not in values]:
        raise UsageError(f"the field {missing[0]!r} is missing; a label has uid, label, reviewer and time")
    label = kind(**values)
    if isinstance(label, Retraction):
        return label
    if named is not None and named != label.id:
        raise UsageError(f"its id is {named}, and that of what it says {label.id}: the line was edited")
    return label

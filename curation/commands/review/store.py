"""The labels of a review as they stand: read as they lie, added to line by line, never edited."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from curation.dataset.label_file import Entry, add, whole_lines
from curation.dataset.labels import HAND_PICKED, Label, Retraction, standing
from curation.errors import UsageError

MAX_REVIEWER_CHARACTERS = 40


@dataclass
class Labels:
    """One file of labels; several threads may ask, and other processes may add to it."""

    path: Path
    are_forgotten: Callable[[Iterable[str]], list[str]] = lambda uids: []
    """Which of some uids nobody may speak of any more."""
    _seen: tuple[int, int] | None = None
    """Inode and size in bytes of the file when it was read."""
    _entries: list[Entry] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def standing(self) -> list[Label]:
        """Return the labels that count.

        Raises:
            UsageError: a line of the file is no label.
        """
        with self._lock:
            return standing(self._read())

    def give(self, uids: Sequence[str], label: str, reviewer: str, drawn: Callable[[str], tuple[str, float]]) -> None:
        """Add a reviewer's label of pictures; `drawn` says from which stratum each came, and with which probability.

        Raises:
            UsageError: label or reviewer do not hold, or a picture was forgotten.
            StorageError: the disk refuses; nothing was taken then.
        """
        name = reviewer_name(reviewer)
        add(self.path, [Label(uid, label, name, _now(), *drawn(uid)) for uid in uids], self._require_remembered(uids))

    def _require_remembered(self, uids: Sequence[str]) -> Callable[[], None]:
        def require() -> None:
            if gone := self.are_forgotten(uids):
                raise UsageError(f"{gone[0]} was forgotten, and takes no label any more")

        return require

    def undo(self, reviewer: str) -> Label | None:
        """Take back the last label of a reviewer that counts, and return it; None where there is none."""
        name = reviewer_name(reviewer)
        with self._lock:
            entries = self._read()
            undone = {(entry.undo, entry.reviewer) for entry in entries if isinstance(entry, Retraction)}
            mine = (one for one in reversed(entries) if isinstance(one, Label) and one.reviewer == name)
            last = next((label for label in mine if (label.id, name) not in undone), None)
        if last is not None:
            add(self.path, [Retraction(last.id, name, _now())])
        return last

    def _read(self) -> list[Entry]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            facts = os.fstat(file.fileno())
            is_longer = self._seen is not None and self._seen[0] == facts.st_ino and self._seen[1] <= facts.st_size
            start = self._seen[1] if self._seen is not None and is_longer else 0
            file.seek(start)
            content = file.read()
        end = content.rfind(b"\n") + 1
        entries = whole_lines(content[:end], str(self.path))
        self._entries = [*self._entries, *entries] if start else entries
        self._seen = (facts.st_ino, start + end)
        return self._entries


def hand_picked(uid: str) -> tuple[str, float]:
    """Return how a picture came that no queue drew."""
    return HAND_PICKED, 1.0


def reviewer_name(text: str) -> str:
    """Return a reviewer's name without blanks around it.

    Raises:
        UsageError: it is empty, too long, or not printable.
    """
    name = text.strip()
    if not name or len(name) > MAX_REVIEWER_CHARACTERS or not name.isprintable():
        raise UsageError(f"reviewer {name!r:.60}: 1 to {MAX_REVIEWER_CHARACTERS} printable characters")
    return name


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")

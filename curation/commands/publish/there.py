"""What lies in a repository already, and what must be said before anything is sent there."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from curation.commands.card.numbers import Value
from curation.commands.card.stage import TAKEDOWNS
from curation.commands.card.statements import STATED
from curation.dataset.stages import CARD_VALUES_NAME
from curation.errors import UsageError, VerificationError
from curation.storage.publish import FileRecord, unsealed

OF_THE_HUB = frozenset({".gitattributes"})
"""What the hub itself lays into a new repository."""
MAX_CARD_BYTES = 64 << 20
"""A larger `card.json` is none of ours."""
NUM_SHOWN = 5


@dataclass(frozen=True)
class AtTheHub:
    """A repository as it was found, new or not."""

    repo: str
    is_public: bool
    files: Mapping[str, Any]
    """By path, each with the hub's own hash."""
    card: bytes | None = None
    """Its `card.json`, if it has one."""

    @cached_property
    def values(self) -> Mapping[str, Any] | None:
        """What the sealed card of a publication here says; None where there is none, or it names another repository."""
        try:
            values = None if self.card is None else unsealed(self.card, f"{self.repo}/{CARD_VALUES_NAME}")
        except VerificationError:
            return None
        stated = (values or {}).get(STATED)
        is_of_here = isinstance(stated, dict) and str(stated.get("repo")).casefold() == self.repo.casefold()
        return values if is_of_here else None

    @property
    def card_sha256(self) -> str | None:
        """The sha256 of its `card.json`."""
        return None if self.card is None else hashlib.sha256(self.card).hexdigest()

    @property
    def shown(self) -> str:
        """What lies there, in words."""
        names = sorted(self.files.keys() - OF_THE_HUB)
        listed = ", ".join(names[:NUM_SHOWN]) + (f" and {len(names) - NUM_SHOWN} more" * (len(names) > NUM_SHOWN))
        if self.values is None:
            return listed or "nothing"
        stated = self.values[STATED]
        return f"the publication of {stated.get('date')}, form {stated.get('form')} ({listed})"


@dataclass(frozen=True)
class RunRecords:
    """What this run says of itself."""

    numbers: Mapping[str, Value]
    """Of the card that is to be sent."""
    takedowns: str | None
    """Digest of its tombstones."""
    own_cards: frozenset[str] = frozenset()
    """sha256 of every `card.json` that it has sent there, or is about to."""


def require_sendable(
    found: AtTheHub,
    files: Mapping[str, Path],
    records: Mapping[str, FileRecord],
    told: RunRecords,
    *,
    may_be_public: bool = False,
    is_history_settled: bool = False,
    may_replace: bool = False,
) -> None:
    """Make sure that whoever publishes knows what lies in the repository.

    What lies there is ours where it is empty, where its sealed card is one that this run has a record of, and where it
    holds nothing but some of these very files, as after an upload that was killed before its card came.

    Raises:
        UsageError: it holds what is not ours; it is public, and nobody said so; or other images are forgotten than when
            its card was made, and nobody said what becomes of its earlier commits.
    """
    others = [
        path
        for path, entry in sorted(found.files.items())
        if path not in OF_THE_HUB and not (path in files and is_same(entry, files[path], records[path]))
    ]
    _require_ours(found, others, told, may_replace=may_replace)
    if found.is_public and not may_be_public:
        raise _refusal(
            found, "it is public: everybody may read what is sent there",
            "type --public to send it all the same, or make the repository private in its settings at the hub",
        )  # fmt: skip
    taken = None if found.values is None else _taken_down_since(found.values, told)
    if taken is not None and not is_history_settled:
        raise _refusal(
            found, f"{taken}, and earlier commits may hold what was taken out",
            "type --without-history to leave one commit only, or --keep-history to leave earlier ones as they "
            "are, where nothing that was forgotten was ever published there",
        )  # fmt: skip


def _require_ours(found: AtTheHub, others: Sequence[str], told: RunRecords, *, may_replace: bool) -> None:
    if found.values is None and others:
        raise _refusal(
            found, f"{', '.join(others[:NUM_SHOWN])} there is of no publication whose card names this repository",
            "name a new repository, or an empty one",
        )  # fmt: skip
    if found.values is not None and found.card_sha256 not in told.own_cards and not may_replace:
        raise _refusal(
            found, "this run has no record of having published it: another run did, or an earlier release",
            "type --replace to put this publication in its place, or name a new repository",
        )  # fmt: skip


def _refusal(found: AtTheHub, why: str, right: str) -> UsageError:
    return UsageError(f"{found.repo} is there already and holds {found.shown}; {why}. Nothing was sent: {right}")


def _taken_down_since(card: Mapping[str, Any], told: RunRecords) -> str | None:
    """Return what is known of takedowns since a published card was made; None where the very same images are out."""
    if TAKEDOWNS not in card or card[TAKEDOWNS] is None or told.takedowns is None:
        return "its card does not say which images were forgotten by then"
    if card[TAKEDOWNS] == told.takedowns:
        return None
    before = {number["name"]: number["value"] for number in card.get("numbers", ())}
    counted_then: Any = dict(before.get("tombstones") or ())
    rows: Any = told.numbers.get("tombstones") or ()
    more = [
        f"{num - counted_then.get(kind, 0)} more by {kind}" for kind, num in rows if num > counted_then.get(kind, 0)
    ]
    return f"other images are forgotten than when its card was made ({', '.join(more) or 'not more of them'})"


def is_same(entry: Any, local: Path, record: FileRecord) -> bool:
    """Whether a file at the hub is a file here, by the hub's own hash."""
    if entry.lfs is not None:
        return bool(entry.lfs.sha256 == record.sha256)
    return bool(entry.blob_id == _blob_id(local))


def _blob_id(path: Path) -> str:
    """Return what git calls a file's content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

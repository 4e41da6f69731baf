"""After fetching and before anybody looks: pictures whose hash stands on a list of known illegal material are withheld.

The project ships the interface and no hashes: the real lists are given to vetted organisations only. A matcher is an
object with `name`, `digest` and `match`; it comes from a file of hashes, or from a package through an entry point.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from curation.dataset.lists import read_entries, read_lines
from curation.errors import FaceCaptionError, SafetyError, UsageError
from curation.measure.fingerprint import Fingerprint, phash_distance
from filters.plugins import HASH_MATCHERS, PluginError, offered

KINDS = ("sha256", "md5", "phash")
PHASH_MAX_DISTANCE = 4


class HashMatcher(Protocol):
    """Says whether a fingerprint stands on a list.

    An entry point `facecaptionhq.hash_matchers` names a function without arguments that returns one.
    """

    @property
    def name(self) -> str:
        """What the incident record calls the list."""
        ...

    @property
    def digest(self) -> str:
        """Names the list's content: another list is other work."""
        ...

    def match(self, fingerprint: Fingerprint) -> bool:
        """Return whether the picture must be withheld."""
        ...


class HashList:
    """A text file of hashes, one a line: sha256 or md5 in hex, or `phash:` and 16 hex digits; # begins a remark."""

    def __init__(self, path: Path) -> None:
        """Read the file.

        Raises:
            SafetyError: it cannot be read, or a line is no hash: this gate fails closed.
        """
        try:
            entries = list(read_entries(read_lines(path), str(path), KINDS))
        except UsageError as error:
            raise SafetyError(f"{error} (a hash list)") from error
        exact = {entry.value for entry in entries if entry.kind != "phash"}
        looks = {entry.value for entry in entries if entry.kind == "phash"}
        if not exact and not looks:
            raise SafetyError(f"{path}: the hash list is empty; leave the option out if none is wanted")
        self.name = path.name
        self.digest = hashlib.sha256(repr((sorted(exact), sorted(looks))).encode()).hexdigest()
        self._exact, self._looks = frozenset(exact), tuple(sorted(looks))

    def match(self, fingerprint: Fingerprint) -> bool:
        """Return whether sha256, md5 or a look within 4 bits is listed."""
        if fingerprint.sha256 in self._exact or fingerprint.md5 in self._exact:
            return True
        look = fingerprint.phash
        return look is not None and any(phash_distance(look, known) <= PHASH_MAX_DISTANCE for known in self._looks)


def load_matchers(hash_lists: Sequence[Path]) -> list[HashMatcher]:
    """Return the matchers of the given files and of every package that offers one.

    Raises:
        SafetyError: a list cannot be read, a package's matcher cannot be loaded, or two have one name: this gate
            fails closed.
    """
    matchers: list[HashMatcher] = [HashList(path) for path in hash_lists]
    for brought in offered(HASH_MATCHERS):
        try:
            matchers.append(brought.build())
        except FaceCaptionError as error:  # whatever a package raises, the gate stays closed
            told = str(error) if isinstance(error, PluginError) else f"{brought.told}: {error}"
            raise SafetyError(told) from error
    names = [matcher.name for matcher in matchers]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SafetyError(
            f"two lists of hashes are named {twice[0]!r}; rename one, so that the records tell them apart"
        )
    return matchers


def matching(fingerprint: Fingerprint, matchers: Sequence[HashMatcher]) -> str | None:
    """Return the name of the first list that holds a fingerprint, else None."""
    return next((matcher.name for matcher in matchers if matcher.match(fingerprint)), None)

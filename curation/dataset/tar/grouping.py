"""Which members make one sample: from names alone, before any content is read (`docs/decisions/0044`)."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from curation.dataset.tar.headers import DIRECTORY, Header
from curation.dataset.tar.names import IMAGE_SUFFIXES, KNOWN_SUFFIXES, shorter_keys, split_name, stray
from curation.errors import ShardError

PICTURE, EXTRA = "picture", "extra"
"""What a member is to its sample, where its suffix does not say it: any picture; what we do not read."""


@dataclass(slots=True)
class Group:
    """Members of one key that follow one another, each suffix once."""

    key: str
    members: dict[str, Header] = field(default_factory=dict)
    """Suffix -> member, of the suffixes that we read; of others, the first member under `extra`."""
    is_repeated: bool = False
    """Whether its key names an earlier sample already."""

    @property
    def pictures(self) -> list[Header]:
        """Return its pictures, in order."""
        return [member for suffix, member in self.members.items() if suffix in IMAGE_SUFFIXES]

    @property
    def parts(self) -> set[str]:
        """Return what it has: `picture`, `json`, `txt`."""
        return {PICTURE if suffix in IMAGE_SUFFIXES else suffix for suffix in self.members}


def grouped(members: Iterable[Header], shown: Path) -> tuple[list[Group], Counter[str]]:
    """Return the samples of a tar in order, and how many members are nobody's, by why.

    Every picture is in exactly one group. Of a key that comes back whole the first group is the sample; the later ones
    are marked as repeated.

    Raises:
        ShardError: parts of one sample stand apart, with others between them.
    """
    skipped = Counter[str]()
    named: list[tuple[Header, str, str]] = []
    for member in members:
        why = "directory" if member.kind == DIRECTORY else stray(member.name)
        if why is None:
            named.append((member, *split_name(member.name)))
        else:
            skipped[why] += 1
    return _told_apart(runs(owners(named)), shown), skipped


def runs(owned: Iterable[tuple[Header, str, str]]) -> list[Group]:
    """Return groups of members that follow one another under one key; extras make one only where nothing else does."""
    owned = list(owned)
    known = {key for _, key, suffix in owned if suffix != EXTRA}
    groups: list[Group] = []
    for member, key, suffix in owned:
        if suffix == EXTRA and key in known:
            continue
        if not groups or groups[-1].key != key or suffix in groups[-1].members:
            groups.append(Group(key))
        groups[-1].members[suffix] = member
        if suffix == EXTRA:
            known.add(key)
    return groups


def owners(named: Sequence[tuple[Header, str, str]]) -> list[tuple[Header, str, str]]:
    """Return every member with the key of its sample, and with the suffix that counts there, or `extra`.

    A text that names a picture in full (`a.jpg.json`) is that picture's where it has no other; what only begins as a
    picture's key does (`a.face.json`, `a.seg.npy`) is an extra of that picture.
    """
    pictures = {key for _, key, suffix in named if suffix in IMAGE_SUFFIXES}
    files = {member.name: key for member, key, suffix in named if suffix in IMAGE_SUFFIXES}
    texts = {(key, suffix) for _, key, suffix in named if suffix not in IMAGE_SUFFIXES}
    owned = []
    for member, key, suffix in named:
        if suffix in IMAGE_SUFFIXES or (suffix in KNOWN_SUFFIXES and key in pictures):
            owned.append((member, key, suffix))
        elif suffix in KNOWN_SUFFIXES and key in files:
            owned.append((member, files[key], EXTRA if (files[key], suffix) in texts else suffix))
        elif of_picture := [shorter for shorter in shorter_keys(f"{key}.{suffix}") if shorter in pictures]:
            owned.append((member, of_picture[0], EXTRA))
        else:
            owned.append((member, key, suffix if suffix in KNOWN_SUFFIXES else EXTRA))
    return owned


def _told_apart(groups: list[Group], shown: Path) -> list[Group]:
    """Mark the groups whose key came before; refuse those that would only complete an earlier one."""
    first: dict[str, Group] = {}
    for group in groups:
        before = first.setdefault(group.key, group)
        group.is_repeated = before is not group
        if group.is_repeated and not group.parts & before.parts:
            raise ShardError(
                f"{shown}: the members of sample {group.key!r} stand apart, with others between them; "
                f"bring them together: facecaptionhq repair {shown.parent} TARGET"
            )
    return groups

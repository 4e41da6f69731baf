"""The samples of a repaired tar: in order of key, each with its members together, and every picture among them."""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from curation.dataset.tar.grouping import EXTRA, Group, owners, runs
from curation.dataset.tar.headers import CHUNK_BYTES, DIRECTORY, FILE, Header
from curation.dataset.tar.names import IMAGE_SUFFIXES, split_name, stray
from curation.dataset.tar.write import fitting_key


@dataclass
class Regrouped:
    """What a repaired tar is to hold, and what became of the rest."""

    members: list[tuple[str, Header]] = field(default_factory=list)
    """Name and place of every member, in order."""
    num_pictures: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    """Members that were left out, by why."""
    renamed: list[tuple[str, str]] = field(default_factory=list)
    """Old and new keys of pictures whose key was another's."""
    losses: list[str] = field(default_factory=list)
    """Pictures that could not be taken over."""


def regroup(headers: tuple[Header, ...], path: Path) -> Regrouped:
    """Return the members of a local tar in the order and under the names of a repaired one.

    Of a key that stands for several pictures the first keeps it; equal copies are left out, and other pictures get a
    key of their own, so that none is lost.
    """
    result = Regrouped()
    named = []
    for header in headers:
        why = "directory" if header.kind == DIRECTORY else stray(header.name)
        if why is None and header.kind != FILE:
            why = header.kind
            if split_name(header.name)[1] in IMAGE_SUFFIXES:
                result.losses.append(f"member {header.name!r} is a {header.kind}, and has no content of its own")
        if why is None:
            named.append((header, *split_name(header.name)))
        else:
            result.skipped[why] += 1
    owned = owners(named)
    extras = defaultdict[str, list[Header]](list)
    for header, key, suffix in owned:
        if suffix == EXTRA:
            extras[key].append(header)
    by_key = _merged(runs(entry for entry in owned if entry[2] != EXTRA))
    taken = {*by_key, *extras}
    with path.open("rb") as file:
        for key in sorted(taken):
            _write_key(result, file, key, by_key.get(key, []), extras[key], taken)
    return result


def _merged(groups: list[Group]) -> dict[str, list[Group]]:
    """Return the samples of every key: what stands apart goes to the first that lacks it."""
    by_key: dict[str, list[Group]] = {}
    for group in groups:
        samples = by_key.setdefault(group.key, [])
        place = next((sample for sample in samples if not sample.parts & group.parts), None)
        if place is None:
            samples.append(group)
        else:
            place.members |= group.members
    return by_key


def _write_key(
    result: Regrouped, file: BinaryIO, key: str, samples: list[Group], extras: list[Header], taken: set[str]
) -> None:
    digests = set[str]()
    pictures = [(group, picture) for group in samples for picture in group.pictures]
    bare = [group for group in samples if not group.pictures]
    for number, (group, picture) in enumerate(pictures):
        digest = _digest(file, picture)
        if digest in digests:
            result.skipped["repeated"] += 1
            continue
        digests.add(digest)
        own = fitting_key(key) if number == 0 else _free(key, taken)
        if own != key:
            result.renamed.append((key, own))
        texts = group.members if picture is group.pictures[0] else {}
        result.members.append((f"{own}.{split_name(picture.name)[1]}", picture))
        result.members += [(f"{own}.{s}", h) for s, h in sorted(texts.items()) if s not in IMAGE_SUFFIXES]
        result.num_pictures += 1
    if not pictures and bare:
        own = fitting_key(key)
        result.members += [(f"{own}.{suffix}", header) for suffix, header in sorted(bare.pop(0).members.items())]
    result.skipped["repeated"] += sum(len(group.members) for group in bare)
    _write_extras(result, extras)


def _write_extras(result: Regrouped, extras: list[Header]) -> None:
    names = set[str]()
    for header in extras:
        if header.name in names or fitting_key(header.name) != header.name:
            result.skipped["repeated" if header.name in names else "long_name"] += 1
            continue
        names.add(header.name)
        result.members.append((header.name, header))


def _free(key: str, taken: set[str]) -> str:
    """Return a key that is nobody's yet."""
    number = 2
    while (own := fitting_key(f"{key}-{number}")) in taken:
        number += 1
    taken.add(own)
    return own


def _digest(file: BinaryIO, member: Header) -> str:
    found = hashlib.sha256()
    for chunk in chunks(file, member):
        found.update(chunk)
    return found.hexdigest()


def chunks(file: BinaryIO, member: Header) -> Iterator[bytes]:
    """Yield the content of a member, a piece at a time."""
    file.seek(member.start)
    left = member.num_bytes
    while left and (chunk := file.read(min(left, CHUNK_BYTES))):
        left -= len(chunk)
        yield chunk

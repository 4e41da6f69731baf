"""The names of a packed sample's members: those of every other stage, but the picture's, which is one for all."""

from collections.abc import Iterator, Mapping

from curation.dataset.tar import IMAGE_SUFFIXES, sample_members, split_name

PICTURE_SUFFIX = "jpg"
"""Suffix of every picture, whatever its format: a name that all readers outside take as a picture."""


def packed_members(uid: str, image_bytes: bytes, metadata: bytes, caption: str) -> Iterator[tuple[str, bytes]]:
    """Yield the members of a sample in their order."""
    return sample_members(uid, PICTURE_SUFFIX, image_bytes, metadata, caption)


def picture_offsets(offsets: Mapping[str, int]) -> dict[str, int]:
    """Return the offset of each sample's picture by its key, of offsets by members' names."""
    parted = ((split_name(name), offset) for name, offset in offsets.items())
    return {key: offset for (key, suffix), offset in parted if suffix in IMAGE_SUFFIXES}

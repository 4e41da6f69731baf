"""A folder of plain pictures, each with the texts that lie beside it, cut into shards in order of name."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from curation.dataset.sources.made import FileShard
from curation.dataset.sources.shard import NUM_SHARD_SAMPLES
from curation.dataset.tar.names import (
    CAPTION_SUFFIX,
    IMAGE_SUFFIXES,
    METADATA_SUFFIX,
    UNREAD_FORMAT,
    is_rare,
    picture_stem,
    split_name,
)
from curation.dataset.tar.write import fitting_key

MAX_SHARD_BYTES = 1 << 30
"""Size of the pictures of one shard, as far as they have more than one."""


@dataclass(frozen=True)
class Folder:
    """The files below a folder, told apart."""

    samples: tuple[tuple[tuple[str, str], ...], ...]
    """Of every picture, in order: name in the tar and path of its file and of its texts."""
    others: tuple[str, ...]
    """Files that are no pictures, and no picture's text."""


def folder_of(files: Sequence[str]) -> Folder:
    """Return the pictures among files, each under its path without suffix, or with it where that is not its alone.

    One of a rarer kind beside another (`a.dng` and `a.jpg`) leaves the bare key to that.
    """
    split = {file: _split(file) for file in files}
    pictures = [file for file, (_, suffix) in split.items() if suffix in IMAGE_SUFFIXES]
    texts = {split[file]: file for file in reversed(files) if split[file][1] in (CAPTION_SUFFIX, METADATA_SUFFIX)}
    usual = Counter(split[file][0] for file in pictures if split_name(file)[1] in IMAGE_SUFFIXES)
    shared = Counter(split[file][0] for file in pictures)
    samples, used = [], set(pictures)
    for file in pictures:
        stem, suffix = split[file]
        is_alone = shared[stem] == 1 or (usual[stem] == 1 and split_name(file)[1] in IMAGE_SUFFIXES)
        key = fitting_key(stem if is_alone else file)
        members = [(f"{key}.{suffix}", file)]
        for kind in (METADATA_SUFFIX, CAPTION_SUFFIX):
            text = texts.get((stem, kind)) or texts.get((file, kind))
            if text is not None:
                members.append((f"{key}.{kind}", text))
                used.add(text)
        samples.append(tuple(members))
    return Folder(tuple(samples), tuple(file for file in files if file not in used))


def _split(file: str) -> tuple[str, str]:
    """Return what a file is called in the tar that is made of it: key, and the suffix of a picture that is read."""
    return (picture_stem(file), UNREAD_FORMAT) if is_rare(file) else split_name(file)


def picture_shards(source: Path, folder: Folder) -> Iterator[FileShard]:
    """Yield the shards of a folder: as many samples and bytes as each may have."""
    members: list[tuple[str, str]] = []
    number = num_samples = num_bytes = 0
    for sample in folder.samples:
        size = (source / sample[0][1]).stat().st_size
        if num_samples and (num_samples == NUM_SHARD_SAMPLES or num_bytes + size > MAX_SHARD_BYTES):
            yield FileShard(f"{number:05d}", source, tuple(members))
            number, num_samples, num_bytes, members = number + 1, 0, 0, []
        members += sample
        num_samples += 1
        num_bytes += size
    if members:
        yield FileShard(f"{number:05d}", source, tuple(members))

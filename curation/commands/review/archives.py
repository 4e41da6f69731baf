"""What lies in the tars and folders of one shard: where each picture begins, and what is said of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from curation.dataset.captions import captions_of, clean_caption
from curation.dataset.sources.made import FileShard
from curation.dataset.tar import MAX_MEMBER_BYTES, split_name
from curation.dataset.tar.headers import FILE
from curation.dataset.tar.limits import MAX_SOURCE_TEXT_BYTES
from curation.dataset.tar.names import CAPTION_SUFFIX, IMAGE_SUFFIXES, METADATA_SUFFIX
from curation.dataset.tar.read import layout_of
from curation.dataset.tar.texts import parse_object, parse_text

MAX_CAPTIONS = 8
MAX_CAPTION_CHARACTERS = 2000


@dataclass(frozen=True)
class BytesPlace:
    """Where some bytes lie: in a tar, or a whole file of a folder."""

    file: str
    """Path below the folder; empty in a tar."""
    start: int
    num_bytes: int


@dataclass(frozen=True)
class Found:
    """One sample: its pictures, of which the ledger's sha256 tells the right one, and its captions, a line each."""

    key: str
    pictures: tuple[BytesPlace, ...]
    captions: str


def samples_in_tar(tar: Path, shown: Path) -> Iterator[Found]:
    """Yield what a local tar holds; no picture is read.

    Raises:
        ShardError: it is not a whole tar.
    """
    layout = layout_of(tar, shown)
    with tar.open("rb") as file:
        for group in layout.groups:
            texts = {}
            for suffix in (CAPTION_SUFFIX, METADATA_SUFFIX):
                member = group.members.get(suffix)
                if member is not None and member.kind == FILE and member.num_bytes <= MAX_SOURCE_TEXT_BYTES:
                    file.seek(member.start)
                    texts[suffix] = file.read(member.num_bytes)
            pictures = (
                BytesPlace("", member.start, member.num_bytes) for member in group.pictures if member.kind == FILE
            )
            usable = tuple(place for place in pictures if place.num_bytes <= MAX_MEMBER_BYTES)
            yield Found(group.key, usable, _captions(texts))


def samples_in_folder(shard: FileShard) -> Iterator[Found]:
    """Yield what a shard made of loose files holds; a file that is gone is left out."""
    samples: dict[str, tuple[list[BytesPlace], dict[str, bytes]]] = {}
    for name, file in shard.members:
        key, suffix = split_name(name)
        pictures, texts = samples.setdefault(key, ([], {}))
        path = shard.path / file
        if not path.is_file():
            continue
        size = path.stat().st_size
        if suffix in IMAGE_SUFFIXES and size <= MAX_MEMBER_BYTES:
            pictures.append(BytesPlace(file, 0, size))
        elif suffix not in IMAGE_SUFFIXES and size <= MAX_SOURCE_TEXT_BYTES:
            texts[suffix] = path.read_bytes()
    for key, (pictures, texts) in samples.items():
        yield Found(key, tuple(pictures), _captions(texts))


def _captions(texts: Mapping[str, bytes]) -> str:
    """Return the captions of a sample, each on one line without characters that nobody sees."""
    caption = parse_text(texts.get(CAPTION_SUFFIX, b""))
    metadata = parse_object(texts[METADATA_SUFFIX]) if METADATA_SUFFIX in texts else None
    found = captions_of(caption or None, metadata or {})[:MAX_CAPTIONS]
    return "\n".join(dict.fromkeys(clean_caption(one.text, MAX_CAPTION_CHARACTERS) for one in found))

"""WebDataset tars: headers that are walked, names that are read, samples that they make, and how ours are written."""

from curation.dataset.tar.headers import BLOCK_BYTES, END_OF_ARCHIVE_BYTES
from curation.dataset.tar.limits import MAX_MEMBER_BYTES
from curation.dataset.tar.names import (
    CAPTION_SUFFIX,
    IMAGE_SUFFIXES,
    METADATA_SUFFIX,
    UNKNOWN_FORMAT,
    split_name,
)
from curation.dataset.tar.read import read_samples
from curation.dataset.tar.write import (
    Member,
    TarWriter,
    copy_without,
    has_our_form,
    members_of,
    picture_name,
    sample_members,
    write_tar,
)

__all__ = [
    "BLOCK_BYTES",
    "CAPTION_SUFFIX",
    "END_OF_ARCHIVE_BYTES",
    "IMAGE_SUFFIXES",
    "MAX_MEMBER_BYTES",
    "METADATA_SUFFIX",
    "UNKNOWN_FORMAT",
    "Member",
    "TarWriter",
    "copy_without",
    "has_our_form",
    "members_of",
    "picture_name",
    "read_samples",
    "sample_members",
    "split_name",
    "write_tar",
]

"""The members of one sample: parsed by hand where its headers are plain, since tarfile is many times slower."""

import io
import tarfile

from curation.dataset.tar import BLOCK_BYTES, split_name
from facemakeup.data.shards import Shard, ShardStore
from facemakeup.faults import SampleFaultError


def read_members(store: ShardStore, shard: Shard, offset: int, num_bytes: int, key: str) -> dict[str, bytes]:
    """Return suffix -> content of the members of one sample, with one read.

    Raises:
        SampleFaultError: the tar is torn there, or a member comes twice.
    """
    span = store.read(shard, offset, num_bytes)
    if len(span) < num_bytes:
        raise SampleFaultError("torn_tar", f"{len(span)} of {num_bytes} bytes at offset {offset}")
    members = members_of(span, key)
    if not members:
        raise SampleFaultError("torn_tar", f"no member of this key at offset {offset}")
    return members


def members_of(span: bytes, key: str) -> dict[str, bytes]:
    """Return the members of `key`: read by hand where all headers are plain USTAR, else by tarfile, which is slow."""
    members: dict[str, bytes] = {}
    plain = _plain_members(span)
    if plain is not None:
        for name, content in plain:
            member_key, suffix = split(name)
            if member_key != key:
                continue
            if suffix in members:
                raise SampleFaultError("duplicate_member", f"{key}.{suffix}")
            members[suffix] = content
        return members
    try:
        with tarfile.open(fileobj=io.BytesIO(span), mode="r:") as tar:
            while (info := tar.next()) is not None:
                member_key, suffix = split(info.name)
                if not info.isreg() or member_key != key:
                    continue
                file = tar.extractfile(info)
                if suffix in members:
                    raise SampleFaultError("duplicate_member", f"{key}.{suffix}")
                members[suffix] = file.read() if file is not None else b""
    except tarfile.TarError as error:
        raise SampleFaultError("torn_tar", str(error)) from error
    return members


def _plain_members(span: bytes) -> list[tuple[str, bytes]] | None:
    """Return name and content of every member (POSIX.1-1988 ustar), or None where a header is not that plain."""
    members = []
    offset = 0
    while offset + BLOCK_BYTES <= len(span) and span[offset]:
        header = span[offset : offset + BLOCK_BYTES]
        size_field, sum_field = header[124:136].strip(b" \0"), header[148:156].strip(b" \0")
        if header[156] not in b"0\0" or header[345] or not size_field.isdigit() or not sum_field.isdigit():
            return None
        size, start = int(size_field, 8), offset + BLOCK_BYTES
        if sum(header) - sum(header[148:156]) + 8 * ord(" ") != int(sum_field, 8) or start + size > len(span):
            return None
        name = header[:100].partition(b"\0")[0].decode("utf-8", "surrogateescape")
        members.append((name, span[start : start + size]))
        offset = start + -(-size // BLOCK_BYTES) * BLOCK_BYTES
    return members


def split(name: str) -> tuple[str, str]:
    """Return key and suffix of a member: WebDataset's rule, cut at the first dot of the base name."""
    return split_name(name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))

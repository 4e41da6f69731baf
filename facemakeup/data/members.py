"""The members of one sample: by the shortest way where its headers are plain."""

import io
from collections.abc import Iterator

from curation.dataset.tar import BLOCK_BYTES, split_name
from curation.dataset.tar.headers import FILE, Header, TarFaultError, Walk
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
    """Return the members of `key`: read at once where all headers are plain USTAR, else header by header."""
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
        for member in _walked(span):
            member_key, suffix = split(member.name)
            if member.kind != FILE or member_key != key:
                continue
            if suffix in members:
                raise SampleFaultError("duplicate_member", f"{key}.{suffix}")
            members[suffix] = span[member.start : member.start + member.num_bytes]
    except TarFaultError as error:
        raise SampleFaultError("torn_tar", str(error)) from error
    return members


def _walked(span: bytes) -> Iterator[Header]:
    """Yield the members of a piece of a tar, which has no end mark of its own."""
    walk = Walk(io.BytesIO(span), len(span))
    headers = walk.members()
    while walk.end < len(span) and (header := next(headers, None)) is not None:
        yield header


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
    """Return key and suffix of a member as `curate` reads them, in UTF-8."""
    return split_name(name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))

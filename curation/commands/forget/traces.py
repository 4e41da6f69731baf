"""What a forgotten image may be known by, and whether a name, some bytes or a row of a table tells of it."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.compute as pc

from curation.dataset.tombstones import hashed
from curation.errors import ShardError

END_OF_URL = rb"(?=[\s\"'<>\\,;)\]}|]|$)"
HASH = re.compile(rb"(?<![0-9a-f])(?:[0-9a-f]{32}|[0-9a-f]{64})(?![0-9a-f])")
"""A uid or a sha256, as it stands in names and texts."""
TELLS_NOTHING = frozenset({"builtins", "datetime", "decimal", "pandas", "zoneinfo"})
"""Where the types of numbers and times come from."""
NESTED = (
    pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view,
    pa.types.is_large_list_view, pa.types.is_struct, pa.types.is_map, pa.types.is_union,
)  # fmt: skip


@dataclass(frozen=True)
class Traces:
    """What must be found nowhere: uids name members and rows, texts may stand anywhere, hashes are of contents."""

    uids: frozenset[str]
    texts: frozenset[str] = frozenset()
    contents: frozenset[str] = frozenset()
    """sha256 of pictures in hex."""
    buried: frozenset[str] = frozenset()
    """sha256 of the sha256 of pictures that were forgotten before, in hex: all that is left of them."""
    pattern: re.Pattern[bytes] = field(init=False, compare=False)
    """Any of them in bytes."""
    urls: re.Pattern[bytes] = field(init=False, compare=False)
    """The texts, each whole, in a longer one."""

    def __post_init__(self) -> None:
        """Compile what is looked for in bytes."""
        object.__setattr__(self, "pattern", re.compile(_either(self.words)))
        object.__setattr__(self, "urls", re.compile(rb"(?:" + _either(self.texts) + rb")" + END_OF_URL))

    @property
    def words(self) -> frozenset[str]:
        """Everything that may stand in a column."""
        return self.uids | self.texts | self.contents

    def are_named_by(self, name: str) -> bool:
        """Whether a file's or member's name, with its folders, says which image it is of."""
        return self._hash_in(name.encode("utf-8", "surrogateescape"))

    def are_in(self, text: bytes) -> bool:
        """Whether a text, perhaps a long one such as JSON, holds any of them."""
        return self._hash_in(text) or (bool(self.texts) and self.urls.search(text) is not None)

    def _hash_in(self, text: bytes) -> bool:
        found = {one.decode() for one in HASH.findall(text.lower())}
        return not (self.uids.isdisjoint(found) and self.contents.isdisjoint(found))

    def are_picture(self, content: bytes) -> bool:
        """Whether bytes are one of the pictures."""
        return bool(self.contents or self.buried) and self.are_content(hashlib.sha256(content).hexdigest())

    def are_content(self, sha256: str) -> bool:
        """Whether a sha256, in hex, is that of one of the pictures."""
        return sha256 in self.contents or (bool(self.buried) and hashed(sha256) in self.buried)


def _either(words: Iterable[str]) -> bytes:
    longest_first = sorted(set(words) - {""}, key=len, reverse=True)
    return b"|".join(re.escape(word.encode("utf-8", "replace")) for word in longest_first) or rb"(?!)"


def rows_that_tell(batch: pa.RecordBatch, traces: Traces) -> pa.Array:
    """Return which rows of a table tell of an image, in a text, a picture, or whatever holds such.

    Raises:
        ShardError: a cell is of a kind that cannot be looked into.
    """
    told = pa.array([False] * len(batch), pa.bool_())
    for column in batch.columns:
        if may_tell(column.type):
            told = pc.or_(told, _cells_that_tell(column, traces))
    return told


def may_tell(kind: pa.DataType) -> bool:
    """Whether values of a type can hold a text or bytes: all but numbers, times and the like, however nested."""
    if isinstance(kind, pa.BaseExtensionType):
        return may_tell(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return may_tell(kind.value_type)
    if any(is_such(kind) for is_such in NESTED):
        return any(may_tell(kind.field(number).type) for number in range(kind.num_fields))
    return not (pa.types.is_primitive(kind) or pa.types.is_null(kind) or pa.types.is_decimal(kind))


def _cells_that_tell(column: pa.Array, traces: Traces) -> pa.Array:
    """Return the mask of a column; equal words of a dictionary are looked at once."""
    if pa.types.is_dictionary(column.type):
        told = _cells_that_tell(column.dictionary, traces)
        return pc.fill_null(told.take(column.indices), False)
    return pa.array([_tells(cell, traces) for cell in column.to_pylist()], pa.bool_())


def _tells(value: Any, traces: Traces) -> bool:
    match value:
        case str():
            return value in traces.words or traces.are_in(value.encode("utf-8", "surrogatepass"))
        case bytes():
            return value.hex() in traces.words or traces.are_picture(value) or traces.are_in(value)
        case dict() | list() | tuple():
            inner = (*value, *value.values()) if isinstance(value, dict) else value
            return any(_tells(one, traces) for one in inner)
        case UUID():
            return value.hex in traces.words
    if value is None or type(value).__module__.partition(".")[0] in TELLS_NOTHING:
        return False
    raise ShardError(f"a cell of the kind {type(value).__name__}, which nothing here can look into")

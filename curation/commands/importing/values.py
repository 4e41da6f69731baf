"""Columns of any type that a table may have become columns of ours; a value that cannot be is null, a counted fault.

A column is an Arrow array, or a list of Python values where the source was JSON.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from curation.commands.importing.faults import Faults
from curation.dataset.rights import rights_of

Column: TypeAlias = Any
"""An Arrow array, or a list of Python values."""
LARGEST_EXACT_FLOAT = 2.0**53
LARGEST_INT64 = 2**63 - 1
FAILURES = (pa.ArrowException, ValueError, TypeError, OverflowError, ArithmeticError, AttributeError)
"""What Arrow and Python raise where a value is none of the wanted kind."""
NUL = "\0"


class Written(float):
    """A number of JSON that knows how it was written."""

    text: str

    def __new__(cls, text: str) -> "Written":
        """Read it."""
        number = super().__new__(cls, text)
        number.text = text
        return number


@dataclass(frozen=True)
class Notes:
    """Who counts what is wrong with one column of some rows."""

    name: str
    faults: Faults
    where: Callable[[int], str]
    """Place of a value among these rows -> where it stands in its file."""

    def note(self, fault: str, place: int) -> None:
        """Count one value."""
        self.faults.note(fault, self.where(place))

    def note_all(self, fault: str, mask: pa.Array) -> None:
        """Count every value for which `mask` is true."""
        first = pc.index(mask, value=True).as_py()
        if first >= 0:
            self.faults.note(fault, self.where(first), pc.sum(mask).as_py())


def plain(column: pa.Array) -> pa.Array:
    """Return the same values without what changes none of them: extension types, dictionaries, run ends, views."""
    kind = column.type
    if isinstance(kind, pa.UuidType):
        return pa.array([None if value is None else str(value) for value in column.to_pylist()], pa.string())
    if isinstance(kind, pa.BaseExtensionType):
        return plain(column.storage)
    if pt.is_dictionary(kind) or pt.is_run_end_encoded(kind):
        return plain(column.dictionary_decode() if pt.is_dictionary(kind) else pc.run_end_decode(column))
    if pt.is_string_view(kind):
        return column.cast(pa.string())
    if pt.is_binary_view(kind) or pt.is_fixed_size_binary(kind) or pt.is_large_binary(kind):
        return column.cast(pa.binary())
    return column


def texts(column: Column, notes: Notes) -> pa.Array:
    """Return texts; numbers and dates as they are written, nested values as JSON, NaN as null."""
    if isinstance(column, list):
        return _each(column, pa.string(), as_text, notes, "unreadable")
    column = _plain_or_null(column, notes)
    kind = column.type
    if pt.is_null(kind):
        return pa.nulls(len(column), pa.string())
    if pt.is_string(kind) or pt.is_large_string(kind) or pt.is_binary(kind):
        return _decoded(column, notes)
    if pt.is_floating(kind):
        column = pc.if_else(pc.is_nan(column), None, column)
    if not pt.is_nested(kind):
        try:
            return column.cast(pa.string())
        except FAILURES:
            pass
    return _each(_values(column, notes), pa.string(), as_text, notes, "unreadable")


def rights_column(columns: Sequence[tuple[str, Column]], num_rows: int, notes: Notes) -> pa.Array:
    """Return per row what columns by their names say of whose a picture is, as JSON text; null where they say nothing.

    Of two columns of one name the first counts.
    """
    if not columns:
        return pa.nulls(num_rows, pa.string())
    names = [name for name, _ in reversed(columns)]
    rows = zip(*(texts(column, notes).to_pylist() for _, column in reversed(columns)), strict=True)
    return pa.array([rights_of(dict(zip(names, row, strict=True))).as_json for row in rows], pa.string())


def floats(column: Column, notes: Notes) -> pa.Array:
    """Return numbers as float64; NaN is null, and so, as a fault, is what is no number or not finite."""
    if isinstance(column, pa.Array):
        column = _plain_or_null(column, notes)
        if pt.is_null(column.type) or pt.is_integer(column.type):
            return pc.cast(column, pa.float64(), safe=False)
        if pt.is_floating(column.type):
            number = pc.cast(column, pa.float64())
            infinite = pc.is_inf(number)
            notes.note_all(f"{notes.name}_not_a_number", infinite)
            return pc.if_else(pc.is_finite(number), number, None)
    return _each(_loose(column, notes), pa.float64(), as_float, notes, "not_a_number")


def whole_numbers(column: Column, notes: Notes) -> pa.Array:
    """Return exact whole numbers as int64; what lost a digit on its way, or never was one, is null and a fault."""
    if isinstance(column, pa.Array):
        column = _plain_or_null(column, notes)
        if pt.is_uint64(column.type):
            large = pc.greater(column, pa.scalar(LARGEST_INT64, pa.uint64()))
            notes.note_all(f"{notes.name}_not_a_number", large)
            column = pc.if_else(large, None, column)
        if pt.is_null(column.type) or pt.is_integer(column.type):
            return column.cast(pa.int64())
    return _each(_loose(column, notes), pa.int64(), as_whole, notes, "not_a_number")


def text_lists(column: Column, notes: Notes) -> pa.Array:
    """Return lists of texts; a single text is a list of one, and text that is a JSON list of texts is read."""
    kind = pa.list_(pa.string())
    if isinstance(column, list):
        return _each(column, kind, as_text_list, notes, "broken")
    column = _plain_or_null(column, notes)
    if pt.is_string(column.type) or pt.is_large_string(column.type) or pt.is_binary(column.type):
        column = _decoded(column, notes)
        return _each(column.to_pylist(), kind, _read_text_list, notes, "broken")
    if is_list(column.type) and is_text(column.type.value_type):
        try:
            found = column.cast(kind)
            found.validate(full=True)
        except FAILURES:
            pass
        else:
            if not pc.any(pc.match_substring(found.values, NUL)).as_py():
                return found
    return _each(_values(column, notes), kind, as_text_list, notes, "broken")


def is_text(kind: pa.DataType) -> bool:
    """Whether a type is text, or null alone."""
    return bool(pt.is_string(kind) or pt.is_large_string(kind) or pt.is_string_view(kind) or pt.is_null(kind))


def is_list(kind: pa.DataType) -> bool:
    """Whether a type is a list of anything, however it is laid out; maps are not."""
    return bool(
        pt.is_list(kind)
        or pt.is_large_list(kind)
        or pt.is_fixed_size_list(kind)
        or pt.is_list_view(kind)
        or pt.is_large_list_view(kind)
    )


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def as_text(value: Any) -> str | None:
    """Return a value as text that is UTF-8: of a list of one text that text, of other nested values JSON."""
    if value is None or _is_nan(value):
        return None
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | bytes):
        (value,) = value
    if isinstance(value, bytes):
        text = value.decode()
    elif isinstance(value, str):
        text = value
    else:
        text = value.text if isinstance(value, Written) else _json(value)
    if NUL in text:
        raise ValueError("holds NUL")
    return text.encode("utf-8", "replace").decode()


def as_float(value: Any) -> float | None:
    """Return a finite number.

    Raises:
        ValueError: it is none.
    """
    if value is None or value == "" or _is_nan(value):
        return None
    number = float(_number(value))
    if not math.isfinite(number):
        raise ValueError("not finite")
    return number


def as_whole(value: Any) -> int | None:
    """Return a whole number that lost nothing on its way: a float beyond 2 to the 53rd did.

    Raises:
        ValueError: it is none, or none of 64 bits.
    """
    if value is None or value == "":
        return None
    if isinstance(value, float) and not isinstance(value, Written) and not abs(value) < LARGEST_EXACT_FLOAT:
        raise ValueError("a float of more digits than it can hold")
    number = _number(value)
    whole = int(number)
    if whole != number or not -LARGEST_INT64 - 1 <= whole <= LARGEST_INT64:
        raise ValueError("not a whole number of 64 bits")
    return whole


def as_text_list(value: Any) -> list[str | None] | None:
    """Return a caption as FaceCaption writes it, a list of texts.

    Raises:
        ValueError: it is neither text nor a list of texts.
    """
    if value is None or isinstance(value, str | bytes):
        return None if value is None else [as_text(value)]
    if isinstance(value, list) and all(text is None or isinstance(text, str | bytes) for text in value):
        return [as_text(text) for text in value]
    raise ValueError("no list of texts")


def _read_text_list(value: str | None) -> list[str | None] | None:
    if value is not None and value.startswith("["):
        try:
            return as_text_list(json.loads(value))
        except (ValueError, RecursionError):
            return [value]
    return as_text_list(value)


def _number(value: Any) -> Decimal:
    """Return a number exactly as it is written."""
    if isinstance(value, bool):
        raise ValueError("true and false are no numbers")
    text = value.text if isinstance(value, Written) else value.decode() if isinstance(value, bytes) else str(value)
    if "_" in text:
        raise ValueError("no number")
    try:
        number = Decimal(text.strip())
    except InvalidOperation as error:
        raise ValueError("no number") from error
    if not number.is_finite() or number.adjusted() > 400:
        raise ValueError("not finite")
    return number


def _json(value: Any) -> str:
    if isinstance(value, bool | int | float | list | dict | tuple):
        return json.dumps(value, ensure_ascii=False, default=_leaf)
    return str(value)


def _leaf(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _plain_or_null(column: pa.Array, notes: Notes) -> pa.Array:
    try:
        return plain(column)
    except FAILURES:
        notes.note_all(f"{notes.name}_unreadable", pa.array([True] * len(column)))
        return pa.nulls(len(column))


def _decoded(column: pa.Array, notes: Notes) -> pa.Array:
    """Return text or bytes as UTF-8 without NUL; any other becomes null and is counted."""
    raw = column.cast(pa.binary())
    try:
        found = raw.cast(pa.string())
    except pa.ArrowInvalid:
        found = pa.array([_utf8(text, place, notes) for place, text in enumerate(raw.to_pylist())], pa.string())
    has_nul = pc.match_substring(found, NUL)
    notes.note_all("nul_in_text", has_nul)
    return pc.if_else(has_nul, None, found) if pc.any(has_nul).as_py() else found


def _utf8(text: bytes | None, place: int, notes: Notes) -> str | None:
    try:
        return None if text is None else text.decode()
    except UnicodeDecodeError:
        notes.note("not_utf8", place)
        return None


def _loose(column: Column, notes: Notes) -> list[Any]:
    """Return what may be written as text as Python values."""
    if isinstance(column, list):
        return list(column)
    if pt.is_string(column.type) or pt.is_large_string(column.type) or pt.is_binary(column.type):
        column = _decoded(column, notes)
    return list(_values(column, notes))


def _values(column: pa.Array, notes: Notes) -> list[Any]:
    """Return Python values; one that Python cannot hold becomes None and is counted."""
    try:
        return list(column.to_pylist())
    except FAILURES:
        return list(_one_by_one(column, notes))


def _one_by_one(column: pa.Array, notes: Notes) -> Iterator[Any]:
    for place in range(len(column)):
        try:
            yield column[place].as_py()
        except UnicodeDecodeError:
            notes.note("not_utf8", place)
            yield None
        except FAILURES:
            notes.note(f"{notes.name}_unreadable", place)
            yield None


def _each(values: list[Any], kind: pa.DataType, convert: Callable[[Any], Any], notes: Notes, fault: str) -> pa.Array:
    """Convert value by value."""
    found: list[Any] = []
    for place, value in enumerate(values):
        try:
            found.append(convert(value))
        except (*FAILURES, RecursionError) as error:
            notes.note(_fault_of(value, error, f"{notes.name}_{fault}"), place)
            found.append(None)
    return pa.array(found, kind)


def _fault_of(value: Any, error: BaseException, usual: str) -> str:
    if isinstance(error, UnicodeError):
        return "not_utf8"
    return "nul_in_text" if isinstance(value, str | bytes) and usual.endswith(("unreadable", "broken")) else usual

"""Values of a ledger as cells of a text table: nothing in a cell can act on the program that opens it, all comes back.

A spreadsheet takes text for a formula that begins with `=`, `+`, `-`, `@`, a tab or a line's end (OWASP on CSV
injection), also in their full width, and also behind blanks and characters that are not seen, which it may drop.
"""

import json
import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

GUARD = "'"
UNSEEN = r"[\p{Z}\p{Cc}\p{Cf}\x{115F}\x{1160}\x{2800}\x{3164}\x{FFA0}\x{FE00}-\x{FE0F}\x{034F}]"
"""Blanks, controls, format characters (zero width, byte order mark, turns of direction), fillers."""
TRIGGERS = rf"^{UNSEEN}*[=+\-@\x{{2212}}\x{{FF1D}}\x{{FF0B}}\x{{FF0D}}\x{{FF20}}']|^[\t\r\n\x00]"
"""How a text begins that gets a `GUARD` in front; one that begins with the guard itself does, so that it comes back."""


def flat(batch: pa.RecordBatch) -> Iterator[tuple[str, pa.Array]]:
    """Yield the columns of a batch, scores each as one (`colour_scores.mean_channel_std`), what is nested as JSON."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if pa.types.is_struct(column.type) and all(not pa.types.is_nested(field.type) for field in column.type):
            for number, field in enumerate(column.type):
                yield f"{name}.{field.name}", pc.struct_field(column, [number])
        elif pa.types.is_nested(column.type):
            yield (
                name,
                pa.array([None if value is None else json_of(value) for value in column.to_pylist()], pa.string()),
            )
        else:
            yield name, column


def guarded(column: pa.Array) -> pa.Array:
    """Return a column in which no text begins as a formula does."""
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return column
    begins = pc.match_substring_regex(column, TRIGGERS)
    return pc.if_else(begins, pc.binary_join_element_wise(GUARD, column, ""), column)


def unguarded(text: str) -> str:
    """Return what a cell of text held before it was guarded."""
    return text.removeprefix(GUARD)


def json_of(value: Any) -> str:
    """Return a value as JSON on one line, in ASCII; what is no number of JSON (NaN, infinities) as text."""
    return json.dumps(finite(value), ensure_ascii=True, allow_nan=False)


def finite(value: Any) -> Any:
    """Return a value in which NaN and infinities are texts."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [finite(each) for each in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value

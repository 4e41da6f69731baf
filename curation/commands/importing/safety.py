"""What a table says of whether a picture is safe: any column of safety in, one word and one probability out.

The gate fails closed: a value that is not understood is `UNKNOWN`, which is as good as unsafe, and of several columns
the worst counts. Every value of a column whose name turns the meaning round, such as `not_nsfw`, is `UNKNOWN`.
"""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from curation.commands.importing.names import is_turned
from curation.commands.importing.values import FAILURES, Column, Notes, as_float, as_text, plain

UNLIKELY, UNSURE, UNKNOWN, NSFW = WORDS = ("UNLIKELY", "UNSURE", "UNKNOWN", "NSFW")
"""LAION's words, and one for what is none of them; the worst last."""
MEANINGS = {
    UNLIKELY: ("unlikely", "very_unlikely", "sfw", "safe", "neutral", "false", "no"),
    UNSURE: ("unsure", "possible"),
    NSFW: (
        "nsfw", "unsafe", "porn", "pornographic", "hentai", "sexy", "explicit", "likely", "very_likely", "true", "yes",
    ),
}  # fmt: skip
"""Word of ours -> what data sets and classifiers write, in lower case."""
_WORD_OF = {text: word for word, texts in MEANINGS.items() for text in texts}

LONGEST_LABEL = 40
UNREADABLE = object()
"""Stands for values that Python cannot hold."""

Judgement = tuple[str | None, float | None]


def judgement_of(value: Any) -> Judgement:
    """Return the word or the probability (0 to 1) that a value states; two Nones where there is no value."""
    if isinstance(value, bool):
        return (NSFW if value else UNLIKELY), None
    try:
        text = (as_text(value) or "").strip().casefold().replace(" ", "_").replace("-", "_")
    except (ValueError, TypeError, RecursionError):
        return UNKNOWN, None
    if not text:
        return None, None
    if text in _WORD_OF:
        return _WORD_OF[text], None
    try:
        probability = as_float(text)
    except ValueError:
        return UNKNOWN, None
    is_one = probability is not None and 0.0 <= probability <= 1.0
    return (None, probability) if is_one else (UNKNOWN, None)


def word_of(text: str) -> str:
    """Return which word of ours a text means; `UNKNOWN` where it means none."""
    return judgement_of(text)[0] or UNKNOWN


def judged(columns: Sequence[tuple[str, Column]], num_rows: int, notes: Notes) -> tuple[pa.Array, pa.Array]:
    """Return the worst word and the largest probability of every row, null where no column has one.

    `columns` are names and values.
    """
    words, chances = pa.nulls(num_rows, pa.int8()), pa.nulls(num_rows, pa.float64())
    for name, column in columns:
        worse, larger = _turned(name, column, notes) if is_turned(name) else _ranked(_plain(column), notes)
        words, chances = pc.max_element_wise(words, worse), pc.max_element_wise(chances, larger)
    return pa.array(WORDS, pa.string()).take(words), chances


def _plain(column: Column) -> Column:
    try:
        return plain(column) if isinstance(column, pa.Array) else column
    except FAILURES:
        return [UNREADABLE] * len(column)


def _turned(name: str, column: Column, notes: Notes) -> tuple[pa.Array, pa.Array]:
    """Return `UNKNOWN` for every row in which a column says anything at all, whatever it says."""
    values, places = _distinct(_plain(column))
    unknown = WORDS.index(UNKNOWN)
    words = pa.array([None if judgement_of(value) == (None, None) else unknown for value in values], pa.int8())
    told = pa.array([f"{name.strip()} {_label(value)}" for value in values], pa.string())
    _note_unknown(words.take(places), told.take(places), notes)
    return words.take(places), pa.nulls(len(places), pa.float64())


def _ranked(column: Column, notes: Notes) -> tuple[pa.Array, pa.Array]:
    """Return per row how bad its word is, as its place in `WORDS`, and its probability."""
    if isinstance(column, pa.Array) and pt.is_floating(column.type):
        chances = pc.if_else(pc.is_nan(column), None, column).cast(pa.float64())
        is_one = pc.and_(pc.greater_equal(chances, 0.0), pc.less_equal(chances, 1.0))
        words = pc.if_else(is_one, pa.scalar(None, pa.int8()), pa.scalar(WORDS.index(UNKNOWN), pa.int8()))
        values, chances = column, pc.if_else(is_one, chances, None)
    else:
        values, places = _distinct(column)
        found = [judgement_of(value) for value in values]
        words = pa.array([None if word is None else WORDS.index(word) for word, _ in found], pa.int8()).take(places)
        chances = pa.array([chance for _, chance in found], pa.float64()).take(places)
        values = pa.array([_label(value) for value in values], pa.string()).take(places)
    _note_unknown(words, values, notes)
    return words, chances


def _note_unknown(words: pa.Array, values: pa.Array, notes: Notes) -> None:
    is_unknown = pc.equal(words, pa.scalar(WORDS.index(UNKNOWN), pa.int8()))
    first = pc.index(is_unknown, value=True).as_py()
    if first >= 0:
        example = f"{notes.where(first)}: {_label(values[first].as_py())}"
        notes.faults.note("nsfw_unknown", example, pc.sum(is_unknown).as_py())


def _label(value: Any) -> str:
    """Return a value that may be told: a short word or a number; anything longer may be a caption or an address."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    is_label = len(text) <= LONGEST_LABEL and all(letter.isalnum() or letter in "._- +" for letter in text)
    return text if is_label else type(value).__name__


def _distinct(column: Column) -> tuple[list[Any], pa.Array]:
    """Return the values that a column has, and for every row the place of its value among them."""
    if isinstance(column, list):
        return column, pa.array(range(len(column)), pa.int64())
    try:
        known = column.dictionary_encode()
        return _python_values(known.dictionary), known.indices
    except pa.ArrowException:
        return _python_values(column), pa.array(range(len(column)), pa.int64())


def _python_values(column: pa.Array) -> list[Any]:
    """Return Python values; one that Python cannot hold is no value that anybody knows."""
    try:
        return list(column.to_pylist())
    except FAILURES:
        return [UNREADABLE] * len(column)

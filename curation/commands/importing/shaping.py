"""Rows under a source's own names become rows of one schema of ours, file by file."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from curation.commands.importing.faults import Faults
from curation.commands.importing.names import SAFETY, SIZES, folded, places_of
from curation.commands.importing.safety import judged
from curation.commands.importing.sources import SourceRows
from curation.commands.importing.values import (
    Column,
    Notes,
    floats,
    rights_column,
    text_lists,
    texts,
    whole_numbers,
)
from curation.dataset.rights import RIGHTS_COLUMN, is_rights
from curation.errors import UsageError

URL_FIELDS = frozenset({"URL", "url"})
NO_URLS = "no_url_column"
LICENSE = "LICENSE"


class OwnersNamedError(Exception):
    """A source says whose a picture is in more than a licence, and the schema has no column for that."""


class Shaper:
    """Shapes rows, and remembers which file gave which columns.

    Of several columns that may hold a field, the likeliest that has a value in a row counts there.
    """

    def __init__(self, schema: pa.Schema, faults: Faults) -> None:
        """Begin with no file seen."""
        self.faults = faults
        self.columns: dict[str, str] = {}
        """Column of ours -> the source's own name for it, as first seen."""
        self._schema = schema
        self._url = next(name for name in schema.names if name in URL_FIELDS)
        self._by_file: dict[str, set[str]] = {}
        self._names: dict[str, None] = {}
        self._num_judged = 0

    def is_wanted(self, name: str) -> bool:
        """Whether a column of that name is of use."""
        return any(self._places(field, [name]) for field in (*self._schema.names, RIGHTS_COLUMN))

    def shape(self, rows: SourceRows) -> pa.Table:
        """Return rows in the schema; a value that its column cannot hold becomes null and is counted.

        Raises:
            OwnersNamedError: the schema lacks a column that these rows need.
        """
        if RIGHTS_COLUMN not in self._schema.names and self._places(RIGHTS_COLUMN, rows.names):
            raise OwnersNamedError
        places = {field: self._places(field, rows.names) for field in self._schema.names}
        self._remember(rows, places)
        num_rows = len(rows.numbers)
        if not num_rows:
            return self._schema.empty_table()
        if not places[self._url]:
            self.faults.note(NO_URLS, rows.file, num_rows)
        together = self._safety(rows, places[SAFETY[0]]) if SAFETY[0] in places else {}
        if RIGHTS_COLUMN in places:
            owned = [(rows.names[place], rows.columns[place]) for place in places[RIGHTS_COLUMN]]
            together[RIGHTS_COLUMN] = rights_column(owned, num_rows, Notes("rights", self.faults, rows.where))
        columns = [
            together[field.name] if field.name in together else self._column(rows, field, places[field.name])
            for field in self._schema
        ]
        return pa.table(columns, schema=self._schema)

    def require_urls(self, source: str) -> None:
        """Refuse a source of which no file has a column of URLs.

        Raises:
            UsageError: so it is.
        """
        if self._url not in self.columns:
            spelled = ", ".join(self._names) or "none at all"
            raise UsageError(
                f"{source}: no column of URLs; it has {spelled}, and one called url or image_url is needed"
            )

    @property
    def lacks_safety(self) -> bool:
        """Whether this schema has columns of safety, and no row a value there."""
        return SAFETY[0] in self._schema.names and not self._num_judged

    @property
    def lacking(self) -> Mapping[str, Sequence[str]]:
        """File -> columns that it lacks and another file has."""
        lacks = {
            file: [name for name in self._schema.names if name in self.columns and name not in has]
            for file, has in self._by_file.items()
        }
        return {file: names for file, names in lacks.items() if names}

    def _places(self, field: str, names: Sequence[str]) -> list[int]:
        """Return where the columns of a field stand; whose a picture is say all of the kind that are no other field's.

        A table of captions alone has no place for them.
        """
        if field != RIGHTS_COLUMN:
            return places_of(field, names)
        if LICENSE not in self._schema.names:
            return []
        others = {place for other in self._schema.names if other != field for place in places_of(other, names)}
        return [place for place, name in enumerate(names) if is_rights(name) and place not in others]

    def _remember(self, rows: SourceRows, places: Mapping[str, Sequence[int]]) -> None:
        self._names.update(dict.fromkeys(rows.names))
        has = self._by_file.setdefault(rows.file, set())
        for field, found in places.items():
            if found:
                has.add(field)
                self.columns.setdefault(field, rows.names[found[0]])

    def _safety(self, rows: SourceRows, places: Sequence[int]) -> dict[str, pa.Array]:
        notes = Notes("nsfw", self.faults, rows.where)
        pair = judged([(rows.names[place], rows.columns[place]) for place in places], len(rows.numbers), notes)
        self._num_judged += sum(len(column) - column.null_count for column in pair)
        return dict(zip(SAFETY, pair, strict=True))

    def _column(self, rows: SourceRows, field: pa.Field, places: Sequence[int]) -> pa.Array:
        notes = Notes(field.name.lower().lstrip("_"), self.faults, rows.where)
        found = [_fitted(rows.columns[place], field.type, notes) for place in places]
        if not found:
            return pa.nulls(len(rows.numbers), field.type)
        if field.name not in SIZES:
            self._count_twice(rows, places, found)
        return found[0] if len(found) == 1 else _first_of(found)

    def _count_twice(self, rows: SourceRows, places: Sequence[int], found: Sequence[pa.Array]) -> None:
        """Count rows in which two columns of one name, but for case, differ."""
        for other in range(1, len(places)):
            if folded(rows.names[places[other]]) == folded(rows.names[places[0]]):
                notes = Notes("", self.faults, rows.where)
                notes.note_all("column_named_twice", _differs(found[0], found[other]))


def _fitted(column: Column, kind: pa.DataType, notes: Notes) -> pa.Array:
    if pt.is_list(kind):
        return text_lists(column, notes)
    if pt.is_string(kind):
        return texts(column, notes)
    return floats(column, notes) if pt.is_floating(kind) else whole_numbers(column, notes)


def _first_of(columns: Sequence[pa.Array]) -> pa.Array:
    """Return per row the first value that is there; of texts the first that is not blank, if any is."""
    if pt.is_string(columns[0].type):
        said = [pc.if_else(pc.equal(pc.utf8_trim_whitespace(column), ""), None, column) for column in columns]
        return pc.coalesce(*said, *columns)
    if not pt.is_list(columns[0].type):
        return pc.coalesce(*columns)
    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    return pa.array([next((v for v in row if v is not None), None) for row in rows], columns[0].type)


def _differs(one: pa.Array, other: pa.Array) -> pa.Array:
    pairs = zip(one.to_pylist(), other.to_pylist(), strict=True)
    return pa.array([None not in (a, b) and a != b for a, b in pairs], pa.bool_())

"""Whose photos the samples are, as a table of the user's says: one photo of a person may stand for another.

A reference is always a row of the index that is trained on, so nobody who was forgotten, and nothing that is set aside
for validation, is ever one.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.errors import UsageError
from curation.storage.paths import local_copy, location
from facemakeup.data.held_out import Rows

COLUMNS = ("uid", "person")


@dataclass(frozen=True, eq=False)
class People:
    """Rows of an index by person; those of people with one photo alone are not in it.

    Shapes: M rows of P people.
    """

    rows_M: Rows
    """Person after person, those of one rising."""
    firsts_P: Rows
    """Where each person begins in `rows_M`."""
    sorted_M: Rows
    """The rows, rising."""
    places_M: Rows
    """Where each of `sorted_M` stands in `rows_M`."""

    @property
    def digest(self) -> str:
        """Hex digest of who belongs together."""
        return hashlib.sha256(self.rows_M.tobytes() + self.firsts_P.tobytes()).hexdigest()

    def others(self, row: int, chance: np.random.Generator) -> Iterator[int]:
        """Yield the other rows of a row's person, each once, beginning where a generator says; one number of it."""
        found = int(np.searchsorted(self.sorted_M, row))
        if found == len(self.sorted_M) or self.sorted_M[found] != row:
            return
        place = int(self.places_M[found])
        person = int(np.searchsorted(self.firsts_P, place, side="right")) - 1
        first = int(self.firsts_P[person])
        last = int(self.firsts_P[person + 1]) if person + 1 < len(self.firsts_P) else len(self.rows_M)
        num, own = last - first - 1, place - first
        start = int(chance.integers(num))
        for step in range(num):
            other = (start + step) % num
            yield int(self.rows_M[first + other + (other >= own)])


@dataclass(frozen=True, eq=False)
class PeopleTable:
    """What a table says: who is on which sample."""

    address: str
    table: Any
    """An Arrow table of `uid`, each once, and `person`, both text."""

    def persons(self, keys: Any) -> Rows:
        """Return a number for who is on each sample of an Arrow array of keys, int64 (N,); -1 where nobody is named."""
        import pyarrow.compute as pc

        found = pc.index_in(keys, value_set=self.table["uid"].cast(keys.type))
        places = pc.fill_null(found, -1).to_numpy(zero_copy_only=False)
        numbers = self.table["person"].dictionary_encode().combine_chunks().indices.to_numpy(zero_copy_only=False)
        persons_N: Rows = np.append(numbers.astype(np.int64), -1)[places.astype(np.int64)]
        return persons_N

    def among(self, keys: Any, left_out: Rows) -> People:
        """Return who is on the samples of an index, whose keys are an Arrow array; `left_out` are rows not trained on.

        Raises:
            UsageError: no two photos are of one person.
        """
        persons_N = self.persons(keys)
        persons_N[left_out] = -1
        rows = np.flatnonzero(persons_N >= 0).astype(np.int64)
        made = grouped(rows, persons_N[rows])
        if not len(made.rows_M):
            raise UsageError(
                f"{self.address}: of {len(self.table)} lines {len(rows)} name a sample that is trained on, and no two "
                f"of them one person; `uid` is the name of a sample in the tars, `person` anything that tells people "
                f"apart"
            )
        return made


def people_of(address: str, keys: Any, left_out: Rows) -> People:
    """Return who is on the samples of an index by a table of people; see `PeopleTable.among`.

    Raises:
        UsageError: the table is not there, is not what it should be, or names no two photos of anybody.
    """
    return read_people(address).among(keys, left_out)


def grouped(rows_N: npt.NDArray[np.int64], persons_N: npt.NDArray[np.int64]) -> People:
    """Return the rows of everybody who has more than one; people come by their first rows, not by number."""
    _, inverse, counts = np.unique(persons_N, return_inverse=True, return_counts=True)
    first_rows = np.full(len(counts), np.iinfo(np.int64).max)
    np.minimum.at(first_rows, inverse, rows_N)
    order = np.lexsort((rows_N, first_rows[inverse]))
    rows, persons = rows_N[order], first_rows[inverse][order]
    several = counts[inverse][order] > 1
    rows, persons = rows[several], persons[several]
    firsts = np.flatnonzero(np.diff(persons, prepend=-1)).astype(np.int64)
    places = np.argsort(rows, kind="stable").astype(np.int64)
    return People(rows, firsts, rows[places], places)


def read_people(address: str) -> PeopleTable:
    """Read a table of people, without lines that name nobody.

    Raises:
        UsageError: it is not there, or is not what it should be.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        table = _columns(address)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise UsageError(f"{address}: no Parquet or CSV with the columns uid and person: {error}") from error
    table = pa.table({name: table[name].cast(pa.string()) for name in COLUMNS}).drop_null()
    table = table.filter(pc.not_equal(table["person"], "")).group_by(list(COLUMNS)).aggregate([])
    counts = table["uid"].value_counts()
    twice = counts.filter(pc.greater(pc.struct_field(counts, "counts"), 1))
    if len(twice):
        raise UsageError(f"{address}: {twice[0]['values'].as_py()} is said to be several people; give it one, or none")
    return PeopleTable(address, table.combine_chunks())


def _columns(address: str) -> Any:
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    with local_copy(location(address)) as path:
        if address.endswith(".csv"):
            text = dict.fromkeys(COLUMNS, "string")
            return pc.read_csv(path, convert_options=pc.ConvertOptions(include_columns=COLUMNS, column_types=text))
        return pq.read_table(path, columns=list(COLUMNS))

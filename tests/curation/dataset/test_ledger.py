"""A ledger that is written a group of rows at a time is, byte by byte, the one that is written at once."""

from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.dataset import ledger
from curation.dataset.ledger import in_row_groups, ledger_batches, numbered, rows_where, write_table, write_tables

SCHEMA = pa.schema([pa.field("uid", pa.string(), nullable=False), pa.field("size", pa.int64())])
ROWS = st.lists(st.tuples(st.text(max_size=3), st.none() | st.integers(0, 9)), max_size=9)


def table_of(rows: list[tuple[str, int | None]]) -> pa.Table:
    return pa.Table.from_pylist([{"uid": uid, "size": size} for uid, size in rows], SCHEMA)


@settings(max_examples=25)
@given(st.lists(ROWS, max_size=6), st.integers(0, 20))
def test_however_rows_come_the_same_bytes_are_written(
    tmp_path_factory: pytest.TempPathFactory, parts: list[list[tuple[str, int | None]]], num_before: int
) -> None:
    folder = tmp_path_factory.mktemp("written")
    whole = table_of([row for part in parts for row in part])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger, "NUM_ROW_GROUP_ROWS", 7)
        write_table(folder / "once", whole, {"a": "b"})
        write_tables(folder / "parts", map(table_of, parts), SCHEMA, {"a": "b"})
        groups = list(in_row_groups(map(table_of, parts), num_before))
        write_tables(folder / "groups", in_row_groups(map(table_of, parts), 0), SCHEMA, {"a": "b"})
    assert (folder / "parts").read_bytes() == (folder / "once").read_bytes() == (folder / "groups").read_bytes()
    assert [row for group in groups for row in group.to_pylist()] == whole.to_pylist()
    assert all((num_before + sum(one.num_rows for one in groups[:n])) % 7 == 0 for n in range(1, len(groups)))
    read = [row for batch in ledger_batches(folder / "once", ["uid"]) for row in batch.column("uid").to_pylist()]
    assert read == whole["uid"].to_pylist()
    places = [place for table in numbered(map(table_of, parts)) for place in table["place"].to_pylist()]
    assert places == list(range(len(whole)))
    small = [dict(row) for row in whole.to_pylist() if row["size"] in (1, 2)]
    assert list(rows_where(folder / "once", ["size", "lacking"], _is_small)) == small


def _is_small(table: pa.Table) -> pa.ChunkedArray:
    assert table.column_names == ["size"]
    return pa.chunked_array([[size in (1, 2) for size in table["size"].to_pylist()]], pa.bool_())


def test_what_nothing_is_left_of_is_not_held() -> None:
    def whole() -> pa.Table:
        return pa.table({"uid": [f"{number:064x}" for number in range(1000)], "size": range(1000)})

    before, most = pa.total_allocated_bytes(), 0

    def slices() -> Iterator[pa.Table]:
        nonlocal most
        for _ in range(50):
            yield whole().slice(1000)
            most = max(most, pa.total_allocated_bytes() - before)
        yield whole().slice(999)

    assert [table.num_rows for table in in_row_groups(slices(), 0)] == [1]
    assert most < 5 * whole().nbytes

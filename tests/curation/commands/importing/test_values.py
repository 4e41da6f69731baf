"""Types that real files have: each becomes a column of ours, or null and a counted fault, and no row is lost."""

import datetime
import decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.commands.importing.convert import TARGETS, Shape, import_metadata
from tests.curation.commands.importing.test_delimited import imported

NAMES = [*TARGETS["laion"].names, "p_unsafe", "Text"]
URLS = ["http://a.org/1", "http://a.org/2"]
Pair = list[Any]
ARRAYS = [
    pa.array([2**63, 1], pa.uint64()),
    pa.array([2**60, -1]),
    pa.array([float("nan"), float("inf")]),
    pa.array([1, None], pa.float16()),
    pa.array(["x", "2"], pa.large_string()),
    pa.array(["x", "2"], pa.string_view()),
    pa.array([b"\xff", b"a\0"]),
    pa.array([b"ab", None], pa.binary(2)),
    pa.array([b"\xff", b"ok"], pa.large_binary()).cast(pa.large_binary()),
    pa.array([b"\xff", b"ok"]).view(pa.string()),
    pa.array([["a"], [None, "b"]], pa.large_list(pa.string())),
    pa.array([["a", "b"], None], pa.list_(pa.string(), 2)),
    pa.array([[1], []]),
    pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int8())),
    pa.array([{"a": b"\xff", "d": datetime.date(2020, 1, 1)}, None]),
    pa.array(["NSFW", None]).dictionary_encode(),
    pa.array([1.5, None]).dictionary_encode(),
    pa.array([decimal.Decimal("1.50"), decimal.Decimal(2**62)]),
    pa.array([datetime.datetime(2020, 1, 1), None], pa.timestamp("ns", tz="Europe/Berlin")),
    pa.array([2**62, 1]).cast(pa.timestamp("us")),
    pa.array([datetime.timedelta(days=1), None]),
    pa.array([True, None]),
    pa.nulls(2),
    pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"\xff" * 16, None], pa.binary(16))),
]


def parquet(path: Path, columns: dict[str, Any] | list[tuple[str, Any]]) -> Path:
    """Write columns, of which two may have one name, as a Parquet file."""
    pairs = list(columns.items()) if isinstance(columns, dict) else columns
    pq.write_table(pa.table([pa.array(values) for _, values in pairs], names=[name for name, _ in pairs]), path)
    return path


@given(
    columns=st.lists(
        st.tuples(st.sampled_from([*TARGETS["laion"].names, "p_unsafe", "Text"]), st.sampled_from(ARRAYS))
    ),
    shape=st.sampled_from(["laion", "facecaption"]),
)
@settings(max_examples=25, deadline=None)
def test_any_type_in_any_column_keeps_every_row(
    tmp_path_factory: pytest.TempPathFactory, columns: list[tuple[str, Any]], shape: Shape
) -> None:
    path = parquet(tmp_path_factory.mktemp("types") / "in.parquet", [("url", URLS), *columns])
    rows, result = imported(path, shape=shape)
    assert len(rows) == 2
    assert result.lost_rows == {}


@pytest.mark.parametrize(
    ("name", "values", "expected", "faults"),
    [
        ("SAMPLE_ID", pa.array([2**63, 2**63 - 1], pa.uint64()), [None, 2**63 - 1], {"sample_id_not_a_number": 1}),
        ("SAMPLE_ID", ["9007199254740993", "0" * 5 + "7"], [9007199254740993, 7], {}),
        ("SAMPLE_ID", [2.0**60, 5.0], [None, 5], {"sample_id_not_a_number": 1}),
        ("WIDTH", [2**60, 7], [2.0**60, 7.0], {}),
        ("WIDTH", [float("inf"), float("nan")], [None, None], {"width_not_a_number": 1}),
        ("WIDTH", [True, False], [None, None], {"width_not_a_number": 2}),
        ("WIDTH", ["1_0", " 12 "], [None, 12.0], {"width_not_a_number": 1}),
        ("similarity", pa.array([1, 0], pa.int8()), [1.0, 0.0], {}),
        ("TEXT", [["one"], ["one", "two"]], ["one", '["one", "two"]'], {}),
        ("TEXT", [b"caf\xc3\xa9", b"caf\xe9"], ["café", None], {"not_utf8": 1}),
        ("TEXT", [float("nan"), 1.0], [None, "1"], {}),
    ],
)
def test_a_value_is_converted_as_documented_or_a_counted_fault(
    tmp_path: Path, name: str, values: Any, expected: Pair, faults: dict[str, int]
) -> None:
    rows, result = imported(parquet(tmp_path / "in.parquet", {"url": URLS, name: values}))
    assert [row[name] for row in rows] == expected
    assert result.faults == faults


@pytest.mark.parametrize(
    ("values", "expected", "broken"),
    [
        (pa.array([["a", None], ["b"]], pa.large_list(pa.string())), [["a", None], ["b"]], 0),
        (pa.array([["a", "b"], None], pa.list_(pa.string(), 2)), [["a", "b"], None], 0),
        (["one", '["a", "b"]'], [["one"], ["a", "b"]], 0),
        (["[1]", "[not json"], [["[1]"], ["[not json"]], 0),
        (pa.array([[("k", "v")], None], pa.map_(pa.string(), pa.string())), [None, None], 1),
        ([[1], [2]], [None, None], 2),
    ],
)
def test_captions_become_lists_of_texts(tmp_path: Path, values: Any, expected: Pair, broken: int) -> None:
    rows, result = imported(parquet(tmp_path / "in.parquet", {"url": URLS, "caption": values}), shape="facecaption")
    assert [row["caption"] for row in rows] == expected
    assert result.faults.get("caption_broken", 0) == broken


@pytest.mark.parametrize("names", [("url", "url"), ("url", "URL"), ("Url", "uRL")])
def test_of_a_column_that_stands_twice_the_likeliest_value_counts(tmp_path: Path, names: tuple[str, str]) -> None:
    columns = [(names[0], ["http://a.org/1", None]), (names[1], ["http://b.org/1", "http://b.org/2"])]
    rows, result = imported(parquet(tmp_path / "in.parquet", columns))
    likeliest = "http://b.org/1" if names[1] == "URL" else "http://a.org/1"
    assert [row["URL"] for row in rows] == [likeliest, "http://b.org/2"]
    assert result.faults == {"column_named_twice": 1}


def test_captions_that_stand_only_in_the_json_of_tars_arrive(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"url": "u", "text": null, "caption": "from json"}')
    import_metadata(str(tmp_path / "in.jsonl"), tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["TEXT"].to_pylist() == ["from json"]

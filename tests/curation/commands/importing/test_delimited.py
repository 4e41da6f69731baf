"""Rows of text: whatever bytes a file holds, each line is a row, part of a row, or a counted fault."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.commands.importing.convert import FOOTER_KEY, Imported, import_metadata
from curation.commands.importing.delimited import COMMA, QUOTE_BROKEN, TAB, records_of
from curation.commands.importing.lines import MAX_LINE_BYTES, lines
from curation.errors import UsageError

FEW = settings(max_examples=20, deadline=None)
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
LETTERS = st.characters(codec="utf-8", exclude_characters="\0")
PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="\0\t\r\n"), max_size=8)


def imported(path: Path, **options: Any) -> tuple[list[dict[str, Any]], Imported]:
    """Import a file and return the rows and what is said of them, which holds in any case."""
    target = path.parent / "out.parquet"
    found = import_metadata(str(path), target, **options)
    rows: list[dict[str, Any]] = pq.read_table(target).to_pylist()
    assert len(rows) == found.num_rows
    assert found.num_rows_in == found.num_rows + sum(found.lost_rows.values())
    said = json.loads(pq.read_metadata(target).metadata[FOOTER_KEY.encode()])
    assert said["faults"] == found.faults
    assert said["examples"] == found.examples
    assert set(found.faults) <= set(found.examples)
    return rows, found


def written(path: Path, content: bytes) -> Path:
    """Write a file."""
    path.write_bytes(content)
    return path


@given(rows=st.lists(st.lists(st.text(LETTERS, max_size=9), min_size=2, max_size=2)), end=LINE_ENDS)
@FEW
def test_csv_that_a_writer_of_rfc_4180_wrote_is_read_field_by_field(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], end: str
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    path = written(tmp_path_factory.mktemp("csv") / "in.csv", text.getvalue().encode())
    found = [[(field or b"").decode() for field in record.fields] for record in records_of(lines(path), COMMA)]
    assert found == rows


@given(
    content=st.binary(max_size=300) | st.text('",\t\r\na0\ufeff').map(str.encode),
    delimiter=st.sampled_from([COMMA, TAB]),
)
@settings(max_examples=200, deadline=None)
def test_every_line_of_any_bytes_belongs_to_one_record(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, delimiter: bytes
) -> None:
    path = written(tmp_path_factory.mktemp("any") / "in.csv", content)
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        with pytest.raises(UsageError, match="UTF-16"):
            list(lines(path))
        return
    records = list(records_of(lines(path), delimiter))
    assert sum(record.num_lines for record in records) == len(content.splitlines())


@given(rows=st.lists(st.tuples(PLAIN, PLAIN)), end=LINE_ENDS, noise=st.lists(st.sampled_from(["x", "a\tb\tc"])))
@FEW
def test_tsv_rows_in_are_rows_out_and_faults(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], end: str, noise: list[str]
) -> None:
    body = [f"h{url}\t{text}" for url, text in rows] + noise
    path = written(tmp_path_factory.mktemp("tsv") / "in.tsv", end.join(["url\tTEXT", *body]).encode())
    found, result = imported(path)
    assert [(row["URL"], row["TEXT"]) for row in found] == [(f"h{url}", text or None) for url, text in rows]
    assert result.lost_rows == ({"row_broken": len(noise)} if noise else {})


@given(
    rows=st.lists(st.tuples(st.text(LETTERS), st.text(LETTERS))), noise=st.lists(st.sampled_from(["{", "[1]", "nul"]))
)
@FEW
def test_json_lines_in_are_rows_out_and_faults(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]], noise: list[str]
) -> None:
    body = [json.dumps({"url": url, "text": text}) for url, text in rows] + noise + ['{"url": "h"}']
    path = written(tmp_path_factory.mktemp("jsonl") / "in.jsonl", "\n".join(body).encode())
    found, result = imported(path)
    assert [(row["URL"], row["TEXT"]) for row in found] == [*rows, ("h", None)]
    assert result.lost_rows == ({"line_broken": len(noise)} if noise else {})


@pytest.mark.parametrize("quoted", ['"unclosed', 'in "the" middle', '"', '""', '"closed" late'])
def test_a_quote_in_tsv_is_a_letter_and_loses_nothing(tmp_path: Path, quoted: str) -> None:
    body = [f"http://a.org/{n}\t{quoted if n == 7 else 'text'}" for n in range(50)]
    found, result = imported(written(tmp_path / "in.tsv", "\n".join(["url\ttext", *body]).encode()))
    assert [row["URL"] for row in found] == [f"http://a.org/{n}" for n in range(50)]
    assert (found[7]["TEXT"], result.faults) == (quoted, {})


@pytest.mark.parametrize("quoted", ['"unclosed', '"closed" late', '"a" "b"'])
def test_a_broken_quote_in_csv_is_counted_and_touches_no_other_line(tmp_path: Path, quoted: str) -> None:
    body = [f"http://a.org/{n},{quoted if n in (7, 31) else 'text'}" for n in range(50)]
    body[20] = 'http://a.org/20,"a ""b"", c"'
    found, result = imported(written(tmp_path / "in.csv", "\r\n".join(["url,text", *body]).encode()))
    assert [row["URL"] for row in found] == [f"http://a.org/{n}" for n in range(50)]
    assert (found[7]["TEXT"], found[20]["TEXT"], found[31]["TEXT"]) == (quoted, 'a "b", c', quoted)
    assert (result.faults, result.examples) == ({QUOTE_BROKEN: 2}, {QUOTE_BROKEN: "in.csv line 9"})


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_text_stays_text_and_a_mark_of_bytes_is_no_part_of_a_name(tmp_path: Path, suffix: str) -> None:
    texts = [
        "007",
        "NA",
        "null",
        "1e5",
        "true",
        "2020-01-01",
        "NaN",
        " x ",
        "None",
        "-",
        "1,5" if suffix == ".tsv" else "15",
    ]
    separator = "," if suffix == ".csv" else "\t"
    content = "\ufeffurl" + separator + "text\n" + "\n".join(f"u{separator}{text}" for text in texts)
    found, result = imported(written(tmp_path / f"in{suffix}", content.encode()))
    assert [row["TEXT"] for row in found] == texts
    assert result.faults == {}


def test_nothing_is_null_and_an_empty_text_in_quotes_is_empty(tmp_path: Path) -> None:
    found, _ = imported(written(tmp_path / "in.csv", b'url,text\nu,\nu,""\n'))
    assert [row["TEXT"] for row in found] == [None, ""]


def test_one_bad_line_costs_itself_alone_and_is_named(tmp_path: Path) -> None:
    body = {
        2: b"u,\xff\xfe", 3: b"u,a\0b", 4: b"u," + b"x" * 3_000_000, 5: b"u", 6: b"u,a,b", 7: b"", 8: b"u,last",
    }  # fmt: skip
    found, result = imported(written(tmp_path / "in.csv", b"\n".join([b"url,text", *body.values()])))
    assert [row["TEXT"] for row in found] == [None, None, "last"]
    assert result.lost_rows == {"row_broken": 2, "row_too_long": 1}
    assert result.examples == {
        "not_utf8": "in.csv line 2", "nul_in_text": "in.csv line 3", "row_too_long": "in.csv line 4",
        "row_broken": "in.csv line 5",
    }  # fmt: skip


def test_a_line_without_end_never_fills_the_memory(tmp_path: Path) -> None:
    found = list(lines(written(tmp_path / "in.tsv", b"a\n" + b"x" * (3 * MAX_LINE_BYTES) + b"\r\nb")))
    assert [(line.number, line.content) for line in found] == [(1, b"a"), (2, None), (3, b"b")]


def test_packed_text_is_read_and_what_is_cut_off_is_an_error(tmp_path: Path) -> None:
    content = "url\n" + "".join(f"http://a.org/{n}\n" for n in range(5000))
    packed = gzip.compress(content.encode()[:30_000]) + gzip.compress(content.encode()[30_000:])
    found, _ = imported(written(tmp_path / "in.CSV.gz", packed))
    assert len(found) == 5000
    with pa.CompressedOutputStream(str(tmp_path / "in.tsv.zst"), "zstd") as file:
        file.write(content.encode())
    assert len(imported(tmp_path / "in.tsv.zst")[0]) == 5000
    for name in ("in.CSV.gz", "in.tsv.zst"):
        cut = written(tmp_path / f"cut-{name}", (tmp_path / name).read_bytes()[:-200])
        with pytest.raises(UsageError, match="cannot be read to its end"):
            imported(cut)


def test_a_list_of_urls_is_one_url_a_line(tmp_path: Path) -> None:
    found, _ = imported(written(tmp_path / "in.TXT", b'\xef\xbb\xbfhttp://a.org/1\r\n\r\n  http://a.org/"2,3\r'))
    assert [row["URL"] for row in found] == ["http://a.org/1", 'http://a.org/"2,3']


def test_a_name_that_stands_twice_in_a_json_object_is_counted_and_numbers_stay_exact(tmp_path: Path) -> None:
    line = b'{"url": "a", "url": "b", "SAMPLE_ID": 12345678901234567.0, "text": 1e5, "WIDTH": 1e400}'
    (row,), result = imported(written(tmp_path / "in.jsonl", line))
    assert (row["URL"], row["SAMPLE_ID"], row["TEXT"], row["WIDTH"]) == ("a", 12345678901234567, "1e5", None)
    assert result.faults == {"column_named_twice": 1, "width_not_a_number": 1}

"""A folder of tables: every file is read by its own columns, and what is not read is named."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.commands.importing.convert import Imported, import_metadata
from curation.commands.importing.text import tell
from curation.errors import UsageError
from tests.curation.commands.importing.test_delimited import imported
from tests.curation.commands.importing.test_values import URLS, parquet
from tests.curation.shards import colourful, sample_members, write_shard


def read(folder: Path) -> tuple[list[str | None], Imported]:
    """Import a folder; the URLs, and what is said."""
    result = import_metadata(str(folder), folder.parent / "out.parquet")
    return pq.read_table(folder.parent / "out.parquet")["URL"].to_pylist(), result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for tables."""
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def test_columns_are_found_file_by_file_and_what_one_lacks_is_named(folder: Path) -> None:
    parquet(folder / "0.parquet", {"url": URLS, "WIDTH": [1, 2]})
    parquet(folder / "1.parquet", {"width": [3, 4], "Url": ["http://a.org/3", "http://a.org/4"]})
    (folder / "2.csv").write_text("Image URL,alt\nhttp://a.org/5,x\n")
    parquet(folder / "3.parquet", {"name": ["no", "urls", "here"]})
    urls, result = read(folder)
    assert urls == [*URLS, "http://a.org/3", "http://a.org/4", "http://a.org/5", None, None, None]
    assert result.faults == {"no_url_column": 3}
    assert result.lacking["2.csv"] == ["WIDTH"]
    assert result.lacking["3.parquet"] == ["URL", "TEXT", "WIDTH"]
    assert "2.csv lacks WIDTH" in tell(result, Path("out.parquet"))


def test_strays_hide_nothing_and_are_named(folder: Path) -> None:
    parquet(folder / "A.PARQUET", {"url": URLS})
    (folder / "b.CSV").write_text("url\nhttp://a.org/3\n")
    write_shard(folder, "stray", [sample_members("9", colourful(9))])
    for name in ("._A.PARQUET", ".DS_Store", "_SUCCESS", "_metadata", "README.md", "LICENSE.txt"):
        (folder / name).write_bytes(b"\0\5\x16\7")
    (folder / "more").mkdir()
    urls, result = read(folder)
    assert urls == [*URLS, "http://a.org/3"]
    assert set(result.left_out) == {
        "stray.tar", "._A.PARQUET", ".DS_Store", "_SUCCESS", "_metadata", "README.md", "more", "LICENSE.txt",
    }  # fmt: skip
    assert "not read: .DS_Store: hidden" in tell(result, Path("out.parquet"))


def test_of_what_img2dataset_wrote_the_tars_are_read_once(folder: Path) -> None:
    for shard in ("00000", "00001"):
        write_shard(folder, shard, [sample_members(shard, colourful(1))])
    parquet(folder / "00000.parquet", {"url": URLS})
    urls, result = read(folder)
    assert len(urls) == 2
    assert result.left_out == {"00000.parquet": "its rows stand in the tar of the same name"}


def test_an_import_into_its_own_source_does_not_read_itself(folder: Path) -> None:
    parquet(folder / "0.parquet", {"url": URLS})
    for _ in range(2):
        assert import_metadata(str(folder), folder / "out.parquet").num_rows == 2


def test_rows_that_the_ids_leave_out_are_counted(tmp_path: Path) -> None:
    parquet(tmp_path / "in.parquet", {"url": URLS, "SAMPLE_ID": [1, 2]})
    parquet(tmp_path / "ids.parquet", {"part": pa.array([0, 0], pa.int32()), "SAMPLE_ID": [2, 3]})
    rows, result = imported_with_ids(tmp_path)
    assert [row["SAMPLE_ID"] for row in rows] == [2]
    assert (result.num_rows_in, result.lost_rows) == (2, {"not_in_ids": 1})
    assert "of 2 rows of the source: 1 not_in_ids" in tell(result, Path("out.parquet"))


def imported_with_ids(folder: Path) -> tuple[list[dict[str, object]], Imported]:
    """Import what the ids name."""
    result = import_metadata(str(folder / "in.parquet"), folder / "out.parquet", ids=folder / "ids.parquet")
    return pq.read_table(folder / "out.parquet").to_pylist(), result


@pytest.mark.parametrize("name", ["a?b", "a#b", "a%20b", "a b", "[x]", "a*b", "é漢", "SAMPLE_ID=5", "a'b\"c", "a\\b"])
def test_a_path_may_hold_anything(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    rows, _ = imported(parquet(tmp_path / name / f"{name}.parquet", {"url": URLS}))
    assert [row["URL"] for row in rows] == URLS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.csv", b"", "no column of URLs; it has none at all"),
        ("in.csv", "url\nhttp://a.org".encode("utf-16"), "is UTF-16"),
        ("in.csv.gz", b"no gzip", "cannot be read to its end"),
        ("in.parquet.gz", b"x", "only text may be packed"),
        ("in.parquet", b"PAR1PAR1", "cannot be read as parquet"),
    ],
)
def test_what_cannot_be_read_at_all_is_one_clear_error(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=rf"{name}: .*{message}"):
        imported(tmp_path / name)

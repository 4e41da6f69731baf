"""Ranking: dirt is counted, never lost; the largest stay; the bytes depend on the rows and not on their order."""

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.commands.rank.cleaning import face_box, usable_url
from curation.commands.rank.stage import LEDGER_SCHEMA, SELECTION_SCHEMA, rank
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import Manifest
from curation.dataset.sample import uid_of_url
from curation.errors import FaceCaptionError, UsageError
from tests.curation.shards import bytes_of, recipe_from
from tests.curation.whole_run import write_metadata

RECIPE = """
schema_version = 1
name = "ranking"
[rank]
{rank}
[[filters]]
name = "colour"
"""
FACECAPTION = pa.schema(
    [
        ("_id", pa.string()),
        ("caption", pa.list_(pa.string())),
        ("url", pa.string()),
        ("laion_caption", pa.list_(pa.string())),
        ("box", pa.string()),
    ]
)
LAION = pa.schema(
    [
        ("URL", pa.string()),
        ("TEXT", pa.string()),
        ("WIDTH", pa.float64()),
        ("HEIGHT", pa.float64()),
        ("NSFW", pa.string()),
        ("similarity", pa.float64()),
        ("LICENSE", pa.string()),
        ("SAMPLE_ID", pa.int64()),
    ]
)
Row = Mapping[str, Any]


def face(url: str | None, caption: list[str | None] | None = None, box: str = "[1, 2, 30, 40]", name: str = "f") -> Row:
    """A row of FaceCaption."""
    return {
        "_id": name,
        "caption": ["A face."] if caption is None else caption,
        "url": url,
        "laion_caption": [],
        "box": box,
    }


def image(url: str | None, width: float | None = 100, height: float | None = 100, sample_id: int = 1) -> Row:
    """A row of LAION."""
    return {
        "URL": url,
        "TEXT": f"alt text of {sample_id}",
        "WIDTH": width,
        "HEIGHT": height,
        "NSFW": "UNLIKELY",
        "similarity": 0.3,
        "LICENSE": "?",
        "SAMPLE_ID": sample_id,
    }


def run(folder: Path, faces: Sequence[Row], images: Sequence[Row], settings: str = "") -> Manifest:
    """Rank the rows into `folder`/rank."""
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(faces), FACECAPTION), folder / "facecaption.parquet")
    pq.write_table(pa.Table.from_pylist(list(images), LAION), folder / "laion.parquet")
    recipe = recipe_from(folder, RECIPE.format(rank=settings))
    return rank(folder / "facecaption.parquet", folder / "laion.parquet", folder / "rank", recipe)


def selection(folder: Path) -> list[Row]:
    """The rows of all parts in order."""
    return [row for part in sorted((folder / "rank").glob("0*.parquet")) for row in pq.read_table(part).to_pylist()]


def ledger(folder: Path) -> list[Row]:
    """The rows of the ledger in order."""
    rows: list[Row] = read_ledger(folder / "rank" / "ledger.parquet").to_pylist()
    return rows


def reasons(folder: Path) -> dict[str, str | None]:
    """URL -> reason."""
    return {row["url"]: row["reason"] for row in ledger(folder)}


def hostile_rows(seed: int, num_rows: int = 60) -> tuple[list[Row], list[Row]]:
    """Rows with every kind of dirt, from few URLs so that both sides hold duplicates."""
    chance = random.Random(seed)
    urls = [f"http://h{i % 7}.org/{i}.jpg" for i in range(25)]
    dirty = [None, "", " ", "UNKNOWN", "ftp://h.org/a.jpg", "//h.org/a.jpg", "http://", "http://[::1/a", "http://h:9x/"]
    forms = ["{}", "{}, extra text", "{}#fragment"]
    boxes = ["[1, 2, 30, 40]", "[1, 2, 1, 40]", "[1, 2]", "null", "nonsense", "[1.5, 2, 9, NaN]", ""]
    captions: list[list[str | None] | None] = [["A face."], ["One.", "Two."], [], [None], [""]]

    def url() -> str | None:
        return chance.choice(dirty) if chance.random() < 0.2 else chance.choice(forms).format(chance.choice(urls))

    faces = [face(url(), chance.choice(captions), chance.choice(boxes), str(i % 40)) for i in range(num_rows)]
    sides = [None, 0, -5, float("nan"), 10, 200, 300.0, 1e12]
    images = [image(url(), chance.choice(sides), chance.choice(sides), i % 30) for i in range(num_rows)]
    return faces, images


def test_the_largest_images_of_both_sources_stay(tmp_path: Path) -> None:
    faces = [face("http://a.org/small.jpg"), face("http://a.org/large.jpg"), face("http://a.org/middle.jpg")]
    images = [
        image("http://a.org/small.jpg", 10),
        image("http://a.org/large.jpg", 900),
        image("http://a.org/middle.jpg"),
    ]
    manifest = run(tmp_path, faces, images, "top = 2")
    assert [row["url"] for row in selection(tmp_path)] == ["http://a.org/large.jpg", "http://a.org/middle.jpg"]
    assert reasons(tmp_path)["http://a.org/small.jpg"] == "below_cut"
    assert manifest.extra["cut"] == {"key": "image_area", "value": 10_000, "uid": uid_of_url("http://a.org/middle.jpg")}


def test_every_image_that_is_left_out_has_its_reason(tmp_path: Path) -> None:
    faces = [face("http://a.org/only-face.jpg"), face("http://a.org/no-size.jpg"), face("UNKNOWN")]
    images = [image("http://a.org/only-laion.jpg"), image("http://a.org/no-size.jpg", 0), image("mailto:x")]
    manifest = run(tmp_path, faces, images)
    assert reasons(tmp_path) == {
        "http://a.org/only-face.jpg": "not_in_laion",
        "http://a.org/only-laion.jpg": "not_in_facecaption",
        "http://a.org/no-size.jpg": "no_size",
        "UNKNOWN": "url_unusable",
        "mailto:x": "url_unusable",
    }
    assert manifest.num_kept == 0
    assert selection(tmp_path) == []


def test_urls_are_joined_in_their_normal_form(tmp_path: Path) -> None:
    run(tmp_path, [face("HTTP://A.org:80/Q?x=1, from a page")], [image("http://a.org/Q?x=1#top")])
    (row,) = selection(tmp_path)
    assert row["url"] == "http://a.org/Q?x=1"
    assert row["uid"] == uid_of_url("http://a.org/Q?x=1")


def test_all_facecaption_rows_of_an_image_stay_together(tmp_path: Path) -> None:
    url = "http://a.org/1.jpg"
    faces = [
        face(url, ["Second."], "[9, 9, 20, 20]", "b"),
        face(url, ["First."], "broken", "a"),
        face(url, [None], name="c"),
        face(url, ["First."], "broken", "a"),
    ]
    manifest = run(tmp_path, faces, [image(url)])
    (row,) = selection(tmp_path)
    assert json.loads(row["facecaptions"]) == [
        {"id": "a", "caption": "First.", "box": None},
        {"id": "b", "caption": "Second.", "box": [9, 9, 20, 20]},
    ]
    assert ledger(tmp_path)[0]["num_facecaption_rows"] == 4
    faults = manifest.extra["faults"]["facecaption"]
    assert (faults["box_broken"], faults["caption_missing"], faults["duplicate_row"]) == (2, 1, 3)


def test_of_several_laion_rows_the_largest_counts_then_the_smallest_id(tmp_path: Path) -> None:
    url = "http://a.org/1.jpg"
    images = [image(url, 200, 100, 1000), image(url, 100, 200, 999), image(url, 10, 10, 1), image(url, None, 5, 0)]
    run(tmp_path, [face(url)], images)
    (row,) = selection(tmp_path)
    assert (row["sample_id"], row["width"], row["height"], row["caption"]) == ("999", 100, 200, "alt text of 999")


def test_float_sample_ids_become_exact_text_or_are_counted(tmp_path: Path) -> None:
    images = pa.Table.from_pylist([image(f"http://a.org/{i}.jpg") for i in range(3)], LAION)
    ids = pa.array([1_581_282_014_547.0, 2.0**60, None])
    images = images.set_column(images.schema.get_field_index("SAMPLE_ID"), "SAMPLE_ID", ids)
    pq.write_table(images, tmp_path / "laion.parquet")
    faces = pa.Table.from_pylist([face(f"http://a.org/{i}.jpg") for i in range(3)], FACECAPTION)
    pq.write_table(faces, tmp_path / "facecaption.parquet")
    recipe = recipe_from(tmp_path, RECIPE.format(rank=""))
    manifest = rank(tmp_path / "facecaption.parquet", tmp_path / "laion.parquet", tmp_path / "rank", recipe)
    found = {row["url"]: row["sample_id"] for row in selection(tmp_path)}
    assert found == {"http://a.org/0.jpg": "1581282014547", "http://a.org/1.jpg": None, "http://a.org/2.jpg": None}
    assert manifest.extra["faults"]["laion"]["sample_id_float"] == 2
    assert manifest.extra["faults"]["laion"]["sample_id_inexact"] == 1


def test_the_selection_is_cut_into_parts_and_its_keys_follow(tmp_path: Path) -> None:
    urls = [f"http://a.org/{i}.jpg" for i in range(25)]
    images = [image(url, 100 + i) for i, url in enumerate(urls)]
    run(tmp_path, [face(url) for url in urls], images, "rows_per_part = 10")
    parts = [pq.read_table(path) for path in sorted((tmp_path / "rank").glob("0*.parquet"))]
    assert [part.num_rows for part in parts] == [10, 10, 5]
    assert all(part.schema == SELECTION_SCHEMA for part in parts)
    keys = [row["key"] for row in selection(tmp_path)]
    assert keys[:2] == ["000000", "000001"]
    assert keys[-1] == "000024"
    assert keys == sorted(keys) == [row["key"] for row in ledger(tmp_path)]


@pytest.mark.parametrize("seed", range(6))
def test_no_metadata_row_is_lost_whatever_it_holds(tmp_path: Path, seed: int) -> None:
    faces, images = hostile_rows(seed)
    manifest = run(tmp_path, faces, images, "top = 7\nrows_per_part = 3")
    rows = ledger(tmp_path)
    assert sum(row["num_facecaption_rows"] for row in rows) == len(faces) == manifest.extra["num_facecaption_rows"]
    assert sum(row["num_laion_rows"] for row in rows) == len(images) == manifest.extra["num_laion_rows"]
    assert len({row["uid"] for row in rows}) == len(rows) == manifest.num_seen
    assert [row["uid"] for row in rows if row["kept"]] == [row["uid"] for row in selection(tmp_path)]
    assert all((row["reason"] is None) == row["kept"] == (row["rejected_by"] is None) for row in rows)
    in_faces = {usable_url((row["url"] or "").split(", ")[0]) for row in faces}
    usable = in_faces & {usable_url(row["URL"]) for row in images}
    ranked = {row["url"] for row in rows if row["reason"] in (None, "below_cut", "no_size")}
    assert ranked == usable - {None}


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_input_rows_changes_no_byte(tmp_path: Path, seed: int) -> None:
    faces, images = hostile_rows(seed)
    run(tmp_path / "once", faces, images, "top = 7\nrows_per_part = 3")
    chance = random.Random(seed)
    run(
        tmp_path / "again",
        chance.sample(faces, len(faces)),
        chance.sample(images, len(images)),
        "top = 7\nrows_per_part = 3",
    )
    assert bytes_of(tmp_path / "once" / "rank") == bytes_of(tmp_path / "again" / "rank")


def test_rows_may_be_spread_over_files_of_a_folder(tmp_path: Path) -> None:
    faces, images = hostile_rows(1)
    run(tmp_path / "one", faces, images)
    for name, rows, schema in (("facecaption", faces, FACECAPTION), ("laion", images, LAION)):
        (tmp_path / name).mkdir()
        for part in range(3):
            pq.write_table(pa.Table.from_pylist(rows[part::3], schema), tmp_path / name / f"part_{part}.parquet")
    recipe = recipe_from(tmp_path, RECIPE.format(rank=""))
    rank(tmp_path / "facecaption", tmp_path / "laion", tmp_path / "rank", recipe)
    assert bytes_of(tmp_path / "rank") == bytes_of(tmp_path / "one" / "rank")


def test_a_finished_target_is_left_as_it_is_and_other_work_is_refused(tmp_path: Path) -> None:
    faces, images = hostile_rows(2)
    run(tmp_path, faces, images, "top = 3")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "rank").glob("*.parquet")}
    run(tmp_path, faces, images, "top = 3")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "rank").glob("*.parquet")} == before
    with pytest.raises(UsageError, match="other work"):
        run(tmp_path, faces, images, "top = 4")


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.table({"url": ["http://a.org/1.jpg"]}), tmp_path / "facecaption.parquet")
    pq.write_table(pa.Table.from_pylist([image("http://a.org/1.jpg")], LAION), tmp_path / "laion.parquet")
    recipe = recipe_from(tmp_path, RECIPE.format(rank=""))
    with pytest.raises(UsageError, match=r"facecaption\.parquet: column '_id' is missing"):
        rank(tmp_path / "facecaption.parquet", tmp_path / "laion.parquet", tmp_path / "rank", recipe)


def test_a_column_of_the_wrong_type_is_named(tmp_path: Path) -> None:
    faces = pa.Table.from_pylist([face("http://a.org/1.jpg")], FACECAPTION)
    faces = faces.set_column(1, "caption", pa.array(["not a list"]))
    pq.write_table(faces, tmp_path / "facecaption.parquet")
    pq.write_table(pa.Table.from_pylist([image("http://a.org/1.jpg")], LAION), tmp_path / "laion.parquet")
    recipe = recipe_from(tmp_path, RECIPE.format(rank=""))
    with pytest.raises(UsageError, match="column 'caption' is string, but a list of texts is needed"):
        rank(tmp_path / "facecaption.parquet", tmp_path / "laion.parquet", tmp_path / "rank", recipe)


@pytest.mark.parametrize("content", [b"", b"not parquet at all"])
def test_a_file_that_is_no_parquet_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "facecaption.parquet").write_bytes(content)
    (tmp_path / "laion.parquet").write_bytes(content)
    recipe = recipe_from(tmp_path, RECIPE.format(rank=""))
    with pytest.raises(UsageError, match=r"facecaption\.parquet: cannot be read as parquet"):
        rank(tmp_path / "facecaption.parquet", tmp_path / "laion.parquet", tmp_path / "rank", recipe)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    recipe = recipe_from(tmp_path, RECIPE.format(rank=""))
    with pytest.raises(UsageError, match="no parquet file here"):
        rank(tmp_path, tmp_path, tmp_path / "rank", recipe)


def test_a_text_that_is_not_utf8_is_counted_and_harms_no_neighbour(tmp_path: Path) -> None:
    images = pa.Table.from_pylist([image("http://a.org/1.jpg"), image("http://a.org/2.jpg")], LAION)
    broken = pa.array([b"caf\xe9", b"fine"]).cast(pa.binary()).view(pa.string())
    images = images.set_column(images.schema.get_field_index("TEXT"), "TEXT", broken)
    pq.write_table(images, tmp_path / "laion.parquet")
    faces = [face("http://a.org/1.jpg"), face("http://a.org/2.jpg")]
    pq.write_table(pa.Table.from_pylist(faces, FACECAPTION), tmp_path / "facecaption.parquet")
    recipe = recipe_from(tmp_path, RECIPE.format(rank=""))
    manifest = rank(tmp_path / "facecaption.parquet", tmp_path / "laion.parquet", tmp_path / "rank", recipe)
    assert {row["url"]: row["caption"] for row in selection(tmp_path)} == {
        "http://a.org/1.jpg": None,
        "http://a.org/2.jpg": "fine",
    }
    assert manifest.extra["faults"]["laion"]["not_utf8"] == 1


def test_the_ledger_has_the_base_columns_then_the_row_counts(tmp_path: Path) -> None:
    run(tmp_path, *hostile_rows(3))
    schema = pq.read_schema(tmp_path / "rank" / "ledger.parquet")
    assert schema == LEDGER_SCHEMA
    assert schema.metadata[b"stage"] == b"rank"


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("[1, 2, 30, 40]", [1, 2, 30, 40]),
        ("[-3, 2.6, 30, 40.2]", [-3, 3, 30, 40]),
        ("[30, 2, 1, 40]", None),
        ("[1, 2, 1, 40]", None),
        ("[-9, -9, -1, 40]", None),
        ("[1, 2, 3]", None),
        ("[1, 2, 3, true]", None),
        ("[1, 2, 3, Infinity]", None),
        ("[1, 2, 3, 1e300]", None),
        ('{"x": 1}', None),
        ("[" * 100_000, None),
        ("", None),
        (None, None),
    ],
)
def test_a_box_is_four_pixels_with_an_area_or_nothing(text: str | None, box: list[int] | None) -> None:
    assert face_box(text) == box


@pytest.mark.parametrize("fault", ["a column is missing", "no parquet at all"])
def test_a_target_of_a_ranking_that_failed_serves_the_right_tables(tmp_path: Path, fault: str) -> None:
    recipe = recipe_from(tmp_path, RECIPE.format(rank="top = 6"))
    facecaption, laion = write_metadata(tmp_path, 6)
    right = laion.read_bytes()
    if fault == "a column is missing":
        pq.write_table(pq.read_table(laion).drop_columns(["URL"]), laion)
    else:
        laion.write_bytes(b"PAR1 this is none PAR1")
    for _ in range(2):
        with pytest.raises((FaceCaptionError, pa.ArrowException)):
            rank(facecaption, laion, tmp_path / "rank", recipe)
    laion.write_bytes(right)
    assert rank(facecaption, laion, tmp_path / "rank", recipe).num_kept > 0
    pq.write_table(pq.read_table(laion).slice(1), laion)
    with pytest.raises(UsageError, match="holds the output of other work"):
        rank(facecaption, laion, tmp_path / "rank", recipe)

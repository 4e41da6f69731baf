"""Importing: every shape of metadata becomes rows for `rank`, every fault counted, and no pickle ever runs."""

import io
import json
import pickle
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

from cli import app
from curation.commands.importing.convert import TARGETS, import_metadata
from curation.commands.importing.laion_pth import DETECTIONS, IDS, OTHER_SHAPE, REFUSED, convert_pth
from curation.commands.rank.stage import Safeguards, rank
from curation.dataset.captions import captions_of
from curation.dataset.manifest import read_manifest
from curation.dataset.tar import write_tar
from curation.errors import SafetyError, UsageError
from tests.curation.commands.rank.test_stage import RECIPE
from tests.curation.shards import colourful, recipe_from, sample_members, write_shard

torch.set_num_threads(1)


class Malicious:
    """A pickle that would leave a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return rows


def imported(source: Path | str, folder: Path, **options: Any) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Import and return the rows and the faults."""
    result = import_metadata(str(source), folder / "out.parquet", **options)
    rows = rows_of(folder / "out.parquet")
    assert len(rows) == result.num_rows
    return rows, dict(result.faults)


def test_relaion_parquet_is_read_by_its_own_spellings(tmp_path: Path) -> None:
    table = {"url": ["http://a.org/1"], "caption": ["x"], "width": [3], "height": [4.0], "punsafe": [0.1], "key": ["k"]}
    pq.write_table(pa.table(table), tmp_path / "in.parquet")
    (row,), faults = imported(tmp_path / "in.parquet", tmp_path)
    assert (row["URL"], row["TEXT"], row["WIDTH"], row["HEIGHT"], row["punsafe"]) == ("http://a.org/1", "x", 3, 4, 0.1)
    assert row["SAMPLE_ID"] is row["NSFW"] is None
    assert faults == {}


def test_csv_and_tsv_rows_that_are_broken_are_counted(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text(
        'URL,TEXT,WIDTH,HEIGHT\nhttp://a.org/1,"a, b",10,20\nhttp://a.org/2,c\nhttp://a.org/3,"two\nlines",wide,\n'
    )
    rows, faults = imported(tmp_path / "in.csv", tmp_path)
    assert [(row["URL"], row["TEXT"], row["WIDTH"]) for row in rows] == [
        ("http://a.org/1", "a, b", 10.0),
        ("http://a.org/3", "two\nlines", None),
    ]
    assert faults == {"row_broken": 1, "width_not_a_number": 1}
    (tmp_path / "in.tsv").write_text("url\tcaption\nhttp://a.org/1\tx, y\n")
    rows, _ = imported(tmp_path / "in.tsv", tmp_path)
    assert [(row["URL"], row["TEXT"]) for row in rows] == [("http://a.org/1", "x, y")]


def test_json_lines_that_are_broken_are_counted(tmp_path: Path) -> None:
    lines = [
        json.dumps({"url": "http://a.org/1", "caption": "é", "SAMPLE_ID": 2**60}),
        "{not json",
        "[1]",
        "",
        json.dumps({"url": None, "SAMPLE_ID": 1.5, "extra": {"a": 1}}),
        json.dumps({"url": "http://a.org/\ud800", "SAMPLE_ID": "12"}),
        "[" * 100_000,
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    rows, faults = imported(tmp_path / "in.jsonl", tmp_path)
    assert [(row["URL"], row["SAMPLE_ID"]) for row in rows] == [
        ("http://a.org/1", 2**60), (None, None), ("http://a.org/?", 12),
    ]  # fmt: skip
    assert faults == {"line_broken": 3, "sample_id_not_a_number": 1}


def test_float_ids_that_lost_digits_are_counted(tmp_path: Path) -> None:
    pq.write_table(
        pa.table({"URL": ["http://a.org/1"] * 3, "SAMPLE_ID": [7.0, 2.0**60, float("nan")]}), tmp_path / "in.parquet"
    )
    rows, faults = imported(tmp_path / "in.parquet", tmp_path)
    assert [row["SAMPLE_ID"] for row in rows] == [7, None, None]
    assert faults == {"sample_id_not_a_number": 2}


def test_tars_of_img2dataset_give_their_metadata_and_a_torn_one_is_counted(tmp_path: Path) -> None:
    write_shard(tmp_path / "in", "00000", [sample_members(f"{n}", colourful(n)) for n in range(3)])
    torn = write_shard(tmp_path / "in", "00001", [sample_members("9", colourful(9))])
    torn.write_bytes(torn.read_bytes()[:700])
    rows, faults = imported(tmp_path / "in", tmp_path)
    assert (rows[0]["URL"], rows[0]["TEXT"], rows[0]["WIDTH"]) == ("http://example.org/0.jpg", "caption of 0", 64.0)
    assert len(rows) == 3
    assert faults["tar_broken"] == 1


@pytest.mark.parametrize(
    "told",
    [
        (None, {"captions": ["one", "two"]}),
        ("   ", {"alt_text": "alt", "TITLE": "title"}),
        ("said", {"caption": "another"}),
        (None, {"Description": "described", "caption": " "}),
        (None, {"caption": 7}),
    ],
)
def test_a_caption_is_read_from_a_tar_as_pack_reads_it(tmp_path: Path, told: tuple[str | None, dict[str, Any]]) -> None:
    text, metadata = told
    members = [("3.json", json.dumps({"url": "http://a.org/3.jpg"} | metadata).encode())]
    members += [] if text is None else [("3.txt", text.encode())]
    write_tar(tmp_path / "00000.tar", [*members, ("3.jpg", b"")])
    packed = [caption.text for caption in captions_of(text, metadata)]
    import_metadata(str(tmp_path / "00000.tar"), tmp_path / "laion.parquet")
    assert pq.read_table(tmp_path / "laion.parquet")["TEXT"].to_pylist() == [packed[0] if packed else text]
    import_metadata(str(tmp_path / "00000.tar"), tmp_path / "faces.parquet", "facecaption")
    assert pq.read_table(tmp_path / "faces.parquet")["caption"].to_pylist() == [packed or None]


def test_in_a_table_a_blank_caption_gives_way_to_one_under_another_name(tmp_path: Path) -> None:
    rows = {"url": ["http://a.org/1", "http://a.org/2"], "text": [" ", " "], "alt_text": ["alt", None]}
    pq.write_table(pa.table(rows), tmp_path / "in.parquet")
    import_metadata(str(tmp_path / "in.parquet"), tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["TEXT"].to_pylist() == ["alt", " "]


def test_a_saved_hugging_face_data_set_is_read_split_by_split(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    one = Dataset.from_dict({"image_url": ["http://a.org/1"], "text": ["x"]})
    DatasetDict({"train": one, "test": one}).save_to_disk(str(tmp_path / "in"))
    rows, _ = imported(tmp_path / "in", tmp_path)
    assert [(row["URL"], row["TEXT"]) for row in rows] == [("http://a.org/1", "x")] * 2


def test_facecaptions_become_lists_whatever_they_were(tmp_path: Path) -> None:
    lines = [{"url": "http://a.org/1", "caption": "One.", "box": [1, 2, 3, 4], "id": 5}]
    lines += [{"url": "http://a.org/2", "caption": ["A.", None]}, {"url": "http://a.org/3", "caption": [1]}]
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    rows, faults = imported(tmp_path / "in.jsonl", tmp_path, shape="facecaption")
    assert [row["caption"] for row in rows] == [["One."], ["A.", None], None]
    assert (rows[0]["box"], rows[0]["_id"]) == ("[1, 2, 3, 4]", "5")
    assert faults == {"caption_broken": 1}


def test_what_was_imported_can_be_ranked(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("url,width,height,caption\nhttp://a.org/1,10,20,x\nUNKNOWN,1,1,y\n")
    (tmp_path / "f.jsonl").write_text('{"url": "http://a.org/1", "caption": "A face.", "box": [1, 2, 9, 9]}\n')
    import_metadata(str(tmp_path / "l.csv"), tmp_path / "l.parquet")
    import_metadata(str(tmp_path / "f.jsonl"), tmp_path / "f.parquet", "facecaption")
    recipe = recipe_from(tmp_path, RECIPE.format(rank=""))
    with pytest.raises(SafetyError, match="no row has a value for nsfw"):
        rank(tmp_path / "f.parquet", tmp_path / "l.parquet", tmp_path / "rank", recipe)
    waived = Safeguards(waiver="a list of our own")
    manifest = rank(tmp_path / "f.parquet", tmp_path / "l.parquet", tmp_path / "rank", recipe, waived)
    assert (manifest.num_kept, manifest.rejected) == (1, {"rank": {"url_unusable": 1}})
    assert read_manifest(tmp_path / "rank").extra["faults"]["laion"]["no_size"] == 0


@pytest.mark.slow
def test_only_the_ids_of_laion_face_are_kept_and_missing_ones_are_listed(tmp_path: Path) -> None:
    torch.save([torch.tensor([5, 7]), [9], np.array([11, 5])], tmp_path / "ids.pth")
    convert_pth(tmp_path / "ids.pth", tmp_path / "ids.parquet")
    assert pq.read_schema(tmp_path / "ids.parquet").names == IDS.names
    assert [(row["part"], row["SAMPLE_ID"]) for row in rows_of(tmp_path / "ids.parquet")] == [
        (0, 5), (0, 7), (1, 9), (2, 11), (2, 5),
    ]  # fmt: skip
    (tmp_path / "in").mkdir()
    for part, ids in enumerate(([4, 5, 6], [9, 10, None])):
        pq.write_table(pa.table({"URL": ["u"] * 3, "SAMPLE_ID": ids}), tmp_path / "in" / f"{part}.parquet")
    rows, faults = imported(tmp_path / "in", tmp_path, ids=tmp_path / "ids.parquet")
    assert [row["SAMPLE_ID"] for row in rows] == [5, 9]
    assert faults == {"id_not_in_metadata": 2}
    assert [row["SAMPLE_ID"] for row in rows_of(tmp_path / "out.missing.parquet")] == [7, 11]


@pytest.mark.slow
def test_detections_become_counts_and_sides(tmp_path: Path) -> None:
    marks = [[0.0] * 2] * 5
    faces = {
        7: [(np.array([0, 0, 30, 40], np.float32), marks, 0.9), ([0, 0, 90, 20], marks, np.float32(0.6))],
        8: [(torch.tensor([0.0, 0.0, 90.0, 90.0]), marks, 0.3)],
        9: [],
    }
    torch.save(faces, tmp_path / "sample2detect_0.pth")
    result = CliRunner().invoke(app, ["import", str(tmp_path / "sample2detect_0.pth"), str(tmp_path / "d.parquet")])
    assert result.exit_code == 0, result.output
    assert pq.read_schema(tmp_path / "d.parquet").names == DETECTIONS.names
    found = [
        (row["SAMPLE_ID"], row["num_faces"], row["face_side"], row["face_area"])
        for row in rows_of(tmp_path / "d.parquet")
    ]
    assert found == [(7, 2, 30.0, 1800.0), (8, 0, None, None), (9, 0, None, None)]


def malicious(path: Path, mark: Path, form: str) -> Path:
    """Write a file of detections that would leave a mark if it were unpickled."""
    payload = {7: Malicious(mark)}
    if form == "plain pickle":
        path.write_bytes(pickle.dumps(payload))
    elif form == "tampered zip":
        torch.save({7: []}, path)
        whole = io.BytesIO()
        with zipfile.ZipFile(path) as before, zipfile.ZipFile(whole, "w") as after:
            for name in before.namelist():
                after.writestr(name, pickle.dumps(payload) if name.endswith("data.pkl") else before.read(name))
        path.write_bytes(whole.getvalue())
    else:
        torch.save(payload, path, _use_new_zipfile_serialization=form == "zip")
    return path


def codes_of_the_child(folder: Path, sources: Sequence[Path]) -> list[int]:
    """Convert files in one process, whose start takes most of the time that one takes, and return their exit codes."""
    code = (
        "import sys\nfrom curation.commands.importing.laion_pth import main\n"
        "for source in sys.argv[2:]:\n    print(main([source, sys.argv[1]]))"
    )
    command = [sys.executable, "-c", code, str(folder / "out.parquet"), *map(str, sources)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.slow
def test_a_malicious_pickle_never_runs(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    paths = [malicious(tmp_path / f"{form}.pth", mark, form) for form in ("zip", "legacy", "plain pickle")]
    tampered = malicious(tmp_path / "sample2detect_0.pth", mark, "tampered zip")
    with pytest.raises(SafetyError, match="refused, since it is no plain data"):
        convert_pth(tampered, tmp_path / "out.parquet")
    assert codes_of_the_child(tmp_path, paths) == [REFUSED] * 3
    assert not mark.exists()
    assert not (tmp_path / "out.parquet").exists()
    pickle.loads(pickle.dumps(Malicious(mark)))
    assert mark.exists(), "the payload works, so that the test could have failed"


@pytest.mark.slow
def test_plain_data_of_another_shape_is_named(tmp_path: Path) -> None:
    contents = [7, {"a": [([1, 2], [], 0.5)]}, [["x"]], {3: [([1, 2], [], 0.5)]}]
    paths = [tmp_path / f"{number}.pth" for number in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        torch.save(content, path)
    with pytest.raises(UsageError, match=r"neither laion_face_ids\.pth nor sample2detect"):
        convert_pth(paths[0], tmp_path / "x.parquet")
    assert codes_of_the_child(tmp_path, paths) == [OTHER_SHAPE] * 4


def test_what_cannot_be_imported_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_text("x")
    (tmp_path / "b.csv").write_text("address,name\nx,y\n")
    (tmp_path / "c.parquet").write_text("x")
    (tmp_path / "empty").mkdir()
    for name, message in (
        ("a.xlsx", "cannot be imported; the choices are .pth, .parquet"),
        ("b.csv", "no column of URLs; it has address, name"),
        ("c.parquet", "cannot be read as parquet"),
        ("empty", "holds no"),
        ("gone.csv", "no such file or folder"),
        ("gone.pth", "no such file"),
    ):
        with pytest.raises(UsageError, match=message):
            import_metadata(str(tmp_path / name), tmp_path / "out.parquet")
    result = CliRunner().invoke(app, ["import", str(tmp_path / "b.csv"), "x.parquet", "--as", "coco"])
    assert isinstance(result.exception, UsageError)
    assert set(TARGETS) == {"laion", "facecaption"}

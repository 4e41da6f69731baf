"""Gates that have nothing to judge by, and tables that are damaged: `rank` stops, or says so, and never passes on."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cli import app
from curation.commands.rank.stage import Safeguards, rank
from curation.dataset.ledger import read_ledger
from curation.dataset.manifest import Manifest, read_manifest
from curation.errors import SafetyError, UsageError
from tests.curation.commands.rank.test_stage import FACECAPTION, LAION, RECIPE, face, image
from tests.curation.shards import recipe_from

URLS = [f"http://a.org/{number}.jpg" for number in range(5)]
NONE = Safeguards()
WAIVED = Safeguards(waiver="pictures of our own")


def write(folder: Path, columns: dict[str, Any], boxes: str = "[1, 2, 30, 40]") -> None:
    """Write both sources; `columns` take the place of LAION's `NSFW`."""
    images = pa.Table.from_pylist([image(url) for url in URLS], LAION).drop_columns("NSFW")
    for name, values in columns.items():
        images = images.append_column(name, pa.array(values))
    pq.write_table(images, folder / "laion.parquet")
    faces = [face(url, box=boxes) for url in URLS]
    pq.write_table(pa.Table.from_pylist(faces, FACECAPTION), folder / "facecaption.parquet")


def ranked(folder: Path, safe: Safeguards = NONE, gates: str = "") -> tuple[Manifest, list[str | None]]:
    """Rank; the manifest, and the reasons in order of the URLs."""
    recipe = recipe_from(folder, RECIPE.format(rank=f"[rank.gates]\n{gates}"))
    manifest = rank(folder / "facecaption.parquet", folder / "laion.parquet", folder / "rank", recipe, safe)
    rows = {row["url"]: row["reason"] for row in read_ledger(folder / "rank" / "ledger.parquet").to_pylist()}
    return manifest, [rows[url] for url in URLS]


@pytest.mark.parametrize(
    ("columns", "reasons"),
    [
        ({"Nsfw": ["nsfw", "NSFW ", "porn", "UNLIKELY", "huh"]}, ["nsfw"] * 3 + [None, "nsfw_unknown"]),
        ({"p_unsafe": [0.9, 0.51, 0.5, 7.0, None]}, ["punsafe_high"] * 2 + [None] + ["nsfw_unknown"] * 2),
        (
            {"nsfw_score_opennsfw2": [0.9, 0.1, 0.1, 0.1, 0.1], "nsfw_score_gantman": [0.1, 0.9, 0.1, 0.1, None]},
            ["punsafe_high"] * 2 + [None] * 3,
        ),
        ({"NSFW": [True, False, None, True, False]}, ["nsfw", None, "nsfw_unknown", "nsfw", None]),
        (
            {"not_nsfw": [0, 1, None, 0, 1], "NSFW": ["UNLIKELY"] * 5},
            ["nsfw_unknown"] * 2 + [None] + ["nsfw_unknown"] * 2,
        ),
        ({"is_safe": [False, True, False, None, True]}, ["nsfw_unknown"] * 5),
        ({"nsfw": ["0.7", "0", "", "1", "0.2"]}, ["punsafe_high", None, "nsfw_unknown", "punsafe_high", None]),
    ],
)
def test_the_gate_of_safety_knows_columns_and_values_of_known_data_sets(
    tmp_path: Path, columns: dict[str, Any], reasons: list[str | None]
) -> None:
    write(tmp_path, columns)
    manifest, found = ranked(tmp_path)
    assert found == reasons
    assert manifest.extra["blind_gates"] == []


def test_an_unknown_value_is_counted_and_named(tmp_path: Path) -> None:
    write(tmp_path, {"NSFW": ["UNLIKELY", "dubious", "dubious", None, "UNLIKELY"]})
    extra = ranked(tmp_path)[0].extra
    assert extra["faults"]["laion"]["nsfw_unknown"] == 2
    assert extra["fault_examples"]["laion"] == {"nsfw_unknown": "laion.parquet row 2: dubious"}
    assert extra["gates"]["nsfw"] == {"num_judged": 4, "num_unjudged": 1}


@pytest.mark.parametrize(
    ("columns", "gates", "blind"),
    [
        ({}, "", "nsfw, max_punsafe"),
        ({}, "nsfw = []", "nsfw, max_punsafe"),
        ({"NSFW": pa.nulls(5, pa.string())}, "", "nsfw, max_punsafe"),
        ({"NSFW": ["UNLIKELY"] * 5}, "max_pwatermark = 0.5", "max_pwatermark"),
        ({"NSFW": ["UNLIKELY"] * 5}, "max_num_faces = 1", "max_num_faces"),
        ({"NSFW": ["UNLIKELY"] * 5}, "min_face_side_px = 9", "min_face_side_px"),
    ],
)
def test_a_gate_without_any_value_needs_a_waiver_which_is_recorded(
    tmp_path: Path, columns: dict[str, Any], gates: str, blind: str
) -> None:
    write(tmp_path, columns, boxes="broken")
    with pytest.raises(SafetyError, match=rf"no row has a value for {blind}.*--waiver"):
        ranked(tmp_path, gates=gates)
    manifest, reasons = ranked(tmp_path, WAIVED, gates)
    assert reasons == [None] * 5
    assert (manifest.extra["blind_gates"], manifest.extra["waiver"]) == (blind.split(", "), WAIVED.waiver)


@pytest.mark.parametrize("unseen", [{}, {"punsafe": pa.nulls(5, pa.float64())}])
def test_a_limit_on_the_probability_alone_leaves_out_what_a_word_calls_unsafe(
    tmp_path: Path, unseen: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, {"NSFW": ["NSFW", "porn", "UNSURE", "UNLIKELY", "NSFW"], **unseen})
    manifest, reasons = ranked(tmp_path, gates="nsfw = []\nmax_punsafe = 0.3")
    assert reasons == ["nsfw", "nsfw", None, None, "nsfw"]
    assert manifest.extra["gates"]["max_punsafe"] == {"num_judged": 0, "num_unjudged": 5}
    assert (manifest.extra["blind_gates"], manifest.extra["half_blind_gates"]) == ([], ["max_punsafe"])
    assert "no row has a value for max_punsafe" in caplog.text


def test_who_leaves_out_unsure_words_leaves_out_unsafe_ones_too(tmp_path: Path) -> None:
    write(tmp_path, {"p_unsafe": [None, None, 0.9, 0.1, 0.1], "NSFW": ["NSFW", "UNSURE", None, None, "UNLIKELY"]})
    manifest, reasons = ranked(tmp_path, gates='nsfw = ["UNSURE"]')
    assert reasons == ["nsfw", "nsfw", "punsafe_high", None, None]
    assert "half_blind_gates" not in manifest.extra


def test_probabilities_judge_where_there_are_no_words(tmp_path: Path) -> None:
    write(tmp_path, {"punsafe": [0.9, 0.1, 0.1, 0.1, 0.1]})
    manifest, reasons = ranked(tmp_path)
    assert reasons == ["punsafe_high"] + [None] * 4
    assert (manifest.extra["blind_gates"], manifest.extra["half_blind_gates"]) == ([], ["nsfw"])


def test_a_watermark_is_found_under_the_name_of_another_data_set(tmp_path: Path) -> None:
    write(tmp_path, {"NSFW": ["UNLIKELY"] * 5, "watermark_score": [0.9, 0.1, None, 0.1, 0.1]})
    manifest, reasons = ranked(tmp_path, gates="max_pwatermark = 0.5")
    assert reasons == ["pwatermark_high"] + [None] * 4
    assert manifest.extra["gates"]["max_pwatermark"] == {"num_judged": 4, "num_unjudged": 1}


def test_where_nothing_is_said_of_safety_the_rule_on_minors_takes_it_for_unsafe(tmp_path: Path) -> None:
    write(tmp_path, {})
    table = pq.read_table(tmp_path / "laion.parquet")
    texts = pa.array(["a girl", "a teenager", "a woman", "a man", "a house"])
    pq.write_table(table.set_column(table.schema.get_field_index("TEXT"), "TEXT", texts), tmp_path / "laion.parquet")
    assert ranked(tmp_path, WAIVED)[1] == ["unsafe_and_possible_minor"] * 2 + [None] * 3


def test_the_command_takes_the_waiver_even_in_a_folder_that_duckdb_takes_apart(tmp_path: Path) -> None:
    folder = tmp_path / "a?b #c%20 [d] é uid=5"
    folder.mkdir()
    write(folder, {})
    recipe = recipe_from(folder, RECIPE.format(rank=""))
    words = ["rank", *(str(folder / name) for name in ("facecaption.parquet", "laion.parquet", "rank"))]
    words += ["--recipe", recipe.path, "--json"]
    refused = CliRunner().invoke(app, words)
    assert isinstance(refused.exception, SafetyError)
    passed = CliRunner().invoke(app, [*words, "--waiver", "ours"])
    assert passed.exit_code == 0, passed.output
    assert read_manifest(folder / "rank").extra["waiver"] == "ours"


def test_a_backslash_that_duckdb_takes_for_a_slash_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a\\b").mkdir()
    write(tmp_path / "a\\b", {"NSFW": ["UNLIKELY"] * 5})
    with pytest.raises(UsageError, match="a backslash in a path"):
        ranked(tmp_path / "a\\b")


@pytest.mark.parametrize(
    "damage",
    [
        lambda raw: raw[:-200],
        lambda raw: raw[:40] + bytes(byte ^ 255 for byte in raw[40:400]) + raw[400:],
        lambda raw: raw[:-30] + bytes(30),
        lambda raw: raw[: len(raw) // 2],
    ],
)
@pytest.mark.parametrize("which", ["facecaption.parquet", "laion.parquet"])
def test_damaged_parquet_is_one_error_with_its_name(tmp_path: Path, damage: Any, which: str) -> None:
    write(tmp_path, {"NSFW": ["UNLIKELY"] * 5})
    raw = (tmp_path / which).read_bytes()
    (tmp_path / which).write_bytes(damage(raw))
    with pytest.raises(UsageError, match=rf"{which}: (cannot be read as|damaged) parquet"):
        ranked(tmp_path)


def test_damaged_detections_are_one_error_with_their_name(tmp_path: Path) -> None:
    write(tmp_path, {"NSFW": ["UNLIKELY"] * 5})
    detections = tmp_path / "detections.parquet"
    table = {"SAMPLE_ID": [1], "num_faces": [1], "face_side": [1.0], "face_area": [1.0]}
    pq.write_table(pa.table(table), detections, compression="none")
    detections.write_bytes(detections.read_bytes()[:20] + b"\xff" * 60 + detections.read_bytes()[80:])
    recipe = recipe_from(tmp_path, RECIPE.format(rank=""))
    with pytest.raises(UsageError, match=r"detections\.parquet: cannot be read as parquet"):
        rank(
            tmp_path / "facecaption.parquet", tmp_path / "laion.parquet", tmp_path / "rank", recipe,
            detections=detections,
        )  # fmt: skip


def test_a_footer_that_promises_other_rows_than_there_are_is_refused(tmp_path: Path) -> None:
    from curation.commands.importing.convert import import_metadata

    write(tmp_path, {"NSFW": ["UNLIKELY"] * 5})
    raw = (tmp_path / "laion.parquet").read_bytes()
    start = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    flipped = [
        raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :]
        for place in range(start, len(raw) - 8)
        for bit in (1, 2, 3)
        if raw[place] == 10
    ]
    target = tmp_path / "flipped.parquet"
    for content in flipped:
        target.write_bytes(content)
        try:
            result = import_metadata(str(target), tmp_path / "out.parquet")
        except UsageError as error:
            assert "flipped.parquet" in str(error)
        else:
            assert result.num_rows == 5


def test_columns_of_other_types_and_cases_are_read_by_rank_alike(tmp_path: Path) -> None:
    write(tmp_path, {"NSFW": pa.array(["UNLIKELY"] * 5).dictionary_encode()})
    table = pq.read_table(tmp_path / "laion.parquet")
    for name, values in {
        "WIDTH": pa.array([2**60, 2**62, 100, 100, 100]),
        "similarity": pa.array([1, 0, 1, 0, 1], pa.int8()),
        "SAMPLE_ID": pa.array([2**64 - 1, 1, 2, 3, 4], pa.uint64()),
        "URL": pa.array(URLS, pa.large_string()),
        "LICENSE": pa.array(["?"] * 5).dictionary_encode(),
    }.items():
        table = table.set_column(table.schema.get_field_index(name), name, values)
    table = table.rename_columns([name.lower() for name in table.column_names])
    pq.write_table(table, tmp_path / "laion.parquet")
    assert ranked(tmp_path)[1] == ["no_size"] * 2 + [None] * 3


def test_strays_beside_the_tables_are_left_alone_and_named(tmp_path: Path) -> None:
    write(tmp_path, {"NSFW": ["UNLIKELY"] * 5})
    (tmp_path / "laion").mkdir()
    (tmp_path / "laion.parquet").rename(tmp_path / "laion" / "PART.PARQUET")
    for name in ("._PART.PARQUET", "_metadata.parquet", "README.md"):
        (tmp_path / "laion" / name).write_bytes(b"stray")
    recipe = recipe_from(tmp_path, RECIPE.format(rank=""))
    manifest = rank(tmp_path / "facecaption.parquet", tmp_path / "laion", tmp_path / "rank", recipe)
    assert manifest.num_kept == 5
    assert set(manifest.extra["left_out"]["laion"]) == {"._PART.PARQUET", "_metadata.parquet", "README.md"}

"""What tables say of safety: every known column and value is understood, and what is not is as good as unsafe."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.commands.importing.convert import import_metadata
from curation.commands.importing.names import is_safety, is_turned
from curation.commands.importing.safety import Judgement, judgement_of, word_of
from curation.commands.rank.gates import is_unsafe


@pytest.mark.parametrize(
    ("value", "judgement"),
    [
        ("UNLIKELY", ("UNLIKELY", None)),
        (" unlikely ", ("UNLIKELY", None)),
        ("Unsure", ("UNSURE", None)),
        ("nsfw", ("NSFW", None)),
        ("NSFW ", ("NSFW", None)),
        ("porn", ("NSFW", None)),
        ("Very Likely", ("NSFW", None)),
        (True, ("NSFW", None)),
        (False, ("UNLIKELY", None)),
        ("false", ("UNLIKELY", None)),
        (0.25, (None, 0.25)),
        ("0.25", (None, 0.25)),
        (1, (None, 1.0)),
        (0, (None, 0.0)),
        (None, (None, None)),
        ("", (None, None)),
        (float("nan"), (None, None)),
        (37.5, ("UNKNOWN", None)),
        (-0.1, ("UNKNOWN", None)),
        (float("inf"), ("UNKNOWN", None)),
        ("maybe?", ("UNKNOWN", None)),
        ("nan", ("UNKNOWN", None)),
        ([1], ("UNKNOWN", None)),
        (b"\xff", ("UNKNOWN", None)),
    ],
)
def test_a_value_is_a_word_or_a_probability_or_unknown(value: Any, judgement: Judgement) -> None:
    assert judgement_of(value) == judgement


@pytest.mark.parametrize(
    "name",
    [
        "NSFW",
        "Nsfw",
        "nsfw ",
        "punsafe",
        "p_unsafe",
        "PUNSAFE",
        "nsfw_score_opennsfw2",
        "nsfw_score_gantman",
        "is-nsfw",
    ],
)
def test_a_column_of_safety_is_known_in_every_spelling(name: str) -> None:
    assert is_safety(name)
    assert not is_safety("similarity")


@pytest.mark.parametrize(
    "name",
    [
        "not_nsfw", "Not NSFW", "notNSFW", "non-nsfw", "nonnsfw", "no_nsfw", "is_not_nsfw", "no.unsafe", "p_not_unsafe",
        "nsfw_free", "NSFW-removed", "unsafeFiltered", "nsfw_passed", "is_safe", "isSafe", "safe", "SFW", "sfw_score",
        "safe for work", "p_safe",
    ],
)  # fmt: skip
def test_a_name_that_turns_the_meaning_round_is_one_of_safety_that_nobody_understands(name: str) -> None:
    assert is_safety(name)
    assert is_turned(name)


@pytest.mark.parametrize(
    "name",
    ["NSFW", "isNSFW", "punsafe", "p_unsafe", "nsfw_score_opennsfw2", "flag_unsafe", "piano_nsfw"],
)
def test_a_plain_name_of_safety_is_understood(name: str) -> None:
    assert is_safety(name)
    assert not is_turned(name)


@pytest.mark.parametrize("values", [[0, 0, None], [1.0, 0.0, float("nan")], ["no", "yes", " "], [True, False, None]])
def test_a_column_with_the_meaning_turned_round_makes_unknown_of_all_that_it_says(
    tmp_path: Path, values: list[Any]
) -> None:
    table = {"url": ["a", "b", "c"], "NSFW": ["UNLIKELY"] * 3, "not_nsfw": values}
    pq.write_table(pa.table(table), tmp_path / "in.parquet")
    result = import_metadata(str(tmp_path / "in.parquet"), tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["NSFW"], row["punsafe"]) for row in rows] == [("UNKNOWN", None)] * 2 + [("UNLIKELY", None)]
    assert result.faults == {"nsfw_unknown": 2}
    assert result.examples["nsfw_unknown"].startswith("in.parquet row 1: not_nsfw ")


def test_of_several_columns_the_worst_counts(tmp_path: Path) -> None:
    table = {
        "url": ["a", "b", "c", "d", "e"],
        "NSFW": ["UNLIKELY", "UNLIKELY", "porn", "dubious", None],
        "nsfw_score_opennsfw2": pa.array([0.25, 0.5, 0.0, 0.0, None], pa.float32()),
        "nsfw_score_gantman": [0.75, 0.125, 0.0, 0.0, float("nan")],
        "flag_unsafe": [False, True, None, False, None],
    }
    pq.write_table(pa.table(table), tmp_path / "in.parquet")
    result = import_metadata(str(tmp_path / "in.parquet"), tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["NSFW"], row["punsafe"]) for row in rows] == [
        ("UNLIKELY", 0.75), ("NSFW", 0.5), ("NSFW", 0.0), ("UNKNOWN", 0.0), (None, None),
    ]  # fmt: skip
    assert (result.faults, result.examples) == ({"nsfw_unknown": 1}, {"nsfw_unknown": "in.parquet row 4: dubious"})
    assert not result.no_safety


def test_an_unknown_word_of_a_recipe_is_no_known_one() -> None:
    assert [word_of(text) for text in ("nsfw", "Unsure", "whatever", "0.5")] == ["NSFW", "UNSURE", "UNKNOWN", "UNKNOWN"]


def test_who_says_nothing_of_safety_is_not_called_safe() -> None:
    assert is_unsafe(None, None)
    assert is_unsafe("UNKNOWN", None)
    assert not is_unsafe("UNLIKELY", None)
    assert not is_unsafe(None, 0.1)


def test_an_unknown_value_in_text_is_named_too(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("url,nsfw\na,unlikely\nb,dubious\n")
    result = import_metadata(str(tmp_path / "in.csv"), tmp_path / "out.parquet")
    assert result.examples == {"nsfw_unknown": "in.csv line 3: dubious"}

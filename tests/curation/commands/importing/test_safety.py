"""What tables say of safety: every known column and value is understood, and what is not is as good as unsafe."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curation.commands.importing.convert import import_metadata
from curation.commands.importing.names import is_safety
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

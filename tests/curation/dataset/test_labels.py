from pathlib import Path

import pytest

from curation.dataset.labels import Label, Retraction, line_of, parse_lines, read_labels, standing
from curation.errors import UsageError

NOON = "2026-01-01T12:00:00+00:00"


def label(uid: str, said: str, reviewer: str = "ana", time: str = NOON) -> Label:
    return Label(uid, said, reviewer, time, "near-limit", 0.25)


def test_entries_come_back_as_they_were_written() -> None:
    entries: list[Label | Retraction] = [
        label("a", "single"),
        Retraction(label("a", "single").id, "ana", NOON),
        label("b", "drawn", "ünal"),
    ]
    assert parse_lines([line_of(entry) for entry in entries]) == entries


def test_of_one_reviewer_the_last_label_counts_and_of_several_each() -> None:
    said = [label("a", "single"), label("a", "drawn"), label("a", "single", "bo")]
    assert [(one.reviewer, one.label) for one in standing(said)] == [("ana", "drawn"), ("bo", "single")]


def test_what_is_taken_back_uncovers_the_label_before_it_and_is_nobody_elses() -> None:
    first, second = label("a", "single"), label("a", "drawn")
    assert standing([first, second, Retraction(second.id, "ana", NOON)]) == [first]
    assert standing([first, Retraction(first.id, "bo", NOON)]) == [first]
    assert standing([first, Retraction(first.id, "ana", NOON)]) == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "line 2: no label"),
        ('{"uid": "a", "label": "Single!", "reviewer": "x", "time": "t"}', "Single!"),
        ('{"uid": "a", "label": "single", "reviewer": "", "time": "t"}', "reviewer"),
        ('{"uid": "a", "label": "single", "reviewer": "x", "time": "t", "probability": 0}', "probability"),
        ('{"uid": "a", "label": "single", "reviewer": "x", "time": "t", "colour": 1}', "colour"),
        (line_of(label("a", "single")).replace("single", "drawn").strip(), "was edited"),
        ("[]", "no label"),
        ('{"uid": 5, "label": "single", "reviewer": "x", "time": "t"}', "uid 5"),
        ('{"uid": "a", "label": "single", "reviewer": "x", "time": "t", "probability": 1e-320}', "probability"),
    ],
)
def test_a_line_that_is_no_label_is_named(tmp_path: Path, line: str, fault: str) -> None:
    (tmp_path / "labels.jsonl").write_text(line_of(label("b", "single")) + line + "\n")
    with pytest.raises(UsageError, match="line 2") as told:
        read_labels(tmp_path / "labels.jsonl")
    assert fault in str(told.value)

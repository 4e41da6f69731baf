from pathlib import Path

import pytest

from curation.dataset.labels import Label, Retraction, line_of, parse_lines, read_labels, standing
from curation.errors import UsageError

A, B = "a" * 32, "0b" * 16
NOON = "2026-01-01T12:00:00+00:00"


def label(uid: str, said: str, reviewer: str = "ana", time: str = NOON) -> Label:
    return Label(uid, said, reviewer, time, "near-limit", 0.25)


def test_entries_come_back_as_they_were_written() -> None:
    entries: list[Label | Retraction] = [
        label(A, "single"),
        Retraction(label(A, "single").id, "ana", NOON),
        label(B, "drawn", "ünal"),
    ]
    assert parse_lines([line_of(entry) for entry in entries]) == entries


def test_of_one_reviewer_the_last_label_counts_and_of_several_each() -> None:
    said = [label(A, "single"), label(A, "drawn"), label(A, "single", "bo")]
    assert [(one.reviewer, one.label) for one in standing(said)] == [("ana", "drawn"), ("bo", "single")]


def test_what_is_taken_back_uncovers_the_label_before_it_and_is_nobody_elses() -> None:
    first, second = label(A, "single"), label(A, "drawn")
    assert standing([first, second, Retraction(second.id, "ana", NOON)]) == [first]
    assert standing([first, Retraction(first.id, "bo", NOON)]) == [first]
    assert standing([first, Retraction(first.id, "ana", NOON)]) == []


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "line 2: no label"),
        (f'{{"uid": "{A}", "label": "Single!", "reviewer": "x", "time": "t"}}', "Single!"),
        (f'{{"uid": "{A}", "label": "single", "reviewer": "", "time": "t"}}', "reviewer"),
        (f'{{"uid": "{A}", "label": "single", "reviewer": "x", "time": "t", "probability": 0}}', "probability"),
        (f'{{"uid": "{A}", "label": "single", "reviewer": "x", "time": "t", "colour": 1}}', "colour"),
        (line_of(label(A, "single")).replace("single", "drawn").strip(), "was edited"),
        ("[]", "a JSON object is wanted"),
        (f'{{"uid": "{A}", "label": "single", "reviewer": "x"}}', "the field 'time' is missing; a label has uid"),
        ('{"uid": 5, "label": "single", "reviewer": "x", "time": "t"}', "uid 5"),
        (f'{{"uid": "{A[:8]}", "label": "single", "reviewer": "x", "time": "t"}}', "'aaaaaaaa' of a label: 32 hex"),
        (
            f'{{"uid": "{A.upper()}", "label": "single", "reviewer": "x", "time": "t"}}',
            "in small letters",
        ),
        (f'{{"uid": "{A * 2}", "label": "single", "reviewer": "x", "time": "t"}}', "32 hex digits"),
        (f'{{"uid": "{A}", "label": "single", "reviewer": "x", "time": "t", "probability": 1e-320}}', "probability"),
    ],
)
def test_a_line_that_is_no_label_is_named(tmp_path: Path, line: str, fault: str) -> None:
    (tmp_path / "labels.jsonl").write_text(line_of(label(B, "single")) + line + "\n")
    with pytest.raises(UsageError, match="line 2") as told:
        read_labels(tmp_path / "labels.jsonl")
    assert fault in str(told.value)

"""FaceSim, copy-paste and the margin to strangers, on vectors whose angles are known."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cosine
from scipy.stats import mannwhitneyu

from facemakeup.evaluation.copy_paste import copy_paste, copy_paste_score, stranger_margin
from facemakeup.evaluation.estimate import Failure
from facemakeup.evaluation.face_similarity import SHARED, Calibration, calibrate, face_similarity

NOBODY = Failure("no_face")
UNKNOWN = Calibration(None, 0, None, 0, None)


def at(degrees: float) -> np.ndarray:
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees)), 0.0])


def test_facesim_tells_three_numbers_where_faces_are_not_found() -> None:
    faces: list[Any] = [at(0), at(60), NOBODY, NOBODY, Failure("missing")]
    score = face_similarity("std", list("abcde"), faces, [at(0)] * 5, UNKNOWN, shares_conditioning=False)
    assert score.value == pytest.approx(75.0)  # the reference reports this alone
    assert score.details["detection_rate"] == 0.5
    assert score.details["mean_failures_as_zero"] == pytest.approx(37.5)
    assert score.failures == {"missing": 1, "no_face": 2}


def test_facesim_agrees_with_scipy_whatever_the_lengths() -> None:
    draw = np.random.default_rng(0)
    ours, theirs = draw.normal(size=(9, 16)), draw.normal(size=(9, 16)) * 7
    expected = np.mean([100 * (1 - cosine(one, other)) for one, other in zip(ours, theirs, strict=True)])
    score = face_similarity("std", list("abcdefghi"), list(ours), list(theirs), UNKNOWN, shares_conditioning=False)
    assert score.value == pytest.approx(expected, rel=1e-12)


def test_a_judge_that_also_conditions_is_flagged() -> None:
    for is_shared, said in ((True, (SHARED,)), (False, ())):
        assert face_similarity("std", ["a"], [at(0)], [at(0)], UNKNOWN, is_shared).warnings == said


def test_a_recognisers_own_means_are_over_all_pairs() -> None:
    draw = np.random.default_rng(3)
    centres = draw.normal(size=(6, 8))
    rows, who = np.repeat(centres, 3, axis=0) + draw.normal(0, 0.8, size=(18, 8)), [i // 3 for i in range(18)]
    same: list[float] = []
    different: list[float] = []
    for i in range(18):
        for j in range(i):
            (same if who[i] == who[j] else different).append(100 * (1 - cosine(rows[i], rows[j])))
    own = calibrate(rows, [str(name) for name in who])
    assert (own.num_same, own.num_different) == (len(same), len(different)) == (18, 135)
    assert own.same == pytest.approx(np.mean(same)) and own.different == pytest.approx(np.mean(different))
    statistic = mannwhitneyu(same, different).statistic
    assert own.separation == pytest.approx(statistic / 18 / 135)


def test_people_with_one_photo_each_leave_the_same_person_open() -> None:
    own = calibrate(np.stack([at(0), at(90)]), ["a", "b"])
    assert own.same is None and own.separation is None
    assert own.different == pytest.approx(0.0)


def test_copy_paste_is_one_for_the_reference_and_minus_one_for_the_other_photo() -> None:
    reference, other = at(0), at(40)
    assert copy_paste(reference, other, reference) == pytest.approx(1.0)
    assert copy_paste(other, other, reference) == pytest.approx(-1.0)
    assert copy_paste(at(20), other, reference) == pytest.approx(0.0, abs=1e-9)
    assert copy_paste(at(10), other, reference) == pytest.approx(0.5)
    assert copy_paste(at(-30), other, reference) == pytest.approx(1.0)


@settings(max_examples=40)
@given(st.lists(st.floats(-3, 3), min_size=9, max_size=9).map(lambda values: np.array(values).reshape(3, 3)))
def test_copy_paste_never_leaves_its_range_and_turns_with_its_photos(rows: np.ndarray) -> None:
    if (np.linalg.norm(rows, axis=1) < 1e-3).any():
        return
    generated, other, reference = rows
    value, turned = copy_paste(generated, other, reference), copy_paste(generated, reference, other)
    assert (value is None) == (turned is None)
    if value is not None and turned is not None:
        assert -1 <= value <= 1
        assert value == pytest.approx(-turned, abs=1e-6)


def test_copy_paste_without_another_photo_is_a_failure_that_compat_calls_zero() -> None:
    made: list[Any] = [at(5), at(5)]
    others: list[Any] = [at(0), Failure("no_other_photo")]
    std = copy_paste_score("std", ["a", "b"], made, others, [at(0), at(0)])
    assert std.failures == {"no_other_photo": 1, "other_photo_is_the_reference": 1} and std.value is None
    assert copy_paste_score("compat", ["a", "b"], made, others, [at(0), at(0)]).value == 0.0


def test_a_face_nearer_to_somebody_else_is_not_identified() -> None:
    gallery, names = np.stack([at(0), at(90)]), ["a", "b"]
    score = stranger_margin(["a", "a", "a"], [at(10), at(80), NOBODY], [at(0)] * 3, gallery, names)
    assert score.details["identified"] == 0.5
    expected = 50 * sum(np.cos(np.radians(a)) - np.cos(np.radians(b)) for a, b in ((10, 80), (80, 10)))
    assert score.value == pytest.approx(expected, abs=1e-9)
    assert score.failures == {"no_face": 1}

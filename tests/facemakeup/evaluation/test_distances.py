"""FID and KID against other ways to compute them."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from facemakeup.evaluation.columns import MAKERS, Background, JudgedPicture
from facemakeup.evaluation.estimate import Failure, number_people
from facemakeup.evaluation.frechet import fid, frechet_distance
from facemakeup.evaluation.kernel import discrepancy_of_people, kid, squared_discrepancy
from facemakeup.evaluation.panel import Panel


def sets(num: int, other: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(num * 1000 + width)
    mix = draw.normal(size=(width, width)) / np.sqrt(width)
    return draw.normal(size=(num, width)) @ mix, draw.normal(0.3, 1.2, size=(other, width)) @ mix


def by_scipy(one: np.ndarray, other: np.ndarray) -> float:
    covariance, other_covariance = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    root = sqrtm(covariance @ other_covariance)
    gap = one.mean(axis=0) - other.mean(axis=0)
    return float(gap @ gap + np.trace(covariance + other_covariance - 2 * root.real))


@pytest.mark.parametrize(("num", "other", "width"), [(300, 250, 24), (60, 40, 32)])
def test_fid_agrees_with_the_matrix_root_of_scipy(num: int, other: int, width: int) -> None:
    one, two = sets(num, other, width)
    assert frechet_distance(one, two) == pytest.approx(by_scipy(one, two), rel=1e-6)


def test_with_fewer_pictures_than_features_fid_agrees_with_the_eigenvalues_of_the_product() -> None:
    one, two = sets(20, 30, 64)
    product = np.cov(one, rowvar=False) @ np.cov(two, rowvar=False)
    trace_of_root = np.sqrt(np.clip(np.linalg.eigvals(product).real, 0, None)).sum()
    gap = one.mean(axis=0) - two.mean(axis=0)
    traces = np.trace(np.cov(one, rowvar=False)) + np.trace(np.cov(two, rowvar=False))
    assert frechet_distance(one, two) == pytest.approx(gap @ gap + traces - 2 * trace_of_root, rel=1e-6)


def test_fid_is_nothing_for_one_set_and_the_same_both_ways() -> None:
    one, two = sets(20, 30, 64)
    assert frechet_distance(one, one) == pytest.approx(0, abs=1e-9)
    interval = fid("std", [str(i) for i in range(20)], one, one, 0).interval
    assert interval is not None and interval[0] == 0 < interval[1]
    assert frechet_distance(one, two) == pytest.approx(frechet_distance(two, one), rel=1e-9)


def test_fid_of_gaussians_far_apart_is_the_gap_of_their_means() -> None:
    one, _ = sets(50, 50, 8)
    assert frechet_distance(one, one + 3.0) == pytest.approx(8 * 9.0, rel=1e-9)


def test_kid_agrees_with_its_definition_pair_by_pair() -> None:
    one, two = sets(7, 9, 5)

    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float((x @ y / 5 + 1) ** 3)

    within = sum(kernel(one[i], one[j]) for i in range(7) for j in range(7) if i != j) / 42
    other = sum(kernel(two[i], two[j]) for i in range(9) for j in range(9) if i != j) / 72
    across = sum(kernel(x, y) for x in one for y in two) / 63
    assert squared_discrepancy(one, two) == pytest.approx(within + other - 2 * across, rel=1e-10)


def test_kid_of_people_drawn_anew_is_that_of_their_pictures_repeated() -> None:
    one, two = sets(11, 9, 5)
    people = number_people(list("aabcbcaddda"))
    discrepancy = discrepancy_of_people(people, one, two)
    for times in ([1, 1, 1, 1], [2, 0, 3, 1], [0, 0, 0, 4]):
        rows = np.repeat(np.arange(11), np.array(times)[people])
        assert discrepancy(np.array(times)) == pytest.approx(squared_discrepancy(one[rows], two), rel=1e-9)


def test_kid_of_two_halves_of_one_set_is_about_nothing_and_of_others_is_not() -> None:
    one, two = sets(120, 60, 6)
    same = kid("std", [str(i) for i in range(60)], one[:60], one[60:], 0)
    other = kid("std", [str(i) for i in range(60)], one[:60], two + 1, 0)
    assert same.interval is not None and same.interval[0] < 0 < same.interval[1]
    assert other.interval is not None and other.interval[0] > 0


def test_both_say_how_few_pictures_they_stand_on_and_how_many_failed() -> None:
    one, two = sets(20, 30, 8)
    people = [str(i // 2) for i in range(20)]
    for score in (fid("std", people, one, two, 3), kid("std", people, one, two, 3)):
        assert (score.num, score.num_identities, score.failures) == (20, 10, {"no_features": 3})
        assert score.details["num_references"] == 30
        assert "N = 20 against 30" in score.warnings[0]
        assert score.value is not None and score.interval is not None
        assert score.interval[0] <= score.value <= score.interval[1]


def test_enough_pictures_need_no_warning() -> None:
    draw = np.random.default_rng(0)
    one, two = draw.normal(size=(2048, 3)), draw.normal(size=(2048, 3))
    assert fid("std", ["a"] * 2048, one, two, 0).warnings == ()
    assert fid("std", ["a"] * 2047, one[1:], two, 0).warnings != ()


@pytest.mark.parametrize("rows", [np.zeros((1, 3)), np.full((4, 3), np.nan), np.zeros(3)])
def test_features_that_give_no_distance_are_refused(rows: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite features"):
        frechet_distance(rows, np.zeros((4, 3)))


def test_too_few_pictures_for_a_distance_are_told_in_its_column() -> None:
    measured = {"inception/std": np.zeros(8), "inception/compat": np.zeros(8)}
    pictures = [JudgedPicture(f"person {n}", "", measured, measured, Failure("no_other_photo")) for n in range(3)]
    background = Background({f"photo {n}": measured for n in range(5)}, {}, {})
    cells = dict(MAKERS["fid_inception"](pictures, background, Panel()))
    assert cells.keys() == {"FID", "KID", "FID (compat)"}
    for score in cells.values():
        assert (score.value, score.failures) == (None, {"too_few": 3})
        assert score.warnings == ("3 pictures and 5 references; a distance takes 4 of each",)

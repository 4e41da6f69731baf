import numpy as np
import pytest

from facemakeup.evaluation.estimate import (
    Failure,
    Metric,
    Value,
    mean_interval,
    mean_score,
    number_people,
    paired_difference,
    spread_interval,
)

METRIC = Metric("any", 0.0, 1.0, "higher")


def test_a_mean_stands_on_what_was_scored_and_names_every_failure() -> None:
    values: list[Value] = [1.0, Failure("no_face"), 3.0, Failure("missing"), Failure("no_face")]
    score = mean_score(METRIC, "std", ["a", "a", "b", "b", "c"], values)
    assert (score.value, score.num, score.num_identities) == (2.0, 2, 2)
    assert score.failures == {"missing": 1, "no_face": 2}
    assert score.num + sum(score.failures.values()) == len(values)


def test_a_score_of_nothing_has_no_value_and_no_interval() -> None:
    score = mean_score(METRIC, "std", ["a"], [Failure("missing")])
    assert (score.value, score.interval, score.num) == (None, None, 0)


def test_a_value_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        mean_score(METRIC, "std", ["a"], [float("nan")])


def test_more_pictures_of_the_same_people_make_a_mean_no_surer() -> None:
    once = np.random.default_rng(1).normal(size=30)
    people = [str(i) for i in range(30)]
    wide = mean_interval(people, once)
    again = mean_interval(people * 20, np.tile(once, 20))
    as_if_alone = mean_interval([str(i) for i in range(600)], np.tile(once, 20))
    assert wide is not None and again is not None and as_if_alone is not None
    assert np.allclose(wide, again)
    assert as_if_alone[1] - as_if_alone[0] < (wide[1] - wide[0]) / 3


def test_the_interval_of_a_mean_covers_the_truth_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(2)
    people = [str(i) for i in range(40)]
    inside = 0
    for _ in range(60):
        interval = mean_interval(people, draw.normal(size=40))
        assert interval is not None
        inside += interval[0] <= 0 <= interval[1]
    assert 50 <= inside <= 60


def test_one_person_gives_no_interval() -> None:
    assert mean_interval(["a", "a"], np.array([1.0, 2.0])) is None
    assert spread_interval(METRIC, 0.0, number_people(["a", "a"]), lambda times: 0.0, 5) is None


def test_a_paired_difference_is_over_what_both_could_score() -> None:
    ours: list[Value] = [2.0, 5.0, Failure("no_face"), 4.0]
    theirs: list[Value] = [1.0, Failure("no_face"), 3.0, 1.0]
    found = paired_difference(ours, theirs, ["a", "b", "c", "d"])
    assert found is not None and found[0] == 2.0 and found[2] == 2
    assert paired_difference([Failure("missing")], [1.0], ["a"]) is None

"""What is counted from logits, replies and traits."""

import numpy as np
import pytest

from facemakeup.evaluation.attributes import attribute_count, attribute_f1, f1, num_sure
from facemakeup.evaluation.estimate import Failure
from facemakeup.evaluation.traits import Traits, trait_agreement
from facemakeup.evaluation.vlm import UNPARSED, read_reply, vlm_score


def logits(*present: float) -> np.ndarray:
    row = np.full(40, -9.0)
    row[: len(present)] = present
    return row


def test_an_attribute_counts_strictly_above_the_line() -> None:
    edge = np.log(0.85 / 0.15)
    assert num_sure(logits(edge - 1e-6, edge + 1e-6, 9)) == 2
    score = attribute_count(["a", "b", "c"], [logits(9, 9, 9), logits(9), Failure("missing")])
    assert (score.value, score.variant, score.failures) == (2.0, "compat", {"missing": 1})


def test_attributes_agree_by_f1_over_those_that_either_has() -> None:
    ours, theirs = logits(1, 1, 1, -1), logits(1, -1, 1, 1)
    precision = recall = 2 / 3
    assert f1(ours, theirs) == pytest.approx(2 * precision * recall / (precision + recall))
    assert f1(logits(), logits()) == 1.0
    assert attribute_f1(["a", "b"], [ours, ours], [theirs, Failure("no_face")]).failures == {"no_face": 1}


def test_another_number_of_attributes_is_refused() -> None:
    with pytest.raises(ValueError, match="40 attributes"):
        num_sure(np.zeros(39))


@pytest.mark.parametrize(
    ("reply", "compat", "std"),
    [
        ('{"score": 85}', 85, 85),
        (' {"score":0}\n', 0, 0),
        ('```json\n{"score": 70}\n```', None, 70),
        ('I would say {"score": 64} because of the skin.', None, 64),
        ('{"reason": "soft"} {"score": 12}', None, 12),
        ('{"score": 101}', None, None),
        ('{"score": -1}', None, None),
        ('{"score": 85.5}', None, None),
        ('{"score": "85"}', None, None),
        ('{"score": true}', None, None),
        ('{"score": 1e400}', None, None),
        ('[85]', None, None),
        ("85", None, None),
        ("{{{{", None, None),
        ("", None, None),
    ],
)  # fmt: skip
def test_replies_are_read_strictly_or_from_within_prose(reply: str, compat: int | None, std: int | None) -> None:
    for variant, expected in (("compat", compat), ("std", std)):
        found = read_reply(reply, variant)  # type: ignore[arg-type]
        assert found == (Failure(UNPARSED) if expected is None else expected)


def test_a_vlm_score_counts_what_it_could_not_read() -> None:
    replies = ['{"score": 80}', 'well, {"score": 60}', "no", Failure("missing")]
    strict, tolerant = (vlm_score(variant, list("abcd"), replies) for variant in ("compat", "std"))  # type: ignore[arg-type]
    assert (strict.value, strict.details["num_parsed"], strict.details["num_unparsed"]) == (80.0, 1.0, 2.0)
    assert tolerant.value == 70.0 and tolerant.details["parse_rate"] == pytest.approx(2 / 3)
    assert strict.failures == {"missing": 1, "unparsed": 2}


def test_traits_agree_one_by_one_and_what_is_not_said_has_no_score() -> None:
    ours: list[Traits | Failure] = [Traits(30, "male"), Traits(50, "female"), Failure("no_face")]
    scores = trait_agreement(["a", "b", "c"], ours, [Traits(33, "male")] * 3)
    assert [score.metric.name for score in scores] == ["Age gap, years", "Same gender"]
    assert [score.value for score in scores] == [10.0, 0.5]
    assert all(score.failures == {"no_face": 1} for score in scores)

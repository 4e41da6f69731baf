"""A head of one's own is asked alone; where none is, the features are what is wanted."""

import pytest
from pydantic import ValidationError

from filters import taught
from filters.taught import TaughtEvidence
from filters.weights import WeightsError
from tests.filters.marks import with_efficientnet


def test_a_filter_that_asks_nothing_is_refused_and_even_odds_are_a_half() -> None:
    with pytest.raises(ValidationError, match="name the file that `teach` wrote"):
        taught.Measure()
    assert taught.weights(taught.Measure(stores_features=True)) == ("efficientnet_lite0",)
    assert taught.scores(TaughtEvidence(0.0, ()), taught.Score()) == {"logit": 0.0, "probability": 0.5}


@with_efficientnet
def test_a_file_of_several_heads_does_not_say_which_is_meant() -> None:
    with pytest.raises(WeightsError, match="one head is wanted; it has drawn, nonhuman"):
        taught.build(taught.Measure(heads="drawn_heads"), "cpu")

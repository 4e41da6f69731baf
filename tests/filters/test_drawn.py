import pytest

from filters import drawn
from filters.base import RgbImage
from filters.drawn import DrawnEvidence
from tests.filters.marks import astronaut, gold, with_classifier, with_gold
from tests.pictures import noise


def measured(image: RgbImage) -> DrawnEvidence:
    evidence: DrawnEvidence = drawn.build(drawn.Measure(), "cpu").measure([image])[0]
    return evidence


def test_the_score_is_the_evidence() -> None:
    assert drawn.scores(DrawnEvidence(0.25), drawn.Score()) == {"drawn_probability": 0.25}


@with_classifier
def test_a_photo_is_not_drawn() -> None:
    assert measured(astronaut()).probability < 0.1


@with_classifier
@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 3)])
def test_odd_shapes_give_a_probability(shape: tuple[int, int]) -> None:
    assert 0 <= measured(noise(2, shape[1], shape[0])).probability <= 1


@with_classifier
@with_gold
@pytest.mark.parametrize("file", ["anime/tha2_waifu_00.png", "anime/qhgz_sample2.png"])
def test_anime_is_drawn(file: str) -> None:
    assert measured(gold(file)).probability > 0.9

from collections.abc import Sequence

import pytest

from benchmarks.speed.sizes import CHOSEN, row
from benchmarks.verdicts.looks import Look, Variant
from benchmarks.verdicts.margins import nearest_anime
from filters.anime import AnimeEvidence
from filters.detectors.base import Face
from filters.detectors.lbp_cascade import Hit
from filters.faces import FacesEvidence

ANIME = Variant("anime", {"view_side": 320})
LARGE, SMALL = 60.0, 30.0


def drawn(label: str, *windows: tuple[float, int], ratio: float = 4.0) -> Look:
    """A picture whose hits have these sides in the view and this many windows."""
    hits = tuple(Hit(0, 0, side, side, side, count, ratio) for side, count in windows)
    return Look(f"{label}/{windows}", label, "", AnimeEvidence(100, 100, hits), cpu_ms=2.0)


def faces(label: str, *confidences: float) -> Look:
    """A picture with faces of equal size, this sure."""
    landmarks = (2.0, 2.0, 4.0, 2.0, 3.0, 3.0, 2.0, 4.0, 4.0, 4.0)
    found = tuple(Face(20.0 * i, 0, 20.0 * i + 10, 10, sure, landmarks) for i, sure in enumerate(confidences))
    return Look(f"{label}/{confidences}", label, "", FacesEvidence(100, 100, found), cpu_ms=2.0)


@pytest.fixture
def gap() -> list[Look]:
    """Portraits with at most 10 windows at large hits and 3 at small ones; drawings from 16 and from 6."""
    return [
        drawn("single", (LARGE, 10)),
        drawn("single", (SMALL, 3)),
        drawn("single", (LARGE, 60), ratio=1.5),
        drawn("anime", (LARGE, 16)),
        drawn("anime", (SMALL, 6)),
        drawn("anime", (LARGE, 40), (SMALL, 4)),
    ]


def test_both_thresholds_of_anime_get_the_range_that_tells_portraits_and_drawings_apart(gap: Sequence[Look]) -> None:
    found = row(ANIME, gap, gap)
    assert found["wrong"] == []
    assert found["best_thresholds"] == {"min_neighbours": [11, 16], "min_neighbours_small": [4, 6]}
    assert found["middle"] == {"min_neighbours": 13, "min_neighbours_small": 5}


def test_a_range_ends_where_the_verdicts_change_even_if_they_come_right_again() -> None:
    looks = [
        drawn("single", (LARGE, 10)),
        drawn("single", (LARGE, 20)),
        drawn("anime", (LARGE, 15)),
        drawn("anime", (LARGE, 50)),
    ]
    found = row(ANIME, looks, looks)
    assert len(found["wrong"]) == 1
    assert found["best_thresholds"]["min_neighbours"] == [21, 50]


def test_what_no_threshold_tells_is_wrong_at_all_of_them(gap: Sequence[Look]) -> None:
    looks = [*gap, drawn("anime")]
    found = row(ANIME, looks, looks)
    assert found["wrong"] == ["anime/()"]
    assert found["right"]["anime"][:2] == [3, 4]
    assert found["best_thresholds"] == {"min_neighbours": [11, 16], "min_neighbours_small": [4, 6]}


def test_agreement_is_held_against_the_chosen_thresholds_of_the_reference(gap: Sequence[Look]) -> None:
    found = row(ANIME, gap, gap)
    assert CHOSEN["anime"] == {"min_neighbours": 22, "min_neighbours_small": 22}
    assert found["agree"][:2] == [4, 6], "the reference keeps the two drawings of fewer windows"


def test_a_drawing_that_both_sizes_of_hit_tell_is_nearest_to_neither_threshold(gap: Sequence[Look]) -> None:
    twice = drawn("anime", (LARGE, 14), (SMALL, 5))
    found = nearest_anime([*gap, twice, drawn("group", (LARGE, 9))], {"min_neighbours": 13, "min_neighbours_small": 5})
    assert found["anime_windows"] == {"large": [16, 40], "small": [6]}
    assert found["photo_windows"]["large"] == {"group": [9], "single": [10, 0, 0]}
    assert found["photo_windows"]["small"] == {"group": [0], "single": [3, 0, 0]}


def test_faces_have_one_threshold_with_one_range() -> None:
    looks = [faces("single", 0.8, 0.4), faces("group", 0.9, 0.7), faces("noface", 0.5)]
    found = row(Variant("faces", {"side": 384}), looks, looks)
    assert found["wrong"] == []
    assert found["best_thresholds"] == {"confidence": [0.51, 0.7]}
    assert found["middle"] == {"confidence": 0.6}

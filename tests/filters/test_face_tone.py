"""The light and the hue of a face's pixels: what CIELAB says of plain colours, and nothing of the background."""

import numpy as np
import pytest

from filters import face_tone
from filters.base import RgbImage
from filters.detectors.base import Face
from filters.face_tone import tone_of

FACE = Face(40, 30, 120, 140, 0.9, (60.0, 70.0, 100.0, 70.0, 80.0, 90.0, 65.0, 115.0, 95.0, 115.0))


def plain(colour: tuple[int, int, int], around: tuple[int, int, int] = (0, 0, 255)) -> RgbImage:
    image = np.full((180, 160, 3), around, np.uint8)
    image[30:140, 40:120] = colour
    return image


@pytest.mark.parametrize(
    ("colour", "lightness", "chroma", "hue_deg"),
    [((255, 0, 0), 53.24, 104.55, 40.0), ((255, 255, 0), 97.14, 96.91, 102.85), ((119, 119, 119), 50.03, 0.0, None)],
)
def test_plain_colours_have_the_tone_that_cielab_gives_them(
    colour: tuple[int, int, int], lightness: float, chroma: float, hue_deg: float | None
) -> None:
    tone = tone_of(plain(colour), FACE)
    assert (tone.lightness, tone.chroma) == pytest.approx((lightness, chroma), abs=0.3)
    assert hue_deg is None or tone.hue_deg == pytest.approx(hue_deg, abs=0.3)
    assert tone == tone_of(plain(colour, around=(0, 255, 0)), FACE)


def test_no_face_has_no_tone() -> None:
    from filters.faces import EVIDENCE

    evidence = EVIDENCE(160, 180, ())
    (tone,) = face_tone.build(face_tone.Measure(), "cpu").measure([plain((9, 9, 9))], [evidence])  # type: ignore[call-arg]
    assert face_tone.scores(tone, face_tone.Score()) == {"lightness": 0, "chroma": 0, "hue_deg": 0}

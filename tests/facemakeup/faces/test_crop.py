import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from facemakeup.data.prepare import View
from facemakeup.faces.crop import Size, Window, aspect_buckets, face_window, full_window, nearest_bucket
from facemakeup.train_config import CropSettings
from filters.boxes import Box

SIDES = st.integers(16, 4000)
SQUARE = Size(512, 512)


@st.composite
def pictures_with_faces(draw: st.DrawFn) -> tuple[int, int, Box]:
    width, height = draw(SIDES), draw(SIDES)
    left, top = draw(st.floats(0, width - 8)), draw(st.floats(0, height - 8))
    right, bottom = draw(st.floats(left + 4, width)), draw(st.floats(top + 4, height))
    return width, height, (left, top, right, bottom)


def inside(window: Window, width: int, height: int) -> bool:
    left, top, right, bottom = window.box
    return 0 <= left < right <= width and 0 <= top < bottom <= height


@given(pictures_with_faces(), st.floats(1.0, 4.0))
def test_a_window_lies_in_the_picture_is_square_and_never_larger_than_asked(
    picture: tuple[int, int, Box], factor: float
) -> None:
    width, height, face = picture
    window = face_window(face, width, height, factor, SQUARE)
    side = factor * max(face[2] - face[0], face[3] - face[1])
    assert inside(window, width, height)
    assert abs(window.width - window.height) <= 1
    assert window.width <= side + 1


@given(pictures_with_faces(), st.floats(1.0, 4.0))
def test_where_there_is_room_the_window_has_the_factor_and_the_face_in_its_middle(
    picture: tuple[int, int, Box], factor: float
) -> None:
    width, height, face = picture
    side = factor * max(face[2] - face[0], face[3] - face[1])
    middle = ((face[0] + face[2]) / 2, (face[1] + face[3]) / 2)
    room = min(middle[0], width - middle[0], middle[1], height - middle[1])
    window = face_window(face, width, height, factor, SQUARE)
    if room > side / 2 + 1:
        assert abs(window.width - side) <= 1
        assert abs(window.left + window.width / 2 - middle[0]) <= 1
        assert abs(window.top + window.height / 2 - middle[1]) <= 1


@given(pictures_with_faces())
def test_a_clamped_window_still_holds_the_middle_of_the_face(picture: tuple[int, int, Box]) -> None:
    width, height, face = picture
    left, top, right, bottom = face_window(face, width, height, 1.5, SQUARE).box
    assert left - 1 <= (face[0] + face[2]) / 2 <= right + 1
    assert top - 1 <= (face[1] + face[3]) / 2 <= bottom + 1


@given(SIDES, SIDES, st.integers(64, 1024), st.floats(1.0, 4.0))
def test_the_bucket_of_a_picture_costs_it_as_little_as_any_and_the_window_has_its_shape(
    width: int, height: int, side: int, max_aspect: float
) -> None:
    buckets = aspect_buckets(side, max_aspect, 32)
    assume(buckets)
    assert all(b.width % 32 == b.height % 32 == 0 and b.width * b.height <= side * side for b in buckets)
    assert all(max(b.width / b.height, b.height / b.width) <= max_aspect for b in buckets)
    chosen = buckets[nearest_bucket(width, height, buckets)]
    kept = [full_window(width, height, bucket) for bucket in buckets]
    window = full_window(width, height, chosen)
    assert inside(window, width, height) and all(inside(one, width, height) for one in kept)
    assert window.width in (width, round(chosen.width * height / chosen.height)) or window.height == height
    best = max(one.width * one.height for one in kept)
    assert window.width * window.height >= best - width - height


def test_the_square_is_a_bucket_whenever_its_side_is_a_multiple() -> None:
    assert Size(512, 512) in aspect_buckets(512, 2.0, 64)


@given(pictures_with_faces(), st.booleans())
def test_the_corners_of_a_window_come_to_the_corners_of_the_target(picture: tuple[int, int, Box], tall: bool) -> None:
    width, height, face = picture
    size = Size(640, 384) if tall else SQUARE
    window = face_window(face, width, height, 1.5, size)
    left, top, right, bottom = window.box
    corners = window.to_target(np.array([[left, top], [right, bottom]], dtype=np.float64), size)
    assert np.allclose(corners, [[0, 0], [size.width, size.height]])


def test_a_mirrored_view_shows_the_mirrored_pixels() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    window = Window(5, 3, 32, 32)
    straight = View(window, Size(32, 32), flipped=False).pixels(rgb)
    mirrored = View(window, Size(32, 32), flipped=True).pixels(rgb)
    assert np.array_equal(straight, rgb[3:35, 5:37])
    assert np.array_equal(mirrored, straight[:, ::-1])


def test_the_published_crop_is_the_default() -> None:
    crop = CropSettings()
    assert (crop.mode, crop.factor, crop.size, crop.flip_probability) == ("face", 1.5, 512, 0.0)

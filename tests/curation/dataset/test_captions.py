import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.dataset.captions import Caption, bind, captions_of, clean_caption

FACE = (100.0, 100.0, 200.0, 200.0)
ALT = Caption("alt text", "laion")


def test_the_caption_whose_box_meets_a_face_is_bound_to_it() -> None:
    near = Caption("the woman", "facecaption", (101.0, 99.0, 199.0, 201.0))
    far = Caption("the man", "facecaption", (300.0, 100.0, 400.0, 200.0))
    binding = bind([far, near, ALT], [(0.0, 0.0, 9.0, 9.0), FACE], (512, 512), (512, 512), 0.5)
    assert binding is not None
    assert (binding.caption, binding.status, binding.face) == (near, "bound", 1)
    assert binding.iou > 0.9


def test_the_box_is_scaled_from_the_crawled_size_to_the_decoded_one() -> None:
    caption = Caption("small copy", "facecaption", (50.0, 50.0, 100.0, 100.0))
    binding = bind([caption], [FACE], (512, 512), (256, 256), 0.5)
    assert binding is not None and (binding.status, binding.iou) == ("bound", 1.0)


@pytest.mark.parametrize(
    ("captions", "faces", "crawled", "status", "text"),
    [
        (
            [Caption("her", "facecaption", (300.0, 300.0, 400.0, 400.0)), ALT],
            [FACE],
            (512, 512),
            "no_match",
            "alt text",
        ),
        ([Caption("her", "facecaption", FACE), ALT], [FACE], (256, 512), "size_mismatch", "alt text"),
        ([Caption("her", "facecaption", FACE), ALT], [], (512, 512), "no_face", "alt text"),
        ([Caption("her", "facecaption"), ALT], [FACE], (512, 512), "no_box", "alt text"),
        ([Caption("her", "facecaption")], [FACE], (512, 512), "no_box", "her"),
    ],
)
def test_without_a_match_the_alt_text_is_taken_and_the_reason_recorded(
    captions: list[Caption],
    faces: list[tuple[float, float, float, float]],
    crawled: tuple[int, int],
    status: str,
    text: str,
) -> None:
    binding = bind(captions, faces, (512, 512), crawled, 0.5)
    assert binding is not None
    assert (binding.status, binding.caption.text, binding.face) == (status, text, None)


def test_no_caption_at_all_binds_nothing() -> None:
    assert bind([], [FACE], (512, 512), (512, 512), 0.5) is None


def test_every_facecaption_row_is_a_caption_and_the_alt_text_the_last() -> None:
    rows = [{"id": "1", "caption": "a", "box": [1, 2, 3, 4]}, {"id": "2", "caption": "b", "box": None}]
    found = captions_of("alt", {"facecaptions": json.dumps(rows)})
    assert found == (
        Caption("a", "facecaption", (1.0, 2.0, 3.0, 4.0)),
        Caption("b", "facecaption"),
        Caption("alt", "laion"),
    )


@pytest.mark.parametrize("value", ["{", "[1]", '[{"caption": 3}]', None, 7, '[{"caption": "  "}]'])
def test_broken_facecaptions_are_no_captions(value: object) -> None:
    assert captions_of(None, {"facecaptions": value}) == ()


@given(st.text(max_size=60), st.integers(1, 40))
def test_a_clean_caption_is_one_encodable_line_and_cleaning_again_changes_nothing(text: str, length: int) -> None:
    clean = clean_caption(text, length)
    assert len(clean) <= length
    assert clean.encode().decode() == clean
    assert "\n" not in clean and "\x00" not in clean
    assert clean_caption(clean, length) == clean


def test_hostile_characters_leave_a_caption() -> None:
    assert clean_caption("a\ud800b\x00c\u202ed\te\u0301", 100) == "a?bcd \u00e9"


@pytest.mark.parametrize(
    ("caption", "metadata", "texts"),
    [
        ("of the .txt", {"caption": "of the .json"}, ["of the .txt"]),
        (None, {"caption": "of the .json", "text": "other"}, ["of the .json"]),
        (" \n", {"Caption": "of the .json"}, ["of the .json"]),
        (None, {"caption": None, "TEXT": "alt text"}, ["alt text"]),
        (None, {"caption": "", "captions": ["a", None, " ", "b"]}, ["a", "b"]),
        (None, {"title": "a title", "alt": "alt text"}, ["alt text"]),
        (None, {"caption": 7, "url": "http://a.org"}, []),
    ],
)
def test_a_caption_is_found_where_the_source_keeps_it(
    caption: str | None, metadata: dict[str, object], texts: list[str]
) -> None:
    assert [found.text for found in captions_of(caption, metadata)] == texts

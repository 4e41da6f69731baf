import math
from dataclasses import replace
from functools import partial
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from curation.recipe.joint_scores import Bounds, FaceOverlapFraction, NumUncontestedHits, TextProminence
from curation.recipe.judge import KEPT, Criterion, KeepRange, NotYet, Screening, Verdict, judge, unsettled
from filters.anime import AnimeEvidence
from filters.detectors.base import Face
from filters.detectors.lbp_cascade import Hit
from filters.faces import FacesEvidence
from filters.text import TextEvidence

UNKNOWN = Bounds(-math.inf, math.inf)


def own(name: str, keep: KeepRange) -> Criterion:
    def bounds(known: Any) -> Bounds:
        return UNKNOWN if known[name] is None else Bounds(known[name], known[name])

    return Criterion(name, "score", keep, (name,), bounds)


A = own("a", KeepRange(min=1, max=2))
B = own("b", KeepRange(max=5))


def test_both_ends_of_a_keep_range_stay() -> None:
    assert judge({"a": 1.0, "b": 5.0}, [A, B]) == judge({"a": 2.0, "b": -9.0}, [A, B]) == KEPT


def test_the_first_failure_in_declared_order_is_named() -> None:
    assert judge({"a": 0.5, "b": 6.0}, [A, B]) == Verdict("a", "score_low")
    assert judge({"a": 0.5, "b": 6.0}, [B, A]) == Verdict("b", "score_high")


def test_a_failure_decides_though_others_have_not_measured() -> None:
    assert judge({"a": None, "b": 6.0}, [A, B]) == Verdict("b", "score_high")


def test_an_open_criterion_names_the_filters_that_must_still_measure() -> None:
    assert judge({"a": None, "b": None}, [A, B]) == NotYet(("a", "b"))
    assert judge({"a": 1.0, "b": None}, [A, B]) == NotYet(("b",))


def test_a_score_that_is_not_a_number_is_never_kept() -> None:
    assert judge({"a": math.nan, "b": 0.0}, [A, B]) == Verdict("a", "score_not_finite")


@pytest.mark.parametrize("values", [{}, {"min": 2, "max": 1}, {"least": 1}])
def test_a_keep_range_that_keeps_nothing_or_everything_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        KeepRange(**values)


@given(st.lists(st.floats(-3, 9), min_size=2, max_size=2), st.permutations(["a", "b"]))
def test_measuring_in_any_order_and_stopping_early_keeps_the_same(values: list[float], order: list[str]) -> None:
    full = dict(zip("ab", values, strict=True))
    known: dict[str, float | None] = {"a": None, "b": None}
    for name in order:
        verdict = judge(known, [A, B])
        if isinstance(verdict, NotYet) and name in verdict.filters:
            known[name] = full[name]
    verdict, final = judge(known, [A, B]), judge(full, [A, B])
    assert isinstance(verdict, Verdict) and isinstance(final, Verdict)
    assert verdict.kept == final.kept


def screened(name: str, keep: KeepRange, *screens: str) -> Criterion:
    """A criterion whose screens see the score with an error of 1, and prove nothing within 2 of it."""

    def prove(screen: str, known: Any) -> Bounds:
        return Bounds(known[screen] - 2, known[screen] + 2)

    screenings = (Screening(screen, (screen,), partial(prove, screen)) for screen in screens)
    return replace(own(name, keep), screens=tuple(screenings))


SCREENED = screened("a", KeepRange(min=1, max=2), "a_screen"), screened("b", KeepRange(max=5), "b_screen", "b_screen_2")
COLUMNS = ("a_screen", "a", "b_screen", "b_screen_2", "b")
ORDERS = [one for one in permutations(COLUMNS) if one.index("a_screen") < one.index("a")]
ORDERS = [one for one in ORDERS if one.index("b_screen") < one.index("b_screen_2") < one.index("b")]


def test_a_screen_is_asked_before_its_filter_and_spares_it_where_it_proves_the_verdict() -> None:
    a, b = SCREENED
    nothing = dict.fromkeys(COLUMNS)
    assert judge(nothing, [b]) == NotYet(("b_screen",))
    assert judge({**nothing, "b_screen": 2.0}, [b]) == KEPT
    assert judge({**nothing, "b_screen": 9.0}, [b]) == Verdict("b", "score_high")
    assert judge({**nothing, "b_screen": 4.0}, [b]) == NotYet(("b_screen_2",))
    assert judge({**nothing, "b_screen": 4.0, "b_screen_2": 6.0}, [b]) == NotYet(("b",))
    assert judge({**nothing, "b_screen": 4.0, "b_screen_2": 6.0, "b": 6.0}, [b]) == Verdict("b", "score_high")
    assert judge({**nothing, "a_screen": 9.0}, [a, b]) == Verdict("a", "score_high")
    assert unsettled({**nothing, "a_screen": 9.0}, [a, b]) == ("b_screen",)


@given(st.lists(st.floats(-3, 9), min_size=5, max_size=5), st.sampled_from(ORDERS), st.sets(st.sampled_from("ab")))
def test_a_verdict_with_screens_does_not_depend_on_how_much_was_measured_or_in_which_order(
    values: list[float], order: tuple[str, ...], before: set[str]
) -> None:
    full = dict(zip(COLUMNS, values, strict=True))
    known: dict[str, float | None] = {name: full[name] if name in before else None for name in COLUMNS}
    for name in order:
        verdict = judge(known, SCREENED)
        if isinstance(verdict, NotYet) and name in verdict.filters:
            known[name] = full[name]
    verdict, final = judge(known, SCREENED), judge(full, SCREENED)
    assert isinstance(verdict, Verdict) and isinstance(final, Verdict)
    assert verdict.kept == final.kept


def face(x1: float, y1: float, x2: float, y2: float, confidence: float = 0.9) -> Face:
    return Face(x1, y1, x2, y2, confidence, (0.0,) * 10)


def faces(*found: Face) -> FacesEvidence:
    return FacesEvidence(100, 100, found)


def anime(*hits: Hit) -> AnimeEvidence:
    return AnimeEvidence(width=100, height=100, hits=hits)


def text(*polygons: tuple[float, ...]) -> TextEvidence:
    return TextEvidence(100, 100, polygons, num_characters=(5,) * len(polygons))


LEFT_HALF = (0.0, 0.0, 50.0, 0.0, 50.0, 100.0, 0.0, 100.0)


def test_text_over_the_largest_face_is_the_share_of_its_box_that_is_covered() -> None:
    score = FaceOverlapFraction()
    both = {"text": text(LEFT_HALF, LEFT_HALF), "faces": faces(face(0, 0, 10, 10), face(25, 0, 75, 50))}
    assert score.bounds(both) == Bounds(0.5, 0.5)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"text": None, "faces": None}, Bounds(0, 1)),
        ({"text": text(), "faces": None}, Bounds(0, 0)),
        ({"text": text(LEFT_HALF), "faces": None}, Bounds(0, 1)),
        ({"text": None, "faces": faces()}, Bounds(0, 0)),
        ({"text": text(LEFT_HALF), "faces": faces(face(0, 0, 9, 9, confidence=0.2))}, Bounds(0, 0)),
        ({"text": None, "faces": faces(face(0, 0, 9, 9))}, Bounds(0, 1)),
    ],
)
def test_one_evidence_alone_can_settle_the_overlap(known: dict[str, Any], expected: Bounds) -> None:
    assert FaceOverlapFraction().bounds(known) == expected


def across(left: float, top: float, right: float, bottom: float) -> tuple[float, ...]:
    return (left, top, right, top, right, bottom, left, bottom)


FACE_AS_TEXT = across(30, 25, 70, 65)


def test_a_face_that_is_read_as_text_is_neither_prominent_nor_across_itself_but_a_line_over_it_is_both() -> None:
    seen = faces(face(25, 20, 75, 70))
    read_as_text, line = ({"text": text(region), "faces": seen} for region in (FACE_AS_TEXT, across(5, 40, 95, 48)))
    overlap = FaceOverlapFraction(face_height=0.35)
    assert TextProminence().bounds(read_as_text) == overlap.bounds(read_as_text) == Bounds(0, 0)
    for score, value in ((TextProminence(), 0.9), (overlap, 0.16)):
        bounds = score.bounds(line)
        assert (bounds.low, bounds.high) == pytest.approx((value, value))
    assert FaceOverlapFraction().bounds(read_as_text).low == pytest.approx(0.64)


def test_a_parameter_that_came_later_is_told_only_where_it_says_something() -> None:
    assert FaceOverlapFraction().model_dump() == {"confidence": 0.5}
    assert FaceOverlapFraction(face_height=0.35).model_dump() == {"confidence": 0.5, "face_height": 0.35}
    assert TextProminence().model_dump().keys().isdisjoint({"cut_weight", "face_sides"})


def test_the_same_lettering_is_less_prominent_beside_a_larger_face() -> None:
    title, score = text(across(10, 80, 60, 90)), TextProminence(face_sides=1.5)
    without, small, large = (
        score.bounds({"text": title, "faces": seen}).low
        for seen in (faces(), faces(face(40, 20, 60, 40)), faces(face(20, 10, 70, 60)))
    )
    assert [without, small, large] == pytest.approx([0.5, 0.5 / 1.3, 0.5 / 1.75])


def hit(x1: float, y1: float, x2: float, y2: float) -> Hit:
    return Hit(x1, y1, x2, y2, view_side_px=60, num_neighbours=12, line_to_nose=3.0)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"anime": anime(hit(0, 0, 10, 10), hit(50, 50, 60, 60)), "faces": faces(face(0, 0, 10, 10))}, Bounds(1, 1)),
        ({"anime": anime(hit(0, 0, 10, 10)), "faces": faces(face(0, 0, 10, 10, confidence=0.4))}, Bounds(1, 1)),
        ({"anime": anime(hit(0, 0, 10, 10)), "faces": faces()}, Bounds(1, 1)),
        ({"anime": anime(hit(0, 0, 10, 10)), "faces": None}, Bounds(0, 1)),
        ({"anime": anime(), "faces": None}, Bounds(0, 0)),
        ({"anime": None, "faces": faces(face(0, 0, 9, 9))}, Bounds(0, math.inf)),
    ],
)
def test_only_a_confident_face_contests_an_anime_hit(known: dict[str, Any], expected: Bounds) -> None:
    assert NumUncontestedHits().bounds(known) == expected


BOXES = st.tuples(st.integers(0, 80), st.integers(0, 80), st.integers(1, 20), st.integers(1, 20))
HITS = st.lists(BOXES.map(lambda b: hit(b[0], b[1], b[0] + b[2], b[1] + b[3])), max_size=3)
FACES = st.lists(st.tuples(BOXES, st.floats(0.1, 1)), max_size=3)


@given(HITS, FACES)
def test_what_is_certain_early_holds_once_everything_is_known(hits: list[Hit], found: list[Any]) -> None:
    full: dict[str, Any] = {
        "anime": anime(*hits),
        "faces": faces(*(face(b[0], b[1], b[0] + b[2], b[1] + b[3], c) for b, c in found)),
    }
    exact = NumUncontestedHits().bounds(full)
    assert exact.low == exact.high
    for missing in permutations(full, 1):
        partial = NumUncontestedHits().bounds({**full, **dict.fromkeys(missing)})
        assert partial.low <= exact.low <= partial.high


@given(st.lists(BOXES, max_size=4), FACES)
def test_what_is_certain_of_prominence_before_the_faces_are_known_holds_afterwards(
    regions: list[Any], found: list[Any]
) -> None:
    written = text(*(across(b[0], b[1], b[0] + b[2], b[1] + b[3]) for b in regions))
    seen = faces(*(face(b[0], b[1], b[0] + b[2], b[1] + b[3], c) for b, c in found))
    for score in (TextProminence(), TextProminence(cut_weight=0.5, face_sides=1.5)):
        before = score.bounds({"text": written, "faces": None})
        exact = score.bounds({"text": written, "faces": seen})
        assert exact.low == exact.high
        assert before.low <= exact.low <= before.high * (1 + 1e-9)

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.measure.arrow import arrow_type, from_struct, to_struct


@dataclass(frozen=True)
class Inner:
    x: float
    points: tuple[float, ...]


@dataclass(frozen=True)
class Outer:
    count: int
    name: str
    sure: bool
    maybe: float | None
    inner: tuple[Inner, ...]


FLOATS = st.floats(allow_nan=False)
INNER = st.builds(Inner, FLOATS, st.lists(FLOATS, max_size=3).map(tuple))
OUTER = st.builds(
    Outer, st.integers(-(2**62), 2**62), st.text(st.characters(codec="utf-8")), st.booleans(), st.none() | FLOATS,
    st.lists(INNER, max_size=3).map(tuple),
)  # fmt: skip


@given(OUTER)
def test_evidence_comes_back_from_arrow_as_it_went_in(evidence: Outer) -> None:
    array = pa.array([to_struct(evidence)], type=arrow_type(Outer))
    assert from_struct(Outer, array.to_pylist()[0]) == evidence


GOOD = Outer(1, "a", True, None, (Inner(0.5, (1.0, 2.0)),))


def test_what_was_not_measured_stays_none_both_ways() -> None:
    assert to_struct(None) is None and from_struct(Outer, None) is None


def test_an_int_may_stand_for_a_float_and_becomes_one() -> None:
    found = from_struct(Inner, {"x": 1, "points": [2**53 + 1]})
    assert found == Inner(1.0, (2.0**53,)) and [type(x) for x in (found.x, *found.points)] == [float, float]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", 1.0), ("count", True), ("count", None), ("name", 3), ("sure", 0), ("maybe", "1"), ("inner", None),
        ("inner", [{"x": None, "points": []}]), ("inner", [{"x": 1.0, "points": ["2"]}]),
        ("inner", [{"x": 1.0, "points": [True]}]), ("inner", [{"x": 1.0, "points": 3}]), ("inner", [[1.0, []]]),
        ("inner", {}), ("inner", ""), ("inner", [{"x": 1.0, "points": {}}]), ("inner", [{"x": 1.0, "points": ""}]),
        ("count", 1 << 63), ("name", "\ud800"), ("maybe", 10**400),
    ],
)  # fmt: skip
def test_a_value_that_is_none_of_its_field_s_is_refused_by_the_name_of_the_field(field: str, value: Any) -> None:
    assert from_struct(Outer, to_struct(GOOD)) == GOOD
    with pytest.raises((TypeError, ValueError), match=f"^{field}: "):
        from_struct(Outer, to_struct(GOOD) | {field: value})


def test_a_field_without_arrow_form_is_an_error_that_names_it() -> None:
    with pytest.raises(TypeError, match="list"):
        arrow_type(list[int])

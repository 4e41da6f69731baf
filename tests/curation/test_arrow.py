from dataclasses import dataclass

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.arrow import arrow_type, from_struct, to_struct


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


def test_a_field_without_arrow_form_is_an_error_that_names_it() -> None:
    with pytest.raises(TypeError, match="list"):
        arrow_type(list[int])

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from facemakeup.data.held_out import Among, Without, held_out_rows, others
from facemakeup.data.order import StreamOrder


@given(st.integers(2, 50), st.data())
def test_training_meets_every_row_once_an_epoch_but_those_held_out_and_never_these(
    num_rows: int, data: st.DataObject
) -> None:
    num = data.draw(st.integers(0, num_rows - 1))
    rows = held_out_rows(num_rows, num, data.draw(st.sampled_from(["keyed", "first"])))
    left = num_rows - num
    order = Without(StreamOrder(left, 1, block=3, window=2, seed=data.draw(st.integers(0, 9))), rows)
    places = [order.seat(number, 0) for number in range(left)]
    assert sorted(place.row for place in places) == others(num_rows, rows).tolist()
    assert all(order.substitute(place, 1).row not in set(rows.tolist()) for place in places)
    if num:
        looked_at = Among(StreamOrder(num, 1, num, 1, seed=0), rows)
        seats = [looked_at.seat(number, 0) for number in range(num)]
        assert sorted(place.row for place in seats) == rows.tolist()
        assert {looked_at.substitute(place, 1).row for place in seats} <= set(rows.tolist())


def test_the_keyed_sample_is_spread_over_the_index_and_always_the_same() -> None:
    rows = held_out_rows(100_000, 1000, "keyed")
    counts = np.histogram(rows, bins=10, range=(0, 100_000))[0]
    assert len(set(rows.tolist())) == 1000 and counts.min() > 60 and counts.max() < 140
    assert rows.tolist() == held_out_rows(100_000, 1000, "keyed").tolist()
    assert held_out_rows(100_000, 3, "first").tolist() == [0, 1, 2]

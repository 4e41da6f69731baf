"""Which pictures go through a device together, and who comes first."""

from hypothesis import given
from hypothesis import strategies as st

from filters.device.queues import Queues, Shape

SMALL, LARGE = (0, 32, 32), (0, 64, 64)


def queues(*shapes: Shape, max_pixels: int = 1 << 30, max_pictures: int = 256) -> Queues[int]:
    """Requests in order, each the number of its turn."""
    waiting: Queues[int] = Queues(max_pixels, max_pictures)
    for number, shape in enumerate(shapes):
        waiting.add(shape, number)
    return waiting


def batches(waiting: Queues[int]) -> list[tuple[Shape, list[int]]]:
    taken = []
    while len(waiting):
        taken.append(waiting.take())
    return taken


def test_pictures_of_one_network_and_shape_go_together() -> None:
    other_network = (1, 32, 32)
    waiting = queues(SMALL, LARGE, SMALL, other_network, LARGE)
    assert batches(waiting) == [(SMALL, [0, 2]), (LARGE, [1, 4]), (other_network, [3])]


def test_whoever_has_waited_longest_is_next_however_many_wait_elsewhere() -> None:
    waiting = queues(LARGE, *[SMALL] * 9)
    assert waiting.take() == (LARGE, [0])


def test_a_batch_has_a_power_of_two_of_pictures() -> None:
    assert [len(batch) for _, batch in batches(queues(*[SMALL] * 13))] == [8, 4, 1]


def test_a_batch_has_no_more_pixels_than_the_device_takes_but_always_one_picture() -> None:
    waiting = queues(*[SMALL] * 8, *[LARGE] * 2, max_pixels=5 * 32 * 32)
    assert [len(batch) for _, batch in batches(waiting)] == [4, 4, 1, 1]
    assert [len(batch) for _, batch in batches(queues(LARGE, LARGE, max_pixels=1))] == [1, 1]
    assert [len(batch) for _, batch in batches(queues(*[SMALL] * 8, max_pictures=2))] == [2, 2, 2, 2]


def test_what_is_dropped_is_not_run() -> None:
    waiting = queues(SMALL, SMALL, LARGE)
    waiting.drop(lambda number: number in {0, 2})
    assert batches(waiting) == [(SMALL, [1])]


@given(st.lists(st.sampled_from([SMALL, LARGE, (1, 32, 32)]), max_size=60), st.integers(1, 9))
def test_everybody_is_run_once_and_in_order_among_those_of_one_shape(shapes: list[Shape], max_pictures: int) -> None:
    taken = batches(queues(*shapes, max_pictures=max_pictures))
    assert sorted(number for _, batch in taken for number in batch) == list(range(len(shapes)))
    for shape in set(shapes):
        own = [number for found, batch in taken for number in batch if found == shape]
        assert own == [number for number, found in enumerate(shapes) if found == shape]

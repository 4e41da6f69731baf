import time
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from facemakeup.data.order import BlockShuffle, BucketOrder, StreamOrder, batch

SIZES = st.integers(1, 300)
SEEDS = st.integers(0, 2**63)


@given(SIZES, st.integers(1, 40), st.integers(1, 6), SEEDS, st.integers(0, 1000))
def test_every_epoch_is_a_permutation_whatever_the_blocks(
    size: int, block: int, window: int, seed: int, e: int
) -> None:
    shuffle = BlockShuffle(size, block, window, seed)
    assert sorted(shuffle.row(e, position) for position in range(size)) == list(range(size))


@given(SIZES, st.integers(1, 40), SEEDS)
def test_a_window_of_one_block_reads_its_blocks_one_after_the_other(size: int, block: int, seed: int) -> None:
    rows = [BlockShuffle(size, block, 1, seed).row(0, position) for position in range(size)]
    visited = list(dict.fromkeys(row // block for row in rows))
    assert [row // block for row in rows] == [b for b in visited for _ in range(min(block, size - b * block))]


@given(st.integers(1, 60), st.integers(1, 17), st.integers(0, 40), SEEDS)
def test_a_stream_holds_every_row_once_an_epoch_across_the_seams_of_batches(
    size: int, batch_size: int, number: int, seed: int
) -> None:
    order = StreamOrder(size, batch_size, block=8, window=2, seed=seed)
    num_batches = -(-3 * size // batch_size)
    places = [place for n in range(num_batches) for place in batch(order, n)][: 3 * size]
    assert [place.position for place in places] == list(range(3 * size))
    for epoch in range(3):
        assert sorted(p.row for p in places if p.epoch == epoch) == list(range(size))
    assert batch(order, number) == batch(StreamOrder(size, batch_size, 8, 2, seed), number)


def test_epochs_and_seeds_differ_and_neighbours_part() -> None:
    def rows(seed: int, epoch: int) -> list[int]:
        return [BlockShuffle(512, 16, 4, seed).row(epoch, position) for position in range(512)]

    assert len({tuple(rows(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    assert sum(abs(a - b) == 1 for a, b in zip(rows(0, 0), rows(0, 0)[1:], strict=False)) < 40


def test_every_row_is_equally_likely_to_come_first() -> None:
    counts = Counter(BlockShuffle(8, 2, 2, seed).row(0, 0) for seed in range(4000))
    chi_square = sum((counts[row] - 500) ** 2 / 500 for row in range(8))
    assert chi_square < 24.3  # 99.9 % of chi-square with 7 degrees of freedom


def test_seeking_deep_into_a_large_dataset_costs_no_more_than_its_start() -> None:
    order = StreamOrder(4_200_000, 64, block=1000, window=16, seed=1)

    def seconds(number: int) -> float:
        started = time.perf_counter()
        assert len({place.row for place in batch(order, number)}) == 64
        return time.perf_counter() - started

    batch(order, 0)
    assert min(seconds(530_000 + n) for n in range(5)) < 20 * min(seconds(n) for n in range(5)) + 0.01


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(1, 9), SEEDS)
def test_batches_of_buckets_never_mix_shapes_and_leave_no_row_out(
    sizes: list[int], size_of_batch: int, seed: int
) -> None:
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    buckets = tuple(np.arange(start, start + size) for start, size in zip(starts, sizes, strict=True))
    order = BucketOrder(buckets, size_of_batch, block=4, window=2, seed=seed)
    num_batches = sum(-(-size // size_of_batch) for size in sizes)
    for epoch in range(2):
        batches = [batch(order, epoch * num_batches + n) for n in range(num_batches)]
        assert {place.row for places in batches for place in places} == set(range(sum(sizes)))
        for places in batches:
            assert len({next(i for i, rows in enumerate(buckets) if p.row in rows) for p in places}) == 1
    place = batch(order, 3)[0]
    bucket = next(rows for rows in buckets if place.row in rows)
    assert all(order.substitute(place, attempt).row in bucket for attempt in range(5))


def test_a_substitute_keeps_the_seat_and_is_drawn_the_same_way_each_time() -> None:
    order = StreamOrder(1000, 8, 16, 4, seed=5)
    place = batch(order, 2)[3]
    first = [order.substitute(place, attempt) for attempt in range(4)]
    assert first == [order.substitute(place, attempt) for attempt in range(4)]
    assert {p.position for p in first} == {place.position} and len({p.row for p in first}) > 1

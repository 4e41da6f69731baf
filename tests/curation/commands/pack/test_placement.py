"""Where samples go: exactly once, as the seed says, not by their size, and no further when some are forgotten."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from curation.commands.pack.placement import NUM_OTHER_BYTES, NUM_WINDOW_SHARDS, Chunk, Placed
from curation.commands.pack.placement import cut as cut_shards
from curation.commands.pack.placement import shuffled as shuffled_shards
from curation.dataset.redaction import coarse_size
from curation.recipe.settings import PackSettings


def seats(num_shards: int, num_rows: int, size: int = 100_000) -> list[Placed]:
    """Return seats as `rank` leads to them: the largest pictures in the first shards."""
    num = num_shards * num_rows
    return [
        Placed(f"{n:032x}", f"{n // num_rows:05d}", n % num_rows, "jpg", size * (num - n) // num) for n in range(num)
    ]


def by_shard(placed: list[Placed]) -> dict[str, list[Placed]]:
    """Return the seats of each source shard, and one that has none."""
    shards: dict[str, list[Placed]] = {"none": []}
    for seat in placed:
        shards.setdefault(seat.source_shard, []).append(seat)
    return shards


def cut(placed: list[Placed], settings: PackSettings) -> Iterator[Chunk]:
    shards = by_shard(placed)
    return cut_shards(shards, shards.__getitem__, settings)


def shuffled(placed: list[Placed], seed: int) -> Iterator[Placed]:
    shards = by_shard(placed)
    return shuffled_shards(shards, shards.__getitem__, seed)


@given(
    st.integers(1, 40), st.integers(1, 12), st.integers(0, 5), st.integers(1, 2_000_000), st.integers(1, 30),
    st.sets(st.integers(0, 500)),
)  # fmt: skip
def test_every_seat_is_cut_once_within_the_limits_and_forgetting_moves_nobody(
    num_shards: int, num_rows: int, seed: int, max_bytes: int, most: int, gone: set[int]
) -> None:
    settings = PackSettings(max_shard_bytes=max_bytes, num_shard_samples=most, shuffle_seed=seed)
    placed = seats(num_shards, num_rows)
    chunks = list(cut(placed, settings))
    assert [name for name, _ in chunks] == [f"{number:05d}" for number in range(len(chunks))]
    assert sorted(seat.uid for _, chunk in chunks for seat in chunk) == [seat.uid for seat in placed]
    for _, chunk in chunks:
        assert 1 <= len(chunk) <= most
        assert len(chunk) == 1 or sum(seat.num_bytes for seat in chunk) <= max_bytes
    left = [
        replace(seat, is_forgotten=True, num_bytes=coarse_size(seat.num_bytes)) if n in gone else seat
        for n, seat in enumerate(placed)
    ]
    uids = [[seat.uid for seat in chunk] for _, chunk in chunks]
    assert [[seat.uid for seat in chunk] for _, chunk in cut(left, settings)] == uids


def test_no_shard_holds_the_large_pictures_and_the_seed_decides_the_order() -> None:
    placed = seats(4 * NUM_WINDOW_SHARDS, 100)
    settings = PackSettings(max_shard_bytes=len(placed) * 60_000 // 10)
    means = [sum(seat.num_bytes for seat in chunk) / len(chunk) for _, chunk in cut(placed, settings)]
    assert len(means) >= 9
    assert all(25_000 < mean < 75_000 for mean in means), means
    order = [seat.uid for seat in shuffled(placed, 0)]
    assert order == [seat.uid for seat in shuffled(list(reversed(placed)), 0)]
    assert order != [seat.uid for seat in shuffled(placed, 1)]


def test_a_source_shard_is_read_for_those_final_shards_alone_that_its_window_fills() -> None:
    placed = seats(5 * NUM_WINDOW_SHARDS, 50)
    reads = Counter(
        shard
        for _, chunk in cut(placed, PackSettings(num_shard_samples=300))
        for shard in {seat.source_shard for seat in chunk}
    )
    assert max(reads.values()) <= NUM_WINDOW_SHARDS * 50 / 300 + 2


def test_four_million_samples_are_hundreds_of_files() -> None:
    weight = coarse_size(100_000) + NUM_OTHER_BYTES
    assert 100 < 4_000_000 / (PackSettings().max_shard_bytes // weight) < 1000


def test_no_more_than_a_window_of_source_shards_is_read_before_the_first_seat_leaves() -> None:
    shards = by_shard(seats(5 * NUM_WINDOW_SHARDS, 3))
    asked: list[str] = []

    def here(shard: str) -> list[Placed]:
        asked.append(shard)
        return shards[shard]

    stream = shuffled_shards(shards, here, 0)
    next(stream)
    assert NUM_WINDOW_SHARDS <= len(asked) <= NUM_WINDOW_SHARDS + 1
    assert len([*stream]) == 15 * NUM_WINDOW_SHARDS - 1 and sorted(asked) == sorted(shards)

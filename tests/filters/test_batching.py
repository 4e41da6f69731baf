import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from filters.batching import MAX_GPU_BATCH, Floats, max_batch, run_by_shape

SHAPES = st.sampled_from([(3, 4, 4), (3, 4, 6), (3, 6, 4)])


@given(st.lists(SHAPES, max_size=9), st.integers(1, 4))
def test_each_input_gets_its_own_outputs_and_only_equal_shapes_share_a_run(
    shapes: list[tuple[int, ...]], limit: int
) -> None:
    inputs = [np.full(shape, i, dtype=np.float32) for i, shape in enumerate(shapes)]
    sizes = []

    def run(batch: Floats) -> tuple[Floats, Floats]:
        sizes.append(len(batch))
        return batch.sum(axis=(1, 2, 3)), batch * 2

    found = run_by_shape(inputs, run, limit)
    assert [(float(total), float(twice.mean())) for total, twice in found] == [
        (float(one.sum()), 2.0 * i) for i, one in enumerate(inputs)
    ]
    assert all(size <= limit for size in sizes) and sum(sizes) == len(shapes)
    assert len(sizes) == sum(-(-shapes.count(shape) // limit) for shape in set(shapes))


def test_a_cpu_core_runs_every_picture_alone_and_a_gpu_many_together() -> None:
    assert (max_batch("cpu"), max_batch("cuda:1")) == (1, MAX_GPU_BATCH)

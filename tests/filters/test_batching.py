import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from filters.batching import GPU_PIXELS, Floats, pixels_at_once, run_by_shape

SHAPES = st.sampled_from([(3, 4, 4), (3, 4, 6), (3, 6, 4)])
"""At most 16, 24 and 24 pixels."""


@given(st.lists(SHAPES, max_size=9), st.integers(1, 4))
def test_each_input_gets_its_own_outputs_and_only_equal_shapes_share_a_run(
    shapes: list[tuple[int, ...]], limit: int
) -> None:
    inputs = [np.full(shape, i, dtype=np.float32) for i, shape in enumerate(shapes)]
    sizes = []

    def run(batch: Floats) -> tuple[Floats, Floats]:
        sizes.append(len(batch))
        assert len(batch) == 1 or batch[:, 0].size <= limit * 24
        return batch.sum(axis=(1, 2, 3)), batch * 2

    found = run_by_shape(inputs, run, limit * 24)
    assert [(float(total), float(twice.mean())) for total, twice in found] == [
        (float(one.sum()), 2.0 * i) for i, one in enumerate(inputs)
    ]
    assert sum(sizes) == len(shapes)
    full = {shape: max(1, limit * 24 // (shape[1] * shape[2])) for shape in set(shapes)}
    assert len(sizes) == sum(-(-shapes.count(shape) // full[shape]) for shape in full)


def test_a_cpu_core_runs_every_picture_alone_and_a_gpu_many_together() -> None:
    assert (pixels_at_once("cpu"), pixels_at_once("cuda:1")) == (1, GPU_PIXELS)

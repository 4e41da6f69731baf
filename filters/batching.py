"""Micro-batches by shape: pictures whose network inputs have one shape go through a device together.

A GPU gains from batches, a CPU core does not; there every picture runs alone, and its evidence is the same to the bit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Outputs = Sequence[npt.NDArray[Any]]
"""One or several arrays, batch first."""

MAX_CPU_BATCH = 1
MAX_GPU_BATCH = 32
"""Pictures that a device sees at once; memory grows with it."""


def max_batch(device: str) -> int:
    """Return how many pictures profit from one run on "cpu" or "cuda:N"."""
    return MAX_CPU_BATCH if device == "cpu" else MAX_GPU_BATCH


def run_by_shape(
    inputs_CHW: Sequence[Floats], run: Callable[[Floats], Outputs], max_batch: int
) -> list[tuple[npt.NDArray[Any], ...]]:
    """Return each input's outputs without their batch axis, in the order given.

    `run` takes (N, C, H, W) and returns arrays of N rows; at most `max_batch` inputs of equal shape share a run.
    """
    buckets: dict[tuple[int, ...], list[int]] = {}
    for i, one in enumerate(inputs_CHW):
        buckets.setdefault(one.shape, []).append(i)
    found: dict[int, tuple[npt.NDArray[Any], ...]] = {}
    for members in buckets.values():
        for start in range(0, len(members), max_batch):
            together = members[start : start + max_batch]
            outputs = run(np.stack([inputs_CHW[i] for i in together]))
            found |= {i: tuple(output[row] for output in outputs) for row, i in enumerate(together)}
    return [found[i] for i in range(len(inputs_CHW))]

"""Micro-batches by shape: pictures whose network inputs have one shape go through a device together.

A GPU gains from batches, a CPU core does not; there every picture runs alone, and its evidence is the same to the bit.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from filters.base import RgbImage

Floats = npt.NDArray[np.float32]
Outputs = Sequence[npt.NDArray[Any]]
"""One or several arrays, batch first."""

Look = Callable[[Sequence[RgbImage]], list[tuple[npt.NDArray[Any], ...]]]
"""From canvases, uint8 (H, W, 3), to each one's outputs without their batch axis."""

CPU_PIXELS = 1
GPU_PIXELS = 32 * 640 * 640
"""Pixels of network input that a device takes in one run, but always one picture: a GPU's memory grows with them."""


def pixels_at_once(device: str) -> int:
    """Return how many pixels of input profit from sharing a run on "cpu" or "cuda:N"."""
    return CPU_PIXELS if device == "cpu" else GPU_PIXELS


def in_process(prepare: Callable[[RgbImage], Floats], run: Callable[[Floats], Outputs], device: str) -> Look:
    """Return what runs canvases here: `prepare` makes a canvas the network's input (C, H, W), `run` takes a batch."""
    max_pixels = pixels_at_once(device)
    return lambda canvases: run_by_shape([prepare(canvas) for canvas in canvases], run, max_pixels)


def run_by_shape(
    inputs_CHW: Sequence[Floats], run: Callable[[Floats], Outputs], max_pixels: int
) -> list[tuple[npt.NDArray[Any], ...]]:
    """Return each input's outputs without their batch axis, in the order given.

    `run` takes (N, C, H, W) and returns arrays of N rows; inputs of equal shape share a run, at most `max_pixels` of
    H x W together.
    """
    buckets: dict[tuple[int, ...], list[int]] = {}
    for i, pixels_CHW in enumerate(inputs_CHW):
        buckets.setdefault(pixels_CHW.shape, []).append(i)
    outputs_of: dict[int, tuple[npt.NDArray[Any], ...]] = {}
    for (_, height, width), members in buckets.items():
        num_together = max(1, max_pixels // (height * width))
        for start in range(0, len(members), num_together):
            together = members[start : start + num_together]
            outputs = run(np.stack([inputs_CHW[i] for i in together]))
            outputs_of |= {i: tuple(output[row] for output in outputs) for row, i in enumerate(together)}
    return [outputs_of[i] for i in range(len(inputs_CHW))]

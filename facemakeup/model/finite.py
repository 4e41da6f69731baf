"""Weights that are numbers: what is saved and exported is held against it."""

from collections.abc import Mapping

import torch
from torch import Tensor

from filters.base import FaceCaptionError


class NonFiniteError(FaceCaptionError):
    """Numbers of a training are not finite: the message says which, and what to look at."""

    exit_code = 1


def require_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Refuse numbers that are not finite.

    Raises:
        NonFiniteError: names some of them.
    """
    bad = [name for name, value in tensors.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if bad:
        raise NonFiniteError(f"{what}: {len(bad)} of {len(tensors)} tensors are not finite, such as {bad[0]}")

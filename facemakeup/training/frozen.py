"""What stands frozen beside what is trained, as a digest: going on with another base would ruin a run unheard."""

import hashlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from facemakeup.model.encoders import Encoders
from facemakeup.model.facemakeup import FaceMakeUp

NUM_VALUES = 64
"""Of each tensor so many are looked at, evenly spread."""


def frozen_digest(model: FaceMakeUp, encoders: Encoders) -> str:
    """Return a hex digest of the frozen weights of a model and of its encoders, by some values of each tensor.

    Values count in bfloat16, so that the precision of a run changes nothing, and tensors in no order and by no name,
    since libraries give these.
    """
    parts = [part for part in (*vars(encoders.base).values(), encoders.image_encoder) if isinstance(part, nn.Module)]
    frozen = [weight for part in (model, *parts) for weight in part.parameters() if not weight.requires_grad]
    return hashlib.sha256("".join(sorted(_digests(frozen))).encode()).hexdigest()


@torch.no_grad()
def _digests(tensors: Iterable[Any]) -> Iterable[str]:
    for tensor in tensors:
        some = tensor.reshape(-1)[:: max(1, tensor.numel() // NUM_VALUES)].to("cpu", torch.bfloat16)
        told = f"{tuple(tensor.shape)}".encode() + some.view(torch.int16).numpy().tobytes()
        yield hashlib.sha256(told).hexdigest()

"""From the bytes that travel to the numbers that networks take, on whatever device the bytes are.

On a CPU these are bit for bit what numpy makes of the same bytes. Divisors are tensors, since a GPU multiplies by the
reciprocal of a number instead of dividing by it.

Shapes: B pictures, H and W pixels, C their three channels, N pixels that are not black.
"""

import torch
from torch import Tensor

from facemakeup.faces.align import CLIP_MEAN, CLIP_STD


def signed(bytes_BHWC: Tensor) -> Tensor:
    """Return float32 (B, C, H, W) in -1..1 of uint8."""
    return _floats(bytes_BHWC) / _filled(bytes_BHWC, 127.5) - 1


def for_clip(bytes_BHWC: Tensor) -> Tensor:
    """Return float32 (B, C, H, W) of uint8, CLIP's mean and deviation taken out."""
    shares = _floats(bytes_BHWC) / _filled(bytes_BHWC, 255)
    mean, std = (torch.stack([_filled(bytes_BHWC, v) for v in vs])[:, None, None] for vs in (CLIP_MEAN, CLIP_STD))
    return (shares - mean) / std


def painted(places_N: Tensor, colours_N3: Tensor, num: int, height: int, width: int) -> Tensor:
    """Return pose maps, float32 (B, C, H, W) in 0..1: black, but for these places, counted through all `num` maps."""
    black = torch.zeros(num * height * width, 3, dtype=torch.uint8, device=places_N.device)
    maps_BHWC = black.index_copy_(0, places_N.long(), colours_N3).reshape(num, height, width, 3)
    return _floats(maps_BHWC) / _filled(maps_BHWC, 255)


def _floats(bytes_BHWC: Tensor) -> Tensor:
    return bytes_BHWC.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)


def _filled(like: Tensor, value: float) -> Tensor:
    return torch.full((), value, dtype=torch.float32, device=like.device)

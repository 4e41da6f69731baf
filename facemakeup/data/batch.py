"""What training takes at once: samples of one shape, stacked, as small as they can travel.

Pictures travel as bytes, pose maps without their black, latents as they are cached; what a network takes is made of
them where the batch is.

Shapes: B samples of one rank's micro batch, M of them with cached latents, K without; C channels, H and W pixels, S
pixels of a face for CLIP, N pixels of all pose maps that are not black, D numbers of an identity vector.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facemakeup.data import floats
from facemakeup.data.geometry import Geometry
from facemakeup.data.prepare import Prepared
from facemakeup.faces.crop import Size
from facemakeup.faults import SampleFault
from facemakeup.model.base import Frame
from facemakeup.model.send import send


@dataclass(frozen=True)
class Batch:
    """Samples of one shape."""

    size: Size
    """Height and width of the pictures in pixels."""
    captions: tuple[str, ...]
    frames: tuple[Frame, ...]
    """What each picture is of its photo."""
    uids: tuple[str, ...]
    positions: tuple[int, ...]
    """Where the samples stand in the endless stream: their random numbers are drawn by it."""
    pixels_KHWC: Tensor
    """uint8, the pictures whose latents are not cached, in the order of their samples."""
    faces_BSSC: Tensor
    """uint8, aligned faces in the size that CLIP takes."""
    identity_BD: Tensor
    """float32, rows of length 1."""
    pose_places_N: Tensor
    """int32, which pixels are not black, counted through the pose maps of all samples."""
    pose_colours_N3: Tensor
    """uint8."""
    moments_MCHW: Tensor
    """Mean and log variance of cached latents stacked on channels, in the precision that they are kept in."""
    has_moments_B: Tensor
    """bool: whose latents came from the cache; always on the CPU, where asking waits for nobody."""
    boxes_B4: Tensor
    """float32, faces' left, top, right and bottom in pixels of the pictures; empty where no loss asks, as the next."""
    landmarks_B52: Tensor
    """float32, likewise in pixels."""
    aligned_B23: Tensor
    """float32, from pixels of the aligned face of 112 x 112 to those of the picture."""
    masks_BHW: Tensor
    """uint8, how much of each square of `MASK_STRIDE` pixels is face; empty where the samples' masks are not asked
    for."""

    @property
    def pixels(self) -> Tensor:
        """The pictures whose latents are not cached, float32 (K, C, H, W) in -1..1."""
        return floats.signed(self.pixels_KHWC)

    @property
    def clip_pixels(self) -> Tensor:
        """Aligned faces, float32 (B, C, S, S), CLIP's mean and deviation taken out."""
        return floats.for_clip(self.faces_BSSC)

    @property
    def pose(self) -> Tensor:
        """Pose maps, float32 (B, C, H, W) in 0..1."""
        return floats.painted(
            self.pose_places_N, self.pose_colours_N3, len(self.uids), self.size.height, self.size.width
        )

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with its tensors on a device, but `has_moments_B`."""
        return self._each(lambda tensor: send(tensor, device))

    def pin_memory(self) -> "Batch":
        """Return the batch in locked memory, from where copies to a GPU run beside everything else."""
        return self._each(lambda tensor: tensor.pin_memory())

    def used_by(self, stream: Any) -> "Batch":
        """Return the batch, whose memory is not given to others before a stream of its GPU has come by."""
        for tensor in self._tensors().values():
            tensor.record_stream(stream)
        return self

    def _each(self, made: Callable[[Tensor], Tensor]) -> "Batch":
        moved: dict[str, Any] = {name: made(value) for name, value in self._tensors().items()}
        return replace(self, **moved)

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        return {name: value for name, value in tensors.items() if name != "has_moments_B"}


@dataclass(frozen=True)
class Loaded:
    """A micro batch, with what was passed over on the way to it."""

    batch: Batch
    faults: tuple[SampleFault, ...]
    notes: dict[str, int]
    """What the caches said, with counts."""

    def pin_memory(self) -> "Loaded":
        """Return the same with its batch in locked memory; a DataLoader calls it."""
        return replace(self, batch=self.batch.pin_memory())


def collate(samples: Sequence[Prepared], positions: Sequence[int]) -> Batch:
    """Return the batch of samples of one shape."""
    size = samples[0].size
    strokes = [sample.pose for sample in samples]
    firsts = range(0, len(samples) * size.height * size.width, size.height * size.width)
    places = [drawn.places_N + np.int32(first) for drawn, first in zip(strokes, firsts, strict=True)]
    return Batch(
        size=size,
        captions=tuple(sample.caption for sample in samples),
        frames=tuple(sample.frame for sample in samples),
        uids=tuple(sample.uid for sample in samples),
        positions=tuple(positions),
        pixels_KHWC=_stack([sample.pixels_HWC for sample in samples if sample.pixels_HWC is not None]),
        faces_BSSC=_stack([sample.face_SSC for sample in samples]),
        identity_BD=_stack([sample.identity_D for sample in samples]),
        pose_places_N=torch.from_numpy(np.concatenate(places)),
        pose_colours_N3=torch.from_numpy(np.concatenate([drawn.colours_N3 for drawn in strokes])),
        moments_MCHW=_stack([sample.moments_CHW for sample in samples if sample.moments_CHW is not None]),
        has_moments_B=torch.tensor([sample.moments_CHW is not None for sample in samples]),
        **_where([sample.geometry for sample in samples if sample.geometry is not None]),
    )


def _where(geometries: Sequence[Geometry]) -> dict[str, Tensor]:
    return {
        "boxes_B4": _stack([geometry.box_4 for geometry in geometries]),
        "landmarks_B52": _stack([geometry.landmarks_52 for geometry in geometries]),
        "aligned_B23": _stack([geometry.aligned_23 for geometry in geometries]),
        "masks_BHW": _stack([geometry.mask_HW for geometry in geometries if geometry.mask_HW is not None]),
    }


def _stack(arrays: list[Any]) -> Tensor:
    return torch.from_numpy(np.stack(arrays)) if arrays else torch.empty(0)

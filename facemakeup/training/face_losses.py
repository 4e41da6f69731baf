"""What is added to the loss of denoising for the face's sake, as the configuration has it; nothing without.

Shapes: B samples of a micro batch, C latent channels, H and W latent size, K samples whose face is looked at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from facemakeup.data.batch import Batch
from facemakeup.faces.torch_recogniser import TorchRecogniser, load_torch_recogniser
from facemakeup.model.attention_loss import attention_loss
from facemakeup.model.base import BaseEncoders, Objective
from facemakeup.model.face_regions import box_shares, ellipse_shares, region_tokens
from facemakeup.model.facemakeup import FaceMakeUp
from facemakeup.model.loss import clean_latents, place_weights
from facemakeup.model.send import send
from facemakeup.train_config import IdentityLoss, RegionLoss, TrainConfig

TERMS = ("attention", "identity")
"""What may be added; the region changes the weights of errors instead."""


@dataclass(frozen=True)
class Said:
    """A pass of the network with a gradient, and what it was told."""

    batch: Batch
    captions: Sequence[str]
    """As the network was told them: empty where dropped."""
    knows_B: Tensor
    """Whether it was told who is there, bool, on the CPU."""
    timesteps_B: Tensor
    """On the CPU."""
    noisy_BCHW: Tensor
    prediction_BCHW: Tensor


class FaceLosses:
    """The losses of a run beside that of denoising."""

    def __init__(
        self, config: TrainConfig, model: FaceMakeUp, encoders: BaseEncoders, objective: Objective, device: torch.device
    ) -> None:
        """Load what they need.

        Raises:
            UsageError: the base does not tell what a loss asks for.
            RecogniserError: no gradient flows through the recogniser.
        """
        self._losses, self._model, self._encoders, self._objective = config.losses, model, encoders, objective
        self._recogniser: TorchRecogniser | None = None
        if self._losses.attention is not None:
            encoders.spans(["a face"])
            model.base.listen(model.network)
        if self._losses.identity is not None:
            accepts = config.faces.accept_noncommercial
            self._recogniser = load_torch_recogniser(config.model.recogniser, accepts, device)

    @property
    def names(self) -> tuple[str, ...]:
        """Those of the terms, the same on all ranks."""
        return tuple(name for name in TERMS if getattr(self._losses, name) is not None)

    def places(self, batch: Batch, like_BCHW: Tensor) -> Tensor | None:
        """Return what errors of latents are multiplied with, (B, H, W); None where all count alike."""
        region = self._losses.region
        return None if region is None else place_weights(_shares(region, batch, _sides(like_BCHW)), region.weight)

    def terms(self, said: Said) -> dict[str, Tensor]:
        """Return the terms of each sample by name, float32 (B,), not yet weighed; 0 where one says nothing of it."""
        made = {"attention": partial(self._attention, said), "identity": partial(self._identity, said)}
        return {name: made[name]() for name in self.names}

    def weighed(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return what is added to the loss of each sample, (B,); `terms` is not empty."""
        return torch.stack([getattr(self._losses, name).weight * values_B for name, values_B in terms.items()]).sum(0)

    def _attention(self, said: Said) -> Tensor:
        batch, place = said.batch, said.noisy_BCHW.device
        maps = self._model.base.heard(self._model.network)
        tokens_BRL = send(region_tokens(said.captions, self._encoders.spans(said.captions)), place)
        size = (batch.size.height, batch.size.width)
        return attention_loss(maps, tokens_BRL, batch.boxes_B4, batch.landmarks_B52, size, _sides(said.noisy_BCHW))

    def _identity(self, said: Said) -> Tensor:
        """Return one minus the cosine with who it should be, for samples of little noise whose face is known."""
        settings = self._losses.identity
        assert settings is not None and self._recogniser is not None, "`names` has it"
        values_B = said.prediction_BCHW.new_zeros(len(said.prediction_BCHW), dtype=torch.float32)
        rows_K = torch.nonzero(_asked(settings, said, self._objective.end)).flatten()
        if not len(rows_K):
            return values_B
        rows = send(rows_K, said.noisy_BCHW.device)
        timesteps_K = send(said.timesteps_B, rows.device)[rows]
        latents = clean_latents(said.prediction_BCHW[rows], said.noisy_BCHW[rows], timesteps_K, self._objective)
        pixels = self._encoders.decode(latents)
        if not pixels.requires_grad:
            raise TypeError(f"losses.identity: {type(self._encoders).__name__}.decode lets no gradient through")
        vectors_KD = self._recogniser(pixels, said.batch.aligned_B23[rows])
        return values_B.index_add(0, rows, 1 - (vectors_KD * said.batch.identity_BD[rows]).sum(dim=1))


def _asked(settings: IdentityLoss, said: Said, end: float) -> Tensor:
    return said.knows_B & (said.timesteps_B < settings.max_noise * end)


def _shares(region: RegionLoss, batch: Batch, grid: tuple[int, int]) -> Tensor:
    """Return how much of each latent is face."""
    size = (batch.size.height, batch.size.width)
    if region.shape == "mask":
        return adaptive_avg_pool2d(batch.masks_BHW.float() / 255, grid)
    return (box_shares if region.shape == "box" else ellipse_shares)(batch.boxes_B4, size, grid)


def _sides(latents_BCHW: Tensor) -> tuple[int, int]:
    return latents_BCHW.shape[2], latents_BCHW.shape[3]

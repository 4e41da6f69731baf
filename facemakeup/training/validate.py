"""What is looked at on the way, the same each time: a loss at fixed timesteps and noise, a grid, and FaceSim.

FaceSim is the cosine between the reference's identity vector and that of the face in a generated picture, over the
pictures where a face is found (`facemakeup.faces.found`, as `evaluate` does); how often that is stands beside it. No
face is no number, never a zero.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from facemakeup.data.batch import Batch
from facemakeup.data.draws import generator
from facemakeup.faces.align import Floats
from facemakeup.faces.condition import FaceCondition
from facemakeup.faces.crop import Size
from facemakeup.faces.found import main_face
from facemakeup.faces.recognisers import FaceRecogniser
from facemakeup.faults import SampleFaultError
from facemakeup.inference.pipeline import FaceMakeUpPipeline
from facemakeup.model.denoise import Sampling, Scales
from facemakeup.train_config import TrainConfig, ValidationSettings
from facemakeup.training.trainer import Trainer, conditions
from filters.base import Filter, RgbImage

SEED = 0
"""The seed of noise and grids; the run's own changes neither."""


@dataclass(frozen=True)
class Judges:
    """Who finds and compares faces in generated pictures."""

    faces: Filter
    recogniser: FaceRecogniser


@dataclass(frozen=True)
class Shown:
    """What the grid shows, and what the judges say of it."""

    grid: RgbImage
    numbers: Mapping[str, float]


@torch.no_grad()
def fixed_loss(trainer: Trainer, batches: Iterable[Batch], config: TrainConfig, device: torch.device) -> Tensor:
    """Return sums of losses and their number at each fixed timestep, float64 (2, num_timesteps).

    Timesteps lie (i + 0.5) / n of the way to noise; noise depends on the sample's place in the validation set alone;
    nothing is dropped. Sums, so that several ranks can be added up.
    """
    num = config.validation.num_timesteps
    totals = torch.zeros(2, num, dtype=torch.float64, device=device)
    for batch in (held_out.to(device) for held_out in batches):
        mean, logvar = trainer.moments(batch)
        latents_BCHW = trainer.encoders.base.sample(mean, logvar, _normal(batch, mean, 0))
        noise_BCHW = _normal(batch, mean, 1)
        told = trainer.encoders.base.prompt(batch.captions, batch.frames, config.optim.guidance)
        given = conditions(
            trainer.encoders, told, batch.identity_BD, batch.clip_pixels,
            torch.zeros(len(batch.uids), dtype=torch.bool), batch.pose,
        )  # fmt: skip
        for i in range(num):
            step = trainer.objective.at((i + 0.5) / num)
            timesteps_B = torch.full((len(batch.uids),), step, device=device)
            totals[0, i] += trainer.losses(latents_BCHW, noise_BCHW, timesteps_B, given).double().sum()
            totals[1, i] += len(batch.uids)
    return totals


def show(trainer: Trainer, batch: Batch, config: TrainConfig, judges: Judges | None) -> Shown:
    """Draw one row per reference of `batch`: reference, pose, then every prompt at every scale of the face.

    Every sample of the batch has its pixels (`TarDataset.with_pixels`).
    """
    settings = config.validation
    pipeline = FaceMakeUpPipeline(trainer.model, trainer.encoders)
    rows, similarities = [], []
    pixels_BCHW, poses_BCHW = batch.pixels, batch.pose
    for i in range(min(settings.num_references, len(batch.uids))):
        face, pose = _condition(batch, i, config), _rgb(poses_BCHW[i] * 2 - 1)
        drawn = {scale: _drawn(pipeline, settings, face, pose, scale) for scale in settings.scales}
        rows.append(np.concatenate([_rgb(pixels_BCHW[i]), pose, *(p for ps in drawn.values() for p in ps)], axis=1))
        if judges is not None:
            similarities += [
                (s, similarity_of(judges, picture, face.identity_D)) for s, ps in drawn.items() for picture in ps
            ]
    return Shown(np.concatenate(rows, axis=0), summary(similarities))


def _drawn(
    pipeline: FaceMakeUpPipeline, settings: ValidationSettings, face: FaceCondition, pose: RgbImage, scale: float
) -> list[RgbImage]:
    return pipeline(
        settings.prompts,
        [face],
        pose=pose,
        scales=Scales(face=scale),
        sampling=Sampling(num_steps=settings.num_inference_steps, guidance_scale=settings.guidance_scale),
        seeds=(SEED,),
        size=Size(*pose.shape[:2]),
    )


def similarity_of(judges: Judges, picture: RgbImage, identity_D: Floats) -> float | None:
    """Return the cosine of a picture's largest face with an identity vector, or None where there is no face."""
    (evidence,) = judges.faces.measure([picture])
    largest = main_face(evidence)
    if largest is None:
        return None
    try:
        vector = judges.recogniser.embed(picture, np.array(largest.landmarks, dtype=np.float64).reshape(5, 2))
    except SampleFaultError:
        return None
    return float(vector @ identity_D)


def summary(similarities: Sequence[tuple[float, float | None]]) -> dict[str, float]:
    """Return detection rate and mean FaceSim per scale, of (scale, similarity or None) per picture."""
    numbers = {}
    for scale in dict.fromkeys(scale for scale, _ in similarities):
        all_of_it = [similarity for s, similarity in similarities if s == scale]
        detected = [similarity for similarity in all_of_it if similarity is not None]
        numbers[f"detection_rate_at_{scale:g}"] = len(detected) / len(all_of_it)
        if detected:
            numbers[f"facesim_at_{scale:g}"] = sum(detected) / len(detected)
    return numbers


def _condition(batch: Batch, i: int, config: TrainConfig) -> FaceCondition:
    """Return a sample of a batch as the pipeline takes it; its pose map is in the batch already."""
    height, width = batch.size.height, batch.size.width
    return FaceCondition(
        identity_D=batch.identity_BD[i].cpu().numpy(),
        clip_pixels_3SS=batch.clip_pixels[i].cpu().numpy(),
        recogniser=config.model.recogniser,
        clip_crop=config.model.clip_crop,
        landmarks_52=np.zeros((5, 2)),
        box=(0.0, 0.0, float(width), float(height)),
        width=width,
        height=height,
    )


def _normal(batch: Batch, like_BCHW: Tensor, number: int) -> Tensor:
    shape = (2, *like_BCHW.shape[1:])
    drawn = [
        generator(SEED, place, "validation").standard_normal(shape, np.float32)[number] for place in batch.positions
    ]
    return torch.from_numpy(np.stack(drawn)).to(like_BCHW.device)


def _rgb(pixels_CHW: Tensor) -> RgbImage:
    values = ((pixels_CHW.float().cpu() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return np.ascontiguousarray(values.permute(1, 2, 0).numpy())

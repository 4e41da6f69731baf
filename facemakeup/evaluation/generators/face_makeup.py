"""Face-MakeUp: our own adapter, drawn by our own pipeline."""

from pathlib import Path

from facemakeup.evaluation.generators.base import Facts, Reference
from facemakeup.evaluation.generators.drawing import fed
from facemakeup.evaluation.generators.identity import load_identity
from facemakeup.evaluation.generators.settings import FaceMakeUpSettings, IdentitySource
from facemakeup.faces.align import clip_pixels
from facemakeup.faces.condition import FaceCondition
from facemakeup.faces.crop import Size
from facemakeup.faces.recognisers import load_recogniser, require_same
from facemakeup.inference.export import read_record
from facemakeup.inference.pipeline import FaceMakeUpPipeline
from facemakeup.model.base import WEIGHTS_NAME
from filters.base import RgbImage


class FaceMakeUpGenerator:
    """See `facemakeup.evaluation.generators.base.Generator`."""

    def __init__(self, settings: FaceMakeUpSettings, accept_noncommercial: bool, device: str) -> None:
        """Load it.

        Raises:
            UsageError: a part is not there, or does not fit.
            RecogniserError: the adapter's recogniser is another, or its terms are not accepted.
        """
        folder = Path(settings.adapter)
        record = read_record(folder)
        self._settings = settings
        self._pipe = FaceMakeUpPipeline.from_pretrained(folder, settings.base, settings.image_encoder, device)
        self._config = self._pipe.model.config
        expected = self._config.recogniser
        if settings.recogniser_file is None:
            self._recogniser = load_recogniser(expected, accept_noncommercial, device)
        else:
            source = IdentitySource(name=expected.name, file=settings.recogniser_file)
            self._recogniser = load_identity(source, accept_noncommercial, device)
            require_same(expected, self._recogniser.identity, settings.recogniser_file)
        trained = record["facts"]
        self._factor = None if trained.get("crop_mode") == "full" else float(trained.get("crop_factor", 1.5))
        self.recogniser = expected.name
        scales, sampling = settings.scales, settings.sampling
        self.facts: Facts = {
            "checkpoint": f"{folder.name}/{WEIGHTS_NAME}",
            "checkpoint_sha256": record["files"][WEIGHTS_NAME],
            "weights": f"step {trained.get('step', 'unknown')}",
            "licence": "see the adapter's card",
            "base": Path(self._config.base).name if Path(self._config.base).is_dir() else self._config.base,
            "native_size": f"{settings.width}x{settings.height}",
            "sampler": "ddim",
            "steps": sampling.steps_on(self._pipe.encoders.base.num_inference_steps),
            "guidance": sampling.guidance_on(self._pipe.encoders.base.guidance_scale),
            "negative_prompt": settings.negative_prompt,
            "scales": f"face {scales.face:g}, clip {scales.clip:g}, pose {scales.pose:g}, lora {scales.lora:g}",
            "pose": "the reference's" if settings.is_posed else "free",
        }

    def fed(self, prompt: str) -> str:
        """Return the prompt with what is put behind it."""
        return fed(prompt, self._settings.quality)

    def generate(self, reference: Reference, prompt: str, seed: int) -> RgbImage:
        """Return a picture of the person; see `Generator`."""
        return self._drawn(reference, prompt, seed)

    def base_alone(self, prompt: str, seed: int) -> RgbImage:
        """Return what the base draws."""
        self._pipe.disable_adapter()
        try:
            return self._drawn(None, prompt, seed)
        finally:
            self._pipe.enable_adapter()

    def _drawn(self, reference: Reference | None, prompt: str, seed: int) -> RgbImage:
        settings, size = self._settings, Size(self._settings.height, self._settings.width)
        face = _nobody(self._pipe, self._config.clip_crop) if reference is None else self._condition(reference)
        pose = face.pose(size, self._factor) if reference is not None and settings.is_posed else None
        (picture,) = self._pipe(
            (self.fed(prompt),), [face], None, pose, settings.scales, settings.sampling,
            settings.negative_prompt, (seed,), size,
        )  # fmt: skip
        return picture

    def _condition(self, reference: Reference) -> FaceCondition:
        points, crop = reference.face.landmarks_52, self._config.clip_crop
        return FaceCondition(
            identity_D=self._recogniser.embed(reference.rgb, points),
            clip_pixels_3SS=clip_pixels(reference.rgb, points, self._pipe.encoders.clip_side, crop),
            recogniser=self._recogniser.identity,
            clip_crop=crop,
            landmarks_52=points,
            box=reference.face.box,
            width=reference.rgb.shape[1],
            height=reference.rgb.shape[0],
        )


def _nobody(pipe: FaceMakeUpPipeline, crop: str) -> FaceCondition:
    """Return a face that a disabled adapter does not look at."""
    import numpy as np

    recogniser, side = pipe.model.config.recogniser, pipe.encoders.clip_side
    anybody = np.full(recogniser.width, recogniser.width**-0.5, np.float32)
    return FaceCondition(
        identity_D=anybody,
        clip_pixels_3SS=np.zeros((3, side, side), np.float32),
        recogniser=recogniser,
        clip_crop=crop,
        landmarks_52=np.zeros((5, 2)),
        box=(0.0, 0.0, 1.0, 1.0),
        width=1,
        height=1,
    )

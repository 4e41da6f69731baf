"""What the losses for the face are tried on: small photos of people who have several, and a tiny base.

The tiny base is random, but its VAE is taught these photos for a moment, so that what it decodes has a face at all.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.evaluation.ladder import Photo, _shrunk, chosen, found_photos
from curation.dataset.tar import write_tar
from facemakeup.config import ModelConfig, Recogniser
from facemakeup.data.prepare import View
from facemakeup.evaluation.panel import Panel
from facemakeup.faces.crop import Size, face_window
from facemakeup.faces.found import main_face
from facemakeup.faces.recognisers import MOBILEFACENET
from facemakeup.model import tiny_base
from facemakeup.train_config import TrainConfig
from filters.base import Filter, RgbImage
from filters.weights import catalogue

SIDE = tiny_base.SIDE
CAPTION = "a face with open eyes, a nose and a mouth"
"""The same for all: words for the attention loss, and nothing that tells people apart."""
NUM_VAE_STEPS, VAE_BATCH, VAE_RATE = 200, 8, 5e-3
KL_WEIGHT = 1e-5


def people_with_several(scratch: Path, detector: Filter) -> list[list[Photo]]:
    """Return people, each with two or more photos."""
    return [photos for photos in chosen(found_photos(scratch / "photos.npz", Panel(), detector)) if len(photos) > 1]


@dataclass(frozen=True)
class Made:
    """Where it all lies."""

    folder: Path

    @property
    def pattern(self) -> str:
        """The tar of the photos."""
        return str(self.folder / "tars" / "photos.tar")

    @property
    def people(self) -> Path:
        """Who is on them."""
        return self.folder / "tars" / "people.csv"

    @property
    def views(self) -> Path:
        """What of them is trained on, uint8 (N, S, S, 3)."""
        return self.folder / "views.npy"

    @property
    def base(self) -> Path:
        """The tiny base."""
        return self.folder / "base"

    @property
    def taught(self) -> Path:
        """How well its VAE gives the pictures back."""
        return self.folder / "taught.json"


def write_tars(made: Made, people: Sequence[Sequence[Photo]], detector: Filter) -> None:
    """Write the photos in a tar, who is on them, and the pictures that are trained on."""
    members, lines, views = list[tuple[str, bytes]](), ["uid,person"], list[RgbImage]()
    for person, photos in enumerate(people):
        for photo in photos:
            rgb, _ = _shrunk(photo)
            (evidence,) = detector.measure([rgb])
            face = main_face(evidence)
            if face is None:
                continue
            file = io.BytesIO()
            Image.fromarray(rgb).save(file, "JPEG", quality=95)
            uid = hashlib.sha256(file.getvalue()).hexdigest()[:32]
            fields = {
                "uid": uid, "caption": CAPTION, "width": rgb.shape[1], "height": rgb.shape[0],
                "face_box": list(face.box), "face_landmarks": list(face.landmarks),
            }  # fmt: skip
            members += [(f"{uid}.jpg", file.getvalue()), (f"{uid}.json", json.dumps(fields).encode())]
            lines.append(f"{uid},person {person}")
            window = face_window(face.box, rgb.shape[1], rgb.shape[0], 1.5, Size(SIDE, SIDE))
            views.append(View(window, Size(SIDE, SIDE), False).pixels(rgb))
    made.people.parent.mkdir(parents=True, exist_ok=True)
    write_tar(Path(made.pattern), members)
    np.save(made.views, np.stack(views))
    made.people.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_base(made: Made) -> None:
    """Write a tiny base whose VAE was taught these pictures, and how well it gives them back."""
    from diffusers import AutoencoderKL

    folder, views = tiny_base.write_base(made.base), np.load(made.views)
    pictures = torch.from_numpy(views).permute(0, 3, 1, 2).float() / 127.5 - 1
    vae = AutoencoderKL.from_pretrained(folder / "vae").train()
    optimizer = torch.optim.Adam(vae.parameters(), lr=VAE_RATE)
    draw = torch.Generator().manual_seed(0)
    for _ in range(NUM_VAE_STEPS):
        seen = pictures[torch.randint(len(pictures), (VAE_BATCH,), generator=draw)]
        posterior = vae.encode(seen).latent_dist
        told = vae.decode(posterior.mode()).sample
        loss = (told - seen).square().mean() + KL_WEIGHT * posterior.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    vae.eval()
    with torch.no_grad():
        latents = vae.encode(pictures).latent_dist.mode()
        error = float((vae.decode(latents).sample - pictures).square().mean().sqrt())
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    vae.save_pretrained(folder / "vae")
    taught = {"pixel_error_of_255": round(error * 127.5, 1), "scaling_factor": round(float(1 / latents.std()), 3)}
    made.taught.write_text(json.dumps(taught), encoding="utf-8")


def config_of(made: Made, num_steps: int, **tables: Any) -> TrainConfig:
    """Return the configuration of an arm; `tables` are what it changes."""
    known = next(entry for entry in catalogue() if entry.name == MOBILEFACENET)
    model = ModelConfig(
        base=str(made.base), image_encoder=str(made.base), image_encoder_subfolder="image_encoder",
        clip_width=tiny_base.CLIP_WIDTH, lora_rank=8, pose_channels=(8, 16, 16, 16),
        recogniser=Recogniser(name=MOBILEFACENET, width=128, sha256=known.sha256),
    )  # fmt: skip
    given: dict[str, Any] = {
        "name": "faces", "model": model.model_dump(),
        "data": {"global_batch": 8, "micro_batch": 8, "block": 16, "window": 4, "num_workers": 0},
        "crop": {"size": SIDE}, "faces": {"accept_noncommercial": True},
        "cache": {"folder": str(made.folder / "cache"), "latent_dtype": "float32"},
        "optim": {"learning_rate": 2e-3, "num_steps": num_steps, "num_warmup_steps": 10, "ema_decay": 0.0},
        "run": {"precision": "fp32"},
        "validation": {"apart": "photos", "num_samples": 12, "num_references": 0},
    }  # fmt: skip
    return TrainConfig.model_validate({**given, **tables})

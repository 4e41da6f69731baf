"""Does training with identity really teach identity? A small model, from scratch, that learns a few faces by heart.

    python -m benchmarks.training.memorise --data 'build/demo/run/pack/*.tar' [--device cuda] [--out build/memorise]
    python -m benchmarks.training.memorise --data 'build/demo/run/pack/*.tar' --tiny

Nothing is downloaded: a VAE (64 px to 8 x 8 latents) and a U-Net are trained from nothing on the faces of packed tars,
then `train` itself teaches the adapter on that base, `export` writes it, and every person is drawn by prompt, identity
and pose. FaceSim of what is drawn stands beside what the recogniser gives strangers, the base without the adapter
(floor) and the training picture at that size (ceiling). The people are those of the training: **memorised, for the
plumbing**; it says nothing of a person whom the model has not seen. The judge is the recogniser that also conditions.

For a GPU, where it should take minutes; nobody has run it on one yet. `--tiny` goes through all of it on a CPU in some
steps, which teach nothing. Writes OUT/memorise.json and OUT/grid.png; needs MobileFaceNet's weights.
"""

import argparse
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.provenance import commit, machine
from benchmarks.training.world import config_of
from facemakeup.config import ModelConfig, Recogniser
from facemakeup.data.batch import Batch
from facemakeup.data.caches import plan_of
from facemakeup.data.dataset import TarDataset, open_dataset
from facemakeup.evaluation.estimate import Failure, Floats
from facemakeup.evaluation.face_similarity import NO_FACE, calibrate, face_similarity
from facemakeup.faces.condition import FaceCondition
from facemakeup.faces.crop import Size
from facemakeup.faces.found import main_face
from facemakeup.faces.recognisers import MOBILEFACENET, FaceRecogniser, find_recogniser, load_recogniser
from facemakeup.inference.pipeline import FaceMakeUpPipeline
from facemakeup.model import tiny_base
from facemakeup.model.denoise import Sampling
from facemakeup.model.encoders import Encoders
from facemakeup.train_config import TrainConfig
from facemakeup.training.export_checkpoint import export_checkpoint
from facemakeup.training.train import train
from filters import faces
from filters.base import Filter, RgbImage

LABEL = "memorised, for the plumbing"
SIDE, LATENT_CHANNELS, JUDGED_SIDE = 64, 16, 256
MOBILEFACENET_WIDTH = 128


@dataclass(frozen=True)
class Sizes:
    """How large the networks are, and for how long each learns."""

    vae_channels: tuple[int, ...] = (64, 128, 256, 256)
    unet_channels: tuple[int, ...] = (192, 384)
    batch: int = 64
    vae_steps: int = 4000
    base_steps: int = 6000
    adapter_steps: int = 6000
    sampling_steps: int = 50
    num_people: int = 24


TINY = Sizes(
    (8, 16, 16, 16), (32, 64), batch=4, vae_steps=3, base_steps=3, adapter_steps=3, sampling_steps=2, num_people=2
)

DRAWN, FLOOR = "drawn", "the base without the adapter"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train all three, draw everybody, judge; return 0 where what is drawn is nearer than strangers and the floor."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.memorise", description=__doc__)
    parser.add_argument("--data", required=True, help="pattern of tars that `pack` wrote")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=Path("build/memorise"))
    parser.add_argument("--tiny", action="store_true", help="a few steps of a tiny model, on a CPU")
    options = parser.parse_args(arguments)
    sizes = TINY if options.tiny else Sizes()
    shutil.rmtree(options.out, ignore_errors=True)
    config = from_scratch(options.data, options.out, sizes, options.device)
    last = train(config, [options.data], options.out / "run", False, lambda progress: None)
    export_checkpoint(last.folder, options.out / "adapter")
    result = judged(config, options.data, options.out, sizes, options.device)
    result |= {"label": LABEL, "sizes": vars(sizes), "machine": machine(), "commit": commit()}
    (options.out / "memorise.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))
    drawn, floor = (result["rows"][name]["value"] for name in (DRAWN, FLOOR))
    below = [result["strangers"], *([] if floor is None else [floor])]  # captions alone may tell people apart, too
    return 0 if options.tiny or (drawn is not None and None not in below and drawn > max(below)) else 1


def from_scratch(pattern: str, out: Path, sizes: Sizes, device: str) -> TrainConfig:
    """Write a base whose VAE and U-Net have learned these faces, and return how an adapter is trained on it."""
    from diffusers import AutoencoderKL, UNet2DConditionModel

    base = tiny_base.write_base(out / "base")
    with tiny_base.seeded(0):
        settings = {**tiny_base.VAE, "block_out_channels": sizes.vae_channels, "latent_channels": LATENT_CHANNELS}
        vae = AutoencoderKL(**settings).to(device)
        channels = {"in_channels": LATENT_CHANNELS, "out_channels": LATENT_CHANNELS}
        unet = UNet2DConditionModel(**{**tiny_base.UNET, "block_out_channels": sizes.unet_channels, **channels}).to(
            device
        )
    vae.save_pretrained(base / "vae")
    unet.save_pretrained(base / "unet")
    config = _config(base, sizes)
    encoders = Encoders.load(config.model, device)
    dataset, _ = open_dataset([pattern], config, plan_of(config, encoders), out / "work")
    _learn(vae, sizes.vae_steps, dataset, device, lambda batch: _vae_loss(vae, batch.pixels))
    with torch.no_grad():
        latents = vae.encode(dataset[0].batch.to(torch.device(device)).pixels).latent_dist.mean
    vae.register_to_config(scaling_factor=float(1 / latents.std()))
    vae.save_pretrained(base / "vae")
    encoders = Encoders.load(config.model, device)
    _learn(unet, sizes.base_steps, dataset, device, lambda batch: _base_loss(unet, encoders, batch, config))
    unet.save_pretrained(base / "unet")
    return config


def judged(config: TrainConfig, pattern: str, out: Path, sizes: Sizes, device: str) -> dict[str, Any]:
    """Draw everybody with and without the adapter, and return FaceSim of both beside floor and ceiling."""
    pipe = FaceMakeUpPipeline.from_pretrained(out / "adapter", device=device)
    dataset, _ = open_dataset([pattern], config, plan_of(config, pipe.encoders), out / "work")
    shown = _people(dataset, sizes.num_people)
    finder, recogniser = faces.build(faces.Measure(), "cpu"), load_recogniser(config.model.recogniser, True)
    uids = [uid for uid, *_ in shown]
    references: list[Floats] = [face.identity_D for _, _, face, _, _ in shown]
    own = calibrate(np.stack(references), uids)
    rows, tiles = {}, [np.concatenate([picture for *_, picture in shown])]
    for name, enabled in ((DRAWN, True), (FLOOR, False), ("the training picture", None)):
        if enabled is not None:
            (pipe.enable_adapter if enabled else pipe.disable_adapter)()
        pictures = [
            picture if enabled is None else _drawn(pipe, caption, face, pose, sizes)
            for _, caption, face, pose, picture in shown
        ]
        vectors = [_vector(picture, finder, recogniser) for picture in pictures]
        rows[name] = face_similarity("std", uids, vectors, references, own, shares_conditioning=True).as_json()
        tiles.append(np.concatenate(pictures))
    Image.fromarray(np.concatenate(tiles[:3], axis=1)).save(out / "grid.png")
    return {"recogniser": MOBILEFACENET, "num_people": len(shown), "strangers": own.different, "rows": rows}


def _config(base: Path, sizes: Sizes) -> TrainConfig:
    weights = find_recogniser(MOBILEFACENET, accept_noncommercial=True)
    recogniser = Recogniser(name=MOBILEFACENET, width=MOBILEFACENET_WIDTH, sha256=weights.sha256)
    model = ModelConfig(
        base=str(base), image_encoder=str(base), image_encoder_subfolder="image_encoder",
        clip_width=tiny_base.CLIP_WIDTH, recogniser=recogniser, lora_rank=16, pose_channels=(16, 32, 64, 64),
    )  # fmt: skip
    steps, batch = sizes.adapter_steps, sizes.batch
    return config_of(
        model, None, data={"global_batch": batch, "micro_batch": batch}, crop={"size": SIDE},
        optim={"learning_rate": 5e-4, "num_steps": steps, "num_warmup_steps": steps // 20, "ema_decay": 0.999},
        checkpoint={"every": steps}, validation={"every": steps, "num_samples": 2, "num_references": 0},
    )  # fmt: skip


def _learn(network: Any, steps: int, dataset: TarDataset, device: str, loss_of: Callable[[Batch], Tensor]) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    network.train()
    for step, loaded in zip(range(steps), (dataset[number] for number in count()), strict=False):
        loss = loss_of(loaded.batch.to(torch.device(device)))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 200 == 0:
            print(f"{type(network).__name__} step {step}: {loss.item():.4f}", flush=True)
    network.eval()


def _vae_loss(vae: Any, pixels_BCHW: Tensor) -> Tensor:
    posterior = vae.encode(pixels_BCHW).latent_dist
    back = vae.decode(posterior.sample()).sample
    return (back - pixels_BCHW).abs().mean() + 1e-6 * posterior.kl().mean()


def _base_loss(unet: Any, encoders: Encoders, batch: Batch, config: TrainConfig) -> Tensor:
    """Return the base's own loss, by caption alone; one caption in ten is dropped."""
    objective = encoders.base.objective(config.optim)
    mean, logvar = encoders.base.moments(batch.pixels)
    latents, noise = encoders.base.sample(mean, logvar, torch.randn_like(mean)), torch.randn_like(mean)
    timesteps_B = torch.randint(0, int(objective.end), (len(latents),), device=latents.device)
    captions = [
        text if chance > 0.1 else "" for text, chance in zip(batch.captions, torch.rand(len(latents)), strict=True)
    ]
    told = encoders.base.prompt(captions, batch.frames)
    predicted = unet(objective.noisy(latents, noise, timesteps_B), timesteps_B, told["text_BLE"]).sample
    return torch.nn.functional.mse_loss(predicted, objective.target(latents, noise, timesteps_B))


Person = tuple[str, str, FaceCondition, RgbImage, RgbImage]
"""Uid, caption, face, pose map and training picture."""


def _people(dataset: TarDataset, num: int) -> list[Person]:
    """Return the first people of the training, each once."""
    found: dict[str, Person] = {}
    model = dataset.config.model
    for item in range(2 * num):
        batch = dataset[item].batch
        pixels = ((batch.pixels + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        pose = (batch.pose * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        for row, uid in enumerate(batch.uids):
            face = FaceCondition(
                batch.identity_BD[row].numpy(), batch.clip_pixels[row].numpy(), model.recogniser, model.clip_crop,
                np.zeros((5, 2)), (0.0, 0.0, 1.0, 1.0), SIDE, SIDE,
            )  # fmt: skip
            found.setdefault(uid, (uid, batch.captions[row], face, pose[row], np.ascontiguousarray(pixels[row])))
        if len(found) >= num:
            break
    return list(found.values())[:num]


def _drawn(pipe: FaceMakeUpPipeline, caption: str, face: FaceCondition, pose: RgbImage, sizes: Sizes) -> RgbImage:
    sampling = Sampling(num_steps=sizes.sampling_steps, guidance_scale=2.0)
    (picture,) = pipe([caption], [face], pose=pose, sampling=sampling, seeds=(0,), size=Size(SIDE, SIDE))
    return picture


def _vector(picture: RgbImage, finder: Filter, recogniser: FaceRecogniser) -> Floats | Failure:
    large = np.asarray(cv2.resize(picture, (JUDGED_SIDE, JUDGED_SIDE), interpolation=cv2.INTER_CUBIC), np.uint8)
    (evidence,) = finder.measure([large])
    face = main_face(evidence)
    return Failure(NO_FACE) if face is None else recogniser.embed(large, np.array(face.landmarks).reshape(5, 2))


if __name__ == "__main__":
    raise SystemExit(main())

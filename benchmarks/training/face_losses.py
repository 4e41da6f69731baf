"""What does each loss for the face, and each kind of reference, change on a tiny model? One arm each, else all alike.

    FACECAPTIONHQ_GOLD=... FACECAPTIONHQ_GOLD2=... python -m benchmarks.training.face_losses SCRATCH [ARM ...]

Photos of people who have several, 64 pixels, of which 12 are set aside; every arm sees the same samples, noise and
timesteps. All arms are then told of a person by *another* photo and asked for this one: what is said of errors, of
attention, and of faces in what is predicted where little noise is (an eighth of the way), means something on a tiny
model.
What it draws from noise alone are no faces, which a detector says, so what recognisers and the copy-paste score say of
these pictures is told beside how many have a face, and says nothing of the losses. Photos never leave their folders.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.provenance import RESULTS, commit, machine
from benchmarks.training.face_world import (
    SIDE,
    Made,
    config_of,
    people_with_several,
    write_base,
    write_tars,
)
from facemakeup.data.batch import Batch
from facemakeup.data.cache import fill_cache
from facemakeup.data.dataset import TarDataset
from facemakeup.data.order import Place
from facemakeup.data.people import people_of
from facemakeup.evaluation.copy_paste import copy_paste
from facemakeup.evaluation.stand_ins import FACERES, MOBILEFACE, Faceres, MobileFace
from facemakeup.faces.found import main_face
from facemakeup.faces.recognisers import MOBILEFACENET, FaceRecogniser, load_recogniser
from facemakeup.model.attention_loss import attention_loss
from facemakeup.model.denoise import AS_TRAINED, Conditions, Sampling, denoise
from facemakeup.model.face_regions import ellipse_shares, region_tokens
from facemakeup.model.loss import clean_latents
from facemakeup.training.trainer import Trainer, conditions
from filters import faces
from filters.base import RgbImage
from filters.weights import find_weights
from tests.facemakeup.runs import stepped, trainer_of

ARMS: dict[str, dict[str, Any]] = {
    "as before": {},
    "region": {"losses": {"region": {"weight": 4.0}}},
    "attention": {"losses": {"attention": {"weight": 0.1}}},
    "identity": {"losses": {"identity": {"weight": 0.5}}},
    "augmented view": {"reference": {"augment": True}},
    "another photo": {"reference": {"people": "PEOPLE"}},
}
"""What each changes. The attention loss weighs a hundred times what is published: a tiny run is that much shorter."""
LITTLE_NOISE, TIMES = 0.125, (0.125, 0.375, 0.625, 0.875)
NUM_DRAWN, NUM_DRAWING_STEPS, ENLARGED = 8, 10, 4


@dataclass(frozen=True)
class Questions:
    """Every photo as it is asked for, and the other photo of its person that tells who is on it."""

    asked: Batch
    told_by: Batch
    held_out: Tensor
    """Which photos no arm was trained on, bool."""
    judges: dict[str, FaceRecogniser]
    expected: dict[str, list[Any]]
    """By judge, the vector of each photo that is asked for."""
    detector: Any


def main() -> int:
    """Train the arms that are asked for, ask all the same, and write them into the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training.face_losses", description=__doc__)
    parser.add_argument("scratch", type=Path, help="what was made before is taken from here")
    parser.add_argument("arms", nargs="*", help="which arms; none is all; `photos` and `base` make these alone")
    parser.add_argument("--steps", type=int, default=80)
    options = parser.parse_args()
    torch.set_num_threads(1)
    detector, scratch, made = faces.build(faces.Measure(), "cpu"), options.scratch, Made(options.scratch)
    if not made.people.is_file():
        write_tars(made, people_with_several(scratch, detector), detector)
    if options.arms == ["photos"]:
        return 0
    if not made.taught.is_file():
        write_base(made)
    if options.arms == ["base"]:
        return 0
    configs = {name: config_of(made, options.steps, **_at(made, arm)) for name, arm in ARMS.items()}
    first, dataset = trainer_of(configs["as before"], made.pattern, scratch / "work")
    fill_cache(configs["as before"], [made.pattern], first.encoders, scratch / "work", lambda _: None)
    questions = _questions(dataset, made, detector, configs["as before"])
    for name in options.arms or ("untrained", *ARMS):
        _tell(name, _row(name, configs, made, scratch, first, questions), made, questions, options.steps)
    return 0


def _row(
    name: str, configs: dict[str, Any], made: Made, scratch: Path, first: Trainer, questions: Questions
) -> dict[str, Any]:
    if name == "untrained":
        return {**_answers(first, questions), "photos_through_the_vae": _ceiling(first, questions)}
    started = time.process_time()
    trainer, data = trainer_of(configs[name], made.pattern, scratch / "work")
    num_steps = configs[name].optim.num_steps
    stepped(trainer, data, num_steps)
    seconds = (time.process_time() - started) / num_steps
    return {**_answers(trainer, questions), "cpu_s_per_step": round(seconds, 3)}


def _tell(name: str, row: dict[str, Any], made: Made, questions: Questions, num_steps: int) -> None:
    """Write a row into the table, beside those of arms of as many steps."""
    path = RESULTS / "face_losses.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    rows = before.get("arms", {}) if before.get("num_steps") == num_steps else {}
    num, owner = len(questions.asked.uids), {"machine": machine(), "commit": commit()}
    known = {"num_photos": num, "num_held_out": int(questions.held_out.sum()), "num_steps": num_steps}
    result = {**known, "vae": json.loads(made.taught.read_text()), "arms": {**rows, name: row}, **owner}
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(name, json.dumps(row), file=sys.stderr, flush=True)


def _at(made: Made, arm: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(json.dumps(arm).replace('"PEOPLE"', json.dumps(str(made.people))))
    return told


def _questions(dataset: TarDataset, made: Made, detector: Any, config: Any) -> Questions:
    num = len(dataset.index)
    people = people_of(str(made.people), dataset.index.rows.key, np.zeros(0, np.int64))
    others = [next(people.others(row, np.random.default_rng(row))) for row in range(num)]
    trained = {dataset.order.seat(n, seat).row for n in range(4 * num // 8) for seat in range(8)}
    plain = dataset.referring(None).with_pixels(geometry=True)
    asked, told_by = (
        plain.load([Place(n, 0, row) for n, row in enumerate(rows)]).batch for rows in (range(num), others)
    )
    own = load_recogniser(config.model.recogniser, accept_noncommercial=True)
    judges: dict[str, Any] = {
        f"{MOBILEFACENET} (conditions, and is in the loss)": own,
        MOBILEFACE: MobileFace(find_weights(MOBILEFACE)),
        FACERES: Faceres(find_weights(FACERES)),
    }
    held_out = torch.tensor([row not in trained for row in range(num)])
    photos = list(zip(_rgb(asked.pixels), asked.landmarks_B52.double().numpy(), strict=True))
    expected = {name: [judge.embed(rgb, where) for rgb, where in photos] for name, judge in judges.items()}
    return Questions(asked, told_by, held_out, judges, expected, detector)


@torch.no_grad()
def _answers(trainer: Trainer, questions: Questions) -> dict[str, Any]:
    """Return what a model says of photos that were trained on and of others, told by another photo of the person."""
    trainer.model.eval()
    asked, told_by, base = questions.asked, questions.told_by, trainer.encoders.base
    mean, _ = base.moments(asked.pixels)
    latents = base.sample(mean, torch.full_like(mean, -30.0), torch.zeros_like(mean))
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    none = torch.zeros(len(latents), dtype=torch.bool)
    told = base.prompt(asked.captions, asked.frames)
    given = conditions(trainer.encoders, told, told_by.identity_BD, told_by.clip_pixels, none, asked.pose)
    shares = ellipse_shares(asked.boxes_B4, (SIDE, SIDE), tuple(latents.shape[2:]))  # type: ignore[arg-type]
    errors, decoded = [], latents
    for share in TIMES:
        times = torch.full((len(latents),), trainer.objective.at(share))
        noisy = trainer.objective.noisy(latents, noise, times)
        said = trainer.model(noisy, times, **given)
        errors.append((said - trainer.objective.target(latents, noise, times)).square().mean(dim=1))
        if share == LITTLE_NOISE:
            decoded = base.decode(clean_latents(said, noisy, times, trainer.objective))
    error_BHW = torch.stack(errors).mean(0)
    rows = {
        "loss": error_BHW.mean(dim=(1, 2)),
        "loss_in_the_face": (error_BHW * shares).sum(dim=(1, 2)) / shares.sum(dim=(1, 2)),
        "loss_around_it": (error_BHW * (1 - shares)).sum(dim=(1, 2)) / (1 - shares).sum(dim=(1, 2)),
        "attention_error": _attention_error(trainer, questions, latents, noise, given),
        **{f"likeness/{name}": value for name, value in _likeness(questions, decoded).items()},
    }
    answers: dict[str, Any] = {
        part: {name: round(float(value[which].mean()), 4) for name, value in rows.items()}
        for part, which in (("trained_on", ~questions.held_out), ("held_out", questions.held_out))
    }
    return {**answers, "drawn_from_noise": _drawn(trainer, questions, given)}


def _attention_error(trainer: Trainer, questions: Questions, latents: Tensor, noise: Tensor, given: Any) -> Tensor:
    """Return the attention loss itself, halfway to noise."""
    asked, model, base = questions.asked, trainer.model, trainer.encoders.base
    model.base.listen(model.network)
    times = torch.full((len(latents),), trainer.objective.at(0.5))
    with torch.enable_grad():
        model(trainer.objective.noisy(latents, noise, times), times, **given)
    maps = [spread.detach() for spread in model.base.heard(model.network)]
    tokens = region_tokens(asked.captions, base.spans(asked.captions))
    return attention_loss(maps, tokens, asked.boxes_B4, asked.landmarks_B52, (SIDE, SIDE), tuple(latents.shape[2:]))  # type: ignore[arg-type]


def _likeness(questions: Questions, pixels_BCHW: Tensor) -> dict[str, Tensor]:
    """Return the cosine of each picture's face with that of the photo that was asked for, by every judge."""
    places, likeness = questions.asked.landmarks_B52.double().numpy(), {}
    for name, judge in questions.judges.items():
        rows = zip(_rgb(pixels_BCHW), places, questions.expected[name], strict=True)
        likeness[name] = torch.tensor([float(judge.embed(rgb, where) @ expected) for rgb, where, expected in rows])
    return likeness


def _drawn(trainer: Trainer, questions: Questions, given: dict[str, Tensor]) -> dict[str, Any]:
    """Return how many pictures that are drawn from noise have a face, and what the copy-paste score says of all."""
    which = torch.nonzero(~questions.held_out).flatten()[:NUM_DRAWN]
    noise = torch.randn(len(which), 4, SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(2))
    told = {name: value[which] for name, value in given.items()}
    prompt = {name: told.pop(name) for name in set(told) - {"identity_BD", "clip_hidden_BNC", "pose_BCHW"}}
    sampling, sampler = (
        Sampling(num_steps=NUM_DRAWING_STEPS, guidance_scale=1),
        trainer.encoders.base.sampler(NUM_DRAWING_STEPS, SIDE, SIDE),
    )
    latents = denoise(trainer.model, sampler, noise, Conditions(prompt, **told), None, AS_TRAINED, sampling)
    drawn = _rgb(trainer.encoders.base.decode(latents))
    large = [np.ascontiguousarray(rgb.repeat(ENLARGED, 0).repeat(ENLARGED, 1)) for rgb in drawn]
    found = [main_face(evidence) is not None for evidence in questions.detector.measure(large)]
    judge, asked, told_by = questions.judges[MOBILEFACE], questions.asked, questions.told_by
    scores = []
    for number, rgb in zip(which.tolist(), drawn, strict=True):
        own, other = (_rgb(batch.pixels[number : number + 1])[0] for batch in (asked, told_by))
        where, elsewhere = (batch.landmarks_B52[number].double().numpy() for batch in (asked, told_by))
        scores.append(copy_paste(judge.embed(rgb, where), judge.embed(own, where), judge.embed(other, elsewhere)))
    known = [score for score in scores if score is not None]
    return {"num": len(drawn), "with_a_face": sum(found), f"copy_paste/{MOBILEFACE}": round(float(np.mean(known)), 4)}


@torch.no_grad()
def _ceiling(trainer: Trainer, questions: Questions) -> dict[str, float]:
    """Return the likeness of photos that only went through the VAE: more can no arm have."""
    base = trainer.encoders.base
    mean, _ = base.moments(questions.asked.pixels)
    through = base.decode(base.sample(mean, torch.full_like(mean, -30.0), torch.zeros_like(mean)))
    return {name: round(float(value.mean()), 4) for name, value in _likeness(questions, through).items()}


def _rgb(pixels_BCHW: Tensor) -> list[RgbImage]:
    values = ((pixels_BCHW + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return [np.ascontiguousarray(picture) for picture in values]


if __name__ == "__main__":
    raise SystemExit(main())

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from facemakeup.config import Recogniser
from facemakeup.data.batch import collate
from facemakeup.faces.recognisers import MOBILEFACENET, load_recogniser
from facemakeup.training.validate import Judges, fixed_loss, similarity_of, summary
from filters import faces
from filters.weights import catalogue
from tests.facemakeup.runs import run_config, trainer_of, write_tars
from tests.pictures import scene

REAL = next(entry for entry in catalogue() if entry.name == MOBILEFACENET)
needs_weights = pytest.mark.skipif("FACECAPTIONHQ_MODELS" not in os.environ, reason="FACECAPTIONHQ_MODELS is unset")


@needs_weights
def test_facesim_is_high_for_the_same_face_low_for_another_and_absent_where_there_is_none() -> None:
    import skimage

    recogniser = load_recogniser(Recogniser(name=REAL.name, width=128, sha256=REAL.sha256), accept_noncommercial=True)
    measure = faces.Measure(detector="centerface", weights="centerface", confidence_floor=0.3)
    judges = Judges(faces.build(measure, "cpu"), recogniser)
    astronaut, camera = skimage.data.astronaut(), np.stack([skimage.data.camera()] * 3, axis=-1)
    (evidence,) = judges.faces.measure([astronaut])
    identity = recogniser.embed(astronaut, np.array(evidence.faces[0].landmarks, dtype=np.float64).reshape(5, 2))
    same, other = (similarity_of(judges, picture, identity) for picture in (astronaut[:, ::-1].copy(), camera))
    assert same is not None and other is not None and same > 0.8 and other < 0.35
    assert similarity_of(judges, scene(1, 256, 256), identity) is None


def test_pictures_without_a_face_count_in_the_detection_rate_and_never_as_zero() -> None:
    numbers = summary([(0.5, 0.6), (0.5, None), (0.5, 0.2), (1.0, None)])
    assert numbers == {
        "detection_rate_at_0.5": pytest.approx(2 / 3), "facesim_at_0.5": pytest.approx(0.4), "detection_rate_at_1": 0.0,
    }  # fmt: skip


def test_the_fixed_loss_is_that_of_the_batches_whichever_way_they_are_cut(
    tmp_path: Path, base: Path, recogniser: Recogniser
) -> None:
    config = run_config(base, recogniser, data={"micro_batch": 4})
    trainer, dataset = trainer_of(config, write_tars(tmp_path / "tars"), tmp_path / "work")
    samples = [dataset.sample(dataset.order.seat(0, seat)) for seat in range(4)]
    whole = fixed_loss(trainer, [collate(samples, range(4))], config, torch.device("cpu"))
    parts = [collate(samples[:1], range(1)), collate(samples[1:], range(1, 4))]
    halves = fixed_loss(trainer, parts, config, torch.device("cpu"))
    assert whole[1].tolist() == halves[1].tolist() == [4.0, 4.0]
    assert torch.allclose(whole, halves, rtol=1e-5)
    assert whole[0, 0] != whole[0, 1]

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from facemakeup.config import Recogniser
from facemakeup.train_config import TrainConfig, ValidationSettings
from facemakeup.training.checkpoint import newest
from facemakeup.training.loop import CHECKPOINTS
from facemakeup.training.patience import VALIDATED, best_awaited, best_of
from facemakeup.training.tracking import LOG_NAME, MEASURED_BY, JsonLinesTracker
from tests.facemakeup.runs import run, run_config, write_tars
from tests.facemakeup.training.test_train import StopError, stop_at


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_wandb_gets_what_tensorboard_gets_without_a_network_and_pictures_if_they_may_go_there(
    tmp_path: Path, base: Path, recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "nowhere"))
    validation = {"every": 2, "num_references": 1, "scales": [1.0], "num_inference_steps": 1, "prompts": ["a face"]}
    plain = run_config(base, recogniser, optim={"num_steps": 2}, validation=validation)
    pattern = write_tars(tmp_path / "tars")
    kept = {}
    for pictures in (False, True):
        tracking = {"to": ["tensorboard", "wandb"], "wandb_pictures": pictures}
        out = tmp_path / str(pictures)
        run(TrainConfig.model_validate({**plain.model_dump(), "tracking": tracking}), pattern, out)
        (folder,) = (out / "wandb").glob("offline-run-*")
        (record,) = folder.glob("run-*.wandb")
        kept[pictures] = record.read_bytes(), list(folder.rglob("*.png"))
        assert list((out / "tensorboard").iterdir()) and (out / "wandb-id").read_text().strip() in record.name
        told = {name for line in (out / LOG_NAME).read_text().splitlines() for name in json.loads(line)}
        assert {"validation/detection_rate_at_1", "speed/samples_per_s", "validation/loss"} <= told
        assert all(name.encode() in kept[pictures][0] for name in told - {"time", "step", MEASURED_BY})
    assert not kept[False][1] and len(kept[True][1]) == 1


def test_the_best_validation_is_the_first_of_the_best_and_one_without_the_number_is_none(tmp_path: Path) -> None:
    log = tmp_path / LOG_NAME
    assert best_of(log, "validation/loss") is None
    losses, faces = [0.5, 0.3, 0.4, 0.3], [None, 0.1, 0.4, None]
    lines: list[dict[str, Any]] = [{"step": 1, "train/loss": 0.1}]
    for number, (loss, face) in enumerate(zip(losses, faces, strict=True)):
        lines.append({"step": 2 * number, "validation/loss": loss, "validation/facesim_at_1": face})
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, expected in (("validation/loss", (2, 0.3, 2)), ("validation/facesim_at_1", (4, 0.4, 1))):
        best = best_of(log, name)
        assert best is not None and (best.step, best.value, best.num_since) == expected


def test_validations_by_other_settings_are_not_compared(tmp_path: Path) -> None:
    before = ValidationSettings(patience=2, num_timesteps=1)
    now = before.model_copy(update={"num_timesteps": 4, "every": 1000, "patience": 3})
    assert before.digest == before.model_copy(update={"every": 1, "patience": None}).digest != now.digest
    for first, settings, losses in ((1, before, [0.1, 0.2]), (3, now, [0.9, 0.8, 0.85])):
        with closing(JsonLinesTracker(tmp_path / LOG_NAME, first, {VALIDATED: settings.digest})) as tracker:
            for number, loss in enumerate(losses):
                tracker.scalars(first + number, {VALIDATED: loss})
                tracker.scalars(first + number, {"train/loss": 1.0})
    lines = [json.loads(line) for line in (tmp_path / LOG_NAME).read_text().splitlines()]
    assert all((MEASURED_BY in line) == (VALIDATED in line) for line in lines)
    best = best_awaited(tmp_path / LOG_NAME, now)
    assert best is not None and (best.step, best.value, best.num_since) == (4, 0.8, 1)


@pytest.mark.slow
def test_a_run_whose_validations_get_no_better_ends_keeps_the_best_and_stays_ended(
    tmp_path: Path, base: Path, recogniser: Recogniser, caplog: pytest.LogCaptureFixture
) -> None:
    tables: dict[str, Any] = {
        "optim": {"num_steps": 40, "learning_rate": 0.3, "num_warmup_steps": 0, "ema_decay": 0.0},
        "checkpoint": {"every": 1, "keep": 2},
        "validation": {"every": 1, "patience": 3, "num_timesteps": 1, "num_samples": 2},
    }
    config, pattern = run_config(base, recogniser, **tables), write_tars(tmp_path / "tars")
    with pytest.raises(StopError):
        run(config, pattern, tmp_path / "out", on_step=stop_at(2))
    done = run(config, pattern, tmp_path / "out", resume=True)
    best = best_of(tmp_path / "out" / LOG_NAME, "validation/loss")
    assert best is not None and best.num_since == 3 and done.step == best.step + 3 < 40
    kept = sorted(int(path.name[5:]) for path in (tmp_path / "out" / CHECKPOINTS).glob("step-*"))
    assert kept == [best.step, done.step - 1, done.step]
    assert f"the run ends: validation/loss was best at step {best.step}" in caplog.text
    assert run(config, pattern, tmp_path / "out", resume=True).step == done.step
    found = newest(tmp_path / "out" / CHECKPOINTS)
    assert found is not None and found.step == done.step

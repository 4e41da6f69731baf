import json
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

import cli
from curation.errors import LeaseError, UsageError, VerificationError
from curation.storage.lease import hold
from facemakeup.config import DropTable, Recogniser
from facemakeup.faces.recognisers import RecogniserError
from facemakeup.faults import DataError
from facemakeup.train_config import OptimSettings, TrainConfig
from facemakeup.training.checkpoint import newest
from facemakeup.training.interruption import Interrupted
from facemakeup.training.loop import CHECKPOINTS, Progress
from facemakeup.training.schedule import learning_rate
from facemakeup.training.tracking import LOG_NAME
from tests.facemakeup import tiny
from tests.facemakeup.runs import largest_difference, run, run_config, same_bits, stepped, trainer_of, write_tars
from tests.facemakeup.tars import add_tiny_recogniser, packed_sample, write_packed
from tests.facemakeup.training.test_checkpoint import write_toml


@pytest.fixture
def pattern(tmp_path: Path) -> str:
    return write_tars(tmp_path / "tars")


@pytest.fixture
def config(base: Path, recogniser: Recogniser) -> TrainConfig:
    return run_config(base, recogniser)


def lines(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / LOG_NAME).read_text().splitlines()]


def validations(out: Path) -> list[tuple[float, float]]:
    return [(line["step"], line["validation/loss"]) for line in lines(out) if "validation/loss" in line]


class StopError(Exception):
    """Ends a run in the middle, as a crash would."""


def stop_at(step: int) -> Callable[[Progress], None]:
    def on_step(at: Progress) -> None:
        if at.step == step:
            raise StopError

    return on_step


@pytest.mark.slow
def test_a_run_that_is_stopped_and_resumed_equals_one_that_was_not_bit_for_bit(
    tmp_path: Path, config: TrainConfig, pattern: str
) -> None:
    whole = run(config, pattern, tmp_path / "whole")
    with pytest.raises(StopError):
        run(config, pattern, tmp_path / "halves", on_step=stop_at(5))
    left = newest(tmp_path / "halves" / CHECKPOINTS)
    assert left is not None and left.step == 4
    resumed = run(config, pattern, tmp_path / "halves", resume=True)
    one, other = whole.snapshot(), resumed.snapshot()
    for name in ("trainable", "ema", "optimizer"):
        assert same_bits(dict(getattr(one, name)), dict(getattr(other, name))), name
    assert (one.step, one.faults, one.num_seen, one.data_digest) == (6, {}, other.num_seen, other.data_digest)
    for first, second in zip(lines(tmp_path / "whole"), lines(tmp_path / "halves"), strict=True):
        timeless = {key for key in first if not key.startswith("speed") and key != "time"}
        assert {key: first[key] for key in timeless} == {key: second[key] for key in timeless}
    assert (one.step, len(lines(tmp_path / "whole"))) == (6, 7)


@pytest.mark.campaign
def test_a_run_with_reading_processes_gives_the_same_bits(tmp_path: Path, base: Path, recogniser: Recogniser) -> None:
    pattern = write_tars(tmp_path / "tars")
    states = [
        run(run_config(base, recogniser, data={"num_workers": n}, optim={"num_steps": 2}), pattern, tmp_path / str(n))
        for n in (0, 2)
    ]
    assert same_bits(states[0].weights(ema=False), states[1].weights(ema=False))


def test_only_the_declared_trainables_change_and_they_stay_fp32(
    tmp_path: Path, config: TrainConfig, pattern: str
) -> None:
    trainer, dataset = trainer_of(config, pattern, tmp_path / "work")
    before = {name: value.detach().clone() for name, value in trainer.model.named_parameters()}
    stepped(trainer, dataset, 3)
    changed = {name for name, value in trainer.model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == trainer.model.trainable_named_parameters().keys()
    snapshot = trainer.snapshot(3, {}, 12, "")
    assert snapshot.trainable.keys() == changed
    assert {value.dtype for value in snapshot.trainable.values()} == {torch.float32}
    next(iter(trainer.parameters.values())).data = next(iter(trainer.parameters.values())).data.half()
    with pytest.raises(TypeError, match="must stay float32"):
        trainer.snapshot(3, {}, 12, "")


@pytest.mark.slow
@pytest.mark.parametrize("micro_batch", [1, 2])
def test_accumulation_changes_nothing_beyond_rounding(
    tmp_path: Path, base: Path, recogniser: Recogniser, pattern: str, micro_batch: int
) -> None:
    states = []
    for size in (4, micro_batch):
        config = run_config(base, recogniser, data={"micro_batch": size}, optim={"learning_rate": 1e-4})
        trainer, dataset = trainer_of(config, pattern, tmp_path / "work")
        losses = torch.stack(stepped(trainer, dataset, 3))
        states.append((losses, trainer.snapshot(3, {}, 12, "").trainable))
    assert torch.allclose(states[0][0], states[1][0], atol=1e-5)
    assert largest_difference(dict(states[0][1]), dict(states[1][1])) < 1e-5


@pytest.mark.slow
def test_gradient_checkpointing_changes_nothing_beyond_rounding(
    tmp_path: Path, base: Path, recogniser: Recogniser, pattern: str
) -> None:
    states = []
    for on in (False, True):
        config = run_config(base, recogniser, run={"gradient_checkpointing": on})
        trainer, dataset = trainer_of(config, pattern, tmp_path / "work")
        stepped(trainer, dataset, 2)
        states.append(trainer.snapshot(2, {}, 8, "").trainable)
    assert largest_difference(dict(states[0]), dict(states[1])) < 1e-6


@pytest.mark.slow
def test_the_average_has_its_closed_form_and_soon_forgets_the_untrained_weights(
    tmp_path: Path, config: TrainConfig, pattern: str
) -> None:
    trainer, dataset = trainer_of(config, pattern, tmp_path / "work")
    history = [{name: value.detach().clone() for name, value in trainer.parameters.items()}]
    items = iter(range(100))
    for step in range(4):
        trainer.step(step, lambda: dataset[next(items)].batch, dataset.accumulation)
        history.append({name: value.detach().clone() for name, value in trainer.parameters.items()})
    assert trainer.ema is not None
    decays = [min(config.optim.ema_decay, (1 + n) / (10 + n)) for n in range(4)]
    assert decays[:2] == [0.1, 2 / 11]
    for name, value in trainer.ema.values.items():
        expected = history[0][name].double()
        for decay, past in zip(decays, history[1:], strict=True):
            expected = decay * expected + (1 - decay) * past[name].double()
        assert torch.allclose(value.double(), expected, atol=1e-6)
    before = {name: value.detach().clone() for name, value in trainer.parameters.items()}
    with trainer.ema.in_place_of(trainer.parameters):
        assert same_bits({n: v.detach() for n, v in trainer.parameters.items()}, trainer.ema.values)
    assert same_bits({name: value.detach() for name, value in trainer.parameters.items()}, before)


@pytest.mark.slow
def test_dropping_everything_leaves_no_trace_of_the_conditions(
    tmp_path: Path, base: Path, recogniser: Recogniser, pattern: str
) -> None:
    config = run_config(base, recogniser).model_copy(
        update={"drop": DropTable(both=1, text=0, image=0, clip=1, pose=1)}
    )
    trainer, dataset = trainer_of(config, pattern, tmp_path / "work")
    batch, other = dataset[0].batch, dataset[1].batch
    swapped = replace(
        batch, captions=other.captions, identity_BD=other.identity_BD, faces_BSSC=other.faces_BSSC,
        pose_places_N=other.pose_places_N, pose_colours_N3=other.pose_colours_N3,
    )  # fmt: skip
    again, _ = trainer_of(config, pattern, tmp_path / "work")
    assert torch.equal(trainer.step(0, lambda: batch, 1).per_sample_B, again.step(0, lambda: swapped, 1).per_sample_B)


@pytest.mark.slow
def test_a_second_run_in_a_folder_needs_resume_and_the_same_settings_and_data(
    tmp_path: Path, base: Path, recogniser: Recogniser, pattern: str
) -> None:
    out = tmp_path / "out"
    config = run_config(base, recogniser, optim={"num_steps": 2})
    run(config, pattern, out)
    with pytest.raises(UsageError, match="holds a run at step 2; add --resume"):
        run(config, pattern, out)
    other = run_config(base, recogniser, optim={"num_steps": 2, "learning_rate": 5e-4})
    with pytest.raises(UsageError, match=r"optim\.learning_rate was 0\.001, is 0\.0005"):
        run(other, pattern, out, resume=True)
    more = write_tars(tmp_path / "tars", 22)
    with pytest.raises(UsageError, match="other tars"):
        run(config, more, out, resume=True)
    with hold(out), pytest.raises(LeaseError, match="held by another run"):
        run(config, pattern, out, resume=True)


@pytest.mark.slow
def test_a_failing_validation_costs_no_checkpoint_and_a_validation_set_that_cannot_be_read_stops_a_run_at_its_start(
    tmp_path: Path, base: Path, recogniser: Recogniser
) -> None:
    write_packed(tmp_path / "tars", [packed_sample(n) for n in range(16)])
    pattern, first = f"{tmp_path}/tars/*.tar", tmp_path / "tars/jpg-00000.tar"
    content = first.read_bytes()
    tables: dict[str, Any] = {"optim": {"num_steps": 2}, "validation": {"choice": "first", "every": 2}}
    config = run_config(base, recogniser, **tables)

    def tear(at: Progress) -> None:
        if at.step == 2:
            os.truncate(first, 0)

    with pytest.raises(DataError, match=r"jpg-00000\.tar.*torn_tar"):
        run(config, pattern, tmp_path / "out", on_step=tear)
    left = newest(tmp_path / "out" / CHECKPOINTS)
    assert left is not None and left.step == 2
    first.write_bytes(content)
    run(config, pattern, tmp_path / "out", resume=True)
    run(config, pattern, tmp_path / "out", resume=True)
    assert [step for step, _ in validations(tmp_path / "out")] == [2]
    write_packed(tmp_path / "bad", [packed_sample(n, face_landmarks=None) for n in range(40, 44)])
    outside = run_config(base, recogniser, validation={"data": [f"{tmp_path}/bad/*.tar"]})
    whole = write_tars(tmp_path / "whole", 30)
    with pytest.raises(DataError, match=r"the validation set: .*no_face"):
        run(outside, whole, tmp_path / "none")
    assert not (tmp_path / "none" / CHECKPOINTS).exists()


def test_another_recogniser_is_refused_before_any_step(tmp_path: Path, config: TrainConfig, pattern: str) -> None:
    add_tiny_recogniser(tmp_path, seed=4)
    with pytest.raises(RecogniserError, match="sha256"):
        run(config, pattern, tmp_path / "out")


@pytest.mark.slow
def test_faults_are_written_with_names_and_too_many_stop_the_run(
    tmp_path: Path, base: Path, recogniser: Recogniser
) -> None:
    samples = [packed_sample(n, face_landmarks=None) if n % 3 == 1 else packed_sample(n) for n in range(24)]
    write_packed(tmp_path / "tars", samples)
    pattern = f"{tmp_path}/tars/*.tar"
    forgiving = run_config(base, recogniser, data={"max_fault_fraction": 0.9}, optim={"num_steps": 4})
    done = run(forgiving, pattern, tmp_path / "a")
    written = [json.loads(line) for line in (tmp_path / "a/faults.jsonl").read_text().splitlines()]
    assert done.record["faults"] == {"no_face": len(written)} and written
    assert {line["reason"] for line in written} == {"no_face"}
    assert all(line["shard"].endswith(".tar") and line["key"] for line in written)
    strict = run_config(base, recogniser, data={"max_fault_fraction": 0.1, "min_faults": 1})
    with pytest.raises(DataError, match=r"cannot be used \(no_face"):
        run(strict, pattern, tmp_path / "b")


@pytest.mark.slow
def test_validation_gives_the_same_numbers_and_grid_each_time_and_leaves_the_model_as_it_was(
    tmp_path: Path, base: Path, recogniser: Recogniser, pattern: str
) -> None:
    validation = {"every": 1, "num_references": 2, "scales": [0.5, 1.0], "facesim": False, "num_inference_steps": 1}
    config = run_config(base, recogniser, validation=validation, optim={"num_steps": 2})
    first = run(config, pattern, tmp_path / "a")
    second = run(config, pattern, tmp_path / "b")
    unseen = run(run_config(base, recogniser, optim={"num_steps": 2}), pattern, tmp_path / "c")
    numbers = [[line["validation/loss"] for line in lines(tmp_path / x) if "validation/loss" in line] for x in "ab"]
    assert len(numbers[0]) == 2 and numbers[0] == numbers[1] and numbers[0][0] != numbers[0][1]
    assert all("validation/loss_of_last" in line for line in lines(tmp_path / "a") if "validation/loss" in line)
    assert same_bits(first.weights(ema=False), second.weights(ema=False))
    assert same_bits(first.weights(ema=False), unseen.weights(ema=False))
    grids = [_grids(tmp_path / x / "tensorboard") for x in "ab"]
    assert grids[0] == grids[1] and len(grids[0]) == 2
    width, height = grids[0][0][0]
    assert (width, height) == (64 * (2 + 2 * 2), 64 * 2)


def _grids(folder: Path) -> list[tuple[tuple[int, int], bytes]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return [((g.width, g.height), g.encoded_image_string) for g in events.Images("validation/grid")]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.25, 0.5, 0.75, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.25, 0.5, 0.75, 1.0, 1.0, 0.853553, 0.5, 0.146447]),
    ],
)
def test_the_learning_rate_warms_up_and_then_follows_its_schedule(schedule: str, expected: list[float]) -> None:
    optim = OptimSettings.model_validate(
        {"learning_rate": 1.0, "num_steps": 8, "num_warmup_steps": 4, "schedule": schedule}
    )
    assert [learning_rate(optim, step) for step in range(8)] == pytest.approx(expected, abs=1e-6)


@pytest.mark.slow
def test_a_signal_ends_the_step_saves_the_state_and_resuming_changes_no_bit_and_loses_no_validation(
    tmp_path: Path, base: Path, recogniser: Recogniser, pattern: str
) -> None:
    config = run_config(base, recogniser, optim={"num_steps": 4}, checkpoint={"every": 100}, validation={"every": 3})

    def terminated_at_three(at: Progress) -> None:
        if at.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted) as stopped:
        run(config, pattern, tmp_path / "out", on_step=terminated_at_three)
    assert stopped.value.exit_code == 143
    left = newest(tmp_path / "out" / CHECKPOINTS)
    assert left is not None and left.step == 3
    resumed = run(config, pattern, tmp_path / "out", resume=True)
    assert same_bits(resumed.weights(ema=False), run(config, pattern, tmp_path / "whole").weights(ema=False))
    assert validations(tmp_path / "out") == validations(tmp_path / "whole")
    assert [step for step, _ in validations(tmp_path / "out")] == [3, 4]


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(tmp_path: Path, base: Path, recogniser: Recogniser, pattern: str) -> None:
    toml = write_toml(tmp_path / "long.toml", run_config(base, recogniser, optim={"num_steps": 5000}))
    log, is_over = tmp_path / "out" / LOG_NAME, Event()

    def press_ctrl_c() -> None:
        while not (log.is_file() and log.stat().st_size) and not is_over.wait(0.01):
            pass
        if not is_over.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    watcher = Thread(target=press_ctrl_c)
    watcher.start()
    try:
        done = CliRunner().invoke(cli.app, ["train", str(toml), "--data", pattern, "--out", str(tmp_path / "out")])
    finally:
        is_over.set()
        watcher.join()
    assert done.exit_code == 130, done.stderr
    left = newest(tmp_path / "out" / CHECKPOINTS)
    assert left is not None
    said = f"SIGINT after step {left.step}, which is saved; type the same command with --resume to go on"
    assert said in " ".join(done.stderr.split())


@pytest.mark.slow
def test_a_state_of_another_base_or_of_another_model_is_not_taken_up(
    tmp_path: Path, base: Path, recogniser: Recogniser
) -> None:
    pattern = write_tars(tmp_path / "tars")
    trainer, dataset = trainer_of(run_config(base, recogniser), pattern, tmp_path / "work")
    stepped(trainer, dataset, 1)
    snapshot = trainer.snapshot(1, {}, 4, "d")
    trainer.restore(snapshot)
    other, _ = trainer_of(run_config(tiny.write_base(tmp_path / "other", seed=9), recogniser), pattern, tmp_path / "w")
    with pytest.raises(UsageError, match="are others than step 1 was trained beside"):
        other.restore(snapshot)
    other.restore(replace(snapshot, frozen_digest=""))  # of an earlier release
    name = next(iter(snapshot.trainable))
    for change, message in (
        (
            {"trainable": {**snapshot.trainable, name: torch.zeros(1)}},
            f"its weights are not those .*'{name}'",
        ),
        (
            {"ema": {n: v for n, v in snapshot.ema.items() if n != name}},
            f"its average are not those .*'{name}'",
        ),
        (
            {"optimizer": {**snapshot.optimizer, "exp_avg/renamed": torch.zeros(1)}},
            "has moments of .*renamed",
        ),
    ):
        with pytest.raises(VerificationError, match=message):
            trainer.restore(replace(snapshot, **change))  # type: ignore[arg-type]

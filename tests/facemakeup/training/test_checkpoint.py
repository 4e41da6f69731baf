import json
import random
import resource
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from curation.errors import StorageError, UsageError, VerificationError
from curation.storage.publish import digest, record_of
from facemakeup.config import Recogniser
from facemakeup.model.finite import NonFiniteError
from facemakeup.train_config import TrainConfig, load_config
from facemakeup.training.checkpoint import (
    EMA_NAME,
    OPTIMIZER_NAME,
    RECORD_NAME,
    TRAINABLE_NAME,
    Snapshot,
    newest,
    read,
    require_resumable,
    save,
    save_tensors,
    step_of,
)
from facemakeup.training.checkpoint import save_rng as save_generators
from facemakeup.training.loop import CHECKPOINTS
from tests.facemakeup import processes
from tests.facemakeup.runs import TABLES, run, same_bits, write_tars
from tests.facemakeup.tiny import tiny_config

FILES = (TRAINABLE_NAME, EMA_NAME, OPTIMIZER_NAME, RECORD_NAME, "rng-00000.pt")


@pytest.fixture
def config(base: Path, recogniser: Recogniser) -> TrainConfig:
    return TrainConfig(name="short", model=tiny_config(base, recogniser=recogniser))


def snapshot(step: int) -> Snapshot:
    values = {"a": torch.full((3,), float(step)), "b": torch.arange(4.0) + step}
    moments = {f"{moment}/{name}": value.clone() for moment in ("step", "exp_avg") for name, value in values.items()}
    return Snapshot(step, values, values, moments, {"no_face": 2}, 40 * step, "d")


def saved(folder: Path, config: TrainConfig, *steps: int, keep: int = 3) -> Path:
    for step in steps:
        save_generators(folder, step, 0)
        save(folder, snapshot(step), config, num_ranks=1, keep=keep)
    return folder


def test_what_is_saved_is_read_back_bit_for_bit_with_its_config(tmp_path: Path, config: TrainConfig) -> None:
    found = newest(saved(tmp_path, config, 2))
    assert found is not None
    back, expected = found.snapshot(), snapshot(2)
    for name in ("trainable", "ema", "optimizer"):
        assert same_bits(dict(getattr(back, name)), dict(getattr(expected, name)))
    assert (back.step, back.faults, back.num_seen, back.data_digest) == (2, {"no_face": 2}, 80, "d")
    assert found.config == config and found.record["recogniser"]["width"] == 32
    assert not list(tmp_path.rglob("_tmp"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path: Path, config: TrainConfig, name: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    saved(tmp_path, config, 2, 4)
    path = tmp_path / "step-00000004" / name
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    else:
        content[len(content) // 2] ^= 0x01
        path.write_bytes(content[: len(content) // 2] if damage == "cut" else content)
    found = newest(tmp_path)
    assert found is not None and found.step == 2
    assert "fell back to" in caplog.text and "step-00000004" in caplog.text


def test_where_no_checkpoint_is_whole_the_error_names_them_and_where_none_is_begun_there_is_none(
    tmp_path: Path, config: TrainConfig
) -> None:
    assert newest(tmp_path / "nowhere") is None
    saved(tmp_path, config, 2)
    (tmp_path / "step-00000002" / EMA_NAME).write_bytes(b"")
    with pytest.raises(VerificationError, match=r"no checkpoint is whole.*ema\.safetensors"):
        newest(tmp_path)


@pytest.mark.parametrize("num_files", range(4))
def test_a_kill_between_the_files_of_the_first_checkpoint_leaves_a_run_that_begins_anew(
    tmp_path: Path, config: TrainConfig, num_files: int
) -> None:
    whole = saved(tmp_path / "whole", config, 2) / "step-00000002"
    torn = tmp_path / "torn" / "step-00000002"
    torn.mkdir(parents=True)
    for name in FILES[-1:] + FILES[:num_files]:
        if name != RECORD_NAME:
            shutil.copy(whole / name, torn / name)
    assert newest(torn.parent) is None
    assert newest(saved(torn.parent, config, 2)) is not None


def test_only_the_newest_stay_and_what_an_earlier_resume_overtook_goes(tmp_path: Path, config: TrainConfig) -> None:
    saved(tmp_path, config, 2, 4, 6, 8, keep=2)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000006", "step-00000008"]
    saved(tmp_path, config, 7, keep=2)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000006", "step-00000007"]


def test_what_cannot_be_saved_leaves_nothing_behind_and_the_last_good_one_stays(
    tmp_path: Path, config: TrainConfig
) -> None:
    saved(tmp_path, config, 2, 4, keep=2)
    bad = snapshot(6)
    bad = replace(bad, trainable={**bad.trainable, "a": torch.tensor([1.0, float("nan")])})
    save_generators(tmp_path, 6, 0)
    with pytest.raises(NonFiniteError, match=r"step-00000006: trainable: 1 of 2 tensors are not finite, such as a"):
        save(tmp_path, bad, config, num_ranks=1, keep=2)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000002", "step-00000004"]
    (tmp_path / "step-00000003").mkdir()
    saved(tmp_path, config, 6, keep=2)
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000004", "step-00000006"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    large = replace(snapshot(8), trainable={"a": torch.zeros(1 << 16)})
    save_generators(tmp_path, 8, 0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(StorageError, match=r"step-00000008/trainable\.safetensors: could not be written"):
            save(tmp_path, large, config, num_ranks=1, keep=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert sorted(path.name for path in tmp_path.glob("step-*")) == ["step-00000004", "step-00000006"]


def rewritten(folder: Path, **changes: Any) -> None:
    """Change the record of a checkpoint, and seal it anew."""
    record = {**json.loads((folder / RECORD_NAME).read_text()), **changes}
    record.pop("digest")
    (folder / RECORD_NAME).write_text(json.dumps({**record, "digest": digest(record)}))


def test_a_checkpoint_of_an_earlier_release_goes_on_as_it_began_or_is_refused_with_the_setting(
    tmp_path: Path, config: TrainConfig
) -> None:
    folder = saved(tmp_path, config, 2) / "step-00000002"
    values = config.model_dump(mode="json")
    for table, key in (("model", "clip_crop"), ("optim", "ema_warmup"), ("validation", "choice")):
        values[table].pop(key)
    rewritten(folder, format_version=1, config=values, config_digest="another")
    found = read(folder)
    with pytest.raises(UsageError, match=r"model\.clip_crop was 'arcface-512', is 'insightface-512'"):
        require_resumable(found, config, "d")
    before: dict[str, dict[str, Any]] = {
        "model": {"clip_crop": "arcface-512"}, "optim": {"ema_warmup": False}, "validation": {"choice": "first"},
    }  # fmt: skip
    tables = {name: {**values[name], **table} for name, table in before.items()}
    require_resumable(found, TrainConfig.model_validate({**values, **tables}), "d")
    rewritten(folder, format_version=3)
    with pytest.raises(VerificationError, match="format 3; this code reads up to 2"):
        read(folder)


def test_a_checkpoint_of_an_earlier_release_that_is_not_finite_is_passed_over(
    tmp_path: Path, config: TrainConfig, caplog: pytest.LogCaptureFixture
) -> None:
    saved(tmp_path, config, 2, 4)
    folder = tmp_path / "step-00000004"
    save_tensors({"a": torch.tensor([float("inf")])}, folder / TRAINABLE_NAME)
    record = json.loads((folder / RECORD_NAME).read_text())
    rewritten(folder, files={**record["files"], TRAINABLE_NAME: vars(record_of(folder / TRAINABLE_NAME))})
    found = newest(tmp_path)
    assert found is not None and found.step == 2 and "not finite" in caplog.text


def test_nothing_in_a_checkpoint_is_executed_when_it_is_read(tmp_path: Path, config: TrainConfig) -> None:
    import pickle

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.write_text, (tmp_path / "sprung", "!"))

    folder = saved(tmp_path, config, 2) / "step-00000002"
    torch.save(Trap(), folder / "rng-00000.pt")
    record = json.loads((folder / RECORD_NAME).read_text())
    found = record_of(folder / "rng-00000.pt")
    record["files"]["rng-00000.pt"] = {"sha256": found.sha256, "num_bytes": found.num_bytes}
    record["digest"] = digest({name: value for name, value in record.items() if name != "digest"})
    (folder / RECORD_NAME).write_text(json.dumps(record))
    with pytest.raises(pickle.UnpicklingError):
        read(folder).restore_rng(0)
    assert not (tmp_path / "sprung").exists()


def test_generators_come_back_as_they_were(tmp_path: Path, config: TrainConfig) -> None:
    import numpy as np

    found = newest(saved(tmp_path, config, 2))
    assert found is not None

    def drawn() -> tuple[float, float, float]:
        return float(torch.rand(())), random.random(), float(np.random.rand())

    first = drawn()
    found.restore_rng(0)
    assert drawn() == first


def write_toml(path: Path, config: TrainConfig) -> Path:
    """Write a configuration as a user would."""
    dumped = config.model_dump(mode="json", exclude_none=True)
    lines = [f"{key} = {json.dumps(value)}" for key, value in dumped.items() if not isinstance(value, dict)]

    def table(name: str, values: dict[str, object]) -> None:
        lines.append(f"[{name}]")
        lines.extend(f"{key} = {json.dumps(value)}" for key, value in values.items() if not isinstance(value, dict))
        for key, value in values.items():
            if isinstance(value, dict):
                table(f"{name}.{key}", value)

    for key, value in dumped.items():
        if isinstance(value, dict):
            table(key, value)
    path.write_text("\n".join(lines) + "\n")
    assert load_config(path) == config
    return path


def start(config: Path, pattern: str, out: Path, *options: str, dies_at: str | None = None) -> processes.Command:
    words = ["train", str(config), "--data", pattern, "--out", str(out), *options]
    return processes.start(words, out.parent / "talk", dies_at)


def kill_after(command: processes.Command, line: str, seconds: float) -> None:
    """Send SIGKILL once `line` is in what the process says, and `seconds` have passed."""
    while line not in command.warned and command.process.is_alive():
        time.sleep(0.01)
    time.sleep(seconds)
    command.kill()


def short(config: TrainConfig, base: Path, num_steps: int = 6) -> TrainConfig:
    tables = {**TABLES, "optim": {**TABLES["optim"], "num_steps": num_steps}}
    return TrainConfig.model_validate({"name": "short", "seed": 5, "model": config.model.model_dump(), **tables})


@pytest.mark.slow
def test_a_run_that_is_killed_and_resumed_from_the_command_line_equals_one_that_was_not(
    tmp_path: Path, base: Path, config: TrainConfig
) -> None:
    brief = short(config, base)
    pattern, toml = write_tars(tmp_path / "tars"), write_toml(tmp_path / "short.toml", brief)
    whole = run(brief, pattern, tmp_path / "whole")
    killed = start(toml, pattern, tmp_path / "killed", dies_at="step 5 of 6")
    assert killed.end() == -signal.SIGKILL, killed.warned
    left = newest(tmp_path / "killed" / CHECKPOINTS)
    assert left is not None and left.step == 4
    resumed = start(toml, pattern, tmp_path / "killed", "--resume")
    assert resumed.end() == 0, resumed.warned
    assert resumed.said.strip().endswith("step-00000006")
    found = newest(tmp_path / "killed" / CHECKPOINTS)
    assert found is not None
    for name in ("trainable", "ema", "optimizer"):
        assert same_bits(dict(getattr(found.snapshot(), name)), dict(getattr(whole.snapshot(), name))), name


@pytest.mark.campaign
def test_twelve_kills_at_any_moment_change_no_bit(tmp_path: Path, base: Path, config: TrainConfig) -> None:
    brief = short(config, base, num_steps=16)
    pattern, toml = write_tars(tmp_path / "tars"), write_toml(tmp_path / "short.toml", brief)
    whole = run(brief, pattern, tmp_path / "whole")
    chance = random.Random(0)
    for _ in range(12):
        kill_after(start(toml, pattern, tmp_path / "killed", "--resume"), "step ", chance.uniform(0, 1.5))
    last = start(toml, pattern, tmp_path / "killed", "--resume")
    assert last.end() == 0, last.warned
    found = newest(tmp_path / "killed" / CHECKPOINTS)
    assert found is not None
    assert same_bits(dict(found.snapshot().trainable), dict(whole.snapshot().trainable))
    assert same_bits(dict(found.snapshot().optimizer), dict(whole.snapshot().optimizer))


def test_a_copy_that_somebody_made_beside_the_checkpoints_is_neither_taken_for_one_nor_removed(
    tmp_path: Path, config: TrainConfig
) -> None:
    saved(tmp_path, config, 2)
    for name in ("step-00000002-best", "step-notes", "step-2"):
        shutil.copytree(tmp_path / "step-00000002", tmp_path / name)
    found = newest(saved(tmp_path, config, 4, 6, 8, keep=2))
    assert found is not None and found.step == 8
    kept = sorted(folder.name for folder in tmp_path.glob("step-*"))
    assert kept == ["step-00000002-best", "step-00000006", "step-00000008", "step-2", "step-notes"]
    assert [step_of(tmp_path / name) for name in ("step-00000008", "step-123456789", "step-8")] == [8, 123456789, None]

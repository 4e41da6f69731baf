"""Runs that go on elsewhere: on another number of processes, or on another machine from an object store."""

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curation.errors import LeaseError, UsageError, VerificationError
from curation.storage.lease import hold
from curation.storage.publish import digest
from facemakeup.config import Recogniser
from facemakeup.train_config import TrainConfig
from facemakeup.training.checkpoint import RECORD_NAME, TRAINABLE_NAME, newest
from facemakeup.training.loop import CHECKPOINTS
from facemakeup.training.mirror import Mirror
from facemakeup.training.patience import best_awaited
from facemakeup.training.tracking import LOG_NAME
from facemakeup.training.train import require_same_step
from tests.curation.buckets import s3_bucket
from tests.facemakeup import processes
from tests.facemakeup.runs import largest_difference, run, run_config, same_bits, write_tars
from tests.facemakeup.tiny import tiny_config
from tests.facemakeup.training.test_checkpoint import saved, write_toml
from tests.facemakeup.training.test_sharding import MOST, ended, launched
from tests.facemakeup.training.test_train import StopError, lines, stop_at


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    pytest.importorskip("s3fs", reason="the extra s3 is not installed")
    with s3_bucket(monkeypatch) as root:
        yield root


@pytest.mark.slow
def test_a_run_goes_on_with_fewer_processes_and_with_more_as_if_nothing_had_been(
    tmp_path: Path, base: Path, recogniser: Recogniser
) -> None:
    pattern = write_tars(tmp_path / "tars")
    tables: dict[str, Any] = {"data": {"micro_batch": 1}, "optim": {"num_steps": 6, "learning_rate": 1e-4}}
    config = run_config(base, recogniser, **tables)
    whole, out, toml = run(config, pattern, tmp_path / "whole"), tmp_path / "out", tmp_path / "pair.toml"
    write_toml(toml, config)
    ranks = launched(toml, [pattern] * 2, out)
    while "step 2 of" not in ranks[0].warned and ranks[0].process.is_alive():
        time.sleep(0.05)
    os.kill(ranks[0].process.pid or 0, signal.SIGTERM)
    first = ended(ranks, out, 128 + signal.SIGTERM)
    assert 2 <= first.step < 5 and len([n for n in first.record["files"] if n.startswith("rng")]) == 2
    with pytest.raises(StopError):
        run(config, pattern, out, resume=True, on_step=stop_at(first.step + 2))
    alone = newest(out / CHECKPOINTS)
    assert alone is not None and alone.step > first.step
    last = ended(launched(toml, [pattern] * 2, out), out, 0)
    assert last.step == 6 and len([n for n in last.record["files"] if n.startswith("rng")]) == 2
    one, other = whole.snapshot(), last.snapshot()
    for name in ("trainable", "ema"):
        assert largest_difference(dict(getattr(one, name)), dict(getattr(other, name))) < MOST, name
    assert one.num_seen == other.num_seen
    told = [
        [line["train/loss"] for line in lines(folder) if "train/loss" in line] for folder in (tmp_path / "whole", out)
    ]
    assert told[1] == pytest.approx(told[0], abs=1e-5) and len(set(told[0])) == 6


@pytest.mark.slow
def test_a_run_from_a_store_to_a_store_that_is_killed_while_it_sends_a_checkpoint_goes_on_elsewhere_from_the_one_before(
    tmp_path: Path, base: Path, recogniser: Recogniser, bucket: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from moto.s3.responses import S3Response

    config = run_config(base, recogniser)
    local = write_tars(tmp_path / "tars")
    for tar in (tmp_path / "tars").glob("*.tar"):
        (bucket / "data" / tar.name).write_bytes(tar.read_bytes())
    data, there, put = f"{bucket / 'data'}/*.tar", bucket / "checkpoints", S3Response._key_response_put
    words = ["train", str(write_toml(tmp_path / "run.toml", config)), "--data", data, "--checkpoints", str(there)]
    killed = processes.start([*words, "--out", str(tmp_path / "here")], tmp_path / "talk")

    def killing(self: Any, query: Any, key: str) -> Any:
        if key.endswith("step-00000004/optimizer.safetensors"):
            os.kill(killed.process.pid or 0, signal.SIGKILL)
        return put(self, query, key)

    monkeypatch.setattr(S3Response, "_key_response_put", killing)
    assert killed.end() == -signal.SIGKILL, killed.warned
    assert Mirror(there).steps() == [2]
    monkeypatch.setattr(S3Response, "_key_response_put", put)
    with pytest.raises(UsageError, match=r"checkpoints: holds a run at step 2; add --resume"):
        run(config, data, tmp_path / "elsewhere", checkpoints=there)
    resumed = run(config, data, tmp_path / "elsewhere", resume=True, checkpoints=there)
    whole = run(config, local, tmp_path / "whole")
    assert resumed.step == 6 and Mirror(there).steps() == [6, 4]
    assert same_bits(dict(resumed.snapshot().trainable), dict(whole.snapshot().trainable))
    with hold(there), pytest.raises(LeaseError, match="held by another run"):
        run(config, data, tmp_path / "elsewhere", resume=True, checkpoints=there)


def test_what_goes_to_a_mirror_comes_back_whole_and_what_was_damaged_there_is_passed_over(
    tmp_path: Path, base: Path, recogniser: Recogniser, caplog: pytest.LogCaptureFixture
) -> None:
    config = TrainConfig(name="short", model=tiny_config(base, recogniser=recogniser))
    own, mirror = saved(tmp_path / "own", config, 2, 4, 6), Mirror(tmp_path / "there")
    for step in (2, 4, 6):
        mirror.send(own, step, keep=2, best=2)
    assert mirror.steps() == [6, 4, 2]
    mirror.send(own, 4, keep=2)
    assert mirror.steps() == [4, 2]
    mirror.send(own, 6, keep=2)
    before = (tmp_path / "there/step-00000006" / RECORD_NAME).stat().st_mtime_ns
    mirror.send(own, 6, keep=2)
    assert (tmp_path / "there/step-00000006" / RECORD_NAME).stat().st_mtime_ns == before
    (tmp_path / "there/step-00000006" / TRAINABLE_NAME).write_bytes(b"")
    mirror.fetch(tmp_path / "new", config)
    found = newest(tmp_path / "new")
    assert found is not None and found.step == 4 and "fell back to" in caplog.text
    assert same_bits(dict(found.snapshot().optimizer), dict(newest(own).snapshot().optimizer)) is False  # type: ignore[union-attr]
    shutil.rmtree(tmp_path / "there/step-00000004")
    with pytest.raises(VerificationError, match="no checkpoint is whole"):
        mirror.fetch(tmp_path / "other", config)
    mirror.fetch(own, config)
    assert newest(own).step == 6  # type: ignore[union-attr]


def test_the_second_place_of_another_run_is_refused_and_nothing_changes_there(
    tmp_path: Path, base: Path, recogniser: Recogniser
) -> None:
    config = TrainConfig(name="short", model=tiny_config(base, recogniser=recogniser))
    own, mirror = saved(tmp_path / "own", config, 2, 4), Mirror(tmp_path / "there")
    mirror.send(own, 2)
    mirror.send(own, 4)
    other = config.model_copy(update={"seed": config.seed + 1})
    for folder in (own, tmp_path / "of a new machine"):
        with pytest.raises(UsageError, match="trained with other settings"):
            mirror.fetch(folder, other)
        assert newest(folder) is None or folder == own
        mirror.fetch(folder, config)
    record = json.loads((own / "step-00000004" / RECORD_NAME).read_text())
    del record["digest"]
    record["data_digest"] = "of other tars"
    (own / "step-00000004" / RECORD_NAME).write_text(json.dumps({**record, "digest": digest(record)}))
    with pytest.raises(UsageError, match="trained on other tars"):
        mirror.fetch(own, config)
    assert mirror.steps() == [4, 2]
    (tmp_path / "there/step-00000004" / RECORD_NAME).write_text("{torn")
    mirror.fetch(tmp_path / "of another machine", config)
    assert newest(tmp_path / "of another machine").step == 2  # type: ignore[union-attr]


def test_a_torn_record_in_the_second_place_counts_as_none(tmp_path: Path, base: Path, recogniser: Recogniser) -> None:
    config = TrainConfig(name="short", model=tiny_config(base, recogniser=recogniser))
    own, mirror = saved(tmp_path / "own", config, 2, 4, 6, keep=9), Mirror(tmp_path / "there")
    for step in (2, 4, 6):
        mirror.send(own, step)
    (tmp_path / "there/step-00000006" / RECORD_NAME).write_text("{torn")
    mirror.send(own, 6)
    mirror.fetch(tmp_path / "new", config)
    assert newest(tmp_path / "new").step == 6  # type: ignore[union-attr]
    for step, torn in ((2, "{"), (4, "[]")):  # a torn one does not take the place of a whole one
        (tmp_path / f"there/step-{step:08d}" / RECORD_NAME).write_text(torn)
    (tmp_path / "there/step-00000004-mine").mkdir()
    (tmp_path / "there/step-00000004-mine" / RECORD_NAME).write_text("{}")
    saved(own, config, 8, keep=9)
    mirror.send(own, 8, keep=2, best=2)
    assert mirror.steps() == [8, 6, 2] and (tmp_path / "there/step-00000004-mine").is_dir()
    mirror.fetch(tmp_path / "third", config)
    assert json.loads((tmp_path / "there/step-00000002" / RECORD_NAME).read_text())["step"] == 2


def test_the_best_validation_and_its_checkpoint_are_known_on_another_machine(
    tmp_path: Path, base: Path, recogniser: Recogniser
) -> None:
    waiting: dict[str, Any] = {"validation": {"every": 1, "patience": 9}, "checkpoint": {"every": 1}}
    config, log = run_config(base, recogniser, **waiting), tmp_path / "own" / LOG_NAME
    own, mirror = saved(tmp_path / "own" / CHECKPOINTS, config, 2, 4, 6, keep=9), Mirror(tmp_path / "there")
    told = [{"step": step, "validation/loss": loss} for step, loss in ((2, 1.0), (4, 2.0), (6, 3.0), (8, 0.5))]
    log.write_text("".join(f"{json.dumps(line)}\n" for line in told) + '{"step": 9, "validat')
    mirror.send_log(log)
    mirror.send(own, 6, keep=1, best=2)  # a mirror that is new has the best, too
    assert mirror.steps() == [6, 2]
    new = tmp_path / "new" / CHECKPOINTS
    mirror.fetch(new, config, new.parent / LOG_NAME)
    assert sorted(folder.name for folder in new.iterdir()) == ["step-00000002", "step-00000006"]
    best = best_awaited(new.parent / LOG_NAME, config.validation, 6)
    assert best is not None and (best.step, best.num_since) == (2, 2)
    shutil.rmtree(new / "step-00000002")
    shutil.rmtree(new / "step-00000006")
    (tmp_path / "there/step-00000002" / TRAINABLE_NAME).write_bytes(b"")
    mirror.fetch(new, config, new.parent / LOG_NAME)  # a best one that is damaged keeps nobody from going on
    assert [folder.name for folder in new.iterdir()] == ["step-00000006"]


@pytest.mark.slow
def test_a_run_that_goes_on_on_another_machine_keeps_the_best_validation_s_checkpoint(
    tmp_path: Path, base: Path, recogniser: Recogniser
) -> None:
    validation = {"every": 1, "patience": 9, "num_timesteps": 1, "num_samples": 2}
    optim = {"num_steps": 4, "learning_rate": 5.0, "num_warmup_steps": 0, "ema_decay": 0.0}  # it gets worse
    config = run_config(base, recogniser, validation=validation, optim=optim, checkpoint={"every": 1})
    pattern, there = write_tars(tmp_path / "tars", 8), tmp_path / "there"
    with pytest.raises(StopError):
        run(config, pattern, tmp_path / "lost", on_step=stop_at(4), checkpoints=there)
    run(config, pattern, tmp_path / "new", resume=True, checkpoints=there)
    best = best_awaited(tmp_path / "new" / LOG_NAME, config.validation)
    assert best is not None and best.step < 3
    own = sorted(folder.name for folder in (tmp_path / "new" / CHECKPOINTS).iterdir())
    assert Mirror(there).steps() == [4, 3, best.step] and own[0] == f"step-{best.step:08d}" and len(own) == 3
    assert [line["step"] for line in lines(tmp_path / "new") if "validation/loss" in line] == [1, 2, 3, 4]


def test_processes_that_see_different_checkpoints_do_not_go_on_from_them(tmp_path: Path) -> None:
    require_same_step([4, 4], tmp_path)
    require_same_step([None, None], tmp_path)
    with pytest.raises(UsageError, match=r"not the same for all processes \(process 0: 4, process 1: none\)"):
        require_same_step([4, None], tmp_path)


def test_a_run_whose_own_checkpoints_are_damaged_goes_on_from_the_second_place(
    tmp_path: Path, base: Path, recogniser: Recogniser
) -> None:
    config = TrainConfig(name="short", model=tiny_config(base, recogniser=recogniser))
    own, mirror = saved(tmp_path / "own", config, 2), Mirror(tmp_path / "there")
    mirror.send(own, 2)
    (own / "step-00000002" / TRAINABLE_NAME).write_bytes(b"")
    mirror.fetch(own, config)
    assert newest(own).step == 2  # type: ignore[union-attr]

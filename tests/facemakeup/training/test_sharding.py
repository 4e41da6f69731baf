import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from facemakeup.config import Recogniser
from facemakeup.faults import DataError
from facemakeup.training.checkpoint import Checkpoint, newest
from facemakeup.training.loop import CHECKPOINTS
from tests.facemakeup import processes
from tests.facemakeup.runs import largest_difference, poisoned, run, run_config, stepped, trainer_of, write_tars
from tests.facemakeup.training.test_checkpoint import write_toml
from tests.ports import free_ports

MOST = 1e-6


def launched(toml: Path, patterns: list[str], out: Path) -> list[processes.Command]:
    """Begin a training with a process per pattern that talk over gloo, as `accelerate launch` starts them."""
    world = len(patterns)
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_ports(1)[0])}
    return [
        processes.start(
            ["train", str(toml), "--data", pattern, "--out", str(out), "--resume"], out.parent / f"talk-{rank}",
            **shared, ACCELERATE_USE_CPU="true", RANK=str(rank), LOCAL_RANK=str(rank),
        )
        for rank, pattern in enumerate(patterns)
    ]  # fmt: skip


def ended(ranks: list[processes.Command], out: Path, exit_code: int) -> Checkpoint:
    """Wait until all processes have left with an exit code, and return the last checkpoint."""
    try:
        for rank in ranks:
            assert rank.end() == exit_code, rank.warned
    finally:
        for rank in ranks:
            rank.kill()
    found = newest(out / CHECKPOINTS)
    assert found is not None
    return found


@pytest.mark.slow
def test_two_processes_train_what_one_trains_with_accumulation(
    tmp_path: Path, base: Path, recogniser: Recogniser
) -> None:
    pattern = write_tars(tmp_path / "tars")
    changes: dict[str, Any] = {"data": {"micro_batch": 1}, "optim": {"num_steps": 3, "learning_rate": 1e-4}}
    config = run_config(base, recogniser, **changes)
    alone = run(config, pattern, tmp_path / "alone")
    out = tmp_path / "pair"
    both = ended(launched(write_toml(tmp_path / "pair.toml", config), [pattern] * 2, out), out, 0)
    assert both.step == alone.step == 3 and len([n for n in both.record["files"] if n.startswith("rng")]) == 2
    one, other = alone.snapshot(), both.snapshot()
    assert largest_difference(dict(one.trainable), dict(other.trainable)) < MOST
    assert largest_difference(dict(one.ema), dict(other.ema)) < MOST
    assert one.num_seen == other.num_seen


@pytest.mark.slow
def test_sharded_processes_validate_without_a_trace_leave_out_the_same_steps_and_save_when_one_of_them_is_terminated(
    tmp_path: Path, base: Path, recogniser: Recogniser
) -> None:
    pattern = write_tars(tmp_path / "tars", poison={3, 9, 14})
    changes: dict[str, Any] = {"data": {"micro_batch": 1}, "optim": {"num_steps": 500, "learning_rate": 1e-4}}
    tables = {**changes, "validation": {"every": 1, "num_samples": 2, "num_timesteps": 1}}
    bad = poisoned(base, tmp_path / "base")
    pair = run_config(bad, recogniser, **tables, run={"fsdp": True}, checkpoint={"every": 1000})
    out = tmp_path / "pair"
    ranks = launched(write_toml(tmp_path / "pair.toml", pair), [pattern] * 2, out)
    while "step 5 of" not in ranks[0].warned and ranks[0].process.is_alive():
        time.sleep(0.05)
    os.kill(ranks[1].process.pid or 0, signal.SIGTERM)
    both = ended(ranks, out, 128 + signal.SIGTERM)
    assert both.step >= 5 and both.record["num_skipped"] > 0
    trainer, dataset = trainer_of(run_config(bad, recogniser, **tables), pattern, tmp_path / "work")
    stepped(trainer, dataset, both.step)
    alone = trainer.snapshot(both.step, {}, 0, "")
    assert largest_difference(dict(alone.trainable), dict(both.snapshot().trainable)) < MOST


@pytest.mark.slow
def test_a_process_that_fails_alone_ends_the_other_with_its_reason_and_its_exit_code(
    tmp_path: Path, base: Path, recogniser: Recogniser
) -> None:
    patterns = [write_tars(tmp_path / name) for name in ("first", "second")]
    changes: dict[str, Any] = {"data": {"micro_batch": 1}, "optim": {"num_steps": 500}, "checkpoint": {"every": 1000}}
    ranks = launched(
        write_toml(tmp_path / "pair.toml", run_config(base, recogniser, **changes)), patterns, tmp_path / "out"
    )
    while "step 1 of" not in ranks[0].warned and ranks[0].process.is_alive():
        time.sleep(0.05)
    for tar in (tmp_path / "second").glob("*.tar"):
        os.truncate(tar, 0)
    try:
        assert [rank.end() for rank in ranks] == [DataError.exit_code] * 2
    finally:
        for rank in ranks:
            rank.kill()
    own = r"50 samples in a row cannot be used, the last: .*/second/jpg-0000\d\.tar: [0-9a-f]{32}: torn_tar"
    assert re.search(rf"facecaptionhq: {own}", ranks[1].warned)
    assert re.search(rf"facecaptionhq: process 1 of this run failed: {own}", ranks[0].warned)

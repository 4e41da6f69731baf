from pathlib import Path
from typing import Any

import pytest

from facemakeup.config import Recogniser
from facemakeup.training.checkpoint import Checkpoint, newest
from facemakeup.training.train import CHECKPOINTS
from tests.facemakeup import processes
from tests.facemakeup.runs import largest_difference, run, run_config, write_tars
from tests.facemakeup.training.test_checkpoint import write_toml
from tests.ports import free_ports

MOST = 1e-6


def launched(toml: Path, pattern: str, out: Path, world: int) -> Checkpoint:
    """Train with `world` processes that talk over gloo, as `accelerate launch` starts them."""
    words = ["train", str(toml), "--data", pattern, "--out", str(out), "--resume"]
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_ports(1)[0])}
    ranks = [
        processes.start(
            words, out.parent / f"talk-{rank}", **shared,
            ACCELERATE_USE_CPU="true", RANK=str(rank), LOCAL_RANK=str(rank),
        )
        for rank in range(world)
    ]  # fmt: skip
    try:
        for rank in ranks:
            assert rank.end() == 0, rank.warned
    finally:
        for rank in ranks:
            rank.kill()
    found = newest(out / CHECKPOINTS)
    assert found is not None
    return found


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [False, pytest.param(True, marks=pytest.mark.campaign)])
def test_two_processes_train_what_one_trains_with_accumulation(
    tmp_path: Path, base: Path, recogniser: Recogniser, fsdp: bool
) -> None:
    pattern = write_tars(tmp_path / "tars")
    changes: dict[str, Any] = {"data": {"micro_batch": 1}, "optim": {"num_steps": 3, "learning_rate": 1e-4}}
    alone = run(run_config(base, recogniser, **changes), pattern, tmp_path / "alone")
    pair = run_config(base, recogniser, **changes, run={"fsdp": fsdp})
    both = launched(write_toml(tmp_path / "pair.toml", pair), pattern, tmp_path / "pair", world=2)
    assert both.step == alone.step == 3 and len([n for n in both.record["files"] if n.startswith("rng")]) == 2
    one, other = alone.snapshot(), both.snapshot()
    assert largest_difference(dict(one.trainable), dict(other.trainable)) < MOST
    assert largest_difference(dict(one.ema), dict(other.ema)) < MOST
    assert one.num_seen == other.num_seen

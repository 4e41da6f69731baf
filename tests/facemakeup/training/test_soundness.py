import json
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator

from facemakeup.config import Recogniser
from facemakeup.model.finite import NonFiniteError
from facemakeup.training.checkpoint import newest
from facemakeup.training.loop import CHECKPOINTS
from facemakeup.training.ranks import Ranks
from facemakeup.training.soundness import SKIPPED_NAME, Skips, change_if
from facemakeup.training.tracking import LOG_NAME
from tests.facemakeup.runs import poisoned, run, run_config, write_tars
from tests.facemakeup.tars import packed_sample


@pytest.mark.slow
def test_steps_without_a_finite_gradient_are_left_out_counted_and_named(
    tmp_path: Path, base: Path, recogniser: Recogniser
) -> None:
    config = run_config(poisoned(base, tmp_path / "base"), recogniser, optim={"num_steps": 5})
    done = run(config, write_tars(tmp_path / "tars", poison={3, 9, 14}), tmp_path / "out")
    named = [json.loads(line) for line in (tmp_path / "out" / SKIPPED_NAME).read_text().splitlines()]
    assert 0 < len(named) == done.record["num_skipped"] < 5
    poison = {packed_sample(n)[0][0].partition(".")[0] for n in (3, 9, 14)}
    assert all(len(line["uids"]) == 4 and poison & set(line["uids"]) for line in named)
    found = done.snapshot()
    assert all(torch.isfinite(value).all() for group in (found.trainable, found.ema) for value in group.values())
    assert {float(v) for name, v in found.optimizer.items() if name.startswith("step/")} == {5.0 - len(named)}
    log = [json.loads(line) for line in (tmp_path / "out" / LOG_NAME).read_text().splitlines()]
    assert [line["train/loss"] is None for line in log if "train/loss" in line] == [
        step in {line["step"] for line in named} for step in range(1, 6)
    ]


@pytest.mark.slow
def test_steps_that_stay_without_a_finite_gradient_stop_the_run_and_no_checkpoint_is_written_or_lost(
    tmp_path: Path, base: Path, recogniser: Recogniser
) -> None:
    bad = poisoned(base, tmp_path / "base")
    tables = {"optim": {"num_steps": 9}, "run": {"max_nonfinite_in_a_row": 3, "log_every": 100}}
    config = run_config(bad, recogniser, **tables).model_copy(update={"drop": "reference"})
    pattern = write_tars(tmp_path / "tars", poison=range(20))
    with pytest.raises(NonFiniteError, match=r"steps 1 to 3: the gradient of 3 steps in a row.*[0-9a-f]{32}"):
        run(config, pattern, tmp_path / "out")
    left = newest(tmp_path / "out" / CHECKPOINTS)
    assert left is not None and left.step == 2


def test_a_row_that_ended_before_the_look_is_named_as_a_row_and_nothing_is_said_of_the_weights(tmp_path: Path) -> None:
    skips = Skips(Ranks(Accelerator(cpu=True)), tmp_path, most_in_a_row=3)
    with pytest.raises(NonFiniteError, match=r"^steps 2 to 4: .*these samples of step 4: u4$") as stopped:
        for step, sound in enumerate([True, False, False, False, True, True], start=1):
            skips.took(step, torch.tensor(sound), (f"u{step}",))
    assert "weights" not in str(stopped.value)


@pytest.mark.parametrize("fused", [False, True])
def test_an_optimiser_changes_nothing_where_the_gradient_is_not_finite(fused: bool) -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=fused)
    weight.grad = torch.full((3,), 0.5)
    change_if(torch.tensor(True), optimizer)
    before = [weight.detach().clone(), *(value.clone() for value in optimizer.state[weight].values())]
    assert before[0].max() < 1
    weight.grad = torch.tensor([0.5, float("nan"), 0.5])
    change_if(torch.tensor(False), optimizer)
    after = [weight.detach(), *optimizer.state[weight].values()]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))

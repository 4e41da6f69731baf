import json
from pathlib import Path

import pytest
import torch

from benchmarks.training import train_budget
from benchmarks.training.activations import activations
from facemakeup.model import skeleton
from tests.facemakeup.tiny import tiny_config, tiny_inputs, tiny_model, write_base

RESULT = json.loads(train_budget.RESULT.read_text())


def test_the_training_page_shows_the_committed_figures() -> None:
    page = train_budget.PAGE.read_text()
    shown = page.split(train_budget.BEGIN)[1].split(train_budget.END)[0].strip()
    assert shown == train_budget.table(RESULT)
    assert RESULT["computed"] is True and RESULT["timed"] is False


@pytest.mark.slow
def test_the_committed_flops_of_the_base_are_those_of_its_configuration() -> None:
    batch = train_budget.inputs()
    unet = skeleton.network(skeleton.sd15_config())
    with torch.no_grad():
        gflops = train_budget.counted(
            lambda: unet(batch["noisy_latents_BCHW"], batch["timesteps_B"], batch["text_BLE"])
        )
    assert round(gflops, 1) == RESULT["gflops"]["base_unet"] == 803.3


@pytest.mark.campaign
def test_all_committed_flops_are_those_of_the_real_configuration() -> None:
    gflops = train_budget.flops_by_part(skeleton.face_makeup(skeleton.sd15_config()))
    assert {name: round(value, 1) for name, value in gflops.items()} == RESULT["gflops"]
    assert gflops["base_unet"] == pytest.approx(803, abs=1) and gflops["posenet"] == pytest.approx(281, abs=1)
    assert 2 < gflops["step"] / (gflops["adapted_unet"] + gflops["posenet"]) < 3


@pytest.mark.slow
def test_activations_are_what_autograd_really_keeps_but_for_fused_attention(tmp_path: Path) -> None:
    model_config = tiny_config(write_base(tmp_path))
    model = tiny_model(model_config)
    parameters = {parameter.data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in parameters:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    inputs = tiny_inputs(1)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(**inputs)
    real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    lean = {name: value.to("meta") for name, value in inputs.items()}
    counted = activations(tiny_model(model_config).to("meta"), lean, checkpointing=False)
    assert counted == pytest.approx(real, rel=0.15)
    assert activations(tiny_model(model_config).to("meta"), lean, checkpointing=True) < 0.8 * counted


def test_more_dropping_means_less_work_for_clip() -> None:
    assert train_budget.clip_share() == 0.45

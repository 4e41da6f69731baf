import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from facemakeup.config import ModelConfig, Recogniser
from facemakeup.data.dataset import batches
from facemakeup.model.send import Beside
from facemakeup.training.ema import MovingAverage
from tests.facemakeup.runs import run_config, trainer_of, write_tars
from tests.facemakeup.tiny import tiny_inputs, tiny_model, trained

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU of CUDA is here")


@needs_gpu
@pytest.mark.parametrize("cached", [False, True])
def test_no_step_waits_for_the_gpu(tmp_path: Path, base: Path, recogniser: Recogniser, cached: bool) -> None:
    from facemakeup.data.cache import fill_cache

    tables: dict[str, Any] = {"run": {"precision": "bf16"}, "optim": {"ema_decay": 0.99}}
    cache: dict[str, Any] = {"cache": {"folder": str(tmp_path / "cache")}} if cached else {}
    config = run_config(base, recogniser, **tables, **cache)
    pattern = write_tars(tmp_path / "tars")
    trainer, dataset = trainer_of(config, pattern, tmp_path / "work", device="cuda")
    if cached:
        fill_cache(config, [pattern], trainer.encoders, tmp_path / "work", lambda _: None)
    stream, copies = batches(dataset, 0, 0), Beside(torch.device("cuda"))
    loaded = [next(stream).batch for _ in range(5 * dataset.accumulation)]

    def step(number: int) -> None:
        trainer.step(number, lambda: copies.send(loaded.pop(0)), dataset.accumulation)

    for number in range(2):
        step(number)
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for number in range(2, 5):
            step(number)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert not loaded


def test_weights_with_channels_innermost_predict_and_learn_the_same_beyond_rounding(model_config: ModelConfig) -> None:
    model, inputs = trained(tiny_model(model_config)), tiny_inputs()
    other, frozen = copy.deepcopy(model), copy.deepcopy(model)
    other.keep_channels_last(frozen_only=False)
    frozen.keep_channels_last(frozen_only=True)
    assert not other.posenet.conv_in.weight.is_contiguous() and frozen.posenet.conv_in.weight.is_contiguous()
    assert not frozen.network.conv_in.weight.is_contiguous()
    outputs = [each(**inputs) for each in (model, other)]
    assert (outputs[0] - outputs[1]).abs().max() < 1e-5
    for output in outputs:
        output.square().mean().backward()
    own, changed = model.trainable_named_parameters(), other.trainable_named_parameters()
    assert own.keys() == changed.keys()
    for name, parameter in own.items():
        assert torch.equal(parameter, changed[name])
        torch.testing.assert_close(parameter.grad, changed[name].grad, rtol=1e-3, atol=1e-6)


def test_every_block_that_repeats_is_compiled_and_nothing_else(
    model_config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, given = tiny_model(model_config), []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module, **options: given.append((module, options)))
    model.compile_parts(by_block=True, backend="eager")
    names = {type(module).__name__ for module, _ in given}
    assert names == {"ResnetBlock2D", "BasicTransformerBlock"}
    assert all(options == {"dynamic": False, "backend": "eager"} for _, options in given)
    model.compile_parts()
    assert [module for module, _ in given[-2:]] == [model.network, model.posenet] and len(given) > 10


def test_the_average_is_the_same_taken_at_once_or_one_by_one() -> None:
    draw = torch.Generator().manual_seed(0)
    parameters = {str(n): torch.nn.Parameter(torch.randn(7, n + 1, generator=draw)) for n in range(4)}
    average = MovingAverage(parameters)
    expected = {name: value.clone() for name, value in average.values.items()}
    for decay in (0.1, 0.9999):
        with torch.no_grad():
            for name, value in parameters.items():
                value.add_(torch.randn(value.shape, generator=draw))
                expected[name].lerp_(value, 1 - decay)
        average.update(parameters, decay)
    assert all(torch.equal(average.values[name], value) for name, value in expected.items())

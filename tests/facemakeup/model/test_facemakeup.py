import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from facemakeup.config import ModelConfig
from facemakeup.model.bases import base_of
from facemakeup.model.facemakeup import FaceMakeUp
from tests.facemakeup import tiny
from tests.facemakeup.tiny import tiny_inputs, tiny_model, trained


def base_output(model_config: ModelConfig, inputs: dict[str, Tensor]) -> Tensor:
    out: Tensor = (
        base_of(model_config).load()(inputs["noisy_latents_BCHW"], inputs["timesteps_B"], inputs["text_BLE"]).sample
    )
    return out


def zero_gradients(model: FaceMakeUp) -> set[str]:
    named = model.trainable_named_parameters()
    assert all(parameter.grad is not None for parameter in named.values())
    return {name for name, parameter in named.items() if not parameter.grad.any()}  # type: ignore[union-attr]


def take_steps(
    model: FaceMakeUp, num_steps: int, lr: float = 1e-3, inputs: dict[str, Tensor] | None = None
) -> list[float]:
    """Fit one fixed target with AdamW and return the losses; the last gradients stay."""
    inputs = inputs or tiny_inputs(4)
    target = torch.randn(inputs["noisy_latents_BCHW"].shape, generator=torch.Generator().manual_seed(9))
    optimiser = torch.optim.AdamW(model.trainable_named_parameters().values(), lr=lr)
    losses = []
    for _ in range(num_steps):
        optimiser.zero_grad()
        loss = (model(**inputs) - target).square().mean()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_at_the_start_scale_0_is_the_base_to_the_last_bit_and_scale_1_is_not(model_config: ModelConfig) -> None:
    model, inputs = tiny_model(model_config), tiny_inputs()
    with torch.no_grad():
        expected = base_output(model_config, inputs)
        live = model(**inputs)
        model.set_scales(face=0)
        off = model(**inputs)
    assert (off - expected).abs().max() == 0
    assert (live - expected).abs().max() > 0.05


def test_after_training_all_three_scales_at_0_are_the_base_and_the_face_scale_alone_is_not(
    model_config: ModelConfig,
) -> None:
    model, inputs = trained(tiny_model(model_config)), tiny_inputs()
    with torch.no_grad():
        expected = base_output(model_config, inputs)
        model.set_scales(face=0, lora=0)
        assert torch.equal(model(**inputs, pose_scale=0), expected)
        assert torch.equal(model(**{**inputs, "pose_BCHW": None}), expected)
        assert (model(**inputs) - expected).abs().max() > 0.01
        model.set_scales(face=0, lora=1)
        assert (model(**inputs, pose_scale=0) - expected).abs().max() > 0.01


def test_face_layers_start_as_copies_of_the_text_s(model_config: ModelConfig) -> None:
    model = tiny_model(model_config)
    for name, processor in model.network.attn_processors.items():
        if name.endswith("attn2.processor"):
            attn = model.network.get_submodule(name.removesuffix(".processor"))
            assert torch.equal(processor.to_k_ip.weight, attn.to_k.weight)
            assert torch.equal(processor.to_v_ip.weight, attn.to_v.weight)
            assert processor.to_k_ip.weight.data_ptr() != attn.to_k.weight.data_ptr()


def test_at_step_0_exactly_the_parts_behind_a_zero_layer_stand_still(model_config: ModelConfig) -> None:
    model = tiny_model(model_config)
    take_steps(model, 1)
    zero = zero_gradients(model)
    named = model.trainable_named_parameters()
    assert len([name for name in named if name.startswith("projector.")]) == 56
    assert not {name for name in zero if name.startswith("projector.")}
    lora_down = {name for name in named if "lora_A" in name}
    assert {name for name in zero if name.startswith("unet.")} == lora_down and len(lora_down) == 32
    moving = {name for name in named if name.startswith("posenet.")} - zero
    assert all("controlnet_down_blocks" in name or "controlnet_mid_block" in name for name in moving)
    assert len(moving) == 10 and len([name for name in named if name.startswith("posenet.")]) == 128
    assert all(parameter.grad is None for parameter in model.parameters() if not parameter.requires_grad)


def test_after_three_steps_every_trainable_tensor_has_a_gradient(model_config: ModelConfig) -> None:
    model = tiny_model(model_config)
    take_steps(model, 4)
    assert zero_gradients(model) == set()


def test_training_changes_the_trainables_all_of_them_and_nothing_else(model_config: ModelConfig) -> None:
    model = tiny_model(model_config)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    take_steps(model, 5)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == set(model.trainable_named_parameters())
    assert sum(value.numel() for value in model.trainable_state().values()) == tiny.NUM_TRAINABLE


def test_no_tensor_is_registered_twice(model_config: ModelConfig) -> None:
    model = tiny_model(model_config)
    every = list(model.named_parameters(remove_duplicate=False))
    assert len({parameter.data_ptr() for _, parameter in every}) == len(every)


@pytest.mark.slow
def test_it_overfits_one_batch(model_config: ModelConfig) -> None:
    losses = take_steps(tiny_model(model_config), 75, inputs=tiny_inputs(2))
    assert losses[-1] < 0.25 * losses[0], losses[::25]


def test_the_trained_state_moves_to_a_fresh_model_and_a_wrong_one_changes_nothing(model_config: ModelConfig) -> None:
    model, other, inputs = trained(tiny_model(model_config)), tiny_model(model_config, seed=5), tiny_inputs()
    fresh = {name: value.clone() for name, value in other.trainable_state().items()}
    state = model.trainable_state()
    first, *rest = state
    broken: list[dict[str, Tensor]] = [
        {name: state[name] for name in rest},
        {**state, "more": torch.zeros(1)},
        {**state, first: torch.zeros(3)},
    ]
    for wrong in broken:
        with pytest.raises(ValueError, match=r"not this model's weights|shape"):
            other.load_trainable(wrong)
    assert all(torch.equal(value, fresh[name]) for name, value in other.trainable_state().items())
    other.load_trainable(state)
    with torch.no_grad():
        assert torch.equal(other(**inputs), model(**inputs))


def test_frozen_parts_in_bfloat16_compute_close_and_train_in_float32(model_config: ModelConfig) -> None:
    model, inputs = trained(tiny_model(model_config)), tiny_inputs()
    with torch.no_grad():
        exact = model(**inputs)
        model.freeze_in(torch.bfloat16)
        assert model.network.conv_in.weight.dtype == torch.bfloat16
        assert (model(**inputs) - exact).abs().max() < 0.1 * exact.abs().max()
    take_steps(model, 1, lr=1e-4)
    model.require_fp32_trainables()
    assert all(parameter.grad.dtype == torch.float32 for parameter in model.trainable_named_parameters().values())  # type: ignore[union-attr]


def test_a_trainable_that_was_cast_is_named(model_config: ModelConfig) -> None:
    model = tiny_model(model_config)
    model.projector.to(torch.bfloat16)
    with pytest.raises(TypeError, match=r"projector\.proj.*must stay float32"):
        model.require_fp32_trainables()


def test_checkpointing_activations_changes_no_gradient(model_config: ModelConfig) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = trained(tiny_model(model_config)).train()
        if checkpointing:
            model.enable_gradient_checkpointing()
        recomputed = count_forwards(model.posenet.down_blocks[0].resnets[0])
        take_steps(model, 1)
        assert recomputed() == (2 if checkpointing else 1)
        gradients.append({name: value.grad for name, value in model.trainable_named_parameters().items()})
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])  # type: ignore[arg-type]


def count_forwards(module: nn.Module) -> Callable[[], int]:
    calls: list[int] = []
    module.register_forward_pre_hook(lambda *_: calls.append(1))
    return lambda: len(calls)


def test_posenet_attends_to_the_face_or_to_the_text_as_the_configuration_says(base: Path) -> None:
    for kind, other in (("face", "text_BLE"), ("text", "identity_BD")):
        model = trained(tiny_model(tiny.tiny_config(base, posenet_context=kind)))
        seen: list[Tensor] = []
        model.posenet.register_forward_pre_hook(
            lambda _, __, kwargs, seen=seen: seen.append(kwargs["encoder_hidden_states"]), with_kwargs=True
        )
        inputs = tiny_inputs()
        changed = {**inputs, other: torch.flip(inputs[other], dims=[0])}
        with torch.no_grad():
            model(**inputs), model(**changed)
        assert torch.equal(*seen)
        assert seen[0].shape[1] == (4 if kind == "face" else tiny.TEXT_LENGTH)


def test_a_row_s_prediction_does_not_depend_on_its_neighbours(model_config: ModelConfig) -> None:
    model, inputs = trained(tiny_model(model_config)), tiny_inputs(3)
    with torch.no_grad():
        together = model(**inputs)
        alone = torch.cat([model(**{name: value[i : i + 1] for name, value in inputs.items()}) for i in range(3)])
    assert (together - alone).abs().max() < 1e-5


# Dynamo looks at the gradient of PoseNet's residuals, which are no leaves.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0:RuntimeWarning")
@pytest.mark.parametrize(
    ("part", "backend"),
    [("mid_block", "aot_eager"), pytest.param("", "inductor", marks=[pytest.mark.campaign, pytest.mark.timeout(1800)])],
)
def test_a_compiled_unet_is_one_graph_that_predicts_and_learns_close_to_the_plain_one(
    model_config: ModelConfig, part: str, backend: str
) -> None:
    model, inputs = trained(tiny_model(model_config)), tiny_inputs()
    compiled = copy.deepcopy(model)
    compiled.network.get_submodule(part).compile(backend=backend, fullgraph=True)
    outputs = [each(**inputs) for each in (model, compiled)]
    assert (outputs[0] - outputs[1]).abs().max() < 1e-5
    for output in outputs:
        output.square().mean().backward()
    for name, parameter in model.trainable_named_parameters().items():
        other = compiled.trainable_named_parameters()[name]
        assert parameter.grad is not None and other.grad is not None
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-4, atol=1e-6)


def test_a_base_that_no_adapter_of_this_kind_fits_is_refused(model_config: ModelConfig) -> None:
    from diffusers import UNet2DConditionModel

    unet = UNet2DConditionModel(**{**tiny.UNET, "cross_attention_dim": 48})
    with pytest.raises(ValueError, match="multiple of 64, not 48"):
        FaceMakeUp.from_config(model_config, unet)

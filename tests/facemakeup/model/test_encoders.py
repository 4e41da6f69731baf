from pathlib import Path
from typing import Any

import pytest
import torch

from curation.errors import UsageError
from facemakeup.config import ModelConfig
from facemakeup.model.base import Frame
from facemakeup.model.bases import base_of
from facemakeup.model.encoders import Encoders
from tests.facemakeup import tiny


@pytest.fixture(scope="module")
def encoders(model_config: ModelConfig) -> Encoders:
    return Encoders.load(model_config)


def faces(num: int) -> torch.Tensor:
    return torch.randn(num, 3, tiny.CLIP_SIDE, tiny.CLIP_SIDE, generator=torch.Generator().manual_seed(4))


def test_a_dropped_row_is_the_remembered_zero_picture_and_costs_no_forward(encoders: Encoders) -> None:
    pixels, dropped = faces(4), torch.tensor([True, False, True, False])
    batch_sizes: list[int] = []
    encoders.zero_hidden()
    hook = encoders.image_encoder.register_forward_pre_hook(
        lambda _, args: batch_sizes.append(len(args[0])),
    )
    try:
        mixed = encoders.clip_hidden(pixels, dropped)
        encoders.clip_hidden(pixels, torch.ones(4, dtype=torch.bool))
    finally:
        hook.remove()
    assert batch_sizes == [2]
    zeroed = pixels * ~dropped[:, None, None, None]
    torch.testing.assert_close(mixed, encoders.clip_hidden(zeroed), rtol=0, atol=1e-6)
    assert torch.equal(mixed[dropped], encoders.zero_hidden().expand(2, -1, -1))


def test_clip_s_tokens_are_those_before_its_last_layer(encoders: Encoders) -> None:
    network, pixels = encoders.image_encoder, faces(2)
    inputs: list[torch.Tensor] = []
    hook = network.vision_model.encoder.layers[-1].register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    states = encoders.clip_hidden(pixels)
    hook.remove()
    assert states.shape == (2, tiny.CLIP_TOKENS, tiny.CLIP_WIDTH)
    assert torch.equal(states, inputs[0])


def test_latents_drawn_with_given_noise_are_the_vae_s_scaled_sample(encoders: Encoders) -> None:
    pixels = torch.rand(2, 3, tiny.SIDE, tiny.SIDE, generator=torch.Generator().manual_seed(5)) * 2 - 1
    vae: Any = encoders.base.vae
    mean, logvar = encoders.base.moments(pixels)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        posterior = vae.encode(pixels).latent_dist
        expected = posterior.sample(torch.Generator().manual_seed(6)) * vae.config.scaling_factor
    torch.testing.assert_close(encoders.base.sample(mean, logvar, noise), expected)
    assert encoders.base.decode(expected).shape == pixels.shape
    assert encoders.base.latent_stride * mean.shape[-1] == tiny.SIDE


def test_captions_become_the_text_encoder_s_states_padded_and_cut_to_one_length(encoders: Encoders) -> None:
    states = encoders.base.prompt(["", "a red hat", "a red hat " * 200], [Frame.whole(tiny.SIDE, tiny.SIDE)] * 3)[
        "text_BLE"
    ]
    assert states.shape == (3, tiny.TEXT_LENGTH, tiny.WIDTH)
    assert not torch.allclose(states[0], states[1])


def test_a_missing_part_and_a_wrong_width_are_named(model_config: ModelConfig, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="48 wide; clip_width says 1280"):
        Encoders.load(model_config.model_copy(update={"clip_width": 1280}))
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("{}")
    alone = base_of(model_config.model_copy(update={"base": str(tmp_path)}))
    (tmp_path / "unet" / "config.json").unlink()
    with pytest.raises(UsageError, match=r"unet: no UNet2DConditionModel could be loaded"):
        alone.load()
    with pytest.raises(UsageError, match="no folder 'vae' in it"):
        alone.encoders(torch.device("cpu"), torch.float32)

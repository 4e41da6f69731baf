"""Numbers of the real sizes of every base, on the meta device: no weights needed."""

from pathlib import Path

import pytest

from facemakeup.model import skeleton
from facemakeup.model.facemakeup import FaceMakeUp
from facemakeup.model.skeleton import num_parameters, sd15_config


@pytest.fixture(scope="module")
def model() -> FaceMakeUp:
    return skeleton.face_makeup(sd15_config())


def trained(model: FaceMakeUp, prefix: str, part: str = "") -> int:
    named = model.trainable_named_parameters().items()
    return sum(p.numel() for name, p in named if name.startswith(prefix) and part in name)


def test_the_base_and_the_frozen_encoders_have_the_published_sizes() -> None:
    assert num_parameters(skeleton.network(sd15_config())) == 859_520_964
    parts = skeleton.encoders(sd15_config())
    assert {name: num_parameters(part) for name, part in parts.items()} == {
        "vae": 83_653_863,
        "text_encoder": 123_060_480,
        "image_encoder": 632_076_800,
    }
    assert num_parameters(parts["vae"].encoder) + num_parameters(parts["vae"].quant_conv) == 34_163_664


@pytest.mark.slow
def test_every_trained_part_has_the_specified_number_of_parameters(model: FaceMakeUp) -> None:
    assert trained(model, "projector.") == 33_581_568
    assert trained(model, "projector.perceiver_resampler.") == 29_905_920
    assert trained(model, "unet.", "lora_") == 25_509_888
    assert trained(model, "unet.", "_ip.weight") == 19_169_280
    assert trained(model, "posenet.") == 361_279_120
    assert trained(model, "posenet.controlnet_cond_embedding.") == 1_086_480
    zero_layers = trained(model, "posenet.controlnet_down") + trained(model, "posenet.controlnet_mid")
    assert zero_layers == 11_479_680
    assert trained(model, "") == 439_539_856
    assert num_parameters(model.network) == 859_520_964 + 25_509_888 + 19_169_280


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "network", "encoders", "parts", "attentions"),
    [
        (
            skeleton.SDXL, 2_567_463_684,
            {"vae": 83_653_863, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840},
            {"projector.": 217_125_888, "lora_": 185_794_560, "_ip.": 340_787_200, "posenet.": 1_251_014_160}, 70,
        ),
        (
            skeleton.FLUX, 11_901_408_320,
            {"vae": 83_819_683, "text_encoder": 123_060_480, "text_encoder_2": 4_762_310_656},
            {"projector.": 124_578_816, "lora_": 149_422_080, "_ip.": 478_267_392, "posenet.": 1_045_871_408}, 19,
        ),
    ],
    ids=["sdxl", "flux"],
)  # fmt: skip
def test_larger_bases_have_their_published_sizes_and_every_trained_part_its_number_of_parameters(
    base: Path, network: int, encoders: dict[str, int], parts: dict[str, int], attentions: int
) -> None:
    config = sd15_config(base)
    assert num_parameters(skeleton.network(config)) == network
    frozen = {name: num_parameters(part) for name, part in skeleton.encoders(config).items()}
    assert frozen == {**encoders, "image_encoder": 632_076_800}
    model = skeleton.face_makeup(config)
    assert {part: trained(model, "", part) for part in parts} == parts
    assert trained(model, "") == sum(parts.values())
    faced = [name for name in model.trainable_named_parameters() if "to_k_ip" in name and name.endswith("weight")]
    assert len(faced) == attentions


def test_sixteen_self_and_sixteen_cross_attentions_alternate_down_up_mid(model: FaceMakeUp) -> None:
    names = list(model.network.attn_processors)
    assert [("attn1" in name, name.split("_")[0]) for name in names] == [
        (index % 2 == 0, "down" if index < 12 else "up" if index < 30 else "mid") for index in range(32)
    ]


def test_the_model_lies_on_the_meta_device_and_holds_no_weights(model: FaceMakeUp) -> None:
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}

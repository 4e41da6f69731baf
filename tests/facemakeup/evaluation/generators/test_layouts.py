"""Whether the published files would load: modules of full size, on the meta device, by name, shape and number."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter

from curation.errors import UsageError
from facemakeup.evaluation.generators import attention, instantid, ip_adapter
from facemakeup.evaluation.generators.build import build
from facemakeup.evaluation.generators.catalogue import catalogue, published
from facemakeup.evaluation.generators.checkpoints import (
    CheckpointSource,
    Layout,
    count,
    layout_of,
    read_checkpoint,
    require_layout,
)
from facemakeup.evaluation.generators.drawing import load_pipeline
from facemakeup.evaluation.generators.identity import load_identity
from facemakeup.evaluation.generators.instantid import FaceTokens
from facemakeup.evaluation.generators.parsing import OnnxParser
from facemakeup.evaluation.generators.photomaker_encoder import IdEncoder
from facemakeup.evaluation.generators.pulid import ADAPTER, ATTENTIONS
from facemakeup.evaluation.generators.pulid_encoders import MlpEncoder, PerceiverEncoder
from facemakeup.evaluation.generators.settings import GeneratorSettings, IdentitySource
from facemakeup.model.tiny_sdxl import UNET as XL_UNET

SDXL: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
EXPECTED: Mapping[tuple[str, str, str], tuple[int, int]] = {
    ("ip-adapter-faceid-plus", "plusv2", "image_proj"): (56, 33_581_568),
    ("ip-adapter-faceid-plus", "plusv2", "ip_adapter"): (288, 44_679_168),
    ("instantid", "v1", "image_proj"): (51, 81_978_624),
    ("instantid", "v1", "ip_adapter"): (140, 340_787_200),
    ("instantid", "controlnet", "controlnet"): (844, 1_251_014_160),
    ("photomaker", "v1", "id_encoder"): (407, 326_273_024),
    ("photomaker", "v2", "id_encoder"): (463, 543_395_840),
    ("pulid", "v1", ADAPTER): (110, 54_886_400),
    ("pulid", "v1.1", ADAPTER): (172, 151_398_400),
    ("pulid", "v1.1", ATTENTIONS): (140, 340_787_200),
}


@pytest.fixture(scope="module")
def layouts() -> dict[tuple[str, str, str], Layout]:
    """Every part at full size."""
    from diffusers import ControlNetModel, UNet2DConditionModel
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    clip = CLIPVisionConfig(hidden_size=1024, intermediate_size=4096, num_attention_heads=16, num_hidden_layers=24,
                            patch_size=14, projection_dim=768)  # fmt: skip
    with torch.device("meta"):
        small, large = UNet2DConditionModel(cross_attention_dim=768), UNet2DConditionModel(**SDXL)
        controlnet = ControlNetModel.from_unet(large, load_weights_from_unet=False)
        encoders = {
            version: IdEncoder(CLIPVisionModelWithProjection(clip), 2048, width)
            for version, width in (("v1", None), ("v2", 512))
        }
        face_id = ip_adapter.layouts(small, 512, 1280, 128)
        instant = instantid.layouts(large, FaceTokens(512, 1280, 2048))
        return {
            **{("ip-adapter-faceid-plus", "plusv2", part): layout for part, layout in face_id.items()},
            **{("instantid", "v1", part): layout for part, layout in instant.items()},
            ("instantid", "controlnet", "controlnet"): layout_of(controlnet),
            **{("photomaker", version, "id_encoder"): layout_of(encoder) for version, encoder in encoders.items()},
            ("pulid", "v1", ADAPTER): layout_of(MlpEncoder(1280, 1024, 1024, 2048)),
            ("pulid", "v1.1", ADAPTER): layout_of(PerceiverEncoder(1280, 1024, 1024, 1024, 2048, 32)),
            ("pulid", "v1.1", ATTENTIONS): attention.face_layout(large, "id_to_k", "id_to_v"),
        }


@pytest.mark.slow
def test_every_part_has_as_many_tensors_and_parameters_as_the_published_file(
    layouts: Mapping[tuple[str, str, str], Layout],
) -> None:
    assert {name: count(layout) for name, layout in layouts.items()} == dict(EXPECTED)
    for (method, version, part), numbers in EXPECTED.items():
        assert published(method, version).parts[part] == numbers


def test_names_are_those_of_the_files(layouts: Mapping[tuple[str, str, str], Layout]) -> None:
    names = {
        ("ip-adapter-faceid-plus", "plusv2", "image_proj"): "perceiver_resampler.layers.3.0.to_kv.weight",
        ("ip-adapter-faceid-plus", "plusv2", "ip_adapter"): "31.to_v_ip.weight",
        ("instantid", "v1", "image_proj"): "layers.3.1.3.weight",
        ("instantid", "v1", "ip_adapter"): "139.to_k_ip.weight",
        ("photomaker", "v1", "id_encoder"): "vision_model.encoder.layers.23.self_attn.q_proj.weight",
        ("photomaker", "v2", "id_encoder"): "qformer_perceiver.perceiver_resampler.layers.3.0.to_q.weight",
        ("pulid", "v1", ADAPTER): "mapping_patch_4.6.bias",
        ("pulid", "v1.1", ADAPTER): "id_embedding_mapping.6.weight",
        ("pulid", "v1.1", ATTENTIONS): "1.id_to_k.weight",
    }
    for part, name in names.items():
        assert name in layouts[part], part


@pytest.mark.slow
def test_the_stock_loader_takes_instantid_s_file_at_full_size_as_sixteen_tokens(
    layouts: Mapping[tuple[str, str, str], Layout],
) -> None:
    from diffusers import UNet2DConditionModel

    state = {
        part: {name: torch.empty(shape, device="meta") for name, shape in layouts["instantid", "v1", part].items()}
        for part in ("image_proj", "ip_adapter")
    }
    with torch.device("meta"):
        unet = UNet2DConditionModel(**SDXL)
        unet._load_ip_adapter_weights([state], low_cpu_mem_usage=False)
    (projection,) = unet.encoder_hid_proj.image_projection_layers
    assert type(projection).__name__ == "IPAdapterPlusImageProjection" and projection.latents.shape == (1, 16, 1280)
    assert sum(weight.numel() for weight in projection.parameters()) == EXPECTED["instantid", "v1", "image_proj"][1]


def test_our_reading_of_instantid_s_projection_computes_what_stock_diffusers_does() -> None:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    ours = FaceTokens(512, 128, 64).eval()
    stock = UNet2DConditionModel(**XL_UNET)._convert_ip_adapter_image_proj_to_diffusers(
        ours.state_dict(), low_cpu_mem_usage=False
    )
    identity = torch.randn(3, 512) * 20
    with torch.no_grad():
        assert (ours.tokens(identity) - stock(identity[:, None])).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"b": None}, r"1 missing \['b'\], 0 unknown"),
        ({"c": (1,)}, r"0 missing \[\], 1 unknown \['c'\]"),
        ({"b": (3, 2)}, r"b has shape \(3, 2\), expected \(2, 3\)"),
    ],
)
def test_a_state_that_is_not_the_expected_one_to_the_last_tensor_is_refused(
    change: Mapping[str, tuple[int, ...] | None], said: str
) -> None:
    expected = {"a": (4,), "b": (2, 3)}
    shapes = {name: shape for name, shape in {**expected, **change}.items() if shape is not None}
    with pytest.raises(UsageError, match=said):
        require_layout({name: torch.zeros(shape) for name, shape in shapes.items()}, expected, "file")


def test_a_checkpoint_is_read_by_parts_nested_or_flat_and_executes_nothing(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    torch.save({"one": {"a.b": torch.zeros(2)}, "two": {}}, tmp_path / "nested.bin")
    save_file({"one.a.b": torch.zeros(2)}, tmp_path / "flat.safetensors")
    for name in ("nested.bin", "flat.safetensors"):
        found = read_checkpoint(CheckpointSource(file=str(tmp_path / name)))
        assert found.layouts["one"] == {"a.b": (2,)} and len(found.sha256) == 64
        with pytest.raises(UsageError, match=r"no part 'three', but one"):
            found.part("three")
        with pytest.raises(UsageError, match=f"expected {'0' * 64}"):
            read_checkpoint(CheckpointSource(file=str(tmp_path / name), sha256="0" * 64))
    torch.save({"one": {"a": Path("x")}}, tmp_path / "odd.bin")
    with pytest.raises(UsageError, match=r"odd\.bin"):
        read_checkpoint(CheckpointSource(file=str(tmp_path / "odd.bin")))


def test_a_file_that_is_not_the_published_one_is_said_to_be_so() -> None:
    entry = published("pulid", "v1.1")
    full: dict[str, Layout] = {part: {str(n): (1,) for n in range(num - 1)} | {"x": (size - num + 1,)}
                               for part, (num, size) in entry.parts.items()}  # fmt: skip
    assert "unknown" in entry.tell("0" * 64, full)
    assert entry.tell("0" * 64, {}).startswith("NOT the published weights: 0 parameters")
    known = published("instantid", "v1")
    assert known.sha256 is not None and known.tell(known.sha256, {}) == "published"
    assert all(each.url.startswith("https://huggingface.co/") and each.licence for each in catalogue())


COMMIT = "0" * 40
HERE = {"file": "nowhere.bin"}
FAR_AWAY = {"file": "x.bin", "repository": "nobody/nothing", "revision": COMMIT}
SDXL_BASE = {"source": "stabilityai/stable-diffusion-xl-base-1.0", "revision": COMMIT}
CLIP_H = {"source": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", "revision": COMMIT}


def chosen(**settings: Any) -> Any:
    return TypeAdapter(GeneratorSettings).validate_python(settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "face-makeup", "adapter": "nowhere"}, ("nowhere: no adapter_config.json", "facecaptionhq export")),
        ({"kind": "ip-adapter-faceid-plus", "checkpoint": HERE, "image_encoder": CLIP_H, "base": SDXL_BASE},
         ("nowhere.bin: no such file of weights", "IP-Adapter-FaceID/resolve/43907e6f", "26d0d86a", "research only")),
        ({"kind": "instantid", "checkpoint": FAR_AWAY, "controlnet": SDXL_BASE, "base": SDXL_BASE},
         ("nobody/nothing at 000", "x.bin cannot be fetched", "InstantID/resolve/57b32dfe", "02b3618e", "antelopev2")),
        ({"kind": "photomaker", "version": "v2", "checkpoint": HERE, "base": SDXL_BASE},
         ("TencentARC/PhotoMaker-V2/resolve/f5a1e515", "sha256 not known here", "licence: Apache-2.0")),
        ({"kind": "pulid", "checkpoint": HERE, "eva": HERE, "base": SDXL_BASE},
         ("guozinan/PuLID/resolve/main/pulid_v1.1.safetensors", "sha256 not known here", "licence: Apache-2.0")),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)  # fmt: skip
def test_what_is_missing_is_told_with_where_it_is_had_what_it_should_be_and_its_terms(
    settings: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as caught:
        build(chosen(**settings), True, "cpu")
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_the_other_parts_of_a_method_are_told_likewise(tmp_path: Path) -> None:
    from diffusers import StableDiffusionXLPipeline

    missing = CheckpointSource(file=str(tmp_path / "parser.onnx"))
    base = chosen(kind="photomaker", checkpoint=HERE, base=SDXL_BASE)
    cases: list[tuple[Any, tuple[str, ...]]] = [
        (lambda: OnnxParser(missing), ("parser.onnx: no such file", "BiSeNet", "left out")),
        (lambda: load_identity(IdentitySource(name="antelopev2_512d", file="no.onnx"), True, "cpu"),
         ("no.onnx: no such recogniser", "glintr100.onnx", "research only")),
        (lambda: load_pipeline(StableDiffusionXLPipeline, base, "cpu"),
         ("stable-diffusion-xl-base-1.0: no StableDiffusionXLPipeline", "none of the hub's models that were fetched",
          "https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0", "Open RAIL++-M")),
    ]  # fmt: skip
    for act, words in cases:
        with pytest.raises(UsageError) as caught:
            act()
        assert all(word in str(caught.value) for word in words), str(caught.value)

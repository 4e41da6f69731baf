from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.distance import cosine

from curation.errors import RecipeError, UsageError
from curation.recipe.validation import validated
from facemakeup.evaluation import image_similarity
from facemakeup.evaluation.estimate import Failure
from facemakeup.evaluation.networks import ClipNetwork, DinoNetwork, NetworkSource, fetch
from facemakeup.evaluation.preprocess import Preprocessing
from tests.facemakeup.evaluation import networks

RGB = np.random.default_rng(0).integers(0, 256, (47, 70, 3), np.uint8)


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return networks.write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return networks.write_dino(tmp_path_factory.mktemp("dino"))


def test_pictures_are_prepared_as_transformers_prepares_them(clip_folder: Path, dino_folder: Path) -> None:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    for folder, kind in ((clip_folder, CLIPImageProcessorPil), (dino_folder, ViTImageProcessorPil)):
        expected = kind.from_pretrained(folder)(Image.fromarray(RGB), return_tensors="np")["pixel_values"][0]
        assert np.abs(Preprocessing.load(folder)(RGB) - expected).max() < 1e-5


def test_clip_gives_what_the_model_gives_projected_and_before(clip_folder: Path) -> None:
    from transformers import AutoTokenizer, CLIPModel, CLIPVisionModel

    ours, model = ClipNetwork(NetworkSource(source=str(clip_folder))), CLIPModel.from_pretrained(clip_folder).eval()
    pixels = torch.from_numpy(Preprocessing.load(clip_folder)(RGB))[None]
    tokens = AutoTokenizer.from_pretrained(clip_folder)("a red hat", return_tensors="pt")
    with torch.no_grad():
        expected = model(**tokens, pixel_values=pixels)
        pooled = CLIPVisionModel.from_pretrained(clip_folder).eval()(pixels).pooler_output
    picture, text = ours.picture(RGB), ours.text("a red hat")
    assert picture["projected"].shape == (12,) and picture["pooled"].shape == (16,)
    assert np.allclose(picture["pooled"], pooled[0].numpy(), atol=1e-6)
    assert cosine(picture["projected"], expected.image_embeds[0].numpy()) < 1e-6
    assert cosine(text, expected.text_embeds[0].numpy()) < 1e-6
    scale = model.logit_scale.exp().item()
    score = image_similarity.similarity(image_similarity.CLIP_T, "std", ["a"], [picture["projected"]], [text])
    assert score.value == pytest.approx(100 * expected.logits_per_image.item() / scale, abs=1e-3)


def test_a_prompt_longer_than_clip_reads_is_cut(clip_folder: Path) -> None:
    assert ClipNetwork(NetworkSource(source=str(clip_folder))).text("a red hat " * 200).shape == (12,)


def test_dino_gives_the_class_token_and_compat_a_random_layer_on_it(dino_folder: Path) -> None:
    from transformers import ViTModel

    first, again = (DinoNetwork(NetworkSource(source=str(dino_folder))).picture(RGB) for _ in range(2))
    model = ViTModel.from_pretrained(dino_folder, add_pooling_layer=False).eval()
    with torch.no_grad():
        expected = model(torch.from_numpy(Preprocessing.load(dino_folder)(RGB))[None]).last_hidden_state[0, 0].numpy()
    assert np.allclose(first["class_token"], expected, atol=1e-6)
    assert np.array_equal(first["pooled"], again["pooled"])
    assert np.abs(first["pooled"]).max() < 1


def test_similarities_agree_with_scipy_and_pass_failures_on() -> None:
    draw = np.random.default_rng(1)
    ours, theirs = list(draw.normal(size=(4, 6))), list(draw.normal(size=(4, 6)))
    expected = np.mean([100 * (1 - cosine(a, b)) for a, b in zip(ours, theirs, strict=True)])
    missing = Failure("missing")
    score = image_similarity.similarity(
        image_similarity.DINO,
        "std",
        list("abcdef"),
        [*ours, missing, ours[0]],
        [*theirs, ours[0], Failure("unreadable")],
    )
    assert score.value == pytest.approx(expected, rel=1e-12)
    assert score.failures == {"missing": 1, "unreadable": 1}


def test_a_network_of_another_sha256_is_refused_and_the_right_one_is_told(clip_folder: Path) -> None:
    _, facts = fetch(NetworkSource(source=str(clip_folder)))
    assert fetch(NetworkSource(source=str(clip_folder), sha256=facts["sha256"]))[1] == facts
    with pytest.raises(UsageError, match=f"{facts['sha256']}, expected {'0' * 64}"):
        fetch(NetworkSource(source=str(clip_folder), sha256="0" * 64))


@pytest.mark.parametrize("revision", [None, "main", "abc123"])
def test_a_network_of_the_hub_needs_its_commit(revision: str | None) -> None:
    with pytest.raises(RecipeError, match="40 hex digits"):
        validated(NetworkSource, {"source": "openai/clip-vit-base-patch16", "revision": revision}, "x.toml", "")
    assert NetworkSource(source="openai/clip-vit-base-patch16", revision="0" * 40).revision == "0" * 40


def test_a_folder_without_a_network_says_what_is_missing(tmp_path: Path, clip_folder: Path) -> None:
    with pytest.raises(UsageError, match=r"no weights of a network in it .model\.safetensors"):
        fetch(NetworkSource(source=str(tmp_path)))
    (tmp_path / "model.safetensors").write_bytes((clip_folder / "model.safetensors").read_bytes())
    with pytest.raises(UsageError, match=r"preprocessor_config\.json: how pictures are prepared"):
        DinoNetwork(NetworkSource(source=str(tmp_path)))

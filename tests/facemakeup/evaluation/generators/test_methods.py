"""Every method on tiny weights: the person reaches the layers that are meant, and switched off it is the base."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from facemakeup.evaluation.generators.base import Generator, Reference
from facemakeup.evaluation.generators.build import build
from facemakeup.evaluation.generators.checkpoints import read_checkpoint
from facemakeup.evaluation.generators.drawing import SAMPLERS, draw
from facemakeup.evaluation.generators.instantid import FaceTokens
from facemakeup.evaluation.generators.parsing import shown_face
from facemakeup.evaluation.generators.pulid_attention import IdentityAttention
from facemakeup.evaluation.seen import FoundFace
from facemakeup.evaluation.settings import load_evaluation
from facemakeup.model.projector import Projector
from filters.base import RgbImage

pytestmark = pytest.mark.slow

PROMPT = "a person wearing a red hat"
SEED = 42
OFF: Mapping[str, Mapping[str, Any]] = {
    "Face-MakeUp": {"scales": {"face": 0, "clip": 0, "pose": 0, "lora": 0}},
    "IP-Adapter": {"scale": 0, "lora_scale": 0},
    "PhotoMaker": {"scale": 0},
    "InstantID": {"scale": 0, "pose_scale": 0},
    "PuLID": {"scale": 0},
}


def person(seed: int) -> Reference:
    rgb = np.random.default_rng(seed).integers(0, 256, (200, 180, 3), np.uint8)
    points = np.array([[70.0, 90], [110, 90], [90, 115], [75, 135], [105, 135]])
    return Reference(rgb, FoundFace(points, (60.0, 60.0, 120.0, 150.0)))


def settings(evaluation: Path, name: str, **changes: Any) -> Any:
    (method,) = [method for method in load_evaluation(evaluation).methods if method.name == name]
    assert method.generator is not None
    return type(method.generator).model_validate({**method.generator.model_dump(), **changes})


def made(evaluation: Path, name: str, **changes: Any) -> Any:
    return build(settings(evaluation, name, **changes), accept_noncommercial=False, device="cpu")


def difference(one: RgbImage, other: RgbImage) -> int:
    return int(np.abs(one.astype(int) - other.astype(int)).max())


@contextmanager
def inputs_of(network: torch.nn.Module, is_meant: Callable[[str], bool]) -> Iterator[list[Tensor]]:
    """Collect what enters the layers whose names are meant."""
    seen: list[Tensor] = []
    hooks = [
        layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().clone()))
        for name, layer in network.named_modules()
        if is_meant(name)
    ]
    assert hooks, "no layer is meant"
    yield seen
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("name", list(OFF))
def test_switched_off_a_method_draws_what_a_stock_pipeline_of_its_base_draws(evaluation: Path, name: str) -> None:
    import diffusers

    off: Generator = made(evaluation, name, **OFF[name])
    silent, alone = off.generate(person(1), PROMPT, SEED), off.base_alone(PROMPT, SEED)
    assert difference(silent, alone) <= 1
    on: Generator = made(evaluation, name)
    drawn = on.generate(person(1), PROMPT, SEED)
    assert difference(on.base_alone(PROMPT, SEED), alone) <= 1 and difference(drawn, alone) > 5
    assert difference(on.generate(person(1), PROMPT, SEED), drawn) == 0
    assert difference(on.generate(person(2), PROMPT, SEED), drawn) > 0
    how = settings(evaluation, name)
    if name == "Face-MakeUp":
        return  # its pipeline is held against the stock one where it is tested
    kind = diffusers.StableDiffusionPipeline if name == "IP-Adapter" else diffusers.StableDiffusionXLPipeline
    stock = kind.from_pretrained(how.base.source)
    stock.set_progress_bar_config(disable=True)
    stock.scheduler = SAMPLERS[how.sampler](stock.scheduler)
    expected = draw(stock, how, SEED, prompt=PROMPT, negative_prompt=how.negative_prompt)
    assert difference(alone, expected) <= 1


def test_faceid_plus_takes_the_unit_vector_and_clip_into_every_cross_attention(evaluation: Path) -> None:
    how = settings(evaluation, "IP-Adapter")
    method = made(evaluation, "IP-Adapter")
    with inputs_of(method._pipe.unet, lambda name: ".to_k_ip." in name) as seen:
        method.generate(person(1), PROMPT, SEED)
    state = read_checkpoint(how.checkpoint).part("image_proj")
    projector = Projector(512, state["perceiver_resampler.proj_in.weight"].shape[1], state["norm.weight"].shape[0])
    projector.load_state_dict(state)
    vector = method._recogniser.embed(person(1).rgb, person(1).face.landmarks_52)
    assert np.linalg.norm(vector) == pytest.approx(1)
    hidden = method._projection.clip_embeds[1]
    with torch.no_grad():
        tokens = projector(torch.from_numpy(vector)[None], hidden)
    num_layers = sum(name.endswith("attn2.processor") for name in method._pipe.unet.attn_processors)
    assert len(seen) == num_layers * how.steps
    assert all((each[1].reshape(tokens[0].shape) - tokens[0]).abs().max() < 1e-5 for each in seen)


def test_instantid_gives_its_tokens_of_the_bare_vector_to_the_unet_and_instead_of_text_to_the_controlnet(
    evaluation: Path,
) -> None:
    how = settings(evaluation, "InstantID")
    method = made(evaluation, "InstantID")
    with (
        inputs_of(method._pipe.unet, lambda name: ".to_k_ip." in name) as seen,
        inputs_of(method._pipe.controlnet, lambda name: name.endswith("attn2.to_k")) as posed,
    ):
        method.generate(person(1), PROMPT, SEED)
    vector = method._recogniser.features(person(1).rgb, person(1).face.landmarks_52)
    assert abs(np.linalg.norm(vector) - 1) > 0.5, "this recogniser's vectors have a length of their own"
    state = read_checkpoint(how.checkpoint).part("image_proj")
    ours = FaceTokens(512, state["latents"].shape[2], state["proj_out.weight"].shape[0])
    ours.load_state_dict(state)
    with torch.no_grad():
        tokens = ours.tokens(torch.stack([torch.zeros(512), torch.from_numpy(vector)]))
    assert tokens.shape[1] == 16 and len(seen) and len(posed)
    for each in (*seen, *posed):
        assert (each.reshape(tokens.shape) - tokens).abs().max() < 1e-5


def test_photomaker_changes_the_class_word_alone_and_only_after_the_plain_steps(evaluation: Path) -> None:
    method = made(evaluation, "PhotoMaker", steps=3, style_share=0.0)
    assert method.fed(PROMPT) == "a person img wearing a red hat" and method.fed("") == "a person img"
    with inputs_of(method._pipe.unet, lambda name: name.endswith("attn2.to_k")) as seen:
        method.generate(person(1), PROMPT, SEED)
    every = len(seen) // 3
    first, second, third = (seen[number * every][1] for number in range(3))
    at = len(method._pipe.tokenizer("a person").input_ids) - 2
    plain = method._pipe.encode_prompt(PROMPT, do_classifier_free_guidance=False)[0][0]
    assert (first - plain).abs().max() < 1e-5 and torch.equal(second, third)
    assert torch.equal(first[:at], second[:at]), "a text is read from left to right"
    person_tokens = method._person(person(1))
    assert person_tokens.shape[0] == 2, "v2 has two tokens"
    assert (second[at : at + 2] - first[at]).abs().max() > 0.1
    file = {"file": str(evaluation.with_name("photomaker-v1.bin"))}
    one = made(evaluation, "PhotoMaker", version="v1", checkpoint=file)
    assert one._person(person(1)).shape[0] == 1 and one.recogniser is None
    assert difference(one.generate(person(1), PROMPT, SEED), one.base_alone(PROMPT, SEED)) > 5


@pytest.mark.parametrize(("version", "num"), [("v1", 10), ("v1.1", 8)])
def test_pulid_gives_tokens_of_the_bare_vector_and_of_eva_to_every_cross_attention(
    evaluation: Path, version: str, num: int
) -> None:
    file = {"v1": "pulid_v1.bin", "v1.1": "pulid_v1.1.safetensors"}[version]
    how = {"version": version, "checkpoint": {"file": str(evaluation.with_name(file))}, "num_zero": 3}
    method = made(evaluation, "PuLID", **how)
    with inputs_of(method._pipe.unet, lambda name: name.endswith("id_to_k")) as seen:
        method.generate(person(1), PROMPT, SEED)
    tokens = method._tokens(person(1))
    num_layers = sum(name.endswith("attn2.processor") for name in method._pipe.unet.attn_processors)
    assert len(seen) >= num_layers * 2 and tokens.shape[:2] == (2, num)
    for each in seen:
        assert torch.equal(each[:, :num], tokens) and each.shape[1] == num + 3 and not each[:, num:].any()
    assert (tokens[1] - tokens[0]).abs().max() > 1e-3, "nobody's tokens are others than a person's"
    assert (method._tokens(person(2))[1] - tokens[1]).abs().max() > 1e-3


class Below:
    """Takes the lower half of an aligned face for background."""

    sha256 = "0" * 64

    def background(self, aligned: RgbImage) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        return np.arange(512)[:, None].repeat(512, axis=1) >= 256


def test_what_pulid_shows_of_a_face_is_grey_and_white_where_the_parser_says() -> None:
    whole, parsed = shown_face(person(1), None), shown_face(person(1), Below())
    assert whole.shape == (512, 512, 3) and np.ptp(whole, axis=2).max() < 1e-6
    assert np.array_equal(parsed[:256], whole[:256]) and (parsed[256:] == 1).all() and whole[256:].max() <= 1


def test_pulid_s_attention_is_the_hand_formula() -> None:
    from diffusers.models.attention_processor import Attention

    torch.manual_seed(0)
    attention = Attention(query_dim=16, cross_attention_dim=12, heads=2, dim_head=8)
    ours = IdentityAttention(12, 16)
    hidden, text, tokens = torch.randn(2, 9, 16), torch.randn(2, 7, 12), torch.randn(2, 6, 12)
    ours.tokens_BTE, ours.scale, ours.num_zero = tokens, 0.7, 2
    with torch.no_grad():
        query = attention.to_q(hidden).reshape(2, 9, 2, 8).transpose(1, 2)
        padded = torch.cat([tokens, torch.zeros(2, 2, 12)], dim=1)
        key = ours.id_to_k(padded).reshape(2, 8, 2, 8).transpose(1, 2)
        value = ours.id_to_v(padded).reshape(2, 8, 2, 8).transpose(1, 2)
        of_person = ((query @ key.mT / 8**0.5).softmax(-1) @ value).transpose(1, 2).reshape(2, 9, 16)
        texts = [attention.to_k(text), attention.to_v(text)]
        keys, values = (each.reshape(2, 7, 2, 8).transpose(1, 2) for each in texts)
        of_text = ((query @ keys.mT / 8**0.5).softmax(-1) @ values).transpose(1, 2).reshape(2, 9, 16)
        along = (of_text * of_person).sum(1, keepdim=True) / (of_text**2).sum(1, keepdim=True) * of_text
        first = (query @ key.mT).softmax(-1).mean(1)[..., :5].sum(-1, keepdim=True)
        shares = {"off": 0.0, "v1": 1.0, "v2": 1 - first}
        for how, share in shares.items():
            ours.orthogonal = how
            expected = attention.to_out[0](of_text + 0.7 * (of_person - share * along))
            assert (ours(attention, hidden, text) - expected).abs().max() < 1e-5, how
        ours.tokens_BTE = None
        assert (ours(attention, hidden, text) - attention(hidden, text)).abs().max() < 1e-5

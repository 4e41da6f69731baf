import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from curation.errors import RecipeError, UsageError
from facemakeup.config import DropTable, ModelConfig, Recogniser
from facemakeup.data.batch import Batch
from facemakeup.data.dataset import TarDataset
from facemakeup.faces.align import ARCFACE_TEMPLATE, align, similarity
from facemakeup.faces.recognisers import DLIB, INSIGHTFACE, MOBILEFACENET, RecogniserError, load_recogniser
from facemakeup.faces.torch_recogniser import TorchRecogniser, aligned_faces, load_torch_recogniser
from facemakeup.faults import SampleFaultError
from facemakeup.model.attention import face_attentions
from facemakeup.model.attention_loss import attention_loss
from facemakeup.model.base import Frame
from facemakeup.model.diffusion import NoiseSchedule
from facemakeup.model.face_regions import (
    REGIONS,
    box_shares,
    ellipse_shares,
    grid_of,
    region_masks,
    region_tokens,
)
from facemakeup.model.loss import clean_latents, place_weights, training_loss
from facemakeup.train_config import TrainConfig, config_of
from facemakeup.training.face_losses import FaceLosses
from facemakeup.training.trainer import Trainer
from filters.conversion.in_torch import TorchNetwork
from filters.weights import catalogue, find_weights
from tests.facemakeup.model.test_larger_bases import KINDS
from tests.facemakeup.patches import Flow, Patches, write_patches
from tests.facemakeup.runs import largest_difference, run_config, trainer_of
from tests.facemakeup.tars import packed_sample, write_packed
from tests.facemakeup.tiny import tiny_model
from tests.pictures import scene


def session_of(model: Any) -> Any:
    """Return a model where ONNX is computed as it is defined."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])


ON_CPU = torch.device("cpu")
REAL = next(entry for entry in catalogue() if entry.name == MOBILEFACENET)
BOX, SIZE = torch.tensor([[16.0, 8.0, 48.0, 56.0]]), (64, 64)


def with_losses(base: Path, recogniser: Recogniser, losses: dict[str, Any], **changes: Any) -> TrainConfig:
    config = run_config(base, recogniser, **changes)
    return TrainConfig.model_validate({**config.model_dump(), "losses": losses})


@pytest.fixture
def pattern(tmp_path: Path) -> str:
    write_packed(tmp_path / "tars", [packed_sample(n, caption=f"a smiling face, number {n}") for n in range(12)])
    return f"{tmp_path}/tars/*.tar"


def stepped_with(
    tmp_path: Path, base: Path, recogniser: Recogniser, pattern: str, losses: dict[str, Any], **changes: Any
) -> tuple[Trainer, TarDataset, Any]:
    """Return a trainer, its data, and what the first step says."""
    trainer, dataset = trainer_of(with_losses(base, recogniser, losses, **changes), pattern, tmp_path / "work")
    items = iter(range(dataset.accumulation))
    return trainer, dataset, trainer.step(0, lambda: dataset[next(items)].batch, dataset.accumulation)


@pytest.mark.slow
def test_each_loss_adds_its_term_moves_what_is_trained_and_shows_in_the_numbers(
    tmp_path: Path, base: Path, recogniser: Recogniser, pattern: str
) -> None:
    plain, _, before = stepped_with(tmp_path, base, recogniser, pattern, {})
    assert before.terms == {}
    for losses, names in (
        ({"attention": {"weight": 1.0}}, ["attention"]),
        ({"identity": {"weight": 1.0, "max_noise": 1.0}}, ["identity"]),
        ({"region": {"weight": 4.0}, "attention": {}, "identity": {}}, ["attention", "identity"]),
    ):
        trainer, _, result = stepped_with(tmp_path, base, recogniser, pattern, losses)
        assert sorted(result.terms) == names
        assert torch.equal(result.timesteps_B, before.timesteps_B)
        if "region" not in losses:
            added = sum(getattr(trainer._config.losses, name).weight * result.terms[name][0] for name in names)
            torch.testing.assert_close(result.per_sample_B.sum(), before.per_sample_B.sum() + added)
        assert float(result.terms[names[0]][1]) > 0
        moved = {n for n, p in trainer.parameters.items() if not torch.equal(p, plain.parameters[n])}
        assert any("to_k_ip" in name for name in moved) and any("projector" in name for name in moved)


@pytest.mark.slow
def test_the_identity_loss_falls_when_it_is_followed_and_is_asked_only_where_little_noise_is(
    tmp_path: Path, base: Path, recogniser: Recogniser, pattern: str
) -> None:
    changes: dict[str, Any] = {"optim": {"learning_rate": 3e-3, "num_warmup_steps": 0}, "data": {"micro_batch": 4}}
    losses = {"identity": {"weight": 100.0, "max_noise": 1.0}}
    trainer, dataset, first = stepped_with(tmp_path, base, recogniser, pattern, losses, **changes)
    batch = dataset[0].batch
    for step in range(1, 12):
        last = trainer.step(step, lambda: batch, 1)
    assert float(last.terms["identity"][0]) < 0.9 * float(first.terms["identity"][0])
    low = {"identity": {"weight": 1.0, "max_noise": 0.001}}
    _, _, none = stepped_with(tmp_path, base, recogniser, pattern, low, **changes)
    assert none.terms["identity"].tolist() == [0.0, 0.0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sdxl", "flux"])
def test_larger_bases_have_them_too_but_for_attention_where_a_base_does_not_tell_of_it(
    tmp_path: Path, recogniser: Recogniser, pattern: str, name: str
) -> None:
    write, _, model, _ = KINDS[name]
    base, losses = write(tmp_path / "base"), {"region": {"weight": 2.0}, "identity": {"max_noise": 1.0}}
    if name == "flux":
        with pytest.raises(UsageError, match=r"losses\.attention: FluxEncoders does not say where the words"):
            stepped_with(tmp_path, base, recogniser, pattern, {**losses, "attention": {}}, model=model)
    else:
        losses["attention"] = {}
    trainer, _, result = stepped_with(tmp_path, base, recogniser, pattern, losses, model=model)
    assert result.terms.keys() == losses.keys() - {"region"} and bool(result.is_sound)
    assert all(float(total) > 0 and int(num) > 0 for total, num in result.terms.values())
    assert trainer.parameters.keys() and torch.isfinite(result.per_sample_B).all()


def test_what_a_prediction_takes_latents_for_are_the_latents_whatever_is_predicted() -> None:
    draw = torch.Generator().manual_seed(0)
    latents, noise = (torch.randn(3, 4, 8, 8, generator=draw) for _ in range(2))
    signal = torch.linspace(0.999, 0.05, 100)
    for objective, times in (
        (NoiseSchedule(signal, "noise"), torch.tensor([0, 40, 99])),
        (NoiseSchedule(signal, "velocity"), torch.tensor([0, 40, 99])),
        (Flow(), torch.tensor([0.01, 0.5, 0.9])),
    ):
        noisy, target = (make(latents, noise, times) for make in (objective.noisy, objective.target))
        torch.testing.assert_close(clean_latents(target, noisy, times, objective), latents, atol=1e-4, rtol=1e-4)


def test_errors_in_the_face_count_as_much_more_as_is_said_and_the_mean_weight_is_one() -> None:
    box = box_shares(BOX, SIZE, (8, 8))
    assert box[0].sum() == 4 * 6 and box[0, 1, 2] == 1 and box[0, 0, 2] == 0
    ellipse = ellipse_shares(BOX, SIZE, (8, 8))
    assert abs(float(ellipse.mean() / box.mean()) - np.pi / 4) < 0.02 and (ellipse <= box).all()
    places = place_weights(box, 5.0)
    assert places.mean() == pytest.approx(1) and places[0, 4, 4] == pytest.approx(5 * float(places[0, 0, 0]))
    objective, times = NoiseSchedule(torch.full((10,), 0.5), "noise"), torch.zeros(1, dtype=torch.long)
    noise, wrong = torch.zeros(1, 4, 8, 8), torch.zeros(1, 4, 8, 8)
    wrong[:, :, 4, 4] = 1
    within, around = (training_loss(w, noise, noise, times, objective, places) for w in (wrong, wrong.roll(-4, 2)))
    assert float(within) == pytest.approx(5 * float(around))
    assert torch.equal(training_loss(wrong, noise, noise, times, objective), (wrong**2).mean(dim=(1, 2, 3)))


@pytest.mark.parametrize("flipped", [False, True])
def test_where_a_face_is_travels_with_the_picture(
    tmp_path: Path, base: Path, recogniser: Recogniser, flipped: bool
) -> None:
    samples = [packed_sample(n) for n in range(6)]
    halves = np.zeros((80, 96), np.uint8)
    halves[:, :48] = 255
    for members in samples[:5]:
        members.append((members[0][0].replace(".jpg", ".mask"), _png(halves)))
    write_packed(tmp_path / "tars", samples)
    losses = {"region": {"weight": 2.0, "shape": "mask"}}
    config = with_losses(base, recogniser, losses, crop={"flip_probability": float(flipped)})
    _, dataset = trainer_of(config, f"{tmp_path}/tars/*.tar", tmp_path / "work")
    loaded = [dataset[n] for n in range(4)]
    notes = [note for one in loaded for note in one.notes]
    assert {"mask_hit", "mask_missing"} >= set(notes) and "mask_hit" in notes
    batch: Batch = loaded[0].batch
    points = batch.aligned_B23 @ torch.cat([torch.tensor(ARCFACE_TEMPLATE, dtype=torch.float32), torch.ones(5, 1)], 1).T
    assert (points.transpose(1, 2) - batch.landmarks_B52).norm(dim=2).max() < 8
    assert (batch.boxes_B4[:, :2] < batch.landmarks_B52.amin(1)).all() and (
        batch.landmarks_B52[:, 0, 0] < batch.landmarks_B52[:, 1, 0]
    ).all()
    assert batch.masks_BHW.shape == (2, 8, 8) and batch.masks_BHW.dtype == torch.uint8
    left, right = batch.masks_BHW[..., :1].float().mean(), batch.masks_BHW[..., -1:].float().mean()
    assert (left < right) == flipped or "mask_missing" in loaded[0].notes


def test_a_mask_that_is_none_of_the_picture_is_a_counted_reason(
    tmp_path: Path, base: Path, recogniser: Recogniser
) -> None:
    samples = [packed_sample(n) for n in range(6)]
    for members in samples:
        members.append((members[0][0].replace(".jpg", ".mask"), _png(np.zeros((4, 4), np.uint8))))
    write_packed(tmp_path / "tars", samples)
    config = with_losses(base, recogniser, {"region": {"weight": 2.0, "shape": "mask"}})
    _, dataset = trainer_of(config, f"{tmp_path}/tars/*.tar", tmp_path / "work")
    with pytest.raises(SampleFaultError) as refused:
        dataset.sample(dataset.order.seat(0, 0))
    assert refused.value.reason == "broken_mask" and "96x80" in refused.value.detail


def _png(values: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


@pytest.mark.slow
def test_attention_that_was_heard_is_not_kept_where_activations_are_computed_once_more(
    tmp_path: Path, base: Path, recogniser: Recogniser, pattern: str
) -> None:
    losses: dict[str, Any] = {"attention": {"weight": 1.0}}
    gradients = []
    for again in (False, True):
        config = with_losses(base, recogniser, losses, run={"gradient_checkpointing": again})
        trainer, dataset = trainer_of(config, pattern, tmp_path / "work")
        one = dataset[0].batch
        result = trainer.step(0, lambda one=one: one, 1)  # type: ignore[misc]
        assert float(result.terms["attention"][0]) > 0
        kept = [each.spread_BHSL for each in face_attentions(trainer.model.network).values()]
        assert kept and all(spread is None for spread in kept)
        gradients.append({n: value.grad for n, value in trainer.parameters.items() if value.grad is not None})
    assert largest_difference(gradients[0], gradients[1]) < 1e-4


@pytest.mark.parametrize("counted", [0, 1])
def test_averages_at_the_rim_are_those_of_onnx(counted: int) -> None:
    from onnx import TensorProto, helper

    def pooling(**said: Any) -> Any:
        node = helper.make_node("AveragePool", ["in"], ["out"], **{"kernel_shape": [3, 2], **said})
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, None, None]) for name in ("in", "out")]
        graph = helper.make_graph([node], "pool", ends[:1], ends[1:])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)

    taken = np.random.default_rng(0).standard_normal((1, 2, 7, 9)).astype(np.float32)
    for pads in ([0, 0, 0, 0], [1, 0, 2, 1]):
        model = pooling(strides=[2, 1], pads=pads, count_include_pad=counted, auto_pad="NOTSET", dilations=[1, 1])
        (expected,) = session_of(model).run(None, {"in": taken})
        found = TorchNetwork(model)(torch.from_numpy(taken)).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    for odd in ({"ceil_mode": 1}, {"auto_pad": "SAME_UPPER"}, {"dilations": [2, 1]}, {"kernel_shape": [3]}):
        with pytest.raises(ValueError, match=f"AveragePool with {next(iter(odd))} .*, which is not computed here"):
            TorchNetwork(pooling(**odd))


def test_words_that_name_parts_of_a_face_are_found_in_their_tokens(base: Path, model_config: ModelConfig) -> None:
    from facemakeup.model.encoders import Encoders

    encoders = Encoders.load(model_config).base
    captions = ["A woman with Red lips and brown eyes, smiling", "a park", "", "lipstick surface"]
    spans = encoders.spans(captions)
    tokens = region_tokens(captions, spans)
    told = encoders.prompt(captions, [Frame.whole(64, 64)] * len(captions))["text_BLE"]
    assert tokens.shape == (4, len(REGIONS), told.shape[1])
    read = {
        region: "".join(captions[0][a:b] for a, b in spans[0][tokens[0, part]].tolist())
        for part, region in enumerate(REGIONS)
    }
    assert read == {"face": "", "eyes": "eyes", "nose": "", "mouth": "lipssmiling"}
    assert not tokens[1:3].any() and tokens[3].any(1).tolist() == [False, False, False, True]


def test_the_attention_loss_is_that_of_the_definition_and_least_where_words_are_looked_at_from_what_they_name() -> None:
    landmarks = torch.tensor([[[24.0, 24.0], [40.0, 24.0], [32.0, 36.0], [26.0, 46.0], [38.0, 46.0]]])
    masks = region_masks(BOX, landmarks, SIZE, (8, 8))[0]
    assert masks.any(dim=(1, 2)).all() and (masks[1:].sum(0) <= masks[0]).all()
    tokens = torch.zeros(1, 4, 6, dtype=torch.bool)
    tokens[0, 1, 2], tokens[0, 3, 3], tokens[0, 3, 4] = True, True, True
    draw = torch.Generator().manual_seed(0)
    spread = torch.randn(1, 2, 64, 6, generator=draw).softmax(-1)
    found = attention_loss([spread, spread], tokens, BOX, landmarks, SIZE, (8, 8))
    eyes, mouth = (masks[n].flatten().float()[None, :] for n in (1, 3))
    each = [(spread[0, :, :, token] - mask).square().mean() for token, mask in ((2, eyes), (3, mouth), (4, mouth))]
    means = [((spread[0, :, :, t].mean(-1)) - mask).square().mean() for t, mask in (([2], eyes), ([3, 4], mouth))]
    expected = ((each[0] + means[0]) / 2 + (each[1] + each[2] + means[1]) / 3) / 2
    torch.testing.assert_close(found, 2 * expected[None])
    right = torch.zeros(1, 2, 64, 6)
    right[..., 2], right[..., 3], right[..., 4] = eyes, mouth, mouth
    assert float(attention_loss([right], tokens, BOX, landmarks, SIZE, (8, 8))) < 1e-6
    assert attention_loss([spread], tokens & False, BOX, landmarks, SIZE, (8, 8)).tolist() == [0.0]
    assert grid_of(12, (5, 7)) == (3, 4)
    with pytest.raises(ValueError, match="7 queries are no grid"):
        grid_of(7, (8, 8))


@pytest.mark.parametrize("is_real", [False, True])
def test_a_recogniser_in_torch_sees_what_it_sees_elsewhere_and_a_gradient_flows_to_the_pixels(
    recogniser: Recogniser, is_real: bool
) -> None:
    if is_real and "FACECAPTIONHQ_MODELS" not in os.environ:
        pytest.skip("FACECAPTIONHQ_MODELS is unset")
    identity = Recogniser(name=REAL.name, width=128, sha256=REAL.sha256) if is_real else recogniser
    here, elsewhere = load_torch_recogniser(identity, True, ON_CPU), load_recogniser(identity, True)
    rgb = scene(1, 160, 140)
    landmarks = (ARCFACE_TEMPLATE - 56) @ np.array([[0.9, 0.2], [-0.2, 0.9]]) + np.array([80, 70])
    inverse = np.linalg.inv(np.vstack([similarity(landmarks, ARCFACE_TEMPLATE), [0, 0, 1]]))[:2]
    pixels = (torch.from_numpy(rgb).permute(2, 0, 1).float()[None] / 127.5 - 1).requires_grad_()
    aligned = torch.from_numpy(inverse).float()[None]
    there = aligned_faces((pixels.detach() + 1) * 127.5, aligned)[0].permute(1, 2, 0).numpy()
    assert np.abs(there - align(rgb, landmarks, 112)).mean() < 1.0
    found = here(pixels, aligned)
    found.sum().backward()
    assert pixels.grad is not None and pixels.grad.abs().sum() > 0
    assert float(found[0].detach() @ torch.from_numpy(elsewhere.embed(rgb, landmarks))) > 0.999
    chip = align(rgb, landmarks, 112)
    same = here.features(torch.from_numpy(chip).permute(2, 0, 1).float()[None])[0]
    expected = elsewhere.embed(chip, ARCFACE_TEMPLATE)
    assert np.abs(same.numpy() / np.linalg.norm(same) - expected).max() < 1e-4


def test_what_a_loss_cannot_have_is_said_before_any_step(
    tmp_path: Path, base: Path, recogniser: Recogniser, model_config: ModelConfig
) -> None:
    from onnx import helper

    with pytest.raises(RecogniserError, match=r"losses\.identity needs a recogniser that gradients flow through"):
        load_torch_recogniser(Recogniser(name=DLIB, width=128, sha256="0" * 64), True, ON_CPU)
    model = onnx.load(find_weights(INSIGHTFACE).path)
    model.graph.node.append(helper.make_node("Erf", ["vector"], ["more"]))
    model.graph.output[0].name = "more"
    with pytest.raises(RecogniserError, match="through this recogniser: Erf; known are networks of Add"):
        TorchRecogniser(model, takes_bytes=False)
    for table, value in (("compile", True), ("fsdp", True)):
        values = {**run_config(base, recogniser).model_dump(mode="json"), "losses": {"attention": {}}}
        values["run"][table] = value
        with pytest.raises(RecipeError, match=r"losses\.attention looks into attentions"):
            config_of(values, "x.toml")
    patches = Patches(write_patches(tmp_path / "patches", model_config))
    config = with_losses(base, recogniser, {"attention": {}})
    with pytest.raises(UsageError, match=r"losses\.attention: PatchEncoders does not say where the words"):
        FaceLosses(config, tiny_model(model_config), patches.encoders(ON_CPU, torch.float32), Flow(), ON_CPU)


def test_captions_and_faces_that_were_dropped_add_nothing(
    tmp_path: Path, base: Path, recogniser: Recogniser, pattern: str
) -> None:
    config = with_losses(base, recogniser, {"attention": {"weight": 1.0}, "identity": {"max_noise": 1.0}})
    dropping = config.model_copy(update={"drop": DropTable(both=1, text=0, image=0, clip=0, pose=0)})
    trainer, dataset = trainer_of(dropping, pattern, tmp_path / "work")
    batch = dataset[0].batch
    terms = trainer.step(0, lambda: batch, 1).terms
    assert {name: told.tolist() for name, told in terms.items()} == {"attention": [0, 0], "identity": [0, 0]}

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curation.errors import UsageError
from facemakeup.config import ModelConfig, Recogniser
from facemakeup.faces.condition import FaceCondition, mixed_identity, mixing_weights
from facemakeup.faces.crop import Size
from facemakeup.faces.posemap import draw
from facemakeup.faces.recognisers import RecogniserError
from facemakeup.inference.pipeline import FaceMakeUpPipeline
from facemakeup.model.base import Frame, Prompt
from facemakeup.model.bases import base_of
from facemakeup.model.denoise import Sampling, Scales, guided
from facemakeup.model.diffusion import ddim
from facemakeup.model.encoders import Encoders
from tests.facemakeup import tiny
from tests.facemakeup.tiny import tiny_inputs, tiny_model, trained

SIZE = Size(tiny.SIDE, tiny.SIDE)
NUM_STEPS = 4
STEPS = Sampling(num_steps=NUM_STEPS, guidance_scale=5.0)
RECOGNISER = Recogniser(name="tiny", width=tiny.IDENTITY_WIDTH, sha256="0" * 64)


def face(seed: int, recogniser: Recogniser = RECOGNISER) -> FaceCondition:
    draws = np.random.default_rng(seed)
    identity = draws.standard_normal(tiny.IDENTITY_WIDTH)
    return FaceCondition(
        identity_D=(identity / np.linalg.norm(identity)).astype(np.float32),
        clip_pixels_3SS=draws.standard_normal((3, tiny.CLIP_SIDE, tiny.CLIP_SIDE)).astype(np.float32),
        recogniser=recogniser,
        clip_crop="insightface-512",
        landmarks_52=np.array([[40.0, 45], [62, 44], [51, 58], [43, 70], [60, 69]]),
        box=(30.0, 25.0, 72.0, 85.0),
        width=120,
        height=110,
    )


@pytest.fixture(scope="module")
def pipe(model_config: ModelConfig) -> FaceMakeUpPipeline:
    return FaceMakeUpPipeline(trained(tiny_model(model_config)), Encoders.load(model_config))


def draw_one(pipe: FaceMakeUpPipeline, **changes: Any) -> "np.ndarray[Any, np.dtype[np.int32]]":
    options: dict[str, Any] = {"faces": [face(1)], "sampling": STEPS, "size": SIZE, **changes}
    (picture,) = pipe(["a red hat"], **options)
    assert picture.shape == (tiny.SIDE, tiny.SIDE, 3) and picture.dtype == np.uint8
    return picture.astype(np.int32)


def told(pipe: FaceMakeUpPipeline, *texts: str) -> Prompt:
    return pipe.encoders.base.prompt(texts, [Frame.whole(tiny.SIDE, tiny.SIDE)] * len(texts))


def difference(one: "np.ndarray[Any, Any]", other: "np.ndarray[Any, Any]") -> int:
    return int(np.abs(one - other).max())


def test_a_guided_step_is_the_hand_formula(pipe: FaceMakeUpPipeline) -> None:
    pose = pipe._pose_tensor(face(1).pose(SIZE), SIZE)
    positive = pipe._positive(told(pipe, "a red hat", "a park"), [face(1)], None, pose)
    negative = pipe._negative(told(pipe, "blurry"), positive)
    latents, step = pipe.start((1, 2), SIZE), torch.tensor(500)
    with torch.no_grad():
        made = guided(pipe.model, latents, step, positive, negative, Scales(), 7.5)
        p, n = (
            pipe.model.predict(latents, step.expand(2), c.identity_BD, c.clip_hidden_BNC, c.pose_BCHW, 1, 1, **c.prompt)
            for c in (positive, negative)
        )
        alone = guided(pipe.model, latents, step, positive, None, Scales(), 7.5)
    torch.testing.assert_close(made, n + 7.5 * (p - n), rtol=0, atol=1e-4)
    torch.testing.assert_close(alone, p, rtol=0, atol=1e-5)
    assert (p - n).abs().max() > 1e-3


def test_the_negative_branch_is_no_face_with_its_own_text_and_the_same_pose(pipe: FaceMakeUpPipeline) -> None:
    positive = pipe._positive(told(pipe, "a red hat"), [face(1)], None, pipe._pose_tensor(face(1).pose(SIZE), SIZE))
    negative = pipe._negative(told(pipe, "blurry"), positive)
    assert not negative.identity_BD.any()
    assert torch.equal(negative.clip_hidden_BNC, pipe.encoders.zero_hidden())
    assert torch.equal(negative.prompt["text_BLE"], told(pipe, "blurry")["text_BLE"])
    assert negative.pose_BCHW is positive.pose_BCHW and positive.pose_BCHW is not None
    assert 0 < positive.pose_BCHW.max() <= 1


def test_a_batch_of_two_is_two_batches_of_one(pipe: FaceMakeUpPipeline) -> None:
    options: dict[str, Any] = {"faces": [face(1)], "pose": face(1).pose(SIZE), "sampling": STEPS, "size": SIZE}
    both = pipe(["a red hat", "a park"], seeds=(7, 8), **options)
    single = [pipe([text], seeds=(seed,), **options)[0] for text, seed in (("a red hat", 7), ("a park", 8))]
    for one, other in zip(both, single, strict=True):
        assert difference(one.astype(np.int32), other.astype(np.int32)) <= 1
    assert difference(both[0].astype(np.int32), both[1].astype(np.int32)) > 5


def test_with_the_adapter_disabled_it_draws_what_the_stock_pipeline_of_the_base_draws(
    pipe: FaceMakeUpPipeline, model_config: ModelConfig
) -> None:
    from diffusers import StableDiffusionPipeline

    networks: Any = pipe.encoders.base
    stock = StableDiffusionPipeline(
        vae=networks.vae,
        text_encoder=networks.text_encoder,
        tokenizer=networks.tokenizer,
        unet=base_of(model_config).load(),
        scheduler=ddim(networks.scheduler, NUM_STEPS, pipe.encoders.device),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    stock.set_progress_bar_config(disable=True)
    (expected,) = stock(
        "a red hat",
        latents=pipe.start((42,), SIZE),
        num_inference_steps=NUM_STEPS,
        guidance_scale=STEPS.guidance_scale,
        output_type="np",
    ).images
    pipe.disable_adapter()
    try:
        off = draw_one(pipe, pose=face(1).pose(SIZE))
    finally:
        pipe.enable_adapter()
    assert difference(off, np.round(expected * 255).astype(np.int32)) <= 1
    on = draw_one(pipe, pose=face(1).pose(SIZE))
    assert difference(on, off) > 5
    assert difference(draw_one(pipe, scales=Scales(face=0, pose=0, lora=0)), off) == 0


@pytest.mark.slow
def test_each_scale_changes_the_picture_and_all_are_1_again_afterwards(pipe: FaceMakeUpPipeline) -> None:
    pose, inputs = face(1).pose(SIZE), tiny_inputs()
    whole = draw_one(pipe, pose=pose)
    with torch.no_grad():
        before = pipe.model(**inputs)
        for name in ("face", "clip", "pose", "lora"):
            assert difference(draw_one(pipe, pose=pose, scales=Scales(**{name: 0.3})), whole) > 2, name
            assert torch.equal(pipe.model(**inputs), before), name


def test_no_pose_a_pose_of_scale_0_and_a_pose_outside_its_steps_do_not_run_posenet(pipe: FaceMakeUpPipeline) -> None:
    pose, calls = face(1).pose(SIZE), []
    hook = pipe.model.posenet.register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        free = draw_one(pipe)
        assert difference(draw_one(pipe, pose=pose, scales=Scales(pose=0)), free) == 0
        never = Sampling(num_steps=4, guidance_scale=5.0, pose_start=0.9, pose_end=1.0)
        assert difference(draw_one(pipe, pose=pose, sampling=never), free) == 0
        assert not calls
        middle = Sampling(num_steps=4, guidance_scale=5.0, pose_start=0.25, pose_end=0.75)
        assert difference(draw_one(pipe, pose=pose, sampling=middle), free) > 0
        assert len(calls) == 2
    finally:
        hook.remove()


def test_without_guidance_the_negative_branch_is_not_computed(pipe: FaceMakeUpPipeline) -> None:
    sizes: list[int] = []
    hook = pipe.model.projector.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    draw_one(pipe, sampling=Sampling(num_steps=2, guidance_scale=1.0))
    draw_one(pipe, sampling=Sampling(num_steps=2, guidance_scale=2.0))
    hook.remove()
    assert sizes == [1, 1, 2, 2]


def test_mixed_faces_have_length_1_are_symmetric_and_one_weight_alone_is_that_face(pipe: FaceMakeUpPipeline) -> None:
    one, two = face(1), face(2)
    half = mixed_identity([one, two], mixing_weights(2, None), RECOGNISER)
    assert abs(np.linalg.norm(half) - 1) < 1e-6
    assert np.linalg.norm((one.identity_D + two.identity_D) / 2) < 0.8
    np.testing.assert_allclose(half, mixed_identity([two, one], (0.5, 0.5), RECOGNISER), atol=1e-7)
    np.testing.assert_allclose(mixed_identity([one, two], (1.0, 0.0), RECOGNISER), one.identity_D, atol=1e-7)
    single = draw_one(pipe)
    assert difference(draw_one(pipe, faces=[one, two], mix=[2.0, 0.0]), single) <= 1
    between = draw_one(pipe, faces=[one, two], mix=[0.3, 0.7])
    assert difference(between, draw_one(pipe, faces=[two, one], mix=[0.7, 0.3])) <= 1
    assert difference(between, single) > 2
    assert draw_one(pipe, faces=[one, two, face(3)]).any()


def test_faces_of_another_recogniser_and_weights_that_mean_nothing_are_refused(pipe: FaceMakeUpPipeline) -> None:
    other = Recogniser(name="tiny", width=tiny.IDENTITY_WIDTH, sha256="1" * 64)
    with pytest.raises(RecogniserError, match="face 2: recogniser sha256"):
        draw_one(pipe, faces=[face(1), face(2, other)])
    tight = FaceCondition(**{**vars(face(1)), "clip_crop": "arcface-512"})
    with pytest.raises(UsageError, match=r"face 1: cut out for CLIP as 'arcface-512', but .* 'insightface-512'"):
        draw_one(pipe, faces=[tight])
    opposite = FaceCondition(**{**vars(face(1)), "identity_D": -face(1).identity_D})
    with pytest.raises(UsageError, match="cancel out"):
        draw_one(pipe, faces=[face(1), opposite])
    for mix in ([1.0], [0.0, 0.0], [1.0, -1.0], [float("nan"), 1.0]):
        with pytest.raises(UsageError, match=r"mixing weights"):
            draw_one(pipe, faces=[face(1), face(2)], mix=mix)


def test_sizes_seeds_and_pose_maps_that_do_not_fit_are_refused(pipe: FaceMakeUpPipeline) -> None:
    with pytest.raises(UsageError, match="multiples of 8, not 60x64"):
        draw_one(pipe, size=Size(64, 60))
    with pytest.raises(UsageError, match="64x64x3"):
        draw_one(pipe, pose=face(1).pose(Size(32, 32)))
    with pytest.raises(UsageError, match="one seed or as many, not 2"):
        draw_one(pipe, seeds=(1, 2))


def test_a_wide_picture_is_drawn_as_wide(pipe: FaceMakeUpPipeline) -> None:
    wide = Size(64, 96)
    (picture,) = pipe(["a park"], [face(1)], pose=face(1).pose(wide), sampling=STEPS, size=wide)
    assert picture.shape == (64, 96, 3)


@pytest.mark.slow
def test_with_frozen_parts_in_bfloat16_as_on_a_gpu_it_draws_nearly_the_same(
    pipe: FaceMakeUpPipeline, model_config: ModelConfig
) -> None:
    exact = draw_one(pipe, pose=face(1).pose(SIZE))
    model = trained(tiny_model(model_config))
    model.freeze_in(torch.bfloat16)
    half = FaceMakeUpPipeline(model, Encoders.load(model_config, dtype=torch.bfloat16))
    drawn = draw_one(half, pose=face(1).pose(SIZE))
    assert 0 < np.abs(drawn - exact).mean() < 2
    model.require_fp32_trainables()


def test_the_schedule_is_the_published_one(pipe: FaceMakeUpPipeline) -> None:
    schedule: Any = pipe.encoders.base.sampler(50, 64, 64)
    assert schedule.timesteps.tolist() == list(range(981, 0, -20))
    assert schedule.final_alpha_cumprod == schedule.alphas_cumprod[0]
    assert schedule.alphas_cumprod[0] == pytest.approx(1 - 0.00085) and schedule.betas[-1] == pytest.approx(0.012)
    assert not schedule.config.clip_sample


def test_velocity_bases_are_sampled_as_such(tmp_path: Path) -> None:
    config = tiny.tiny_config(tiny.write_base(tmp_path, prediction_type="v_prediction"))
    pipe = FaceMakeUpPipeline(tiny_model(config), Encoders.load(config))
    sampler: Any = pipe.encoders.base.sampler(4, 64, 64)
    assert sampler.config.prediction_type == "v_prediction"
    assert draw_one(pipe).any()


def test_a_condition_read_back_is_the_same_and_its_pose_is_that_of_its_picture(tmp_path: Path) -> None:
    condition = face(1)
    condition.save(tmp_path / "face.npz")
    again = FaceCondition.load(tmp_path / "face.npz")
    for name, value in vars(condition).items():
        assert np.array_equal(value, getattr(again, name)), name
    assert again.recogniser == condition.recogniser and again.box == condition.box
    whole = condition.pose(Size(110, 120), factor=None)
    assert np.array_equal(whole, draw(condition.landmarks_52, (110, 120)))
    window = (np.array(condition.landmarks_52) - [6, 10]) * 64 / 90
    assert np.array_equal(condition.pose(SIZE, factor=1.5), draw(window, SIZE.width))

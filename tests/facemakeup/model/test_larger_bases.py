"""Stable Diffusion XL and FLUX.1, tiny and random: what holds for the first base holds for them."""

import json
import math
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from typer.testing import CliRunner

from cli import app
from curation.errors import UsageError
from facemakeup.config import ModelConfig, Recogniser
from facemakeup.data.prepare import View, view_of
from facemakeup.data.raw_sample import RawSample
from facemakeup.faces.crop import Size, Window
from facemakeup.inference.export import export, load_into_stock, read_export
from facemakeup.inference.generate import DrawRequest, FaceFinder
from facemakeup.inference.pipeline import FaceMakeUpPipeline
from facemakeup.model.base import Frame
from facemakeup.model.bases import base_of
from facemakeup.model.denoise import Sampling
from facemakeup.model.diffusion import ddim
from facemakeup.model.encoders import Encoders, LatentEncoders
from facemakeup.model.facemakeup import FaceMakeUp
from facemakeup.model.flow import flow
from facemakeup.model.flux import Flux
from facemakeup.model.sdxl import StableDiffusionXL
from facemakeup.model.stock import set_face
from facemakeup.model.tiny_flux import SCHEDULE, TEXT_LENGTH, write_flux
from facemakeup.model.tiny_sdxl import write_sdxl
from facemakeup.studio.asked import Asked
from facemakeup.studio.studio import open_studio
from facemakeup.train_config import CropSettings, OptimSettings
from facemakeup.training.train import require_known
from tests.facemakeup import tiny
from tests.facemakeup.inference.test_pipeline import NUM_STEPS, RECOGNISER, SIZE, STEPS, face
from tests.facemakeup.model.test_facemakeup import take_steps, zero_gradients
from tests.facemakeup.runs import largest_difference, run, run_config, same_bits, write_tars
from tests.facemakeup.tiny import tiny_model, trained
from tests.facemakeup.training.test_checkpoint import write_toml
from tests.facemakeup.training.test_sharding import MOST, ended, launched

KINDS: dict[str, tuple[Callable[[Path], Path], type, dict[str, Any], str]] = {
    "sdxl": (write_sdxl, StableDiffusionXL, {}, "StableDiffusionXL"),
    "flux": (write_flux, Flux, {"pose_channels": (16, 16, 16, 16)}, "Flux"),
}
"""How it is written; its adapter; what else its configuration says; what names of stock pipelines begin with."""


class Kind:
    """A base, an adapter of it moved as training would, what it is told, and its export."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        write, self.adapter, self.changes, self.stock_name = KINDS[name]
        self.base = write(folder / "base")
        self.config = tiny.tiny_config(self.base, **self.changes)
        self.encoders = Encoders.load(self.config)
        self.model = trained(tiny_model(self.config))
        self.adapter_folder = folder / "adapter"
        export(self.model, self.adapter_folder, {"step": 7})

    def fresh(self, **changes: Any) -> FaceMakeUp:
        return tiny_model(tiny.tiny_config(self.base, **{**self.changes, **changes}))

    def inputs(self, num: int = 2, seed: int = 2) -> dict[str, Any]:
        draw, base = torch.Generator().manual_seed(seed), self.encoders.base
        normal = partial(torch.randn, generator=draw)
        frames = [Frame(tiny.SIDE, tiny.SIDE, 100 + n, 90, 3, n) for n in range(num)]
        objective = base.objective(OptimSettings())
        return {
            "noisy_latents_BCHW": normal(num, base.latent_channels, tiny.LATENT_SIDE, tiny.LATENT_SIDE),
            "timesteps_B": torch.tensor([objective.at((n + 0.5) / num) for n in range(num)]),
            "identity_BD": torch.nn.functional.normalize(normal(num, tiny.IDENTITY_WIDTH), dim=-1),
            "clip_hidden_BNC": normal(num, tiny.CLIP_TOKENS, tiny.CLIP_WIDTH),
            "pose_BCHW": torch.rand(num, 3, tiny.SIDE, tiny.SIDE, generator=draw),
            **base.prompt([f"a red hat {n}" for n in range(num)], frames, 3.5),
        }

    def stock(self, controlnet: Any = None) -> Any:
        """Return the base's stock pipeline, drawing as ours does."""
        import diffusers

        name = f"{self.stock_name}{'ControlNet' if controlnet is not None else ''}Pipeline"
        more = {} if controlnet is None else {"controlnet": controlnet}
        pipe = getattr(diffusers, name).from_pretrained(self.base, **more)
        pipe.set_progress_bar_config(disable=True)
        if self.name == "sdxl":
            networks: Any = self.encoders.base
            pipe.scheduler = ddim(networks.scheduler, NUM_STEPS, torch.device("cpu"))
        return pipe


@pytest.fixture(scope="module", params=list(KINDS))
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Kind:
    return Kind(request.param, tmp_path_factory.mktemp(request.param))


def alone(kind: Kind, network: Any, inputs: dict[str, Any], pipe: Any, **more: Any) -> Tensor:
    """Return what a stock network says, called as stock pipelines call it."""
    noisy, timesteps = inputs["noisy_latents_BCHW"], inputs["timesteps_B"]
    if kind.name == "sdxl":
        added = {"text_embeds": inputs["pooled_BP"], "time_ids": inputs["sizes_B6"], **more}
        out: Tensor = network(noisy, timesteps, inputs["text_BLE"], added_cond_kwargs=added).sample
        return out
    num, channels, height, width = noisy.shape
    (said,) = network(
        hidden_states=pipe._pack_latents(noisy, num, channels, height, width),
        timestep=timesteps / 1000,
        guidance=inputs["guidance_B"],
        pooled_projections=inputs["pooled_BP"],
        encoder_hidden_states=inputs["text_BLE"],
        txt_ids=torch.zeros(TEXT_LENGTH, 3),
        img_ids=pipe._prepare_latent_image_ids(num, height // 2, width // 2, "cpu", torch.float32),
        joint_attention_kwargs=more,
        return_dict=False,
    )
    out = pipe._unpack_latents(said, tiny.SIDE, tiny.SIDE, 8)
    return out


def test_it_is_known_by_its_files_and_switched_off_it_is_the_base_to_the_last_bit(kind: Kind) -> None:
    assert type(base_of(kind.config)) is kind.adapter
    inputs, fresh = kind.inputs(), kind.fresh()
    with torch.no_grad():
        expected = alone(kind, base_of(kind.config).load(), inputs, kind.stock())
        for model in (fresh, kind.model):
            model.set_scales(face=0, lora=0)
            assert torch.equal(model(**inputs, pose_scale=0), expected)
            assert torch.equal(model(**{**inputs, "pose_BCHW": None}), expected)
            model.set_scales()
        assert torch.equal(fresh(**inputs), expected) == (kind.name == "flux")  # its values begin at zero
        for scales in ({"face": 0.0}, {"lora": 0.0}):
            kind.model.set_scales(**scales)
            assert (kind.model(**inputs, pose_scale=0) - expected).abs().max() > 0.01
        kind.model.set_scales()


@pytest.mark.slow
def test_stock_diffusers_loads_it_and_predicts_the_same_and_it_is_read_back_to_the_last_bit(kind: Kind) -> None:
    inputs, pipe = kind.inputs(), kind.stock()
    load_into_stock(pipe, kind.adapter_folder)
    embeds = set_face(pipe, inputs["identity_BD"], inputs["clip_hidden_BNC"], None)
    network = pipe.unet if kind.name == "sdxl" else pipe.transformer
    more = {"image_embeds": embeds} if kind.name == "sdxl" else {"ip_adapter_image_embeds": embeds}
    if kind.name == "sdxl":  # `set_face` is for one picture; a batch is handed over as its rows
        network.encoder_hid_proj.image_projection_layers[0].clip_embeds = inputs["clip_hidden_BNC"][:, None]
        more = {"image_embeds": [inputs["identity_BD"][:, None]]}
    with torch.no_grad():
        theirs, ours = alone(kind, network, inputs, pipe, **more), kind.model(**inputs, pose_scale=0)
    assert (theirs - ours).abs().max() <= 1e-5
    again = read_export(kind.adapter_folder)
    assert same_bits(again.trainable_state(), kind.model.trainable_state())
    files = [load_file(file) for file in kind.adapter_folder.rglob("*.safetensors")]
    num_trained = sum(value.numel() for value in kind.model.trainable_state().values())
    assert sum(value.numel() for file in files for value in file.values()) == num_trained
    assert len(json.loads((kind.adapter_folder / "adapter_config.json").read_text())["files"]) == len(files) + 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning")  # diffusers' own ControlNet takes it
@pytest.mark.parametrize("posed", [False, True])
def test_a_whole_picture_of_the_stock_pipeline_is_ours(kind: Kind, posed: bool, tmp_path: Path) -> None:
    import diffusers

    model = trained(kind.fresh(posenet_context="text"))
    export(model, tmp_path / "adapter", {})
    ours = FaceMakeUpPipeline(model, kind.encoders)
    pose = face(1).pose(SIZE)
    (picture,) = ours(
        ["a red hat"], [face(1)], pose=pose if posed else None, sampling=STEPS, seeds=(3,), size=SIZE,
        negative_prompt="blurry" if kind.name == "sdxl" else "",
    )  # fmt: skip
    controlnet: Any = None
    if posed:
        net = getattr(diffusers, "ControlNetModel" if kind.name == "sdxl" else "FluxControlNetModel")
        controlnet = net.from_pretrained(tmp_path / "adapter" / "controlnet")
    pipe = kind.stock(controlnet)
    load_into_stock(pipe, tmp_path / "adapter")
    hidden = kind.encoders.clip_hidden(torch.from_numpy(face(1).clip_pixels_3SS)[None])
    embeds = set_face(pipe, torch.from_numpy(face(1).identity_D)[None], hidden, kind.encoders.zero_hidden())
    start, control = ours.start((3,), SIZE), torch.from_numpy(pose).float().permute(2, 0, 1)[None] / 255
    given: dict[str, Any] = {"latents": start, "negative_prompt": "blurry"}
    if kind.name == "flux":
        packed = pipe._pack_latents(start, *start.shape)
        given = {"latents": packed, "negative_ip_adapter_image_embeds": embeds, "max_sequence_length": TEXT_LENGTH}
    if posed:
        given |= {"image": control} if kind.name == "sdxl" else {"control_image": control * 2 - 1}
    (theirs,) = pipe(
        "a red hat", ip_adapter_image_embeds=embeds, num_inference_steps=NUM_STEPS,
        guidance_scale=STEPS.guidance_scale, height=tiny.SIDE, width=tiny.SIDE, output_type="pt", **given,
    ).images  # fmt: skip
    assert abs(theirs.permute(1, 2, 0) - torch.from_numpy(picture).float() / 255).max() < 0.004


@pytest.mark.slow
def test_gradients_reach_exactly_what_is_trained_and_are_those_of_finite_differences(kind: Kind) -> None:
    model, inputs = trained(kind.fresh(), spread=0.02).train(), kind.inputs(1)
    wanted = torch.randn(inputs["noisy_latents_BCHW"].shape, generator=torch.Generator().manual_seed(9))

    def loss() -> Any:
        return (model(**inputs) - wanted).square().sum()

    loss().backward()
    named = model.trainable_named_parameters()
    assert zero_gradients(model) == set()
    assert all(parameter.grad is None for parameter in model.parameters() if not parameter.requires_grad)
    whole = {name: parameter.grad.clone() for name, parameter in named.items()}  # type: ignore[union-attr]
    for part in ("projector.", "lora_A", "lora_B", "to_k_ip", "to_v_ip", "posenet."):
        name = max((n for n in named if part in n), key=lambda n: float(whole[n].norm()))
        way = whole[name] / whole[name].norm()
        step = 1e-3 * float(named[name].detach().norm())
        with torch.no_grad():
            named[name].add_(step * way)
            above = float(loss())
            named[name].sub_(2 * step * way)
            below = float(loss())
            named[name].add_(step * way)
        assert (above - below) / (2 * step) == pytest.approx(float(whole[name].norm()), rel=0.03), name
    model.enable_gradient_checkpointing()
    model.zero_grad()
    loss().backward()
    for name, parameter in named.items():
        torch.testing.assert_close(parameter.grad, whole[name], rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # PoseNet's norms are trained
def test_frozen_parts_in_bfloat16_compute_close_and_train_in_float32(kind: Kind) -> None:
    model, inputs = read_export(kind.adapter_folder), kind.inputs()
    with torch.no_grad():
        exact = model(**inputs)
        model.freeze_in(torch.bfloat16)
        assert (model(**inputs) - exact).abs().max() < 0.1 * exact.abs().max()
    take_steps(model, 1, inputs=inputs)
    model.require_fp32_trainables()


def test_the_page_offers_sides_that_the_base_takes_and_refuses_others(kind: Kind, tmp_path: Path) -> None:
    desk = open_studio(kind.adapter_folder, FaceFinder(), tmp_path, tiny.SIDE)
    side, step = 72, 8 if kind.name == "sdxl" else 16
    assert desk.facts["stride"] == step
    asked = {"faces": [{"face": "a", "weight": 1}], "prompt": "a hat", "consent": "signed", "height": side}
    with pytest.raises(UsageError, match="not here any more" if step == 8 else "multiples of 16, not 512 x 72"):
        desk.start(Asked.model_validate(asked))
    desk.close()


@pytest.mark.slow
def test_a_vae_whose_latents_mean_something_else_than_the_base_s_is_refused(kind: Kind, tmp_path: Path) -> None:
    vae: Any = kind.encoders.base.vae
    for key, value in (("scaling_factor", 0.5), ("shift_factor", 0.25)):
        other = type(vae).from_config({**vae.config, key: value})
        other.save_pretrained(tmp_path / key)
        with pytest.raises(UsageError, match=f"its {key} is {value}, that of .* is"):
            Encoders.load(kind.config.model_copy(update={"vae": str(tmp_path / key)}))
    same = Encoders.load(kind.config.model_copy(update={"vae": str(kind.base / "vae")}))
    assert same_bits(dict(same.base.vae.state_dict()), dict(vae.state_dict()))


def test_a_negative_prompt_is_drawn_as_the_card_says_or_refused_where_no_branch_is_drawn_for_it(kind: Kind) -> None:
    card = (kind.adapter_folder / "README.md").read_text()
    if kind.name == "flux":
        with pytest.raises(UsageError, match="negative_prompt: this base is told guidance"):
            FaceMakeUpPipeline(kind.model, kind.encoders)(["a hat"], [face(1)], negative_prompt="blurry", size=SIZE)
        return
    assert 'pipe("a person wearing a red hat", negative_prompt="", ip_adapter' in card
    ours = kind.encoders.base.prompt([""], [Frame.whole(tiny.SIDE, tiny.SIDE)])
    for said, is_ours in (("", True), (None, False)):
        _, negative, _, pooled = kind.stock().encode_prompt("a hat", negative_prompt=said)
        assert torch.equal(negative, ours["text_BLE"]) == torch.equal(pooled, ours["pooled_BP"]) == is_ours


@pytest.mark.slow
def test_it_overfits_one_batch(kind: Kind) -> None:
    losses = take_steps(kind.fresh(), 50, lr=3e-3, inputs=kind.inputs())
    assert losses[-1] < 0.25 * losses[0], losses[::10]


@pytest.mark.slow
def test_it_is_trained_exported_and_drawn_with_by_command(kind: Kind, recogniser: Recogniser, tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "model": kind.changes, "optim": {"num_steps": 3}, "checkpoint": {"every": 3},
        "validation": {"num_references": 1, "facesim": False, "scales": [1.0]},
        "cache": {"folder": str(tmp_path / "cache")},
    }  # fmt: skip
    toml = write_toml(tmp_path / "short.toml", run_config(kind.base, recogniser, **changes))
    data, out, adapter = write_tars(tmp_path / "tars"), tmp_path / "out", tmp_path / "adapter"
    someone = face(1, recogniser)
    object.__setattr__(someone, "identity_D", someone.identity_D[: recogniser.width])
    someone.save(tmp_path / "face.npz")
    wrong, message = REFUSED[kind.name][-1]
    refused = write_toml(tmp_path / "wrong.toml", run_config(kind.base, recogniser, **{**changes, **wrong}))
    done = CliRunner().invoke(app, ["train", str(refused), "--data", data, "--out", str(out)])
    assert isinstance(done.exception, UsageError) and re.search(message, str(done.exception))
    for words in (
        ["cache", str(toml), "--data", data, "--out", str(out)],
        ["train", str(toml), "--data", data, "--out", str(out)],
        ["export", str(out / "checkpoints" / "step-00000003"), str(adapter)],
        ["generate", str(adapter), "--face", str(tmp_path / "face.npz"), "--pose", str(tmp_path / "face.npz"),
         "--prompt", "a red hat", "--out", str(tmp_path / "drawn"), "--steps", "2", "--height", "64", "--width", "96"],
    ):  # fmt: skip
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, (words, done.output, done.exception)
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert len([line for line in lines if math.isfinite(line.get("train/loss", math.nan))]) == 3
    assert math.isfinite(lines[-1]["validation/loss"]) and lines[-1].get("cache/latents_hit", 1) > 0
    assert (tmp_path / "drawn" / "000.png").is_file()


@pytest.mark.campaign
@pytest.mark.parametrize("fsdp", [False, True])
def test_two_processes_with_copies_or_shards_train_what_one_trains(
    kind: Kind, recogniser: Recogniser, tmp_path: Path, fsdp: bool
) -> None:
    pattern, optim = write_tars(tmp_path / "tars"), {"num_steps": 3, "learning_rate": 1e-4}
    changes: dict[str, Any] = {"data": {"micro_batch": 1}, "optim": optim, "model": kind.changes}
    alone = run(run_config(kind.base, recogniser, **changes), pattern, tmp_path / "alone")
    pair = run_config(kind.base, recogniser, **changes, run={"fsdp": fsdp, "gradient_checkpointing": fsdp})
    out = tmp_path / "pair"
    both = ended(launched(write_toml(tmp_path / "pair.toml", pair), [pattern] * 2, out), out, 0)
    assert largest_difference(dict(alone.snapshot().trainable), dict(both.snapshot().trainable)) < MOST


def test_what_a_view_leaves_of_a_photo_is_what_the_network_is_told(tmp_path: Path) -> None:
    raw = RawSample("u", "c", b"", "", 400, 300, (0, 0, 9, 9), np.zeros((5, 2)))
    size, window = Size(64, 32), Window(left=100, top=40, width=50, height=100)
    straight, mirrored = (View(window, size, flipped).frame(raw) for flipped in (False, True))
    assert straight == Frame(64, 32, 300, 400, top=round(40 * 0.64), left=64)
    assert mirrored == Frame(64, 32, 300, 400, top=round(40 * 0.64), left=160)
    encoders: Any = Encoders.load(tiny.tiny_config(write_sdxl(tmp_path))).base
    told = encoders.prompt(["a", "b"], [straight, Frame.whole(64, 32)])
    assert told["sizes_B6"].tolist() == [[300, 400, 26, 64, 64, 32], [64, 32, 0, 0, 64, 32]]
    assert told["text_BLE"].shape == (2, 77, 128) and told["pooled_BP"].shape == (2, 32)


def scheduler(**changes: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**{**SCHEDULE, **changes})


def flow_of(optim: OptimSettings, **changes: Any) -> Any:
    return flow(scheduler(**changes), optim, lambda height, width: height * width // 4)


def test_times_of_a_flow_are_the_sigmoid_of_normal_numbers_shifted_as_the_base_shifts_its_steps() -> None:
    def drawn(made: Any, side: int) -> Any:
        chance = np.random.default_rng(1)
        return np.array([made.draw(chance, side, side) for _ in range(4000)]) / made.end

    plain = drawn(flow_of(OptimSettings(timestep_mean=0.0)), 64)
    logits = np.log(plain / (1 - plain))
    assert abs(logits.mean()) < 0.05 and abs(logits.std() - 1) < 0.05
    stock = scheduler()
    for side, mu in ((32, 0.5), (128, 1.15)):  # 256 and 4096 tokens, where the base's schedule is anchored
        np.testing.assert_allclose(drawn(flow_of(OptimSettings()), side), stock.time_shift(mu, 1.0, plain), rtol=1e-9)
    still = flow_of(OptimSettings(), use_dynamic_shifting=False)  # shift 3, as SD3 has it
    np.testing.assert_allclose(drawn(still, 64), 3 * plain / (1 + 2 * plain), rtol=1e-9)
    uniform = drawn(flow_of(OptimSettings(timesteps="uniform")), 64)
    assert abs(uniform.mean() - 0.5) < 0.02 and abs(uniform.std() - math.sqrt(1 / 12)) < 0.01
    latents, noise = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    objective, times = flow_of(OptimSettings()), torch.tensor([0.0, 250.0, 1000.0])
    noisy, velocity = objective.noisy(latents, noise, times), objective.target(latents, noise, times)
    torch.testing.assert_close(noisy - velocity * (times / 1000).reshape(-1, 1, 1, 1), latents)


REFUSED: dict[str, tuple[tuple[dict[str, Any], str], ...]] = {
    "flux": (
        ({"optim": {"min_snr_gamma": 5.0}}, "min_snr_gamma: this base is taught a flow"),
        ({"optim": {"timesteps": "uniform", "timestep_mean": 1.0}}, "timestep_mean: uniform timesteps have none"),
        ({"crop": {"size": 72}}, "pictures of 72x72; .* sides that are multiples of 16"),
    ),
    "sdxl": (
        ({"optim": {"timesteps": "logit-normal"}}, "this base knows whole steps"),
        ({"optim": {"guidance": 3.5}}, r"guidance is 3\.5; .* takes none"),
    ),
}


def test_settings_that_the_base_would_leave_out_are_refused(kind: Kind) -> None:
    for changes, message in REFUSED[kind.name]:
        with pytest.raises(UsageError, match=message):
            require_known(run_config(kind.base, RECOGNISER, **changes), kind.encoders.base)


def test_pose_channels_that_posenet_of_flux_cannot_have_are_refused(tmp_path: Path) -> None:
    config: ModelConfig = tiny.tiny_config(write_flux(tmp_path), pose_channels=(8, 16, 16, 16))
    with pytest.raises(ValueError, match=r"pose_channels \(8, 16, 16, 16\): with this base they are"):
        FaceMakeUp.from_config(config)


def test_a_flux_that_is_not_told_guidance_is_guided_by_a_negative_branch(tmp_path: Path) -> None:
    config = tiny.tiny_config(write_flux(tmp_path, is_told_guidance=False), pose_channels=(16, 16, 16, 16))
    pipe = FaceMakeUpPipeline(tiny_model(config), Encoders.load(config))
    sizes: list[int] = []
    pipe.model.projector.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    pipe(["a red hat"], [face(1)], sampling=STEPS, size=SIZE)
    assert sizes == [2] * NUM_STEPS and pipe.settled(Sampling()).num_steps == 4


def test_guidance_and_steps_that_nobody_says_are_the_base_s_own(kind: Kind, tmp_path: Path) -> None:
    own, steps = {"sdxl": (5.0, 50), "flux": (3.5, 28)}[kind.name]
    pipe = FaceMakeUpPipeline(kind.model, kind.encoders)
    asked = {"faces": [{"face": "a", "weight": 1}], "prompt": "a hat", "consent": "signed"}
    (request,) = Asked.model_validate(asked).requests()
    assert request.on(pipe, {"crop_size": 64}).sampling.guidance_scale == own
    drawn = DrawRequest(prompts=("a",)).on(pipe, {"crop_size": 64})
    assert drawn.size == Size(64, 64) and drawn.sampling.num_steps == steps
    assert pipe.settled(Sampling(num_steps=7)).num_steps == 7
    said, left = (
        pipe(["a hat"], [face(1)], sampling=Sampling(num_steps=1, guidance_scale=scale), size=SIZE)[0]
        for scale in (own, None)
    )
    assert np.array_equal(said, left)
    desk = open_studio(kind.adapter_folder, FaceFinder(), tmp_path)
    assert (desk.facts["guidance"], desk.facts["side"]) == (own, 512)
    desk.close()
    with pytest.raises(UsageError, match="negative_prompt: "):
        pipe(["a"], [face(1)], sampling=Sampling(guidance_scale=1), size=SIZE, negative_prompt="blurry")


def test_frozen_weights_that_are_published_in_bfloat16_are_never_in_float32_and_nothing_else_changes(
    tmp_path: Path,
) -> None:
    from diffusers import FluxTransformer2DModel

    base = write_flux(tmp_path)
    FluxTransformer2DModel.from_pretrained(base / "transformer", dtype=torch.bfloat16).save_pretrained(
        base / "transformer"
    )
    config = tiny.tiny_config(base, pose_channels=(16, 16, 16, 16))
    with tiny.seeded(1):
        narrow = FaceMakeUp.from_config(config, dtype=torch.bfloat16)
        after = torch.rand(1)
    wide = tiny_model(config)
    frozen = {n: p for n, p in narrow.named_parameters() if not p.requires_grad}
    assert {parameter.dtype for parameter in frozen.values()} == {torch.bfloat16}
    num_bytes = [sum(p.nbytes for n, p in made.named_parameters() if n in frozen) for made in (narrow, wide)]
    assert num_bytes[1] == 2 * num_bytes[0]
    assert same_bits(narrow.trainable_state(), wide.trainable_state())
    narrow.require_fp32_trainables()
    for made in (narrow, wide):
        made.freeze_in(torch.bfloat16)
    assert {n: p.dtype for n, p in narrow.named_parameters()} == {n: p.dtype for n, p in wide.named_parameters()}
    assert same_bits(dict(narrow.state_dict()), dict(wide.state_dict()))
    with tiny.seeded(1):
        FaceMakeUp.from_config(config)
        assert torch.equal(torch.rand(1), after)


def test_caches_are_filled_without_text_encoder_and_image_encoder(kind: Kind, tmp_path: Path) -> None:
    for part in ("vae", "transformer", "unet", "image_encoder"):
        if (kind.base / part).is_dir():
            shutil.copytree(kind.base / part, tmp_path / part)
    if kind.name == "sdxl":  # its kind is known by there being two
        for part in ("text_encoder", "text_encoder_2"):
            shutil.copytree(kind.base / part, tmp_path / part)
    for weights in (file for file in tmp_path.rglob("*.safetensors") if file.parent.name != "vae"):
        weights.unlink()
    config = kind.config.model_copy(update={"base": str(tmp_path), "image_encoder": str(tmp_path)})
    small = LatentEncoders.load(config)
    assert small.clip_side == kind.encoders.clip_side
    pixels = torch.rand(1, 3, tiny.SIDE, tiny.SIDE) * 2 - 1
    assert torch.equal(small.base.moments(pixels)[0], kind.encoders.base.moments(pixels)[0])
    with pytest.raises(UsageError, match="48 wide; clip_width says 1280"):
        LatentEncoders.load(config.model_copy(update={"clip_width": 1280}))


def test_a_window_around_a_face_is_told_as_a_photo_of_its_own_and_a_whole_picture_as_what_it_is() -> None:
    raw = RawSample("u", "c", b"", "", 4000, 3000, (1900.0, 2500.0, 2000.0, 2600.0), np.zeros((5, 2)))
    for flipped in (False, True):
        assert view_of(raw, CropSettings(size=64, factor=1.5), flipped).frame(raw) == Frame(64, 64, 150, 150)
        whole = view_of(raw, CropSettings(mode="full", size=512), flipped).frame(raw)
        assert (whole.original_height, whole.original_width) == (3000, 4000)

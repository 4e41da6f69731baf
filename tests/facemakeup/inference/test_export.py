import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from typer.testing import CliRunner

from cli import app
from curation.errors import UsageError, VerificationError
from curation.storage.publish import publish_json, sha256_of
from facemakeup.config import ModelConfig, Recogniser
from facemakeup.inference.export import RECORD_NAME, export, flat_names, load_into_stock, read_export
from facemakeup.inference.pipeline import FaceMakeUpPipeline
from facemakeup.model.base import WEIGHTS_NAME
from facemakeup.model.diffusion import ddim
from facemakeup.model.encoders import Encoders
from facemakeup.model.facemakeup import FaceMakeUp
from facemakeup.model.finite import NonFiniteError
from facemakeup.model.ip_adapter import set_face
from tests.facemakeup import tiny
from tests.facemakeup.runs import run, run_config, same_bits, write_tars
from tests.facemakeup.tiny import tiny_inputs, tiny_model, trained

FACTS = {"step": 7, "average": True}


@pytest.fixture(scope="module")
def model(model_config: ModelConfig) -> FaceMakeUp:
    return trained(tiny_model(model_config))


@pytest.fixture(scope="module")
def folder(model: FaceMakeUp, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("exports") / "adapter"
    export(model, target, FACTS)
    return target


def stock(base: Path, kind: str = "StableDiffusionPipeline", **parts: Any) -> Any:
    import diffusers

    networks: Any = Encoders.load(tiny.tiny_config(base)).base
    return getattr(diffusers, kind)(
        vae=networks.vae,
        text_encoder=networks.text_encoder,
        tokenizer=networks.tokenizer,
        unet=diffusers.UNet2DConditionModel.from_pretrained(base / "unet"),
        scheduler=ddim(networks.scheduler, 4, torch.device("cpu")),
        safety_checker=None,
        feature_extractor=_feature_extractor(),
        requires_safety_checker=False,
        **parts,
    )


def _feature_extractor() -> Any:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size=tiny.CLIP_SIDE, crop_size=tiny.CLIP_SIDE)


def stock_output(pipe: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Run the stock U-Net on one batch, faces handed over as the helper does."""
    layer = pipe.unet.encoder_hid_proj.image_projection_layers[0]
    layer.clip_embeds = inputs["clip_hidden_BNC"][:, None]
    with torch.no_grad():
        out: Tensor = pipe.unet(
            inputs["noisy_latents_BCHW"],
            inputs["timesteps_B"],
            inputs["text_BLE"],
            added_cond_kwargs={"image_embeds": [inputs["identity_BD"][:, None]]},
        ).sample
    return out


def own_output(model: FaceMakeUp, inputs: dict[str, Any]) -> Tensor:
    with torch.no_grad():
        return model.predict(**inputs, pose_scale=0)


def rewritten(folder: Path, target: Path, tensors: dict[str, Tensor]) -> Path:
    """Copy an export with other tensors in its flat file, its record made to agree."""
    import shutil

    shutil.copytree(folder, target)
    save_file(tensors, target / WEIGHTS_NAME)
    record = json.loads((target / RECORD_NAME).read_text())
    record["files"][WEIGHTS_NAME] = sha256_of(target / WEIGHTS_NAME)
    publish_json(target / RECORD_NAME, record)
    return target


def test_stock_diffusers_loads_it_and_predicts_the_same(base: Path, model: FaceMakeUp, folder: Path) -> None:
    pipe, inputs = stock(base), tiny_inputs(3)
    load_into_stock(pipe, folder)
    assert (stock_output(pipe, inputs) - own_output(model, inputs)).abs().max() < 1e-5


def test_without_the_helper_s_shortcut_it_is_another_model(base: Path, model: FaceMakeUp, folder: Path) -> None:
    pipe, inputs = stock(base), tiny_inputs(3)
    pipe.load_ip_adapter(str(folder), subfolder=None, weight_name=WEIGHTS_NAME, image_encoder_folder=None)
    assert (stock_output(pipe, inputs) - own_output(model, inputs)).abs().max() > 1e-2
    pipe.unet.encoder_hid_proj.image_projection_layers[0].shortcut = True
    assert (stock_output(pipe, inputs) - own_output(model, inputs)).abs().max() < 1e-5
    pipe.set_adapters(["faceid_0"], adapter_weights=[0.0])
    assert (stock_output(pipe, inputs) - own_output(model, inputs)).abs().max() > 1e-2


def test_processors_counted_in_another_order_are_another_model_and_refused(
    base: Path, model: FaceMakeUp, folder: Path, tmp_path: Path
) -> None:
    names = list(model.network.attn_processors)
    like = [index for index, name in enumerate(names) if name.startswith("up_blocks") and "attn2" in name]
    first, second = like[0], like[1]
    swap = {f"ip_adapter.{first}.": f"ip_adapter.{second}.", f"ip_adapter.{second}.": f"ip_adapter.{first}."}
    moved = {}
    for name, tensor in load_file(folder / WEIGHTS_NAME).items():
        prefix = name[: name.index(".", len("ip_adapter.")) + 1]
        moved[name.replace(prefix, swap.get(prefix, prefix), 1)] = tensor
    wrong = rewritten(folder, tmp_path / "wrong", moved)
    pipe, inputs = stock(base), tiny_inputs(3)
    load_into_stock(pipe, wrong)
    assert (stock_output(pipe, inputs) - own_output(model, inputs)).abs().max() > 1e-3
    record = json.loads((wrong / RECORD_NAME).read_text())
    record["processors"][first], record["processors"][second] = names[second], names[first]
    publish_json(wrong / RECORD_NAME, record)
    with pytest.raises(VerificationError, match="another order"):
        read_export(wrong)


def test_read_back_it_is_the_same_model_to_the_last_bit(model: FaceMakeUp, folder: Path) -> None:
    again = read_export(folder)
    state = again.trainable_state()
    assert state.keys() == model.trainable_state().keys()
    assert all(torch.equal(value, state[name]) for name, value in model.trainable_state().items())
    assert again.config == model.config


def test_the_flat_file_holds_every_trained_tensor_once(model: FaceMakeUp, folder: Path) -> None:
    flat = load_file(folder / WEIGHTS_NAME)
    posenet = load_file(folder / "controlnet" / "diffusion_pytorch_model.safetensors")
    assert sum(t.numel() for t in (*flat.values(), *posenet.values())) == tiny.NUM_TRAINABLE
    assert set(flat) == set(flat_names(model).values())
    assert {name.split(".")[0] for name in flat} == {"image_proj", "ip_adapter"}


@pytest.mark.slow
def test_a_whole_picture_of_the_stock_pipeline_is_ours(
    base: Path, model: FaceMakeUp, folder: Path, model_config: ModelConfig
) -> None:
    from tests.facemakeup.inference.test_pipeline import SIZE, STEPS, face

    ours = FaceMakeUpPipeline(model, Encoders.load(model_config))
    (picture,) = ours(["a red hat"], [face(1)], sampling=STEPS, negative_prompt="blurry", seeds=(3,), size=SIZE)
    pipe = stock(base)
    load_into_stock(pipe, folder)
    hidden = ours.encoders.clip_hidden(torch.from_numpy(face(1).clip_pixels_3SS)[None])
    embeds = set_face(pipe, torch.from_numpy(face(1).identity_D)[None], hidden, ours.encoders.zero_hidden())
    theirs = call_stock(pipe, embeds, ours)
    assert abs(theirs - torch.from_numpy(picture).float() / 255).max() < 0.004


@pytest.mark.slow
def test_posenet_with_the_text_as_context_works_in_a_fully_stock_controlnet_pipeline(
    base: Path, tmp_path: Path
) -> None:
    from diffusers import ControlNetModel

    from tests.facemakeup.inference.test_pipeline import SIZE, STEPS, face

    config = tiny.tiny_config(base, posenet_context="text")
    model = trained(tiny_model(config))
    export(model, tmp_path / "adapter", FACTS)
    ours = FaceMakeUpPipeline(model, Encoders.load(config))
    pose = face(1).pose(SIZE)
    options = {"sampling": STEPS, "negative_prompt": "blurry", "seeds": (3,), "size": SIZE}
    (picture,) = ours(["a red hat"], [face(1)], pose=pose, **options)  # type: ignore[arg-type]
    (free,) = ours(["a red hat"], [face(1)], **options)  # type: ignore[arg-type]
    controlnet = ControlNetModel.from_pretrained(tmp_path / "adapter" / "controlnet")
    pipe = stock(base, "StableDiffusionControlNetPipeline", controlnet=controlnet)
    load_into_stock(pipe, tmp_path / "adapter")
    hidden = ours.encoders.clip_hidden(torch.from_numpy(face(1).clip_pixels_3SS)[None])
    embeds = set_face(pipe, torch.from_numpy(face(1).identity_D)[None], hidden, ours.encoders.zero_hidden())
    condition = torch.from_numpy(pose).float().permute(2, 0, 1)[None] / 255
    theirs = call_stock(pipe, embeds, ours, image=condition)
    assert abs(theirs - torch.from_numpy(picture).float() / 255).max() < 0.004
    assert abs(theirs - torch.from_numpy(free).float() / 255).max() > 0.01


def call_stock(pipe: Any, embeds: list[Tensor], ours: FaceMakeUpPipeline, **more: Any) -> Tensor:
    from tests.facemakeup.inference.test_pipeline import SIZE, STEPS

    pipe.set_progress_bar_config(disable=True)
    (picture,) = pipe(
        "a red hat",
        negative_prompt="blurry",
        ip_adapter_image_embeds=embeds,
        latents=ours.start((3,), SIZE),
        num_inference_steps=STEPS.num_steps,
        guidance_scale=STEPS.guidance_scale,
        output_type="pt",
        **more,
    ).images
    out: Tensor = picture.permute(1, 2, 0)
    return out


def test_a_damaged_or_foreign_folder_is_refused(folder: Path, model: FaceMakeUp, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no adapter_config\.json in it"):
        read_export(tmp_path)
    with pytest.raises(UsageError, match="is there already"):
        export(model, folder, FACTS)
    damaged = rewritten(folder, tmp_path / "damaged", load_file(folder / WEIGHTS_NAME))
    with (damaged / "controlnet" / "config.json").open("a") as file:
        file.write(" ")
    with pytest.raises(VerificationError, match=r"controlnet/config\.json: missing, or not the bytes"):
        read_export(damaged)


def test_an_adapter_of_an_earlier_release_keeps_the_crop_that_it_was_trained_with(folder: Path, tmp_path: Path) -> None:
    old = rewritten(folder, tmp_path / "old", load_file(folder / WEIGHTS_NAME))
    record = json.loads((old / RECORD_NAME).read_text())
    assert record["format_version"] == 2 and record["model"].pop("clip_crop") == "insightface-512"
    publish_json(old / RECORD_NAME, {**record, "format_version": 1})
    assert read_export(old).config.clip_crop == "arcface-512"


def test_weights_that_are_not_finite_are_not_exported(base: Path, tmp_path: Path) -> None:
    model = tiny_model(tiny.tiny_config(base))
    with torch.no_grad():
        next(iter(model.trainable_named_parameters().values())).view(-1)[3] = float("inf")
    with pytest.raises(NonFiniteError, match=r"1 of \d+ tensors are not finite"):
        export(model, tmp_path / "adapter", FACTS)
    assert not list(tmp_path.iterdir())


def test_a_record_that_names_not_every_file_or_is_none_is_refused(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / WEIGHTS_NAME)
    cases: list[tuple[dict[str, Any], str]] = [
        ({"files": {}}, r"does not name controlnet/.*, facemakeup\.safetensors"),
        ({"files": None}, "not the record of an adapter"),
        ({"format_version": 3}, r"are of version \(3, 1\)"),
    ]
    for number, (change, message) in enumerate(cases):
        wrong = rewritten(folder, tmp_path / str(number), tensors)
        record = json.loads((wrong / RECORD_NAME).read_text())
        publish_json(wrong / RECORD_NAME, {**record, **change})
        with pytest.raises((VerificationError, UsageError), match=message):
            read_export(wrong)
    (wrong / RECORD_NAME).write_text("{")
    with pytest.raises(VerificationError, match="not the record of an adapter"):
        read_export(wrong)


@pytest.mark.slow
def test_another_base_of_other_sizes_is_refused_and_one_of_the_same_sizes_taken(folder: Path, tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    with tiny.seeded(11):
        UNet2DConditionModel(**tiny.UNET).save_pretrained(tmp_path / "same" / "unet")
        UNet2DConditionModel(**{**tiny.UNET, "cross_attention_dim": 128}).save_pretrained(tmp_path / "other" / "unet")
    assert read_export(folder, str(tmp_path / "same")).config.base == str(tmp_path / "same")
    with pytest.raises(UsageError, match=r"does not fit the base .*shape"):
        read_export(folder, str(tmp_path / "other"))


def test_the_card_and_the_record_say_what_the_adapter_stands_on(folder: Path, model: FaceMakeUp, base: Path) -> None:
    card = (folder / "README.md").read_text()
    assert str(base) in card and "0" * 64 in card and "| step | 7 |" in card
    assert "look it up at its source" in card
    record = json.loads((folder / RECORD_NAME).read_text())
    assert record["shortcut"] is True and record["num_tokens"] == 4
    assert record["model"]["recogniser"] == model.config.recogniser.model_dump()
    assert len(record["processors"]) == 8


def test_the_card_of_a_published_base_names_the_licences_it_inherits() -> None:
    from facemakeup.inference.model_card import model_card
    from facemakeup.model.skeleton import sd15_config

    config = sd15_config().model_copy(
        update={
            "base": "stable-diffusion-v1-5/stable-diffusion-v1-5",
            "vae": "stabilityai/sd-vae-ft-mse",
            "image_encoder": "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        }
    )
    card = model_card(config, "", {})
    assert "CreativeML Open RAIL-M" in card and card.count("| MIT |") == 2
    assert "non-commercial research only" in card


@pytest.mark.slow
def test_what_train_wrote_is_exported_from_the_command_line_and_loaded_by_stock_diffusers(
    base: Path, recogniser: Recogniser, tmp_path: Path
) -> None:
    changes = {"optim": {"num_steps": 2}, "checkpoint": {"every": 2}}
    checkpoint = run(run_config(base, recogniser, **changes), write_tars(tmp_path / "tars"), tmp_path / "out")
    for name, options in (("average", ()), ("last", ("--last",))):
        result = CliRunner().invoke(app, ["export", str(checkpoint.folder), str(tmp_path / name), *options])
        assert result.exit_code == 0, result.output
    average, last = read_export(tmp_path / "average"), read_export(tmp_path / "last")
    assert same_bits(average.trainable_state(), checkpoint.weights(ema=True))
    assert same_bits(last.trainable_state(), checkpoint.weights(ema=False))
    assert not same_bits(average.trainable_state(), last.trainable_state())
    facts = json.loads((tmp_path / "last" / RECORD_NAME).read_text())["facts"]
    assert facts["step"] == 2 and facts["weights_are_an_average"] is False
    assert (facts["crop_mode"], facts["crop_factor"]) == ("face", 1.5)
    pipe, inputs = stock(base), tiny_inputs(2, identity_width=recogniser.width)
    load_into_stock(pipe, tmp_path / "average")
    assert (stock_output(pipe, inputs) - own_output(average, inputs)).abs().max() < 1e-5

"""What stands behind the seam, and that nothing before it knows what is behind."""

import ast
import inspect
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import grimp
import numpy as np
import pytest
import torch

import facemakeup
from curation.errors import UsageError
from facemakeup.config import ModelConfig, Recogniser
from facemakeup.faces.crop import Size
from facemakeup.inference.export import read_export
from facemakeup.inference.pipeline import FaceMakeUpPipeline
from facemakeup.model import bases, skeleton
from facemakeup.model.bases import BASES, base_of
from facemakeup.model.denoise import Sampling, Scales
from facemakeup.model.encoders import Encoders
from facemakeup.model.facemakeup import FaceMakeUp
from facemakeup.model.pretrained import hub_answers, load_part
from facemakeup.model.sd1 import StableDiffusion
from facemakeup.train_config import TrainConfig
from facemakeup.training.export_checkpoint import export_checkpoint
from tests.facemakeup import tiny
from tests.facemakeup.inference.test_pipeline import face
from tests.facemakeup.patches import Patches, write_patches
from tests.facemakeup.runs import run, run_config, same_bits, write_tars
from tests.ports import free_ports

PACKAGE = Path(facemakeup.__file__).parent
ADAPTERS = {Path(inspect.getfile(adapter)) for adapter in BASES.values()}
"""Each base's own file."""
NETWORKS = {
    "UNet2DConditionModel", "ControlNetModel", "AutoencoderKL", "CLIPTextModel", "CLIPTokenizer",
    "CLIPTextModelWithProjection", "FluxTransformer2DModel", "FluxControlNetModel", "T5EncoderModel", "T5TokenizerFast",
}  # fmt: skip
PARTICULARS = ("attn2", "cross_attention_dim", "scaling_factor", "prediction_type", "addition_embed_type")
SHARED = {PACKAGE / "model" / name for name in ("vae.py", "flux_ip_adapter.py")}
"""What adapters share or have put beside them."""
OTHERS = {PACKAGE / "evaluation" / "generators", PACKAGE / "evaluation" / "tiny"}
"""Methods of others, each of which draws with the stock base that it was published for."""
BLIND = ("training", "data", "faces")
"""Packages that know of no base at all."""


@pytest.fixture
def patches(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base: Path, recogniser: Recogniser) -> TrainConfig:
    """A short run on a base of another kind, whose adapter is one more row of the table."""
    monkeypatch.setattr(bases, "BASES", {**BASES, "patches": Patches})
    config = run_config(base, recogniser, validation={"num_references": 1, "facesim": False, "scales": [1.0]})
    return config.model_copy(update={"model": write_patches(tmp_path / "patches", config.model)})


def modules() -> list[Path]:
    of_a_base = {*ADAPTERS, *SHARED, *(PACKAGE / "model").glob("tiny_*.py")}
    return [p for p in sorted(PACKAGE.rglob("*.py")) if p not in of_a_base and not OTHERS & {*p.parents}]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_but_an_adapter_s_own_names_what_is_particular_to_a_base(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not [word for word in PARTICULARS if word in text]
    nodes = list(ast.walk(ast.parse(text)))
    imported = {name.name for node in nodes if isinstance(node, ast.ImportFrom) for name in node.names}
    reached = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert not NETWORKS & (imported | reached)


def test_trainer_and_data_name_no_base_and_no_part_of_one() -> None:
    names = r"stable.?diffusion|\bsd1|sdxl|flux|u-?net|controlnet|clip_?text|\bt5\b|epsilon|ddim|euler"
    words = re.compile(names, re.IGNORECASE)
    for package in BLIND:
        for path in (PACKAGE / package).rglob("*.py"):
            assert not words.search(path.read_text(encoding="utf-8")), path


def test_an_adapter_is_imported_by_the_table_alone() -> None:
    graph = grimp.build_graph("facemakeup")
    adapters = {f"facemakeup.model.{path.stem}" for path in ADAPTERS}
    for adapter in adapters:
        assert graph.find_modules_that_directly_import(adapter) <= {"facemakeup.model.bases", *adapters}
    above = {module for module in graph.modules if module.split(".")[1:2] == ["training"]}
    known = {"base", "bases", "denoise", "encoders", "facemakeup", "finite", "loss", "send"}
    known |= {"attention_loss", "face_regions"}
    for module in above:
        found = {name.split(".")[2] for name in graph.find_modules_directly_imported_by(module) if ".model." in name}
        assert found <= known, module


def test_stable_diffusion_is_known_by_its_unet(model_config: ModelConfig) -> None:
    for config in (model_config, skeleton.sd15_config()):
        assert type(base_of(config)) is StableDiffusion


@pytest.mark.parametrize(
    "unet",
    [{"_class_name": "UNet2DConditionModel", "addition_embed_type": "text_time"}, {"_class_name": "Other"}, None],
)
def test_a_base_of_an_unknown_kind_is_refused_with_the_choices(
    model_config: ModelConfig, tmp_path: Path, unet: dict[str, str] | None
) -> None:
    if unet is not None:
        (tmp_path / "unet").mkdir()
        (tmp_path / "unet" / "config.json").write_text(json.dumps(unet))
    config = model_config.model_copy(update={"base": str(tmp_path)})
    said = re.escape(unet["_class_name"]) if unet else "No such file"
    with pytest.raises(
        UsageError, match=rf"name one of these kinds: sd1 \(Stable Diffusion 1\.x/2\.x.*{said}"
    ) as caught:
        base_of(config)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(UsageError, match="no base model of a known kind"):
        Encoders.load(config)


@pytest.mark.slow
def test_a_base_of_another_kind_trains_resumes_and_changes_its_trainables_alone(
    patches: TrainConfig, tmp_path: Path
) -> None:
    pattern = write_tars(tmp_path / "tars")
    whole = run(patches, pattern, tmp_path / "whole")
    brief = patches.model_copy(update={"checkpoint": patches.checkpoint.model_copy(update={"every": 3})})

    class StopError(Exception):
        pass

    def stop_at_five(progress: object) -> None:
        if getattr(progress, "step", 0) == 5:
            raise StopError

    with pytest.raises(StopError):
        run(brief, pattern, tmp_path / "halves", on_step=stop_at_five)
    resumed = run(brief, pattern, tmp_path / "halves", resume=True)
    assert same_bits(whole.weights(ema=False), resumed.weights(ema=False))
    names = whole.weights().keys()
    assert {name.split(".")[0] for name in names} == {"patches", "projector", "posenet"}
    assert {name for name in names if name.startswith("patches.")} == {"patches.face_kv.weight", "patches.face_kv.bias"}
    first, *_, last = (json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines())
    assert np.isfinite(first["train/loss"]) and np.isfinite(last["validation/loss"])
    assert {f"loss_by_timestep/{i}" for i in range(10)} & first.keys()


@pytest.mark.slow
def test_a_base_of_another_kind_learns(patches: TrainConfig, tmp_path: Path) -> None:
    optim = patches.optim.model_copy(update={"num_steps": 40, "learning_rate": 3e-3})
    validation = patches.validation.model_copy(update={"every": 4, "num_references": 0})
    config = patches.model_copy(update={"optim": optim, "validation": validation})
    run(config, write_tars(tmp_path / "tars"), tmp_path / "out")
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()]
    losses = [line["validation/loss"] for line in log if "validation/loss" in line]
    assert losses[-1] < 0.9 * losses[0], losses


@pytest.mark.slow
def test_a_base_of_another_kind_is_exported_read_back_and_drawn_with(patches: TrainConfig, tmp_path: Path) -> None:
    checkpoint = run(patches, write_tars(tmp_path / "tars"), tmp_path / "out")
    export_checkpoint(checkpoint.folder, tmp_path / "adapter")
    model = read_export(tmp_path / "adapter")
    assert same_bits(model.trainable_state(), checkpoint.weights())
    pipe = FaceMakeUpPipeline(model, Encoders.load(model.config))
    size = Size(tiny.SIDE, 2 * tiny.SIDE)
    someone = face(1, patches.model.recogniser)
    someone = replace(someone, identity_D=someone.identity_D[: patches.model.recogniser.width])
    steps = Sampling(num_steps=4, guidance_scale=2.0)
    given: dict[str, Any] = {
        "prompts": ["a red hat"], "faces": [someone], "pose": someone.pose(size), "sampling": steps, "size": size,
    }  # fmt: skip
    batch_sizes: list[int] = []
    model.projector.register_forward_pre_hook(lambda _, args: batch_sizes.append(len(args[0])))
    (drawn,) = pipe(**given)
    assert drawn.shape == (size.height, size.width, 3)
    changes: tuple[dict[str, Any], ...] = (
        {"prompts": ["a park"]},
        {"sampling": Sampling(num_steps=4, guidance_scale=3.0)},
        {"scales": Scales(face=0)},
        {"scales": Scales(pose=0)},
    )
    for change in changes:
        (other,) = pipe(**{**given, **change})
        assert not np.array_equal(drawn, other), change
    assert batch_sizes == [1] * 4 * 5


def test_a_base_of_another_kind_has_a_skeleton_of_the_same_parts(patches: TrainConfig) -> None:
    lean = skeleton.face_makeup(patches.model)
    full = FaceMakeUp.from_config(patches.model)
    assert {n: p.shape for n, p in lean.named_parameters()} == {n: p.shape for n, p in full.named_parameters()}
    assert {parameter.device for parameter in lean.parameters()} == {torch.device("meta")}


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks` argument:UserWarning")  # diffusers still gives it
def test_without_a_network_a_base_of_the_hub_is_refused_at_once_and_the_reason_is_told(
    model_config: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{free_ports(1)[0]}")
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    hub_answers.cache_clear()
    try:
        with pytest.raises(UsageError, match=r"nobody/nothing: .*the hub cannot be reached: name a folder"):
            base_of(model_config.model_copy(update={"base": "nobody/nothing"}))
    finally:
        hub_answers.cache_clear()


def test_parts_are_loaded_without_a_bar_for_each(base: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from transformers import CLIPTextModel
    from transformers.utils import logging

    logging.enable_progress_bar()
    load_part(CLIPTextModel, str(base), "text_encoder", None)
    assert "%" not in capfd.readouterr().err

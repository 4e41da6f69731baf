"""The names that a user of Python may import, and nothing but them."""

import ast
import inspect
import re
import subprocess
import sys
import textwrap
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

import facemakeup
from facemakeup.config import Recogniser
from facemakeup.model.denoise import Sampling
from tests.facemakeup.inference.test_pipeline import face
from tests.facemakeup.runs import run_config, same_bits, write_tars
from tests.facemakeup.training.test_checkpoint import write_toml
from tests.places import ROOT

HEAVY = ("torch", "numpy", "pydantic", "diffusers", "transformers", "PIL", "cv2")


def test_importing_the_package_loads_no_library() -> None:
    probe = f"import sys, facemakeup; dir(facemakeup); print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_settings_are_read_without_torch() -> None:
    probe = "import sys; from facemakeup import load_config, ModelConfig, TrainConfig; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_public_name_is_told_on_the_package_s_page_and_lives_where_the_table_says() -> None:
    homes = {name: f"facemakeup.{module}" for module, names in facemakeup._HOMES.items() for name in names}
    assert sorted(homes) == sorted(facemakeup.__all__) == sorted(dir(facemakeup))
    for name, home in homes.items():
        assert re.search(rf"\b{name}\(|-> {name}\b", facemakeup.__doc__ or ""), name
        assert getattr(facemakeup, name).__module__ == home, name


@pytest.mark.parametrize("name", facemakeup.__all__)
def test_every_public_name_shows_by_an_example_how_it_is_called(name: str) -> None:
    page = inspect.getdoc(getattr(facemakeup, name)) or ""
    assert "Example:\n" in page, name
    example = textwrap.dedent(page.partition("Example:\n")[2].partition("\n\nRaises:")[0])
    called = {ast.unparse(node.func) for node in ast.walk(ast.parse(example)) if isinstance(node, ast.Call)}
    assert any(name in call.split(".") for call in called), example


def test_no_module_takes_the_place_of_a_public_name() -> None:
    for module in facemakeup._HOMES:
        import_module(f"facemakeup.{module}")
    assert all(callable(getattr(facemakeup, name)) for name in facemakeup.__all__)


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="'facemakeup' has no attribute 'trian'"):
        _ = facemakeup.trian


@pytest.mark.slow
def test_an_adapter_is_trained_exported_and_drawn_with_through_the_public_names(
    base: Path, recogniser: Recogniser, tmp_path: Path
) -> None:
    from facemakeup import (
        DrawRequest,
        FaceFinder,
        TrainConfig,
        export_checkpoint,
        generate,
        load_config,
        read_export,
        train,
    )

    short = run_config(base, recogniser, optim={"num_steps": 2})
    config: TrainConfig = load_config(write_toml(tmp_path / "short.toml", short))
    last = train(config, [write_tars(tmp_path / "tars")], tmp_path / "run", resume=False, on_step=print)
    export_checkpoint(last.folder, tmp_path / "adapter")
    assert same_bits(read_export(tmp_path / "adapter").trainable_state(), last.weights())
    someone = face(1, recogniser)
    replace(someone, identity_D=someone.identity_D[: recogniser.width]).save(tmp_path / "face.npz")
    request = DrawRequest(prompts=("a red hat",), sampling=Sampling(num_steps=2), height=64, width=64)
    drawn = generate(tmp_path / "adapter", [tmp_path / "face.npz"], None, tmp_path / "pictures", request, FaceFinder())
    assert [path.name for path in drawn] == ["000.png"]


def test_the_wheel_says_that_the_trainer_is_typed() -> None:
    held = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {"facemakeup/py.typed", "facemakeup/model/base.py", "facemakeup/model/sd1.py"} <= held

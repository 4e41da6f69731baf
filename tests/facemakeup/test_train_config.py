import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from curation.errors import RecipeError
from facemakeup.config import DropTable
from facemakeup.train_config import TrainConfig, config_of, load_config
from tests.places import ROOT

CONFIGS = ROOT / "configs" / "train"
SD15 = tomllib.loads((CONFIGS / "sd15.toml").read_text())


def changed(table: str, **values: object) -> dict[str, object]:
    return {**SD15, table: {**SD15.get(table, {}), **values}}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.stem)
def test_every_committed_configuration_loads_and_says_its_name(path: Path) -> None:
    assert load_config(path).name == path.stem


def test_the_real_configuration_is_the_published_one_where_that_is_sound() -> None:
    config = load_config(CONFIGS / "sd15.toml")
    assert (config.crop.factor, config.crop.size, config.model.lora_rank) == (1.5, 512, 128)
    assert (config.optim.learning_rate, config.optim.weight_decay, config.optim.num_steps) == (1e-4, 1e-2, 530_000)
    assert config.drop_table == DropTable(text=0.05, image=0.05, both=0.05, clip=0.5, pose=0.1)
    reference = TrainConfig.model_validate({**SD15, "drop": "reference"})
    assert reference.drop_table == DropTable(text=0, image=0, both=0, clip=0.5, pose=0)
    assert config.run.precision == "bf16" and not config.faces.accept_noncommercial


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            changed("optim", learning_rates=1),
            r"x\.toml: optim\.learning_rates: unknown key; did you mean 'learning_rate'",
        ),
        (changed("data", global_batch=63), "global_batch 63 is no multiple of micro_batch 8"),
        (changed("crop", size=500), r"crop\.size: Input should be a multiple of 8 \(got 500\)"),
        (changed("checkpoint", keep=1), r"checkpoint\.keep: Input should be greater than or equal to 2"),
        ({**SD15, "drop": "none"}, r"drop"),
        (changed("validation", patience=2, every=300), r"every 300 is no multiple of checkpoint\.every 2000"),
        ({**SD15, "surprise": 1}, r"surprise: unknown key"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(values: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        config_of(values, "x.toml")


def test_a_missing_file_and_broken_toml_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"nowhere\.toml: no such training configuration"):
        load_config(tmp_path / "nowhere.toml")
    (tmp_path / "broken.toml").write_text("= 1")
    with pytest.raises(RecipeError, match=r"broken\.toml: not valid TOML"):
        load_config(tmp_path / "broken.toml")


def test_only_settings_that_change_the_result_change_the_digest() -> None:
    digest = TrainConfig.model_validate(SD15).digest
    harmless: tuple[tuple[str, dict[str, object]], ...] = (
        ("run", {"precision": "fp32"}), ("data", {"num_workers": 1, "micro_batch": 4}), ("checkpoint", {"every": 7}),
        ("validation", {"every": 5, "prompts": ["x"]}), ("cache", {"folder": "elsewhere"}),
        ("tracking", {"to": ["wandb"]}), ("losses", {}),
    )  # fmt: skip
    decisive: tuple[tuple[str, dict[str, object]], ...] = (
        ("optim", {"learning_rate": 2e-4}), ("data", {"global_batch": 128}), ("crop", {"factor": 2.0}),
        ("validation", {"num_samples": 5}), ("model", {"lora_rank": 64}), ("losses", {"region": {"weight": 2.0}}),
        ("reference", {"augment": True}),
    )  # fmt: skip
    for table, values in harmless:
        assert TrainConfig.model_validate(changed(table, **values)).digest == digest, table
    for table, values in decisive:
        assert TrainConfig.model_validate(changed(table, **values)).digest != digest, table


def test_a_warmup_that_would_outlast_the_run_is_refused() -> None:
    assert config_of(changed("optim", num_steps=1000, num_warmup_steps=1000), "x").optim.num_steps == 1000
    with pytest.raises(RecipeError, match=r"num_warmup_steps 1000 is more than num_steps 999"):
        config_of(changed("optim", num_steps=999, num_warmup_steps=1000), "x")


@pytest.mark.slow
def test_help_and_a_wrong_configuration_answer_without_loading_torch(tmp_path: Path) -> None:
    (tmp_path / "wrong.toml").write_text("name = 'x'\n[optim]\nrate = 1\n")
    for words in (["--help"], [str(tmp_path / "wrong.toml"), "--data", "x", "--out", str(tmp_path / "out")]):
        probe = (
            "import sys, cli\nsys.argv = ['facecaptionhq', 'train', *sys.argv[1:]]\n"
            "try:\n    cli.main()\nfinally:\n    print('HEAVY', 'torch' in sys.modules)"
        )
        done = subprocess.run([sys.executable, "-c", probe, *words], capture_output=True, text=True, check=False)
        assert "HEAVY False" in done.stdout, done.stderr
        assert done.returncode == (0 if words == ["--help"] else 2)

"""One thread, and what several tests of the trainer stand on."""

from pathlib import Path

import pytest
import torch

from facemakeup.config import ModelConfig, Recogniser
from tests.facemakeup import tars, tiny

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random base model on disk."""
    return tiny.write_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def model_config(base: Path) -> ModelConfig:
    """The configuration of an adapter on the tiny base."""
    return tiny.tiny_config(base)


@pytest.fixture
def recogniser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recogniser:
    """A tiny random recogniser that the user has confirmed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    return tars.add_tiny_recogniser(tmp_path)

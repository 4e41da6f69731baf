"""A studio with a tiny random adapter."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from facemakeup.config import Recogniser
from facemakeup.inference.export import export
from facemakeup.inference.generate import FaceFinder
from facemakeup.studio.studio import StudioDesk, open_studio
from tests.facemakeup import tiny
from tests.facemakeup.tiny import tiny_model, trained


@pytest.fixture
def studio(base: Path, recogniser: Recogniser, tmp_path: Path) -> Iterator[StudioDesk]:
    config = tiny.tiny_config(base, recogniser=recogniser)
    facts = {"step": 0, "crop_mode": "face", "crop_factor": 1.5}
    export(trained(tiny_model(config)), tmp_path / "adapter", facts)
    finder = FaceFinder(detector="centerface", weights="centerface", accept_noncommercial=True)
    opened = open_studio(tmp_path / "adapter", finder, tmp_path / "drawings", tiny.SIDE)
    yield opened
    opened.close()

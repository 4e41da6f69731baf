"""Tiny weights of every method, and photos with faces, written once."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from facemakeup.evaluation.tiny.write import write_evaluation
from tests.filters.marks import astronaut

HOSTILE = "a person <script>alert(1)</script>"


@pytest.fixture(scope="session")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The configuration of an evaluation by five tiny methods of three references, of whom one shows no face."""
    folder = tmp_path_factory.mktemp("tiny")
    face = astronaut()[:320, 60:380]
    noise = np.random.default_rng(0).integers(0, 256, face.shape, np.uint8)
    for name, rgb in {"ann": face, "ann2": face[:, ::-1], "bob": face[..., ::-1], "cat": noise}.items():
        Image.fromarray(rgb).save(folder / f"{name}.png")
    lines = ["key,file,identity,role,caption", f"ann,ann.png,ann,,{HOSTILE}", "bob,bob.png,bob,,", "cat,cat.png,cat,,"]
    (folder / "manifest.csv").write_text("\n".join([*lines, "ann2,ann2.png,ann,other,"]))
    return write_evaluation(
        folder / "methods", folder / "manifest.csv", "centerface", "centerface", has_every_judge=False
    )

"""Recognisers of other distributions: by name, with their version in what a model expects."""

from pathlib import Path

import numpy as np
import pytest

from facemakeup.config import ModelConfig, Recogniser
from facemakeup.faces.recognisers import (
    RecogniserError,
    build_recogniser,
    load_recogniser,
    recogniser_names,
    require_usable,
    terms_of,
)
from facemakeup.inference.generate import FaceFinder
from facemakeup.inference.model_card import _inherited
from filters.plugins import RECOGNISERS, PluginError
from tests.distributions import bring

SHA256 = "ab" * 32
MODULE = f"""
import numpy as np
from facemakeup.config import Recogniser

class Mean:
    identity = Recogniser(name="mean", width=3, sha256="{SHA256}")

    def embed(self, rgb, landmarks_52):
        vector = rgb.mean(axis=(0, 1)).astype(np.float32)
        return vector / np.linalg.norm(vector)

def build(device):
    return Mean()

def with_terms(device):
    return Mean()

with_terms.TERMS = "for research alone"

class Fixed(Mean):
    @property
    def identity(self):
        return Recogniser(name="fixed", width=3, sha256="{SHA256}")

def fixed(device):
    return Fixed()
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "means_of_ours.py").write_text(MODULE)
    return tmp_path


def test_a_recogniser_is_loaded_by_name_and_known_by_who_brings_it(site: Path) -> None:
    bring(site, "means", f"[{RECOGNISERS}]\nmean = means_of_ours:build\n", "0.4")
    assert "mean" in recogniser_names()
    expected = Recogniser(name="mean", width=3, sha256=SHA256, brought_by="means 0.4")
    recogniser = load_recogniser(expected, accept_noncommercial=False)
    assert recogniser.identity == expected == build_recogniser("mean", accept_noncommercial=False).identity
    assert np.isclose(np.linalg.norm(recogniser.embed(np.full((4, 4, 3), 9, np.uint8), np.zeros((5, 2)))), 1)
    require_usable("mean", accept_noncommercial=False)
    with pytest.raises(RecogniserError, match=r"brought_by is 'means 0\.4', but 'means 0\.3' is expected"):
        load_recogniser(expected.model_copy(update={"brought_by": "means 0.3"}), accept_noncommercial=False)
    with pytest.raises(RecogniserError, match="width is 3, but 4 is expected"):
        load_recogniser(expected.model_copy(update={"width": 4}), accept_noncommercial=False)


def test_terms_are_accepted_first_and_one_of_another_name_is_none(site: Path) -> None:
    bring(site, "means", f"[{RECOGNISERS}]\nmean = means_of_ours:with_terms\nother = means_of_ours:build\n")
    for ask in (require_usable, build_recogniser):
        with pytest.raises(RecogniserError, match="recogniser 'mean': for research alone"):
            ask("mean", accept_noncommercial=False)
    assert build_recogniser("mean", accept_noncommercial=True).identity.brought_by == "means 1.0"
    with pytest.raises(PluginError, match="builds no recogniser of the name 'other'"):
        build_recogniser("other", accept_noncommercial=True)


def test_a_recogniser_whose_distribution_is_not_here_is_told_with_what_brings_it() -> None:
    gone = Recogniser(name="mean", width=3, sha256=SHA256, brought_by="means 0.4")
    with pytest.raises(RecogniserError, match=r"comes with means 0\.4, which is not installed here: .*means==0\.4"):
        load_recogniser(gone, accept_noncommercial=True)


def test_what_says_nothing_of_a_distribution_is_told_as_before() -> None:
    ours = Recogniser(name="mean", width=3, sha256=SHA256)
    assert ours.model_dump() == {"name": "mean", "width": 3, "sha256": SHA256}


def test_who_finds_faces_is_asked_for_by_a_name_that_there_is() -> None:
    assert FaceFinder(detector="centerface", weights="centerface").measure.detector == "centerface"
    with pytest.raises(ValueError, match="detector 'owl' is none; choose one of yolov5-face"):
        FaceFinder(detector="owl")


def test_an_identity_that_cannot_be_set_is_told_and_terms_stand_in_a_card(site: Path) -> None:
    bring(site, "means", f"[{RECOGNISERS}]\nmean = means_of_ours:with_terms\nfixed = means_of_ours:fixed\n")
    with pytest.raises(PluginError, match=r"entry point fixed .*whose `identity` cannot be set"):
        build_recogniser("fixed", accept_noncommercial=False)
    assert (terms_of("mean"), terms_of("fixed"), terms_of("owl")) == ("for research alone", None, None)
    recogniser = Recogniser(name="mean", width=3, sha256=SHA256, brought_by="means 1.0")
    row = _inherited(ModelConfig(base="sd", recogniser=recogniser))[-1]
    assert row[:2] == ("recogniser", "mean of means 1.0") and row[2].endswith("; for research alone")


def test_a_detector_of_ours_without_weights_is_refused_before_anything_is_drawn() -> None:
    with pytest.raises(ValueError, match="detector yolov5-face needs `weights`"):
        FaceFinder(weights="")

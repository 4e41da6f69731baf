"""What other distributions bring: found by name, named in errors, and never in the way of who does not ask for it."""

from pathlib import Path

import pytest

from filters import faces
from filters.plugins import DETECTORS, PluginError, bringer_of, names, offered, plugin
from tests.distributions import bring

MODULE = """
from filters.detectors.base import FaceDetector

class Blind(FaceDetector):
    def __init__(self, weights, *, side, confidence_floor, max_iou, device):
        if device != "cpu":
            raise RuntimeError("no such device")

    def detect_all(self, images):
        return [() for _ in images]
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "blind_of_ours.py").write_text(MODULE)
    return tmp_path


def test_a_detector_is_asked_for_by_name_and_told_by_its_distribution(site: Path) -> None:
    bring(site, "some-detectors", f"[{DETECTORS}]\nblind = blind_of_ours:Blind\nbroken = not_there:Detector\n", "2.3")
    assert names(DETECTORS, ("centerface",)) == ("centerface", "blind", "broken")
    measure = faces.Measure(detector="blind", weights="")
    assert [one.source for one in faces.plugins(measure)] == ["some-detectors 2.3"] and not faces.weights(measure)
    assert faces.build(measure, "cpu").measure([]) == []
    with pytest.raises(PluginError, match=r"entry point blind .* of some-detectors 2\.3 cannot be built: .*no such"):
        faces.build(measure, "cuda:0")


def test_one_that_is_broken_is_named_with_what_mends_it_only_once_it_is_asked_for(site: Path) -> None:
    bring(site, "some-detectors", f"[{DETECTORS}]\nbroken = not_there:Detector\n")
    assert [one.name for one in offered(DETECTORS)] == ["broken"]
    with pytest.raises(PluginError, match=r"broken .*cannot be loaded: ModuleNotFoundError.*reinstall some-detectors"):
        faces.build(faces.Measure(detector="broken", weights=""), "cpu")


def test_two_of_one_name_are_refused_and_both_are_named(site: Path) -> None:
    bring(site, "first", f"[{DETECTORS}]\nblind = blind_of_ours:Blind\n")
    bring(site, "second", f"[{DETECTORS}]\nblind = blind_of_ours:Blind\n")
    with pytest.raises(PluginError, match=r"first 1\.0 .* and second 1\.0 .* both bring it"):
        faces.Measure(detector="blind", weights="")


def test_nobody_takes_the_place_of_a_detector_of_the_project(site: Path) -> None:
    bring(site, "taker", f"[{DETECTORS}]\ncenterface = blind_of_ours:Blind\n")
    assert plugin(DETECTORS, "centerface", faces.DETECTORS) is None
    assert names(DETECTORS, faces.DETECTORS) == tuple(faces.DETECTORS)
    assert not faces.plugins(faces.Measure(detector="centerface", weights="centerface"))


def test_a_detector_that_nobody_brings_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match="detector 'owl' is none; choose one of yolov5-face"):
        faces.Measure(detector="owl")
    with pytest.raises(ValueError, match="detector centerface needs `weights`"):
        faces.Measure(detector="centerface", weights="")


def test_filters_of_the_project_are_brought_by_nobody() -> None:
    assert bringer_of(faces.__file__) is None and bringer_of(None) is None

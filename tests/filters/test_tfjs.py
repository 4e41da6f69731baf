"""Networks of TensorFlow.js as ONNX, against the same arithmetic in torch."""

import base64
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from filters.conversion.ncnn import ConversionError
from filters.conversion.tfjs import convert
from filters.loading import onnx_session
from filters.pulling import pull
from filters.weights import WeightsError, entry_of
from tests.filters.marks import with_models

MODELS = Path(os.environ.get("FACECAPTIONHQ_MODELS", ""))
DRAW = np.random.default_rng(0)
WEIGHTS = {
    "kernel": DRAW.normal(size=(3, 3, 2, 4)).astype(np.float32),
    "bias": DRAW.normal(size=4).astype(np.float32),
    "deep": DRAW.normal(size=(3, 3, 4, 2)).astype(np.float32),
    "slope": DRAW.normal(size=8).astype(np.float32),
    "top": np.array(1.5, np.float32),
    "around": np.array([[0, 0], [1, 0], [0, 2], [0, 0]], np.int32),
    "axes": np.array([1, 2], np.int32),
    "flat": np.array([-1, 8 * 5 * 5], np.int32),
    "dense": DRAW.normal(size=(200, 3)).astype(np.float32),
}


def encoded(text: str) -> dict[str, str]:
    return {"s": base64.b64encode(text.encode()).decode()}


def spatial(stride: int, padding: str) -> dict[str, Any]:
    return {
        "strides": {"list": {"i": ["1", str(stride), str(stride), "1"]}},
        "dilations": {"list": {"i": ["1", "1", "1", "1"]}},
        "padding": encoded(padding),
    }


def node(op: str, name: str, inputs: list[str], **attributes: Any) -> dict[str, Any]:
    return {"op": op, "name": name, "input": inputs, "attr": attributes}


def graph(*more: dict[str, Any]) -> tuple[bytes, bytes]:
    size = {"shape": {"shape": {"dim": [{"size": side} for side in ("-1", "9", "9", "2")]}}}
    fused = {"fused_ops": {"list": {"s": [encoded("BiasAdd")["s"], encoded("Relu")["s"]]}}}
    nodes = [
        # Written out of order, as such files may be.
        node("Mul", "scaled", ["slope", "deep_out"]),
        node("Placeholder", "x", [], **size),
        node("_FusedConv2D", "first", ["x", "kernel", "bias"], **spatial(2, "SAME"), **fused),
        node("DepthwiseConv2dNative", "deep_out", ["first", "deep"], **spatial(1, "SAME")),
        node("Minimum", "capped", ["top", "scaled"]),
        node("Pad", "padded", ["capped", "around"]),
        node("AvgPool", "pooled", ["padded"], **spatial(1, "SAME"), ksize={"list": {"i": ["1", "3", "3", "1"]}}),
        node("MaxPool", "most", ["pooled"], **spatial(1, "VALID"), ksize={"list": {"i": ["1", "2", "3", "1"]}}),
        node("Mean", "mean", ["most", "axes"]),
        node("Reshape", "flattened", ["most", "flat"]),
        *more,
    ]  # fmt: skip
    rows = [{"name": name, "shape": list(value.shape), "dtype": str(value.dtype)} for name, value in WEIGHTS.items()]
    topology = {"modelTopology": {"node": nodes}, "weightsManifest": [{"paths": ["w"], "weights": rows}]}
    return json.dumps(topology).encode(), b"".join(value.tobytes() for value in WEIGHTS.values())


def run(model: bytes, pixels: np.ndarray) -> list[np.ndarray]:
    session = onnx_session(model, "cpu")
    return [np.asarray(value) for value in session.run(None, {session.get_inputs()[0].name: pixels})]


def same(pixels: torch.Tensor, size: int, stride: int) -> torch.Tensor:
    """Pad as TensorFlow's SAME does: what is odd goes to the end."""
    pads = []
    for side in (pixels.shape[3], pixels.shape[2]):
        whole = max(0, (-(-side // stride) - 1) * stride + size - side)
        pads += [whole // 2, whole - whole // 2]
    return F.pad(pixels, pads)


def in_torch(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    weights = {name: torch.from_numpy(np.atleast_1d(value)) for name, value in WEIGHTS.items()}
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    x = F.relu(F.conv2d(same(x, 3, 2), weights["kernel"].permute(3, 2, 0, 1), weights["bias"], stride=2))
    deep = weights["deep"].permute(2, 3, 0, 1).reshape(8, 1, 3, 3)
    x = F.conv2d(same(x, 3, 1), deep, groups=4) * weights["slope"].view(1, 8, 1, 1)
    x = F.pad(torch.minimum(x, weights["top"]), (0, 2, 1, 0))
    counts = F.avg_pool2d(F.pad(torch.ones_like(x), (1, 1, 1, 1)), 3, 1)
    x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1) / counts
    most = F.max_pool2d(x, (2, 3), 1)
    return most.mean(dim=(2, 3)).numpy(), most.permute(0, 2, 3, 1).reshape(len(pixels), -1).numpy()


def test_a_graph_computes_what_its_operators_say() -> None:
    pixels = np.random.default_rng(1).normal(size=(3, 9, 9, 2)).astype(np.float32)
    mean, flattened, averaged = run(convert(*graph(), outputs=("mean", "flattened", "most")), pixels)
    expected_mean, expected_flat = in_torch(pixels)
    assert np.allclose(mean, expected_mean, atol=1e-5)
    assert np.allclose(averaged, expected_mean, atol=1e-5), "a map is averaged"
    assert flattened.shape == expected_flat.shape and np.allclose(flattened, expected_flat, atol=1e-5)


def test_keras_layers_and_weights_in_a_byte_compute_what_they_say() -> None:
    def layer(kind: str, name: str, inputs: list[str], **config: Any) -> dict[str, Any]:
        bound = [[[source, 0, 0, {}] for source in inputs]] if inputs else []
        return {"class_name": kind, "name": name, "config": {"name": name, **config}, "inbound_nodes": bound}

    conv = {"strides": [1, 1], "padding": "valid", "dilation_rate": [1, 1], "use_bias": False, "activation": "linear"}
    layers = [
        layer("InputLayer", "x", [], batch_input_shape=[None, 6, 6, 2]),
        layer("Conv2D", "c", ["x"], **conv),
        layer("BatchNormalization", "n", ["c"], epsilon=0.5),
        layer("Activation", "r", ["n"], activation="relu"),
        layer("Concatenate", "both", ["r", "c"]),
    ]
    codes = np.random.default_rng(2).integers(0, 256, (3, 3, 2, 4), np.uint8)
    mean, variance = np.arange(4, dtype=np.float16), np.arange(1, 5, dtype=np.float16)
    rows = [
        {"name": "c/kernel", "shape": [3, 3, 2, 4], "dtype": "float32",
         "quantization": {"dtype": "uint8", "scale": 0.25, "min": -3.0}},
        {"name": "n/moving_mean", "shape": [4], "dtype": "float32", "quantization": {"dtype": "float16"}},
        {"name": "n/moving_variance", "shape": [4], "dtype": "float32", "quantization": {"dtype": "float16"}},
    ]  # fmt: skip
    topology = {
        "modelTopology": {"model_config": {"config": {"layers": layers}}},
        "weightsManifest": [{"weights": rows}],
    }
    content = codes.tobytes() + mean.tobytes() + variance.tobytes()
    pixels = np.random.default_rng(3).normal(size=(2, 6, 6, 2)).astype(np.float32)
    (found,) = run(convert(json.dumps(topology).encode(), content, ("both",)), pixels)
    kernel = torch.from_numpy(codes.astype(np.float32) * 0.25 - 3).permute(3, 2, 0, 1)
    plain = F.conv2d(torch.from_numpy(pixels).permute(0, 3, 1, 2), kernel)
    centre, spread = (torch.from_numpy(value.astype(np.float32)) for value in (mean, variance))
    normal = F.relu(F.batch_norm(plain, centre, spread, eps=0.5))
    assert np.allclose(found, torch.cat([normal, plain], dim=1).mean(dim=(2, 3)).numpy(), atol=1e-3)


@pytest.mark.parametrize(
    ("extra", "cut", "output", "said"),
    [
        (node("Sigmoid", "s", ["mean"]), 4, "s", "the weights end within `dense`"),
        (node("Sigmoid", "s", ["mean"]), -4, "s", "the topology names"),
        (node("Einsum", "e", ["mean"]), 0, "e", "`e`: its kind Einsum is not translated here"),
        (node("Relu", "r", ["nobody"]), 0, "r", "no operator `nobody`"),
        (node("Relu", "r", ["r"]), 0, "r", "wait for one another: r"),
        (node("Add", "a", ["mean", "dense"]), 0, "a", r"a constant of shape \(200, 3\)"),
        (node("Relu", "r", ["mean"]), 0, "other", "no operator `other`"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_refused_by_name(extra: dict[str, Any], cut: int, output: str, said: str) -> None:
    topology, weights = graph(extra)
    weights = weights[: len(weights) - cut] if cut >= 0 else weights + b"more"
    with pytest.raises(ConversionError, match=said):
        convert(topology, weights, (output,))


@pytest.mark.parametrize("topology", [b"", b"{}", b"[]", b'{"weightsManifest": [], "modelTopology": {"node": []}}'])
def test_what_is_no_topology_is_refused(topology: bytes) -> None:
    with pytest.raises(ConversionError, match="no topology"):
        convert(topology, b"", ("x",))


@pytest.mark.slow
@with_models
@pytest.mark.parametrize("name", ["faceres", "mobileface", "emotion", "nsfwjs_inception_v3_mixed5"])
def test_pull_makes_each_judge_byte_for_byte(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = pull(name, accept=True, mirror=str(MODELS / "judges"))
    assert found.sha256 == entry_of(name).sha256


def test_a_judge_without_an_address_says_which_files_a_mirror_must_hold() -> None:
    with pytest.raises(WeightsError, match=r"--mirror FOLDER.*nsfwjs-inception-v3\.json .*nsfwjs-inception-v3\.bin"):
        pull("nsfwjs_inception_v3_mixed5", accept=True)

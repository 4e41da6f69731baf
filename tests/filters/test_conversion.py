import hashlib
import os
import struct
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from filters.conversion.ncnn import FP16_FLAG, ConversionError, WeightsReader, read_layers
from filters.conversion.network import Graph, translate
from filters.conversion.yolov5_face import convert
from filters.detectors.yolov5_face import Yolov5Face
from filters.pulling import pull
from filters.weights import WeightsError, cache_folder, entry_of, find_weights
from tests.filters.marks import astronaut, with_models
from tests.filters.test_weights import QuietHandler
from tests.serving import Web, serving

MODELS = Path(os.environ.get("FACECAPTIONHQ_MODELS", ""))
NETWORKS = {"yolov5n-0.5-face": "yolov5n-0.5", "yolov5n-face": "yolov5n"}

NETWORK = """7767517
9 12
Input data 0 1 data
Convolution first 1 1 data a 0=4 1=3 3=2 4=1 5=1 6=108
Swish swish 1 1 a b
Split twice 1 2 b c d
Pooling pool 1 1 c e 1=2 2=2
Interp back 1 1 e f 0=1 1=2.0 2=2.0
Concat join 2 1 f d g
ShuffleChannel mix 1 1 g h 0=2
Slice halves 1 2 h out rest -23300=2,3,-233
"""


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("FACECAPTIONHQ_MODELS", raising=False)


@pytest.fixture
def mirror() -> Iterator[str]:
    """A web server of the ncnn files that the two detectors are made from."""
    with serving(Web(partial(QuietHandler, directory=MODELS / "ncnn"))) as web:
        yield web.address


def stored(kernel: np.ndarray, bias: np.ndarray) -> bytes:
    halves = kernel.astype("<f2").tobytes()
    padding = bytes(-len(halves) % 4)
    return struct.pack("<I", FP16_FLAG) + halves + padding + bias.astype("<f4").tobytes()


def translated(network: str, weights: bytes, output: str, num_values: int) -> bytes:
    graph, reader = Graph(), WeightsReader(weights)
    translate(graph, read_layers(network.encode()), reader)
    reader.require_end()
    return graph.serialised(output, num_values)


def test_every_kind_of_layer_computes_what_it_says() -> None:
    dice = np.random.default_rng(0)
    kernel = dice.normal(size=(4, 3, 3, 3)).astype(np.float16)
    bias = dice.normal(size=4).astype(np.float32)
    pixels = dice.normal(size=(1, 3, 16, 24)).astype(np.float32)
    session = onnxruntime.InferenceSession(translated(NETWORK, stored(kernel, bias), "rest", 8))
    (got,) = session.run(None, {"input": pixels})

    padded = np.pad(pixels[0], ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    raw = np.einsum("ihwyx,oiyx->ohw", windows, kernel.astype(np.float32)) + bias[:, None, None]
    swish = raw / (1 + np.exp(-raw))
    pooled = swish.reshape(4, 4, 2, 6, 2).max(axis=(2, 4))
    joined = np.concatenate([pooled.repeat(2, axis=1).repeat(2, axis=2), swish])
    shuffled = joined.reshape(2, 4, 8, 12).swapaxes(0, 1).reshape(8, 8, 12)
    np.testing.assert_allclose(got[0], shuffled[3:], rtol=1e-4, atol=1e-5)


WHOLE = stored(np.zeros(108), np.zeros(4))


@pytest.mark.parametrize(
    ("was", "becomes", "weights", "message"),
    [
        ("Swish swish 1 1 a b", "Mish odd 1 1 a b", WHOLE, "`odd`: its kind Mish is not translated"),
        ("6=108", "6=108 9=1", WHOLE, r"`first` \(Convolution\): parameter 9 is not translated"),
        ("6=108", "6=107", WHOLE, "`first`.*107 weights"),
        ("Pooling pool 1 1 c e 1=2", "Pooling pool 1 1 c e 0=1 1=2", WHOLE, "`pool`.*not a plain maximum"),
        ("Swish swish 1 1 a b", "Swish swish 1 1 z b", WHOLE, "`swish`.*nothing gives its input z"),
        ("Swish swish 1 1 a b", "Swish swish 0 1 b", WHOLE, "`swish`"),
        ("0=1 1=2.0", "0=2 1=2.0", WHOLE, "`back`.*nearest"),
        ("mix 1 1 g h 0=2", "mix 1 1 g h 0=3", WHOLE, "`mix`.*8 by 3"),
        ("-23300=2,3,-233", "-23300=2,3,4", WHOLE, "`halves`.*cuts into"),
        ("-23300=2,3,-233", "-23300=3,3,-233", WHOLE, "this line is not a layer"),
        ("9 12", "10 12", WHOLE, "9 layers, and the second line announces 10"),
        ("7767517", "7767518", WHOLE, "begins with '7767518'"),
        (NETWORK, "", WHOLE, "lacks its first two lines"),
        ("9 12", "9 12", WHOLE[:-1], "`first`: the weights end at byte"),
        ("9 12", "9 12", WHOLE + b"more", "4 bytes of weights belong to no layer"),
        ("9 12", "9 12", bytes(4) + WHOLE[4:], "`first`: weights stored as 0x00000000"),
    ],
)
def test_whatever_is_not_known_is_refused_by_its_name(was: str, becomes: str, weights: bytes, message: str) -> None:
    assert was in NETWORK
    with pytest.raises(ConversionError, match=message):
        translated(NETWORK.replace(was, becomes), weights, "rest", 8)


def test_a_network_of_another_kind_is_not_taken_for_the_face_detector() -> None:
    with pytest.raises(ConversionError, match="not the end of a YOLOv5-face network"):
        convert(NETWORK.encode(), WHOLE)


@with_models
@pytest.mark.parametrize("name", NETWORKS)
def test_pull_converts_what_is_published_to_the_very_bytes_that_were_calibrated(name: str, mirror: str) -> None:
    with pytest.raises(WeightsError, match=r"GPL-3\.0.*--accept"):
        pull(name, accept=False, mirror=mirror)
    pulled = pull(name, accept=True, mirror=mirror)
    assert pulled.sha256 == entry_of(name).sha256 == hashlib.sha256((MODELS / f"{name}.onnx").read_bytes()).hexdigest()
    assert find_weights(name) == pulled
    assert [path.name for path in cache_folder().iterdir()] == [f"{name}.onnx"]


@with_models
def test_what_is_pulled_finds_the_faces_that_the_calibrated_file_finds(mirror: str) -> None:
    name = "yolov5n-0.5-face"
    paths = (pull(name, accept=True, mirror=str(MODELS / "ncnn")).path, str(MODELS / f"{name}.onnx"))
    ours, theirs = (
        Yolov5Face(path, side=384, confidence_floor=0.1, max_iou=0.5, device="cpu").detect_all([astronaut()])[0]
        for path in paths
    )
    assert ours and len(ours) == len(theirs)
    for mine, wanted in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine.box, wanted.box, atol=1e-3)
        np.testing.assert_allclose(mine.landmarks, wanted.landmarks, atol=1e-3)


@with_models
def test_a_mirror_with_other_bytes_gives_nothing(tmp_path: Path) -> None:
    (tmp_path / "www").mkdir()
    for source in (MODELS / "ncnn").iterdir():
        (tmp_path / "www" / source.name).write_bytes(source.read_bytes()[:-1] + b"!")
    with pytest.raises(WeightsError, match=r"yolov5n-0\.5\.param"):
        pull("yolov5n-0.5-face", accept=True, mirror=str(tmp_path / "www"))
    with serving(Web(partial(QuietHandler, directory=tmp_path / "www"))) as web, pytest.raises(WeightsError):
        pull("yolov5n-0.5-face", accept=True, mirror=web.address)
    with pytest.raises(WeightsError, match="cannot fetch"):
        pull("yolov5n-0.5-face", accept=True, mirror=str(tmp_path / "nowhere"))
    assert list(cache_folder().iterdir()) == []

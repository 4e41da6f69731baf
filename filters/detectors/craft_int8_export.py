"""CRAFT as ONNX in whole numbers of eight bits (static quantisation); see `filters.detectors.export`.

Weights are scaled by channel and kept to seven bits: a CPU without VNNI adds products of eight bits in sixteen and
would cut them off, so that its maps were others than those of a CPU that has it. What each layer gives lies in the
ranges that `benchmarks.speed.eight_bits` saw on labelled photos; the layers that end in the maps stay in float32.
"""

import tempfile
from pathlib import Path

from filters.weights import WeightsError, sha256_of

EXPORTER_VERSION = 1
"""Raised whenever the same weights or ranges would give another file, together with `filters.text.VERSION`."""
RANGES = Path(__file__).with_name("craft_ranges.json")
"""Least and greatest value of each layer's output, in the form in which onnxruntime keeps them."""
CALIBRATED = "4a5efbfb48b4081100544e75e1e2b57f8de3d84f213004b14b85fd4b3748db17"
"""sha256 of the weights that these ranges are of."""
FLOAT_LAYERS = "/network/conv_cls/"
"""How the names of layers begin that stay in float32."""


def write(source: str, target: str) -> None:
    """Write the network whose weights lie at `source` as ONNX to `target`: pixels (N, 3, H, W) in, maps out.

    Raises:
        WeightsError: the weights are others than those that the ranges are of.
    """
    from filters.detectors import craft_export

    if sha256_of(Path(source)) != CALIBRATED:
        raise WeightsError("int8 is calibrated for craft_mlt_25k alone: choose dtype float32 for other weights")
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "float32.onnx"
        craft_export.write(source, str(whole))
        quantise(whole, Path(target), RANGES)


def quantise(source: Path, target: Path, ranges: Path) -> None:
    """Write the exported network at `source` in eight bits to `target`."""
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    names = [node.name for node in onnx.load(source).graph.node]
    quantize_static(
        source,
        target,
        None,
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        reduce_range=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=[name for name in names if name.startswith(FLOAT_LAYERS)],
        calibration_cache_path=ranges,
    )

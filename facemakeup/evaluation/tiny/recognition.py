"""A tiny recogniser and a tiny face parser, as ONNX."""

from pathlib import Path

import numpy as np

from facemakeup.faces.align import ARCFACE_SIDE

IDENTITY_WIDTH = 512
NUM_CLASSES, PARSED_SIDE = 19, 512


def write_recogniser(path: Path, seed: int = 0) -> Path:
    """Write a network from 112 x 112 pixels to 512 numbers that are not of length 1."""
    from onnx import TensorProto, helper, numpy_helper, save

    draw = np.random.default_rng(seed)
    grid = 7
    weight = draw.standard_normal((3 * grid * grid, IDENTITY_WIDTH)).astype(np.float32)
    nodes = [
        helper.make_node("AveragePool", ["pixels"], ["pooled"], kernel_shape=[16, 16], strides=[16, 16]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["vector"]),
    ]
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, ARCFACE_SIDE, ARCFACE_SIDE])]
    outputs = [helper.make_tensor_value_info("vector", TensorProto.FLOAT, [1, IDENTITY_WIDTH])]
    graph = helper.make_graph(nodes, "recogniser", inputs, outputs, [numpy_helper.from_array(weight, "weight")])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path


def write_parser(path: Path, seed: int = 0) -> Path:
    """Write a network from 512 x 512 pixels to 19 classes of each."""
    from onnx import TensorProto, helper, numpy_helper, save

    weight = np.random.default_rng(seed).standard_normal((NUM_CLASSES, 3, 1, 1)).astype(np.float32)
    side = PARSED_SIDE
    nodes = [helper.make_node("Conv", ["pixels", "weight"], ["logits"])]
    inputs = [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [1, 3, side, side])]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, NUM_CLASSES, side, side])]
    graph = helper.make_graph(nodes, "parser", inputs, outputs, [numpy_helper.from_array(weight, "weight")])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)
    return path

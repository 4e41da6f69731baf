"""A network in half precision: weights and what lies between in float16, what goes in and comes out in float32."""

from typing import Any

from filters.conversion.yolov5_face import STRIDES

KEPT = tuple(f"d{index}_" for index in range(len(STRIDES)))
"""Beginnings of the names of what decodes YOLOv5-face's boxes: float16 has no more than a quarter of a pixel there."""


def in_half(model: Any) -> Any:
    """Return an ONNX model that computes in float16 but for the decoding of boxes."""
    from onnx import ModelProto
    from onnxruntime.transformers.float16 import convert_float_to_float16

    new = ModelProto()
    new.CopyFrom(model)
    for node in new.graph.node:
        node.name = node.output[0]
    kept = [node.name for node in new.graph.node if node.name.startswith(KEPT) or _joins_kept(node)]
    return convert_float_to_float16(new, keep_io_types=True, node_block_list=kept)


def _joins_kept(node: Any) -> bool:
    return bool(node.op_type == "Concat" and all(name.startswith(KEPT) for name in node.input))

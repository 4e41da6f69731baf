"""Lets YOLOv5-face decode only the boxes that may be faces: a few of thousands, and these to the same bits.

Objectness and class are both sigmoids, so their product is above a floor only where objectness is. The network takes
that floor as a second input, asks each box's objectness first, and gathers and decodes those above it.
"""

from typing import Any

from filters.conversion.network import Graph
from filters.conversion.yolov5_face import ANCHORS, NUM_VALUES, OBJECTNESS, STRIDES, boxes_of, decoding

FLOOR = "floor"
"""The second input: one number, 0..1."""


def candidates_only(model: Any) -> Any:
    """Return a network of `filters.conversion.yolov5_face` whose rows are those of `model` with objectness above FLOOR.

    Their order is kept. In a batch a row is given of every picture where any one of them has such objectness. A model
    that ends in anything but that very decoding is returned as it is.
    """
    from onnx import ModelProto, TensorProto, helper

    parts = _body_and_maps(model)
    if parts is None:
        return model
    body, tail_constants, maps = parts
    graph = Graph()
    rows = [_candidates(graph, index, name) for index, name in enumerate(maps)]
    graph.node("Concat", rows, model.graph.output[0].name, axis=1)
    new = ModelProto()
    new.CopyFrom(model)
    del new.graph.node[:], new.graph.initializer[:]
    new.graph.node.extend([*body, *graph.nodes])
    new.graph.initializer.extend(one for one in model.graph.initializer if one.name not in tail_constants)
    new.graph.initializer.extend(graph.constants)
    new.graph.input.append(helper.make_tensor_value_info(FLOOR, TensorProto.FLOAT, []))
    return new


def _body_and_maps(model: Any) -> tuple[list[Any], set[str], list[str]] | None:
    """Return the operators before the decoding, the names of its constants and its maps; None where it is another."""
    nodes, given = list(model.graph.node), {one.name: one for one in model.graph.initializer}
    by_output = {name: node for node in nodes for name in node.output}
    firsts = [by_output.get(f"d{index}_v") for index in range(len(STRIDES))]
    if any(node is None or not node.input for node in firsts):
        return None
    maps = [node.input[0] for node in firsts if node is not None]
    expected = Graph()
    output = decoding(expected, maps)
    num_body = len(nodes) - len(expected.nodes)
    is_same = (
        [value.name for value in model.graph.output] == [output]
        and nodes[max(0, num_body) :] == expected.nodes
        and all(given.get(one.name) == one for one in expected.constants)
    )
    return (nodes[:num_body], {one.name for one in expected.constants}, maps) if is_same else None


def _candidates(graph: Graph, index: int, raw: str) -> str:
    """Append choice and decoding of one raw map (N, 3 x 16, rows, columns); return boxes (N, any number, 16)."""

    def whole(word: str, values: int | list[int]) -> str:
        return graph.constant(f"d{index}_{word}", values)

    def node(kind: str, inputs: list[str], word: str, **attributes: Any) -> str:
        return graph.node(kind, inputs, f"d{index}_{word}", **attributes)

    shape = node("Shape", [raw], "shape")
    end = whole("to", [4])
    sides = node("Slice", [shape, whole("high", [2]), end], "sides")
    width = node("Slice", [shape, whole("wide", [3]), end], "width")
    num_cells = node("ReduceProd", [sides], "cells", axes=[0], keepdims=1)
    split = node("Concat", [whole("split", [0, len(ANCHORS[index]), NUM_VALUES]), sides], "split_to", axis=0)
    by_anchor = node("Reshape", [raw, split], "by_anchor")
    around = whole("around", [0, 2])
    ends = [whole("first", [OBJECTNESS]), whole("last", [OBJECTNESS + 1]), whole("along", [2])]
    objectness = node("Sigmoid", [node("Slice", [by_anchor, *ends], "raw_objectness")], "objectness")
    surest = node("ReduceMax", [objectness], "surest", axes=[0], keepdims=1)
    found = node("NonZero", [node("Greater", [surest, FLOOR], "is_above")], "found")
    anchor, row, column = (
        node("Gather", [found, whole(f"{word}_at", at)], word, axis=0)
        for word, at in (("anchor", 1), ("row", 3), ("column", 4))
    )
    block = node("Mul", [node("Mul", [anchor, whole("num", NUM_VALUES)], "blocks"), num_cells], "block")
    cell = node("Add", [node("Mul", [row, width], "rows_before"), column], "cell")
    first = node("Unsqueeze", [node("Add", [block, cell], "flat"), whole("behind", [1])], "first_at")
    steps = node("Mul", [whole("values", list(range(NUM_VALUES))), num_cells], "steps")
    flat = node("Reshape", [raw, whole("flat_to", [0, -1])], "raw_flat")
    values = node("Gather", [flat, node("Add", [first, steps], "places")], "chosen", axis=1)
    pair = [node("Unsqueeze", [at, around], f"{word}_3") for at, word in ((column, "column"), (row, "row"))]
    grid = node("Cast", [node("Concat", pair, "cell_at", axis=2)], "grid", to=1)
    return boxes_of(graph, index, grid, values, axis=2, anchor=anchor)

"""YOLOv5-face from ncnn to ONNX, its boxes decoded inside the network as `filters.detectors.yolov5_face` reads them.

The ncnn network ends in one map of raw values per stride. How they become pixels is told by the paper (Qi et al.,
arXiv 2105.12931) and by YOLOv5: sigmoid of centre, size, objectness and class; anchors scale sizes and landmarks.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from filters.conversion.ncnn import ConversionError, Layer, WeightsReader, read_layers
from filters.conversion.network import Graph, translate

Floats = npt.NDArray[np.float32]

STRIDES = (8, 16, 32)
ANCHORS = (
    ((4, 5), (8, 10), (13, 16)),
    ((23, 29), (43, 55), (73, 105)),
    ((146, 217), (231, 300), (335, 433)),
)
"""Width and height in pixels of the three boxes that each cell starts from, for each stride."""
NUM_VALUES = 16
"""Of one box: centre x, y, width, height, objectness, five landmarks x, y, class."""
OBJECTNESS = 4
"""Which of them says how surely there is anything."""
NUM_LANDMARKS = 5
TAIL = (("Reshape", {0: -1, 1: NUM_VALUES, 2: 3}), ("Permute", {0: 1}))
"""What ncnn's network does to each map at its end, which the decoding here has no need of."""


def convert(param: bytes, weights: bytes) -> bytes:
    """Return the detector as ONNX: float32 NCHW RGB / 255 in, (N, boxes, 16) in input pixels out.

    The same files give the same bytes.

    Raises:
        ConversionError: the files are damaged or not of this detector; the message names the layer.
    """
    body, maps = _without_tails(read_layers(param))
    graph, reader = Graph(), WeightsReader(weights)
    translate(graph, body, reader)
    reader.require_end()
    wrong = [name for name in maps if graph.num_channels.get(name) != len(ANCHORS[0]) * NUM_VALUES]
    if wrong or len(maps) != len(STRIDES):
        raise ConversionError(f"the maps {', '.join(maps)} are not those of YOLOv5-face: {len(STRIDES)} of 48 channels")
    return graph.serialised(decoding(graph, maps), NUM_VALUES)


def decoding(graph: Graph, maps: Sequence[str]) -> str:
    """Append the decoding of raw maps (N, 3 x 16, rows, columns), one per stride; return all boxes, (N, boxes, 16)."""
    zero, one = graph.constant("i0", 0), graph.constant("i1", 1)
    rows = [_decode(graph, index, name, (zero, one)) for index, name in enumerate(maps)]
    return graph.node("Concat", rows, "output", axis=1)


def _without_tails(layers: Sequence[Layer]) -> tuple[list[Layer], list[str]]:
    """Return the layers up to the raw maps, and the maps' names in the order of their strides."""
    num_tail = len(TAIL) * len(STRIDES)
    body, tail = list(layers[:-num_tail]), list(layers[-num_tail:])
    pairs = [tail[start : start + len(TAIL)] for start in range(0, len(tail), len(TAIL))]
    for pair in pairs:
        found = tuple((layer.kind, dict(layer.params)) for layer in pair)
        if found != TAIL or pair[1].inputs != pair[0].outputs or len(pair[0].inputs) != 1:
            raise ConversionError(f"layer `{pair[0].name}`: not the end of a YOLOv5-face network, found {found}")
    return body, [pair[0].inputs[0] for pair in pairs]


def _decode(graph: Graph, index: int, raw: str, range_from_by: tuple[str, str]) -> str:
    """Append the decoding of one map (N, 3 x 16, rows, columns), and return its boxes (N, any number, 16) in pixels."""
    grid, values = _grid_and_values(graph, index, raw, range_from_by)
    boxes = boxes_of(graph, index, grid, values, axis=4)
    return graph.node("Reshape", [boxes, graph.constant(f"d{index}_yr", [0, -1, NUM_VALUES])], f"d{index}_z")


def boxes_of(graph: Graph, index: int, grid: str, values: str, axis: int, anchor: str = "") -> str:
    """Append what makes boxes in pixels of raw values, 16 along the last axis, number `axis`; return their name.

    `grid` is each cell's column and row, with as many axes. Where `anchor` names which of the stride's three boxes
    each row starts from, rows are any boxes; else the values are (N, 3, rows, columns, 16).
    """

    def named(word: str) -> str:
        return f"d{index}_{word}"

    def part(word: str, first: int, last: int) -> str:
        ends = [graph.constant(named(f"{word}_{end}"), [at]) for end, at in (("s", first), ("e", last), ("a", axis))]
        return graph.node("Slice", [values, *ends], named(word))

    def started_from(word: str, sizes: Floats) -> str:
        if not anchor:
            return graph.constant(named(word), sizes.reshape(1, len(sizes), 1, 1, -1), np.float32)
        return graph.node("Gather", [graph.constant(named(word), sizes, np.float32), anchor], named(f"{word}_of"))

    anchors = np.array(ANCHORS[index], np.float32)
    stride = graph.constant(named("stride"), float(STRIDES[index]), np.float32)
    sizes = started_from("anc", anchors)
    two, half = graph.constant(named("k2"), 2.0, np.float32), graph.constant(named("kh"), 0.5, np.float32)

    centre = graph.node("Sigmoid", [part("xy0", 0, 2)], named("xys"))
    centre = graph.node("Mul", [centre, two], named("xy2"))
    centre = graph.node("Add", [graph.node("Sub", [centre, half], named("xy3")), grid], named("xy4"))
    centre = graph.node("Mul", [centre, stride], named("xy"))
    size = graph.node("Sigmoid", [part("wh0", 2, 4)], named("whs"))
    size = graph.node("Mul", [size, two], named("wh2"))
    size = graph.node("Mul", [size, size], named("wh3"))
    size = graph.node("Mul", [size, sizes], named("wh"))
    objectness = graph.node("Sigmoid", [part("ob0", OBJECTNESS, OBJECTNESS + 1)], named("ob"))
    face = graph.node("Sigmoid", [part("cl0", 15, NUM_VALUES)], named("cl"))
    corners = [graph.node("Mul", [grid, stride], named("gs"))] * NUM_LANDMARKS
    corners_of_all = graph.node("Concat", corners, named("gs5"), axis=axis)
    reach = started_from("anc5", np.tile(anchors, NUM_LANDMARKS))
    landmarks = graph.node("Mul", [part("lm0", 5, 15), reach], named("lm1"))
    landmarks = graph.node("Add", [landmarks, corners_of_all], named("lm"))
    return graph.node("Concat", [centre, size, objectness, landmarks, face], named("y"), axis=axis)


def _grid_and_values(graph: Graph, index: int, raw: str, range_from_by: tuple[str, str]) -> tuple[str, str]:
    """Append and name each cell's column and row (1, 1, rows, columns, 2), and the map as (N, 3, rows, columns, 16)."""

    def named(word: str) -> str:
        return f"d{index}_{word}"

    def constant(word: str, values: list[int] | int) -> str:
        return graph.constant(named(word), values)

    def node(kind: str, inputs: list[str], word: str, **attributes: Any) -> str:
        return graph.node(kind, inputs, named(word), **attributes)

    first, step = range_from_by
    shape = node("Shape", [raw], "shp")
    num_rows = node("Gather", [shape, constant("2", 2)], "ny")
    num_columns = node("Gather", [shape, constant("3", 3)], "nx")
    columns = node("Range", [first, num_columns, step], "rx")
    rows = node("Range", [first, num_rows, step], "ry")
    columns, rows = node("Cast", [columns], "rxf", to=1), node("Cast", [rows], "ryf", to=1)
    columns = node("Reshape", [columns, constant("rxs", [1, 1, 1, -1, 1])], "gx")
    rows = node("Reshape", [rows, constant("rys", [1, 1, -1, 1, 1])], "gy")
    height = node("Unsqueeze", [num_rows, constant("u0", [0])], "ny1")
    width = node("Unsqueeze", [num_columns, constant("u1", [0])], "nx1")
    before, after = constant("e1", [1, 1]), constant("e2", [1])
    cells = node("Concat", [before, height, width, after], "gshape", axis=0)
    columns, rows = node("Expand", [columns, cells], "gxe"), node("Expand", [rows, cells], "gye")
    grid = node("Concat", [columns, rows], "grid", axis=4)
    shape = node("Concat", [constant("r1", [-1, 3, NUM_VALUES]), height, width], "rs", axis=0)
    by_anchor = node("Reshape", [raw, shape], "v")
    return grid, node("Transpose", [by_anchor], "t", perm=[0, 1, 3, 4, 2])

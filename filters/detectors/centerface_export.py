"""CenterFace as published, with batch, height and width left open; see `filters.detectors.export`."""

from typing import Any

EXPORTER_VERSION = 1
"""Raised whenever the same weights would give another file; where its boxes differ too, `filters.faces.VERSION`."""


def write(source: str, target: str) -> None:
    """Write the ONNX network at `source` to `target`, for batches and pictures of any size."""
    import onnx

    onnx.save(with_free_sides(onnx.load(source)), target)


def with_free_sides(model: Any) -> Any:
    """Return the network with batch, height and width left open (the published file fixes them)."""
    initialised = {tensor.name for tensor in model.graph.initializer}
    for tensor in [*model.graph.input, *model.graph.output]:
        if tensor.name in initialised:
            continue
        dims = tensor.type.tensor_type.shape.dim
        for axis, free in ((0, "batch"), (2, f"{tensor.name}_height"), (3, f"{tensor.name}_width")):
            dims[axis].dim_param = free
    del model.graph.value_info[:]
    return model

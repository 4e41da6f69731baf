"""YOLOv5-face as published, decoding only what may be a face; see `filters.detectors.export`."""

EXPORTER_VERSION = 1
"""Raised whenever the same weights would give another file; where its boxes differ too, `filters.faces.VERSION`."""


def write(source: str, target: str) -> None:
    """Write the ONNX network at `source` to `target`, of another layout as it is."""
    import onnx

    from filters.conversion.candidates import candidates_only

    onnx.save(candidates_only(onnx.load(source)), target)

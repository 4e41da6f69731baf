"""PP-OCR's text detector as published, with all that is fixed folded; see `filters.detectors.export`."""

EXPORTER_VERSION = 1
"""Raised whenever the same weights would give another file; where its maps differ too, `filters.text_map.VERSION`."""


def write(source: str, target: str) -> None:
    """Write the ONNX network at `source` to `target`: the same maps but for rounding, at less cost."""
    import onnx

    from filters.conversion.folding import fold

    onnx.save(fold(onnx.load(source)), target)

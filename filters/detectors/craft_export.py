"""CRAFT as ONNX, from EasyOCR's own weights; see `filters.detectors.export`."""

EXPORTER_VERSION = 2
"""Raised whenever the same weights would give another file; where its maps differ too, `filters.text.VERSION` rises."""

_OPSET = 17


def write(source: str, target: str) -> None:
    """Write the network whose weights lie at `source` as ONNX to `target`: pixels (N, 3, H, W) in, maps out."""
    import torch
    from easyocr.craft import CRAFT

    from filters.loading import single_thread_torch, torch_state_dict

    single_thread_torch()

    class Maps(torch.nn.Module):
        """CRAFT without its features, which nobody reads."""

        def __init__(self) -> None:
            super().__init__()
            self.network = CRAFT()

        def forward(self, pixels_NCHW: torch.Tensor) -> torch.Tensor:
            maps_NHW2: torch.Tensor = self.network(pixels_NCHW)[0]
            return maps_NHW2

    maps = Maps()
    maps.network.load_state_dict(torch_state_dict(source))
    free = {
        "pixels_NCHW": {0: "batch", 2: "height", 3: "width"},
        "maps_NHW2": {0: "batch", 1: "map_height", 2: "map_width"},
    }
    torch.onnx.export(
        maps.eval(),
        (torch.zeros(1, 3, 64, 96),),
        target,
        input_names=["pixels_NCHW"],
        output_names=["maps_NHW2"],
        dynamic_axes=free,
        opset_version=_OPSET,
        dynamo=False,  # the other exporter needs onnxscript
    )

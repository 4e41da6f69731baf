"""The version that is written beside everything the code makes."""

import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from types import MappingProxyType


def _installed() -> str:
    try:
        return version("facecaptionhq")
    except PackageNotFoundError:
        return "0+unknown"


CODE_VERSION = _installed()
"""Version of the installed distribution: told by manifests, and part of no work id (`curation.dataset.stages`)."""


RUNTIME = ("numpy", "onnxruntime", "opencv-python-headless", "pillow", "torch")
OPTIONAL_RUNTIME = ("openvino",)
"""Distributions of the same name as their package, named where they are installed."""


@cache
def runtime() -> Mapping[str, str]:
    """Return what evidence may depend on beside recipe and weights: library versions and the machine's architecture."""
    return MappingProxyType(
        {
            **{name: version(name) for name in RUNTIME},
            **{name: version(name) for name in OPTIONAL_RUNTIME if find_spec(name) is not None},
            "python": platform.python_version(),
            "machine": platform.machine(),
        }
    )

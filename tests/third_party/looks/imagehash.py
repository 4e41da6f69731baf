"""The real imagehash, found behind this one, whose pHash does to the process what a picture tells it to.

It stands for a fault in the C code that looks at a picture: one that makes Pillow or SciPy die is not known.
"""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from typing import Any

from PIL import Image

from tests.third_party.poison import harm

_elsewhere = [path for path in sys.path if Path(path).absolute() != Path(__file__).parent]
_spec = PathFinder.find_spec("imagehash", _elsewhere)
assert _spec is not None and _spec.loader is not None
_real = module_from_spec(_spec)
_spec.loader.exec_module(_real)


def phash(image: Image.Image, hash_size: int = 8) -> Any:
    red, green, number = image.convert("RGB").getpixel((0, 0))  # type: ignore[misc]
    if (red, green) == (255, 0):
        with Path(os.environ["FACECAPTIONHQ_TEST_MARKS"]).open("a") as marks:
            marks.write(f"{number} {os.getpid()} {os.getppid()}\n")
        harm(number)
    return _real.phash(image, hash_size)

"""The floor: read a tar, decode in full, run one small face detector (YOLOv5n-0.5-face at 320 px); nothing else.

    FACECAPTIONHQ_MODELS=... python -m benchmarks.speed.floor SHARD.tar

No pipeline that looks for faces goes much below it. It judges nothing.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from benchmarks.speed.contenders import DECODE, Clock, Outcome
from benchmarks.speed.obvious import pictures
from filters.detectors.yolov5_face import Yolov5Face
from filters.weights import find_weights

WEIGHTS, SIDE_PX = "yolov5n-0.5-face", 320
FACES = "faces"


class Floor:
    """The detector, loaded."""

    key = f"floor {WEIGHTS} {SIDE_PX}"

    def __init__(self) -> None:
        """Load the detector."""
        self._detector = Yolov5Face(
            find_weights(WEIGHTS).path, side=SIDE_PX, confidence_floor=0.1, max_iou=0.5, device="cpu"
        )

    def read(self, tar: Path) -> Iterator[bytes]:
        """Yield the pictures of a shard."""
        yield from pictures(tar)

    def examine(self, image_bytes: bytes, stored: Outcome | None = None) -> Outcome:
        """Look for faces; every picture stays."""
        clock = Clock()
        with clock.stage(DECODE):
            image = cv2.imdecode(np.frombuffer(image_bytes, np.uint8), cv2.IMREAD_COLOR_RGB)
        with clock.stage(FACES):
            self._detector.detect(np.asarray(image, dtype=np.uint8))
        return Outcome(seconds=clock.seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what each stage takes, in ms per picture of a shard."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed.floor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tar", type=Path)
    tar = parser.parse_args(arguments).tar
    floor = Floor()
    outcomes = [floor.examine(image_bytes) for image_bytes in floor.read(tar)]
    for stage in (DECODE, FACES):
        print(f"{stage:8} {1000 * sum(outcome.seconds[stage] for outcome in outcomes) / len(outcomes):.2f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())

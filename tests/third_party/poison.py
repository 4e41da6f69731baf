"""A filter of somebody else's, found through FACECAPTIONHQ_FILTERS: it does to the process what a picture tells it to.

A picture whose first pixel is (255, 0, k) is poison number k. Each attempt on poison is written down first.
"""

import ctypes
import os
import signal
import struct
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from filters.base import Evidence, Filter, RgbImage, Settings

VERSION = 1
SCORES = ("brightness",)
(SEGFAULT, SLEEP_IN_C, ALLOCATE, RAISE, EXIT, KILL_THE_WORKER, SLOW, KILLED_BY_THE_KERNEL, NONSENSE, NAP) = range(1, 11)
"""What a poison does; a nap does no harm, it only takes a tenth of a second, or the seconds of `NAP_NAME`."""
NAP_NAME = "FACECAPTIONHQ_NAP_S"
MISTYPED = 11
"""A poison whose evidence has a bool where a float belongs."""
KILL_THE_GROUP = 12
LEAKING = 14
"""A picture after which a third of a gigabyte is never given back."""
HUNGRY = 13
"""A picture that does no harm, and needs half of the memory that the recipe of the tests allows."""


class Measure(Settings):
    marks: str
    """File that gets a line per attempt on poison."""


class Score(Settings):
    pass


@dataclass(frozen=True)
class PoisonEvidence(Evidence):
    brightness: float


EVIDENCE = PoisonEvidence


def scores(evidence: PoisonEvidence, score: Score) -> dict[str, float]:
    return {"brightness": evidence.brightness}


def weights(measure: Measure) -> tuple[str, ...]:
    return ()


def build(measure: Measure, device: str) -> Filter:
    return Poison(Path(measure.marks))


class Poison:
    def __init__(self, marks: Path) -> None:
        self._marks = marks

    def measure(self, images: Sequence[RgbImage]) -> list[PoisonEvidence]:
        for image in images:
            red, green, number = image[0, 0].tolist()
            if (red, green) == (255, 0):
                with self._marks.open("a") as marks:
                    marks.write(f"{number} {image[0, 1].tolist()} {os.getpid()} {os.getppid()}\n")
                harm(number)
                if number == LEAKING:
                    kept.append(np.ones(350 << 20, np.uint8))
        return [PoisonEvidence(_brightness(image)) for image in images]


kept: list[np.ndarray] = []


def _brightness(image: RgbImage) -> float:
    return True if image[0, 0].tolist() == [255, 0, MISTYPED] else float(image.mean())


def harm(number: int) -> None:
    """Do what the poison says."""
    if number == SEGFAULT:
        ctypes.string_at(0)
    elif number == SLEEP_IN_C:
        ctypes.PyDLL(None).sleep(1000)
    elif number == ALLOCATE:
        np.ones(2 << 30, np.uint8)  # more than the recipe allows, less than the machine has
    elif number == RAISE:
        raise ValueError("this detector does not like that picture")
    elif number == EXIT:
        os._exit(3)
    elif number == KILL_THE_WORKER:
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(1)
    elif number == KILL_THE_GROUP:
        os.killpg(0, signal.SIGKILL)
    elif number == HUNGRY:
        np.ones(512 << 20, np.uint8)
    elif number == SLOW:
        time.sleep(60)
    elif number == NAP:
        time.sleep(float(os.environ.get(NAP_NAME, "0.1")))
    elif number == KILLED_BY_THE_KERNEL:
        os.kill(os.getpid(), signal.SIGKILL)
    elif number == NONSENSE:
        answer = b'{"measured": [{"evidence": {}}]}'
        os.write(int(sys.argv[1]), struct.pack("!i", len(answer)) + answer)

"""Measures how much of a picture's resolution is real: up to which frequency it holds detail, and how blocky it is.

A small JPEG that was blown up has the pixels of a large picture and the detail of a small one: above the small one's
highest frequency there is little but rounding, and its spectrum falls where that of a photo goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from filters.base import Evidence, Filter, RgbImage, ScoreMeaning, Settings

VERSION = 1
SCORES = ("spectral_fall_db", "blockiness")
MEANINGS = {
    "spectral_fall_db": ScoreMeaning(
        "by how much fine detail is weaker than coarse detail",
        "dB",
        18.5,
        high="blown up from a smaller picture, or blurred as a whole",
    ),
    "blockiness": ScoreMeaning(
        "how much larger steps are on JPEG's grid than off it",
        "ratio, 1 for none",
        1.12,
        high="blocks of a strong JPEG compression are seen",
    ),
}

TILE = 128
"""Side of the square parts that are looked at, pixels of the picture itself."""
NUM_TILES = 12
"""Those with the strongest edges: where there is no detail to lose, none is missed."""
NUM_RINGS = 32
"""Bands of frequency from 0 to the highest that pixels can hold (Nyquist), by the larger of both axes."""
COARSE, FINE = (4, 8), (16, 24)
"""The bands that are held against each other: an eighth to a quarter, and a half to three quarters of the highest
frequency. A picture blown up to twice its size or more has nothing of its own in the latter."""
FLOOR = 1e-6
"""Added to every power, squared grey levels, so that a plain picture has a logarithm."""
JPEG_BLOCK = 8
LEAST_STEP = 0.1
"""Added to every mean step, grey levels, so that a plain picture has no blocks."""
Floats = npt.NDArray[np.float32]


class Measure(Settings):
    """The evidence has no parameters."""


class Score(Settings):
    """The scores have no parameters."""


@dataclass(frozen=True)
class DetailEvidence(Evidence):
    """The spectrum of the busiest parts of the picture, and the steps on JPEG's grid."""

    spectrum: tuple[float, ...]
    """Power in each of 32 bands of frequency, lowest first, in squared grey levels: the median over a band's
    frequencies, so that single lines do not count, averaged over the parts."""
    blockiness: float
    """Steps between neighbouring pixels on the grid of 8, wherever it begins, over those off it; 1 without blocks."""


EVIDENCE = DetailEvidence


def scores(evidence: DetailEvidence, score: Score) -> dict[str, float]:
    """Return by how many decibels fine detail is weaker than coarse detail, and the blockiness."""
    coarse, fine = (np.log10(np.add(evidence.spectrum[first:last], FLOOR)).mean() for first, last in (COARSE, FINE))
    return {"spectral_fall_db": float(10 * (coarse - fine)), "blockiness": evidence.blockiness}


def weights(measure: Measure) -> tuple[str, ...]:
    """Return no names: the statistics need no trained weights."""
    return ()


def build(measure: Measure, device: str) -> Filter:
    """Return the filter; it runs on the CPU whatever the device."""
    from filters.loading import single_thread

    single_thread()
    return Detail()


class Detail:
    """The filter over whole pictures, at their own size."""

    def measure(self, images: Sequence[RgbImage]) -> list[DetailEvidence]:
        """Return one evidence per picture."""
        return [_evidence_of(image) for image in images]


def _evidence_of(image: RgbImage) -> DetailEvidence:
    import cv2

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return DetailEvidence(tuple(spectrum(grey).tolist()), blockiness(grey))


def spectrum(grey: Floats) -> Floats:
    """Return the power in each band of frequency, (32,), of the tiles with the strongest edges."""
    window, rings = _window_and_rings()
    power = np.zeros(NUM_RINGS)
    tiles = _busiest_tiles(grey)
    for tile in tiles:
        frequencies = np.abs(np.fft.rfft2((tile - tile.mean()) * window)) ** 2 / (window**2).sum()
        power += [np.median(frequencies.ravel()[ring]) for ring in rings]
    return (power / len(tiles)).astype(np.float32)


def _busiest_tiles(grey: Floats) -> list[Floats]:
    """Return up to `NUM_TILES` tiles of a picture, mirrored at its edges where it is smaller than one."""
    import cv2

    below, beside = (max(0, TILE - side) for side in grey.shape)
    grey = np.asarray(cv2.copyMakeBorder(grey, 0, below, 0, beside, cv2.BORDER_REFLECT), np.float32)
    num_rows, num_columns = (side // TILE for side in grey.shape)
    whole = grey[: num_rows * TILE, : num_columns * TILE]
    edges = np.abs(cv2.Laplacian(whole, cv2.CV_32F))
    strength = cv2.resize(edges, (num_columns, num_rows), interpolation=cv2.INTER_AREA).ravel()
    chosen = np.argsort(-strength, kind="stable")[:NUM_TILES]
    corners = (divmod(int(number), num_columns) for number in chosen)
    return [whole[y * TILE : (y + 1) * TILE, x * TILE : (x + 1) * TILE] for y, x in corners]


@cache
def _window_and_rings() -> tuple[Floats, list[npt.NDArray[np.intp]]]:
    """Return Hann's window of a tile, and for each band where its frequencies stand in a tile's transform."""
    window = np.outer(np.hanning(TILE), np.hanning(TILE)).astype(np.float32)
    rows, columns = np.mgrid[:TILE, : TILE // 2 + 1]
    frequency = np.maximum(np.minimum(rows, TILE - rows), columns)
    number = np.minimum(frequency * NUM_RINGS // (TILE // 2), NUM_RINGS - 1)
    return window, [np.flatnonzero((number == ring) & (frequency > 0)) for ring in range(NUM_RINGS)]


def blockiness(grey: Floats) -> float:
    """Return how much larger steps are on JPEG's grid than off it, over both axes; 1 where there is none.

    The grid begins where its steps are largest, since the picture may be a cut of another.
    """
    ratios = []
    for pixels in (grey, grey.T):
        steps = np.abs(np.diff(pixels, axis=1))
        whole = steps.shape[1] // JPEG_BLOCK * JPEG_BLOCK
        if whole:
            by_phase = steps[:, :whole].mean(axis=0).reshape(-1, JPEG_BLOCK).mean(axis=0) + LEAST_STEP
            ratios.append(float(by_phase.max() / np.median(by_phase)))
    return float(np.mean(ratios)) if ratios else 1.0

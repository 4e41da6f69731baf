"""Measures how much colour a picture has, and whether its colour is more than a tone laid over grey."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import Field

from filters.base import Evidence, Filter, RgbImage, Settings

VERSION = 1
SCORES = ("mean_channel_std", "chromatic_share", "hue_spread_deg", "toning_residual")
_BLOCK_PIXELS = 1 << 16
"""Pixels looked at together: small enough for a core's cache."""
_LUMA_STEP = 4
"""Levels of luma that count as equal, grey levels."""


class Measure(Settings):
    """Parameters of the evidence."""

    chroma_floor: int = Field(default=10, ge=0, le=255)
    """A pixel is chromatic when its largest and smallest channel differ by more than this, grey levels 0..255."""
    toning_side: int = Field(default=256, ge=32, le=4096)
    """Longest side of the view that the toning residual is taken from, pixels: grain and compression average out."""
    toning_luma: tuple[int, int] = (32, 240)
    """Luma from (included) and to (excluded) that the residual looks at: black and white have no chroma to show."""


class Score(Settings):
    """The scores have no parameters: they are the statistics themselves."""


@dataclass(frozen=True)
class ColourEvidence(Evidence):
    """Statistics over every pixel of the picture."""

    mean_channel_std: float
    """Mean over pixels of the standard deviation across R, G, B, grey levels; the published statistic."""
    chromatic_share: float
    """Share of pixels that are chromatic, 0..1."""
    hue_spread_deg: float
    """Circular standard deviation of the hue of chromatic pixels, degrees; 0 where there are none."""
    toning_residual: float
    """Standard deviation of (Cb, Cr) among pixels of equal luma, grey levels; small for grey and toned pictures."""


EVIDENCE = ColourEvidence


def scores(evidence: ColourEvidence, score: Score) -> dict[str, float]:
    """Return the statistics by name."""
    return {name: getattr(evidence, name) for name in SCORES}


def weights(measure: Measure) -> tuple[str, ...]:
    """Return no names: the statistics need no trained weights."""
    return ()


def build(measure: Measure, device: str) -> Filter:
    """Return the filter; it runs on the CPU whatever the device."""
    from filters.loading import single_thread

    single_thread()
    return Colour(measure)


class Colour:
    """The filter over whole pictures; all but the toning residual at full size, since reduced views move them."""

    def __init__(self, measure: Measure) -> None:
        """Keep the parameters."""
        self._measure = measure

    def measure(self, images: Sequence[RgbImage]) -> list[ColourEvidence]:
        """Return one evidence per picture."""
        return [self._measure_one(image) for image in images]

    def _measure_one(self, image: RgbImage) -> ColourEvidence:
        pixels = np.ascontiguousarray(image).reshape(-1, 3)
        totals = sum(
            (
                _channel_totals(pixels[start : start + _BLOCK_PIXELS], self._measure.chroma_floor)
                for start in range(0, len(pixels), _BLOCK_PIXELS)
            ),
            np.zeros(4),
        )
        std_sum, num_chromatic, hue_x, hue_y = totals.tolist()
        return ColourEvidence(
            mean_channel_std=std_sum / len(pixels),
            chromatic_share=num_chromatic / len(pixels),
            hue_spread_deg=_circular_std_deg(hue_x, hue_y, num_chromatic),
            toning_residual=toning_residual(image, self._measure.toning_side, self._measure.toning_luma),
        )


def toning_residual(image: RgbImage, side: int, luma: tuple[int, int]) -> float:
    """Return the standard deviation of (Cb, Cr) within levels of luma, grey levels; 0 with no pixel in the luma range.

    A grey or evenly toned picture has one chroma for each luma, whatever the tone, so only noise and stains are left;
    a picture in colour has several.
    """
    import cv2

    from filters.loading import resize

    scale = min(1.0, side / max(image.shape))
    view = resize(image, max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    luma_chroma = cv2.cvtColor(view, cv2.COLOR_RGB2YCrCb)
    levels = np.arange(256, dtype=np.float64)
    num_bins = max(1, (luma[1] - luma[0]) // _LUMA_STEP)
    variance = 0.0
    for channel in (1, 2):
        counts = cv2.calcHist([luma_chroma], [0, channel], None, [num_bins, 256], [*luma, 0, 256]).astype(np.float64)
        counts = counts[counts.sum(axis=1) > 0]
        if not len(counts):
            return 0.0
        num_pixels = counts.sum(axis=1)
        mean = counts @ levels / num_pixels
        variance += float((counts @ levels**2 - num_pixels * mean**2).sum() / num_pixels.sum())
    return float(np.sqrt(max(0.0, variance)))


def _channel_totals(pixels: npt.NDArray[np.uint8], chroma_floor: int) -> npt.NDArray[np.float64]:
    """Return, summed over pixels: channel std, 1 if chromatic, and the unit vector of a chromatic hue."""
    red, green, blue = np.ascontiguousarray(pixels.T).astype(np.float32)
    red_green, green_blue, blue_red = red - green, green - blue, blue - red
    squares = red_green**2 + green_blue**2 + blue_red**2
    widest = np.maximum(np.maximum(np.abs(red_green), np.abs(green_blue)), np.abs(blue_red))
    chromatic = widest > chroma_floor
    hue_x, hue_y = (red_green - blue_red) / 2, green_blue * np.float32(np.sqrt(0.75))
    length = np.sqrt(squares / 2)
    share = np.divide(chromatic, length, out=np.zeros_like(length), where=chromatic)
    std_sum = length.sum(dtype=np.float64) * np.sqrt(2) / 3
    return np.array([std_sum, chromatic.sum(), (hue_x * share).sum(), (hue_y * share).sum()], dtype=np.float64)


def _circular_std_deg(sum_x: float, sum_y: float, count: float) -> float:
    if count == 0:
        return 0.0
    concentration = min(1.0, max(1e-12, float(np.hypot(sum_x, sum_y)) / count))
    return float(np.degrees(np.sqrt(-2 * np.log(concentration))))

"""Measures how much colour a picture has, and whether its colour is more than a tone laid over grey."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from filters.base import Evidence, Filter, RgbImage, ScoreMeaning, Settings, TableSettings

VERSION = 2
SCORES = ("mean_channel_std", "chromatic_share", "hue_spread_deg", "toning_residual")
MEANINGS = {
    "mean_channel_std": ScoreMeaning(
        "mean deviation of a pixel's R, G and B from one another",
        "grey levels, 0..120",
        14.2,
        low="black and white: the channels are nearly equal",
    ),
    "chromatic_share": ScoreMeaning(
        "share of the pixels that have a colour at all", "0..1", 0.62, low="few pixels have a colour"
    ),
    "hue_spread_deg": ScoreMeaning(
        "how far the hues of coloured pixels lie apart", "degrees", 41.0, low="all colours are one hue"
    ),
    "toning_residual": ScoreMeaning(
        "how far the chroma differs among pixels of equal lightness",
        "grey levels, 0 and more",
        9.1,
        low="one tone over grey, such as sepia or coloured light",
    ),
}
_MAX_BAND_PIXELS = 1 << 24
"""Pixels counted together: OpenCV hands counts out as float32, which is exact up to here."""
_LUMA_STEP = 4
"""Levels of luma that count as equal, grey levels."""
_ROUNDING = float(np.sqrt(2) / 3)
"""Deviation of (1/2, -1/2, -1/2): no colour within half a level of grey has a greater one, grey levels."""


class Measure(TableSettings):
    """Parameters of the evidence."""

    LATER = frozenset({"toning_of", "statistics_of"})

    chroma_floor: int = Field(default=10, ge=0, le=255)
    """A pixel is chromatic when its largest and smallest channel differ by more than this, grey levels 0..255."""
    toning_side: int = Field(default=256, ge=32, le=4096)
    """Longest side of the view that the toning residual is taken from, pixels: grain and compression average out.

    The view is the mean of the smallest whole blocks that fit into it: half to all of this side for larger pictures.
    """
    toning_luma: tuple[int, int] = (32, 240)
    """Luma from (included) and to (excluded) that the residual looks at: black and white have no chroma to show."""
    toning_of: Literal["picture", "portrait"] = "picture"
    """What the residual is taken from. `picture`: all of the view. `portrait`: the larger of two residuals, that of the
    view and that of its middle, where head and shoulders are. Pixels that are out of `toning_luma` or touch one that is
    are left out, and what remains is averaged two by two: where a tone is bent, as at paper white, a mixture of
    two of its colours is a third."""
    statistics_of: Literal["pixels", "blocks"] = "pixels"
    """What the other statistics are taken from. `pixels`: every pixel. `blocks`: the view, at a part of the cost; then
    `mean_channel_std` is a number that the pixels' own is no smaller than: what a screen needs (decision 0079)."""


class Score(Settings):
    """The scores have no parameters: they are the statistics themselves."""


@dataclass(frozen=True)
class ColourEvidence(Evidence):
    """Statistics over every pixel of the picture, or over the blocks of its view (`Measure.statistics_of`)."""

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
        view = block_means(image, self._measure.toning_side)
        counted = image if self._measure.statistics_of == "pixels" else view.means
        num_pixels = counted.shape[0] * counted.shape[1]
        totals = _statistics(self._measure.chroma_floor) @ _difference_counts(counted)
        std_sum, num_chromatic, hue_x, hue_y = totals.tolist()
        mean_std = std_sum / num_pixels
        return ColourEvidence(
            mean_channel_std=mean_std if counted is image else view.least_of_pixels(mean_std),
            chromatic_share=num_chromatic / num_pixels,
            hue_spread_deg=_circular_std_deg(hue_x, hue_y, num_chromatic),
            toning_residual=_toning_residual(view.means, self._measure),
        )


def toning_residual(image: RgbImage, measure: Measure) -> float:
    """Return the standard deviation of (Cb, Cr) within levels of luma, grey levels; 0 with no pixel in the luma range.

    A grey or evenly toned picture has one chroma for each luma, whatever the tone, so only noise and stains are left;
    a picture in colour has several.
    """
    return _toning_residual(block_means(image, measure.toning_side).means, measure)


def _toning_residual(view: RgbImage, measure: Measure) -> float:
    import cv2

    view = np.asarray(cv2.cvtColor(view, cv2.COLOR_RGB2YCrCb), dtype=np.uint8)
    if measure.toning_of == "picture":
        return _residual(view, None, measure.toning_luma)
    view, usable = _averaged_inside(view, measure.toning_luma)
    height, width = usable.shape
    middle = np.s_[: max(1, 2 * height // 3), width // 4 : max(width // 4 + 1, 3 * width // 4)]
    return max(_residual(view[part], usable[part], measure.toning_luma) for part in (np.s_[:, :], middle))


def _averaged_inside(luma_chroma: RgbImage, luma: tuple[int, int]) -> tuple[RgbImage, npt.NDArray[np.uint8]]:
    """Return the view at half its size, and 255 for each pixel that at least two usable ones were averaged for.

    A pixel is usable when it and its eight neighbours are in the range of luma.
    """
    import cv2

    inside = ((luma_chroma[..., 0] >= luma[0]) & (luma_chroma[..., 0] < luma[1])).astype(np.uint8)
    usable = cv2.erode(inside, np.ones((3, 3), dtype=np.uint8))
    height, width = (max(1, side // 2) for side in usable.shape)
    even = np.s_[: 2 * height, : 2 * width]
    weight = (usable[even] > 0).astype(np.float32)
    share = cv2.resize(weight, (width, height), interpolation=cv2.INTER_AREA)
    sums = cv2.resize(luma_chroma[even] * weight[..., None], (width, height), interpolation=cv2.INTER_AREA)
    means = (sums / np.maximum(share, 0.25)[..., None]).round().astype(np.uint8)
    return means, np.where(share >= 0.5, np.uint8(255), np.uint8(0))


def _residual(luma_chroma: RgbImage, usable: npt.NDArray[np.uint8] | None, luma: tuple[int, int]) -> float:
    import cv2

    levels = np.arange(256, dtype=np.float64)
    num_bins = max(1, (luma[1] - luma[0]) // _LUMA_STEP)
    variance = 0.0
    for channel in (1, 2):
        ranges = [*luma, 0, 256]
        counts = cv2.calcHist([luma_chroma], [0, channel], usable, [num_bins, 256], ranges).astype(np.float64)
        counts = counts[counts.sum(axis=1) > 0]
        if not len(counts):
            return 0.0
        num_pixels = counts.sum(axis=1)
        mean = counts @ levels / num_pixels
        variance += float((counts @ levels**2 - num_pixels * mean**2).sum() / num_pixels.sum())
    return float(np.sqrt(max(0.0, variance)))


@dataclass(frozen=True)
class BlockMeans:
    """A picture's means over square blocks, rounded to whole grey levels each time that blocks were joined."""

    means: RgbImage
    covered: float
    """Share of the picture's pixels that lie in a block, above 0 to 1."""
    num_roundings: int

    def least_of_pixels(self, mean_std: float) -> float:
        """Return what the pixels' mean channel deviation is at least, given that of the blocks, grey levels.

        The deviation is a seminorm of a colour, so its mean is no smaller than that of the mean colour (Jensen); each
        rounding moves a colour by at most half a level in each channel, and a deviation by at most `_ROUNDING`.
        """
        return max(0.0, mean_std - _ROUNDING * self.num_roundings) * self.covered


def block_means(image: RgbImage, side: int) -> BlockMeans:
    """Return the means of the smallest square blocks that leave at most `side` pixels; a rest at the edges is cut off.

    Whole blocks, because averaging over fractions of pixels costs as much as everything else in here.
    """
    import cv2

    block, covered, num_roundings = -(-max(image.shape) // side), 1.0, 0
    while block > 1:
        step = block if block % 2 else 2  # OpenCV averages two by two far faster than any other number
        height, width = max(1, image.shape[0] // step), max(1, image.shape[1] // step)
        whole = image[: height * step, : width * step]
        covered *= whole.size / image.size
        image = np.asarray(cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
        block //= step
        num_roundings += 1
    return BlockMeans(image, covered, num_roundings)


def _difference_counts(image: RgbImage) -> npt.NDArray[np.float64]:
    """Return how many pixels have each pair of differences R - G, G - B; what else a colour holds is brightness.

    The differences are counted modulo 256, apart by their signs: shape (4 * 256 * 256,), and the first index is 1
    where R < G, plus 2 where G < B. Bytes are what OpenCV counts fastest.
    """
    import cv2

    counts = np.zeros(4 * 256 * 256)
    num_rows = max(1, _MAX_BAND_PIXELS // image.shape[1])
    for top in range(0, image.shape[0], num_rows):
        red, green, blue = cv2.split(image[top : top + num_rows])
        signs, cooler = (red < green).view(np.uint8), (green < blue).view(np.uint8)
        signs += cooler + cooler
        planes = [signs, red - green, green - blue]
        counts += cv2.calcHist(planes, [0, 1, 2], None, [4, 256, 256], [0, 4, 0, 256, 0, 256]).ravel()
    return counts


@cache
def _statistics(chroma_floor: int) -> npt.NDArray[np.float64]:
    """Return what each pair of differences adds: channel std, 1 if chromatic, the unit vector of a chromatic hue.

    Shape (4, 4 * 256 * 256); the second axis as in `_difference_counts`.
    """
    signs, red_green, green_blue = np.indices((4, 256, 256), dtype=np.float64).reshape(3, -1)
    red_green, green_blue = red_green - 256 * (signs % 2), green_blue - 256 * (signs // 2)
    blue_red = -red_green - green_blue
    widest = np.max(np.abs([red_green, green_blue, blue_red]), axis=0)
    chromatic = widest > chroma_floor
    hue_x, hue_y = (red_green - blue_red) / 2, green_blue * np.sqrt(0.75)
    length = np.hypot(hue_x, hue_y)
    share = np.divide(chromatic, length, out=np.zeros_like(length), where=chromatic)
    return np.stack([length * np.sqrt(2) / 3, chromatic, hue_x * share, hue_y * share])


def _circular_std_deg(sum_x: float, sum_y: float, count: float) -> float:
    if count == 0:
        return 0.0
    concentration = min(1.0, max(1e-12, float(np.hypot(sum_x, sum_y)) / count))
    return float(np.degrees(np.sqrt(-2 * np.log(concentration))))

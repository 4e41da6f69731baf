"""Writes on pictures as the web does: memes, subtitles, signs, posters, tiled marks, and the small marks that may stay.

Every kind takes a picture and random numbers and says what it wrote. The fonts are those that matplotlib carries
(DejaVu: Latin, Cyrillic, Greek, Arabic, Hebrew, Armenian, Georgian) and OpenCV's Hershey strokes (Latin); no font for
Chinese, Japanese, Korean or Indian scripts comes with either, so these stand in real photos only.

`benchmarks.verdicts.random_text` draws text too, and the two stay apart on purpose: the bounds of the screens are
chosen on that one (`benchmarks.verdicts.screens`) and judged on this one (`benchmarks.pictures.corpus`,
`benchmarks.verdicts.agreement`). With one generator for both, agreement on drawn text would be in-sample as well.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from filters.base import RgbImage

Colour = tuple[int, int, int]

WORDS: Mapping[str, Sequence[str]] = {
    "latin": ("summer", "harvest", "market", "open", "daily", "River", "Street", "number", "twenty", "museum", "NEWS"),
    "cyrillic": ("летний", "рынок", "открыт", "каждый", "день", "музей", "улица", "новости", "двадцать"),
    "greek": ("καλοκαίρι", "αγορά", "ανοιχτό", "κάθε", "μέρα", "μουσείο", "δρόμος", "νέα"),
    "arabic": ("صيف", "سوق", "مفتوح", "كل", "يوم", "متحف", "شارع", "أخبار"),
    "hebrew": ("קיץ", "שוק", "פתוח", "כל", "יום", "מוזיאון", "רחוב", "חדשות"),
    "armenian": ("ամառ", "շուկա", "բաց", "ամեն", "օր", "թանգարան", "փողոց"),
    "georgian": ("ზაფხული", "ბაზარი", "ღია", "ყოველ", "დღე", "მუზეუმი", "ქუჩა"),
}
SCRIPT_SHARES = {
    "latin": 0.6, "cyrillic": 0.12, "greek": 0.08, "arabic": 0.08, "hebrew": 0.04, "armenian": 0.04, "georgian": 0.04,
}  # fmt: skip
CONTRAST_SHARES = {"strong": 0.6, "medium": 0.25, "faint": 0.15}
OPACITY = {"strong": 1.0, "medium": 0.7, "faint": 0.35}
FONTS = ("DejaVuSans-Bold", "DejaVuSans", "DejaVuSerif-Bold", "DejaVuSansMono")
SANS_ONLY = ("arabic", "hebrew")
"""Scripts for which only the first two fonts have letters."""
CASED = ("latin", "cyrillic", "greek", "armenian")
"""Scripts whose capitals the fonts have."""
PALETTE: Sequence[tuple[Colour, Colour]] = (
    ((255, 255, 255), (0, 0, 0)),
    ((0, 0, 0), (255, 255, 255)),
    ((255, 235, 60), (30, 20, 20)),
    ((200, 20, 30), (250, 245, 235)),
    ((245, 245, 245), (20, 60, 130)),
)
"""Letters and what stands behind or around them."""


@dataclass(frozen=True)
class Lettered:
    """A picture with writing on it."""

    image: RgbImage
    script: str
    contrast: str


def meme(image: RgbImage, numbers: np.random.Generator) -> Lettered:
    """Edged capitals across the top and the bottom; some of the Latin ones in Hershey strokes."""
    script, contrast = _chosen(SCRIPT_SHARES, numbers), _chosen(CONTRAST_SHARES, numbers)
    above, below = (_line(script, int(numbers.integers(2, 5)), numbers) for _ in range(2))
    if script in CASED:
        above, below = above.upper(), below.upper()
    height = image.shape[0]
    size = height * float(numbers.uniform(1 / 16, 1 / 9))
    if script == "latin" and numbers.random() < 0.3:
        layer = image.copy()
        for words, baseline in ((above, int(size * 1.3)), (below, int(height - size * 0.6))):
            _hershey(layer, words, baseline, size)
        return Lettered(_blend(image, layer, OPACITY[contrast]), script, contrast)
    canvas = _Canvas(image, script, numbers)
    canvas.line(above, size, 0.02, edged=True)
    canvas.line(below, size, 0.97 - size / height, edged=True)
    return Lettered(canvas.blended(OPACITY[contrast]), script, contrast)


def subtitle(image: RgbImage, numbers: np.random.Generator) -> Lettered:
    """Two lines near the bottom, plain or on a bar."""
    script, contrast = _chosen(SCRIPT_SHARES, numbers), _chosen(CONTRAST_SHARES, numbers)
    size = image.shape[0] * float(numbers.uniform(1 / 26, 1 / 16))
    canvas = _Canvas(image, script, numbers)
    top = 0.97 - 2.6 * size / image.shape[0]
    if numbers.random() < 0.5:
        canvas.panel(0.0, top - 0.01, 1.0, 0.99)
    for row in range(2):
        words = _line(script, int(numbers.integers(3, 6)), numbers)
        canvas.line(words, size, top + row * 1.3 * size / image.shape[0], edged=True)
    return Lettered(canvas.blended(OPACITY[contrast]), script, contrast)


def sign(image: RgbImage, numbers: np.random.Generator) -> Lettered:
    """A panel anywhere in the picture with three to five lines, as a street sign or a shop's board has them."""
    script, contrast = _chosen(SCRIPT_SHARES, numbers), _chosen({"strong": 0.7, "medium": 0.3}, numbers)
    num_lines = int(numbers.integers(3, 6))
    size = image.shape[0] * float(numbers.uniform(1 / 24, 1 / 14))
    tall, wide = 1.35 * num_lines * size / image.shape[0], float(numbers.uniform(0.35, 0.6))
    left, top = float(numbers.uniform(0, 1 - wide)), float(numbers.uniform(0, max(0.01, 1 - tall)))
    canvas = _Canvas(image, script, numbers)
    canvas.panel(left, top, left + wide, top + tall)
    for row in range(num_lines):
        words = _line(script, int(numbers.integers(1, 4)), numbers)
        canvas.line(words, size, top + row * 1.3 * size / image.shape[0], left=left, right=left + wide)
    return Lettered(canvas.blended(OPACITY[contrast]), script, contrast)


def poster(image: RgbImage, numbers: np.random.Generator) -> Lettered:
    """Lines of many sizes all over the picture."""
    script, contrast = _chosen(SCRIPT_SHARES, numbers), _chosen(CONTRAST_SHARES, numbers)
    canvas, top = _Canvas(image, script, numbers), float(numbers.uniform(0.02, 0.15))
    while top < 0.9:
        size = image.shape[0] * float(numbers.choice([1 / 10, 1 / 16, 1 / 24, 1 / 32]))
        canvas.line(_line(script, int(numbers.integers(2, 5)), numbers), size, top, edged=bool(numbers.random() < 0.5))
        top += 1.5 * size / image.shape[0] + float(numbers.uniform(0, 0.08))
    return Lettered(canvas.blended(OPACITY[contrast]), script, contrast)


def tiled(image: RgbImage, numbers: np.random.Generator) -> Lettered:
    """An agency's slanting watermark, again and again over the whole picture."""
    contrast = _chosen({"medium": 0.5, "faint": 0.5}, numbers)
    height, width = image.shape[:2]
    size = height * float(numbers.uniform(1 / 22, 1 / 12))
    words = str(numbers.choice(["stockphoto", "SAMPLE", "preview image", "agency.example"]))
    side = int(1.5 * max(height, width))
    sheet = Image.new("L", (side, side), 0)
    draw, font = ImageDraw.Draw(sheet), _font("DejaVuSans-Bold", size)
    step = int(font.getlength(words) * 1.4)
    for row, y in enumerate(range(0, side, int(3.2 * size))):
        for x in range(-(row % 2) * step // 2, side, step):
            draw.text((x, y), words, fill=255, font=font)
    turned = sheet.rotate(30, resample=Image.Resampling.BILINEAR)
    left, top = (side - width) // 2, (side - height) // 2
    share = np.asarray(turned.crop((left, top, left + width, top + height)), dtype=np.float32)[..., None] / 255
    mixed = image * (1 - OPACITY[contrast] * share) + 255 * OPACITY[contrast] * share
    return Lettered(mixed.round().clip(0, 255).astype(np.uint8), "latin", contrast)


def mark(image: RgbImage, numbers: np.random.Generator) -> Lettered:
    """A short mark in a corner, at most eight characters: not a large amount of text."""
    contrast = _chosen(CONTRAST_SHARES, numbers)
    words = str(numbers.choice(["© Ann", "fox", "12.6.19", "PHOTO", "a·b·c", "No. 7", "@lea"]))
    size = image.shape[0] * float(numbers.uniform(1 / 45, 1 / 26))
    wide = _font("DejaVuSans", size).getlength(words) / image.shape[1] + 0.03
    left = 0.01 if numbers.random() < 0.5 else 0.99 - wide
    top = 0.02 if numbers.random() < 0.3 else 0.96 - size / image.shape[0]
    canvas = _Canvas(image, "latin", numbers)
    canvas.line(words, size, top, left=left, right=left + wide, edged=bool(numbers.random() < 0.3))
    return Lettered(canvas.blended(OPACITY[contrast]), "latin", contrast)


MUCH: Mapping[str, Callable[[RgbImage, np.random.Generator], Lettered]] = {
    "meme": meme,
    "subtitle": subtitle,
    "sign": sign,
    "poster": poster,
    "tiled": tiled,
}
"""A large amount of text: the picture must go."""


def font_for(script: str, number: int) -> str:
    """Return one of the fonts that have a script's letters, by a number below that of all fonts."""
    return FONTS[number % 2 if script in SANS_ONLY else number]


class _Canvas:
    """A layer of letters over a picture, of one font and one pair of colours."""

    def __init__(self, image: RgbImage, script: str, numbers: np.random.Generator) -> None:
        self._image = image
        self._layer = Image.fromarray(image)
        self._draw = ImageDraw.Draw(self._layer)
        self._font = font_for(script, int(numbers.integers(len(FONTS))))
        self._letters, self._ground = PALETTE[int(numbers.integers(len(PALETTE)))]

    def panel(self, left: float, top: float, right: float, bottom: float) -> None:
        """Fill a box, in fractions of the picture."""
        height, width = self._image.shape[:2]
        self._draw.rectangle((left * width, top * height, right * width, bottom * height), fill=self._ground)

    def line(
        self, words: str, size: float, top: float, left: float = 0.0, right: float = 1.0, edged: bool = False
    ) -> None:
        """Write one centred line; `size` in pixels shrinks until the line fits between left and right (fractions)."""
        height, width = self._image.shape[:2]
        room = 0.96 * (right - left) * width
        font = _font(self._font, size)
        font = _font(self._font, size * min(1.0, room / font.getlength(words)))
        x = left * width + ((right - left) * width - font.getlength(words)) / 2
        edge = max(1, round(font.size / 14)) if edged else 0
        self._draw.text(
            (x, top * height),
            words,
            self._letters,
            font,
            stroke_width=edge,
            stroke_fill=self._ground if edged else None,
        )

    def blended(self, opacity: float) -> RgbImage:
        """Return the picture under its layer."""
        return _blend(self._image, np.array(self._layer), opacity)


def _hershey(image: RgbImage, words: str, baseline: int, size: float) -> None:
    face = cv2.FONT_HERSHEY_DUPLEX
    scale = size / 22
    (width, _), _ = cv2.getTextSize(words, face, scale, 1)
    scale *= min(1.0, 0.94 * image.shape[1] / width)
    (width, _), _ = cv2.getTextSize(words, face, scale, 1)
    place = ((image.shape[1] - width) // 2, baseline)
    for colour, thickness in (((0, 0, 0), max(3, round(4 * scale))), ((255, 255, 255), max(1, round(1.6 * scale)))):
        cv2.putText(image, words, place, face, scale, colour, thickness, cv2.LINE_AA)


def _line(script: str, num_words: int, numbers: np.random.Generator) -> str:
    return " ".join(WORDS[script][int(i)] for i in numbers.integers(len(WORDS[script]), size=num_words))


def _blend(under: RgbImage, over: RgbImage, opacity: float) -> RgbImage:
    return np.asarray(cv2.addWeighted(over, opacity, under, 1 - opacity, 0), dtype=np.uint8)


def _chosen(shares: Mapping[str, float], numbers: np.random.Generator) -> str:
    return str(numbers.choice(list(shares), p=list(shares.values())))


@lru_cache(maxsize=256)
def _font(name: str, size: float) -> ImageFont.FreeTypeFont:
    import matplotlib

    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")), max(6.0, size))

"""Seeded text of many scripts, sizes, contrasts and places, drawn on photos: what a text screen must not misjudge.

`benchmarks.verdicts.lettering` draws text too, and the two stay apart on purpose: the bounds of the screens are chosen
on this one (`benchmarks.verdicts.screens`), which is as hard as can be, and judged on that one
(`benchmarks.pictures.corpus`), which looks like the web. With one generator for both, agreement on drawn text would be
in-sample as well.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from filters.base import RgbImage

SCRIPTS = {
    "capitals": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "latin": "abcdefghijklmnopqrstuvwxyz",
    "digits": "0123456789",
    "cyrillic": "абвгдежзиклмнопрстуфхцчшщэюя",
    "greek": "αβγδεζηθικλμνξοπρστυφχψω",
    "arabic": "ابتثجحخدذرزسشصضطظعغفقكلمنهوي",
    "hebrew": "אבגדהוזחטיכלמנסעפצקרשת",
    "georgian": "აბგდევზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ",
    "armenian": "աբգդեզէըթժիլխծկհձղճմյնշոչպջռսվտրցւփք",
}
"""Letters by script, all in DejaVu Sans."""
LATIN = ("capitals", "latin", "digits")
LATIN_FONTS = ("DejaVuSerif.ttf", "DejaVuSansMono-Bold.ttf", "DejaVuSans-Oblique.ttf", "STIXGeneralItalic.ttf")
HERSHEY = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_COMPLEX, cv2.FONT_HERSHEY_SCRIPT_COMPLEX)


@dataclass(frozen=True)
class Lettering:
    """What is drawn, and how."""

    script: str
    num_letters: int
    lines: tuple[str, ...]
    height_fraction: float
    """Height of a line, of the picture's height."""
    contrast: float
    """How far the text's colour covers what is below it, 0..1."""
    left: float
    top: float
    """Where it begins, in fractions of the room that it leaves."""
    angle: float
    """Degrees counter-clockwise."""
    font: str
    """File name of a font of matplotlib's, or a number of OpenCV's."""
    colour: tuple[int, int, int]
    edge: bool


def random_lettering(seed: int) -> Lettering:
    """Return one of endlessly many, most of them about as long as the recipe's limit."""
    rng = random.Random(seed)
    script = rng.choice(tuple(SCRIPTS))
    num_letters = rng.choice((rng.randint(1, 8), rng.randint(6, 16), rng.randint(12, 40), rng.randint(30, 90)))
    letters = [rng.choice(SCRIPTS[script]) for _ in range(num_letters)]
    lines = _laid_out(letters, rng)
    fonts = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", *(LATIN_FONTS if script in LATIN else ()))
    font = str(rng.choice(HERSHEY)) if script in LATIN and rng.random() < 0.2 else rng.choice(fonts)
    return Lettering(
        script=script,
        num_letters=num_letters,
        lines=lines,
        height_fraction=0.015 * 14 ** rng.random(),
        contrast=rng.choice((0.25, 0.45, 0.7, 1.0, 1.0)),
        left=rng.random(),
        top=rng.random(),
        angle=rng.choice((0.0, 0.0, 0.0, rng.uniform(-15, 15), 90.0)),
        font=font,
        colour=rng.choice(((255, 255, 255), (0, 0, 0), (230, 30, 40), (250, 220, 40), (40, 60, 160))),
        edge=rng.random() < 0.4,
    )


def lettered(image: RgbImage, lettering: Lettering) -> RgbImage:
    """Return the picture with the lettering on it; a line that would not fit is drawn smaller."""
    covered = _mask(lettering, image.shape[0], image.shape[1])
    strength = covered.astype(np.float32)[..., None] / 255 * lettering.contrast
    pixels = image.astype(np.float32)
    if lettering.edge:
        around = cv2.dilate(covered, np.ones((3, 3), np.uint8)).astype(np.float32)[..., None] / 255
        pixels *= 1 - around * lettering.contrast
    inked = pixels + (np.array(lettering.colour, dtype=np.float32) - pixels) * strength
    return np.asarray(inked.round().clip(0, 255), dtype=np.uint8)


def _laid_out(letters: list[str], rng: random.Random) -> tuple[str, ...]:
    words, line, lines = [], "", []
    while letters:
        length = rng.randint(2, 9)
        words.append("".join(letters[:length]))
        letters = letters[length:]
    limit = rng.choice((8, 14, 22, 34))
    for word in words:
        if line and len(line) + len(word) >= limit:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return (*lines, line)


def _mask(lettering: Lettering, height: int, width: int) -> np.typing.NDArray[np.uint8]:
    """Return where the ink is, 0..255, shape (height, width)."""
    block = _block(lettering, max(6.0, lettering.height_fraction * height))
    block = block.rotate(lettering.angle, expand=True, resample=Image.Resampling.BILINEAR)
    fit = min(1.0, 0.96 * width / block.width, 0.96 * height / block.height)
    if fit < 1:
        size = max(1, int(block.width * fit)), max(1, int(block.height * fit))
        block = block.resize(size, Image.Resampling.LANCZOS)
    mask = Image.new("L", (width, height))
    place = int(lettering.left * (width - block.width)), int(lettering.top * (height - block.height))
    mask.paste(block, place)
    return np.array(mask)


def _block(lettering: Lettering, line_px: float) -> Image.Image:
    if lettering.font.isdecimal():
        return _hershey_block(lettering, line_px)
    import matplotlib

    file = Path(matplotlib.get_data_path()) / "fonts/ttf" / lettering.font
    font = ImageFont.truetype(str(file), round(line_px))
    text = "\n".join(lettering.lines)
    box = ImageDraw.Draw(Image.new("L", (1, 1))).multiline_textbbox((0, 0), text, font, spacing=line_px / 4)
    block = Image.new("L", (int(box[2] - box[0]) + 2, int(box[3] - box[1]) + 2))
    ImageDraw.Draw(block).multiline_text((1 - box[0], 1 - box[1]), text, 255, font, spacing=line_px / 4)
    return block


def _hershey_block(lettering: Lettering, line_px: float) -> Image.Image:
    font, thickness = int(lettering.font), max(1, round(line_px / 14))
    scale = cv2.getFontScaleFromHeight(font, max(4, round(line_px * 0.7)), thickness)
    widths = [cv2.getTextSize(line, font, scale, thickness)[0][0] for line in lettering.lines]
    step = round(line_px * 1.3)
    block = np.zeros((step * len(lettering.lines) + thickness, max(widths) + 2 * thickness), np.uint8)
    for row, line in enumerate(lettering.lines):
        place = (thickness, step * (row + 1) - step // 4)
        cv2.putText(block, line, place, font, scale, 255, thickness, cv2.LINE_AA)
    return Image.fromarray(block)

"""Draws the cartoon faces of the demo corpus with Pillow: flat colours, line art, large eyes, all from one seed."""

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

OVERSAMPLING = 3
FACE_BOX = (0.27, 0.27, 0.73, 0.81)
"""Where the face lies, as fractions of the side: left, top, right, bottom."""

SKINS: tuple[Colour, ...] = ((255, 228, 209), (250, 214, 188), (232, 190, 158), (190, 140, 106))
HAIRS: tuple[Colour, ...] = (
    (58, 46, 84),
    (232, 108, 142),
    (246, 202, 92),
    (86, 158, 214),
    (122, 196, 150),
    (170, 62, 54),
    (214, 214, 232),
    (40, 40, 48),
)
EYES: tuple[Colour, ...] = ((62, 120, 206), (150, 62, 150), (64, 150, 96), (186, 96, 38), (200, 44, 62))
SKIES: tuple[Colour, ...] = ((214, 236, 250), (250, 226, 236), (236, 244, 214), (246, 238, 206), (226, 218, 246))
LINE: Colour = (52, 34, 46)


@dataclass(frozen=True)
class Look:
    """What one cartoon face looks like."""

    skin: Colour
    hair: Colour
    eye: Colour
    sky: Colour
    is_long_haired: bool
    is_smiling: bool
    num_bangs: int
    eye_height: float


def draw_face(seed: int, side_px: int) -> Image.Image:
    """Return a square RGB picture of one cartoon face; equal seeds give equal pixels."""
    chance = random.Random(seed)
    look = Look(
        skin=chance.choice(SKINS),
        hair=chance.choice(HAIRS),
        eye=chance.choice(EYES),
        sky=chance.choice(SKIES),
        is_long_haired=chance.random() < 0.6,
        is_smiling=chance.random() < 0.7,
        num_bangs=chance.randint(4, 6),
        eye_height=chance.uniform(0.135, 0.165),
    )
    canvas = Image.new("RGB", (side_px * OVERSAMPLING, side_px * OVERSAMPLING), look.sky)
    pen = _Pen(ImageDraw.Draw(canvas), side_px * OVERSAMPLING)
    _draw_background(pen, look, chance)
    _draw_back_hair(pen, look)
    _draw_body(pen, look, chance)
    _draw_head(pen, look)
    for middle in (0.395, 0.605):
        _draw_eye(pen, look, middle)
    _draw_nose_and_mouth(pen, look)
    _draw_front_hair(pen, look, chance)
    return canvas.resize((side_px, side_px), Image.Resampling.LANCZOS)


class _Pen:
    """Draws in fractions of the side, every shape with a dark outline."""

    def __init__(self, draw: ImageDraw.ImageDraw, side: int) -> None:
        self._draw = draw
        self._side = side
        self._line = max(2, side // 160)

    def polygon(self, points: list[Point], fill: Colour, outline: Colour | None = LINE) -> None:
        scaled = [(x * self._side, y * self._side) for x, y in points]
        self._draw.polygon(scaled, fill=fill)
        if outline is not None:
            self._draw.line([*scaled, scaled[0]], fill=outline, width=self._line, joint="curve")

    def ellipse(self, middle: Point, radii: Point, fill: Colour, outline: Colour | None = None) -> None:
        (x, y), (across, down) = middle, radii
        box = [(x - across) * self._side, (y - down) * self._side, (x + across) * self._side, (y + down) * self._side]
        self._draw.ellipse(box, fill=fill, outline=outline, width=self._line)

    def curve(self, points: list[Point], weight: float = 1.0, colour: Colour = LINE) -> None:
        scaled = [(x * self._side, y * self._side) for x, y in smooth(points)]
        self._draw.line(scaled, fill=colour, width=max(1, round(self._line * weight)), joint="curve")


def smooth(points: list[Point], num_steps: int = 12) -> list[Point]:
    """Return a Catmull-Rom spline through `points`: it meets each of them and bends without corners."""
    padded = [points[0], *points, points[-1]]
    curve: list[Point] = []
    for before, start, end, after in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        for step in range(num_steps):
            t = step / num_steps
            curve.append(
                (
                    _spline(before[0], start[0], end[0], after[0], t),
                    _spline(before[1], start[1], end[1], after[1], t),
                )
            )
    return [*curve, points[-1]]


def _spline(before: float, start: float, end: float, after: float, t: float) -> float:
    linear, square, cube = end - before, 2 * before - 5 * start + 4 * end - after, 3 * (start - end) + after - before
    return start + 0.5 * t * (linear + t * (square + t * cube))


def _mirrored(points: list[Point]) -> list[Point]:
    """Continue an outline on the other side of the middle line."""
    return [(1 - x, y) for x, y in reversed(points)]


def _darker(colour: Colour, share: float = 0.75) -> Colour:
    red, green, blue = (round(value * share) for value in colour)
    return red, green, blue


def _lighter(colour: Colour, share: float = 0.5) -> Colour:
    red, green, blue = (round(value + (255 - value) * share) for value in colour)
    return red, green, blue


def _draw_background(pen: _Pen, look: Look, chance: random.Random) -> None:
    for _ in range(chance.randint(4, 9)):
        middle, radius = (chance.random(), chance.random()), chance.uniform(0.03, 0.12)
        pen.ellipse(middle, (radius, radius), _lighter(look.sky, 0.55))


def _draw_back_hair(pen: _Pen, look: Look) -> None:
    bottom = 1.02 if look.is_long_haired else 0.70
    outline = [(0.50, 0.09), (0.27, 0.15), (0.17, 0.36), (0.16, 0.60), (0.13, bottom)]
    pen.polygon(smooth([*outline, *_mirrored(outline[1:]), outline[0]]), _darker(look.hair, 0.82))


def _draw_body(pen: _Pen, look: Look, chance: random.Random) -> None:
    cloth = chance.choice(EYES)
    pen.polygon([(0.43, 0.74), (0.57, 0.74), (0.58, 0.90), (0.42, 0.90)], _darker(look.skin, 0.88))
    left = [(0.10, 1.02), (0.19, 0.90), (0.36, 0.86)]
    pen.polygon(smooth([*left, (0.50, 0.92), *_mirrored(left)]), cloth)
    pen.polygon([(0.36, 0.86), (0.50, 0.95), (0.40, 1.0)], (250, 250, 250))
    pen.polygon([(0.64, 0.86), (0.50, 0.95), (0.60, 1.0)], (250, 250, 250))


def _draw_head(pen: _Pen, look: Look) -> None:
    left = [(0.50, 0.20), (0.34, 0.24), (0.275, 0.38), (0.28, 0.55), (0.315, 0.66), (0.40, 0.75), (0.485, 0.805)]
    pen.polygon(smooth([*left, *_mirrored(left)]), look.skin)
    for side in (-1, 1):
        pen.ellipse((0.5 + side * 0.135, 0.672), (0.036, 0.018), (255, 182, 176))


def _draw_eye(pen: _Pen, look: Look, middle: float) -> None:
    outward = -1 if middle < 0.5 else 1
    height, top = look.eye_height, 0.505
    centre = (middle, top + height / 2)
    pen.ellipse(centre, (0.066, height / 2), (255, 255, 255))
    pen.ellipse(centre, (0.050, height / 2), _darker(look.eye, 0.55))
    pen.ellipse((middle, centre[1] + height * 0.12), (0.043, height * 0.34), look.eye)
    pen.ellipse((middle, centre[1] + height * 0.26), (0.032, height * 0.18), _lighter(look.eye))
    pen.ellipse(centre, (0.018, height * 0.17), (20, 14, 24))
    pen.ellipse((middle - 0.018, centre[1] - height * 0.2), (0.017, height * 0.14), (255, 255, 255))
    pen.ellipse((middle + 0.02, centre[1] + height * 0.22), (0.008, height * 0.06), (255, 255, 255))
    lid = [(middle - outward * 0.066, top + 0.035), (middle, top - 0.008), (middle + outward * 0.075, top + 0.04)]
    pen.curve(lid, weight=4)
    pen.curve([(middle + outward * 0.06, top + 0.02), (middle + outward * 0.088, top + 0.012)], weight=2.5)
    pen.curve([(middle - 0.035, top + height), (middle + 0.035, top + height)], weight=1.5)
    brow = [(middle - outward * 0.055, 0.458), (middle, 0.443), (middle + outward * 0.065, 0.462)]
    pen.curve(brow, weight=2, colour=_darker(look.hair, 0.6))


def _draw_nose_and_mouth(pen: _Pen, look: Look) -> None:
    pen.curve([(0.497, 0.668), (0.504, 0.68)], weight=1.5, colour=_darker(look.skin, 0.6))
    if look.is_smiling:
        mouth = [(0.462, 0.722), (0.50, 0.732), (0.538, 0.722), (0.50, 0.762), (0.462, 0.722)]
        pen.polygon(smooth(mouth), (204, 78, 84))
    else:
        pen.curve([(0.472, 0.732), (0.50, 0.737), (0.528, 0.732)], weight=1.5)


def _draw_front_hair(pen: _Pen, look: Look, chance: random.Random) -> None:
    tips: list[Point] = []
    for bang in range(look.num_bangs):
        share = (bang + 0.5) / look.num_bangs
        tip = 0.415 - 0.045 * math.cos(math.pi * (2 * share - 1)) + chance.uniform(-0.02, 0.02)
        tips.append((0.27 + 0.46 * share + chance.uniform(-0.012, 0.012), tip))
        if bang + 1 < look.num_bangs:
            tips.append((0.27 + 0.46 * (bang + 1) / look.num_bangs, 0.31))
    left = [(0.34, 0.13), (0.225, 0.28), (0.225, 0.50)]
    crown = smooth([*_mirrored(left), (0.50, 0.095), *left])
    pen.polygon([(0.225, 0.52), (0.265, 0.40), *tips, (0.735, 0.40), (0.775, 0.52), *crown], look.hair)
    for side in (-1, 1):
        lock = [(0.5 + side * 0.235, 0.33), (0.5 + side * 0.285, 0.55), (0.5 + side * 0.245, 0.76)]
        pen.polygon(smooth([*lock, (0.5 + side * 0.215, 0.52), lock[0]]), look.hair)
    pen.curve([(0.34, 0.20), (0.43, 0.175), (0.52, 0.185)], weight=5, colour=_lighter(look.hair, 0.55))

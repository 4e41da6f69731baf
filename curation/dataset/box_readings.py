"""Boxes of a picture that EXIF turns: whoever drew them may have seen its pixels as stored, or upright as it is shown.

FaceCaption's boxes are of stored pixels; a box of another source may be of upright ones. So both readings are tried,
and the one counts under which a box meets a face.
"""

from dataclasses import dataclass
from typing import Literal

from filters.boxes import Box

Pixels = Literal["stored", "upright"]
Size = tuple[int, int]
"""Width and height."""
MAX_ASPECT_CHANGE = 0.02
"""Relative change of aspect ratio up to which a picture counts as a resized copy of the one that was boxed."""
FIRST_TURNED = 5
"""From this EXIF orientation on, width and height change places."""


@dataclass(frozen=True)
class Reading:
    """One way to understand a box."""

    pixels: Pixels
    boxed: Size
    """The picture that was boxed."""
    orientation: int
    """What turns it upright: 1 where it is."""
    scale: tuple[float, float]
    """From the boxed picture, upright, to the decoded one."""

    def box(self, box: Box) -> Box:
        """Return a box in pixels of the decoded picture, which is upright."""
        corners = [_turned(x, y, self.boxed, self.orientation) for x, y in (box[:2], box[2:])]
        (x, other_x), (y, other_y) = (sorted(values) for values in zip(*corners, strict=True))
        across, down = self.scale
        return x * across, y * down, other_x * across, other_y * down


def readings(size: Size, crawled: Size, orientation: int) -> list[Reading]:
    """Return how boxes of a picture may be read, likeliest first; none where it has another shape than it had.

    `size` is the decoded, upright picture's; `crawled` is what the source says, of stored or of upright pixels.
    """
    is_turned = orientation >= FIRST_TURNED
    shapes = [crawled, crawled[::-1]] if is_turned else [crawled]
    for upright in shapes:
        across, down = size[0] / upright[0], size[1] / upright[1]
        if abs(across / down - 1) <= MAX_ASPECT_CHANGE:
            stored = upright[::-1] if is_turned else upright
            both = [Reading("stored", stored, orientation, (across, down))]
            return both if orientation == 1 else [*both, Reading("upright", upright, 1, (across, down))]
    return []


def _turned(x: float, y: float, size: Size, orientation: int) -> tuple[float, float]:
    """Return where a point of a stored picture is seen (CIPA DC-008, 4.6.5.1.8)."""
    width, height = size
    if orientation >= FIRST_TURNED:
        x, y, width, height = y, x, height, width
    if orientation in (2, 3, 6, 7):
        x = width - x
    if orientation in (3, 4, 7, 8):
        y = height - y
    return x, y

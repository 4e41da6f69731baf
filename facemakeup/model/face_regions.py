"""Where a face and its parts are, as shares of the squares of a grid; and which words of a caption speak of them.

Shapes: B pictures, h and w squares of a grid over each, R regions, L tokens of a caption.
"""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

FINE = 4
"""A square is looked at in so many places across and down."""
REGIONS = ("face", "eyes", "nose", "mouth")
WORDS: Mapping[str, str] = MappingProxyType(
    {
        "face": "face|faces|facial|head|skin|cheek|cheeks|cheekbones|chin|jaw|jawline|forehead|beard|bearded|stubble"
        "|goatee|freckles|wrinkles|makeup|expression",
        "eyes": "eye|eyes|eyed|eyebrow|eyebrows|eyelash|eyelashes|eyelids|gaze|glasses|eyeglasses|sunglasses",
        "nose": "nose|nostrils",
        "mouth": "mouth|lip|lips|lipstick|smile|smiles|smiling|grin|grinning|teeth|moustache|mustache",
    }
)
"""Region -> words that speak of it, in English, as captions of faces use them."""
EYE_RADIUS, NOSE_RADIUS, MOUTH_RADIUS = 0.35, 0.3, 0.75
"""Of a disc about each eye and about the nose in distances of the eyes; about the middle of the mouth in its widths."""
INSIDE = 0.5
"""Share from which a square belongs to a region."""


def box_shares(boxes_B4: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Return how much of each square lies in a box, (B, h, w); boxes and `size` (height, width) are in pixels."""
    x, y = _points(size, grid, boxes_B4.device)
    left, top, right, bottom = boxes_B4[:, :, None].unbind(1)
    across, down = (left <= x) & (x < right), (top <= y) & (y < bottom)
    return _pooled(down[:, :, None] & across[:, None, :])


def ellipse_shares(boxes_B4: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Return how much of each square lies in the ellipse that fills a box, (B, h, w)."""
    middle, radii = (boxes_B4[:, :2] + boxes_B4[:, 2:]) / 2, (boxes_B4[:, 2:] - boxes_B4[:, :2]) / 2
    return _pooled(_in_ellipse(middle, radii, size, grid))


def region_masks(boxes_B4: Tensor, landmarks_B52: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Return which squares belong to each of `REGIONS`, bool (B, R, h, w).

    A region smaller than a square is the square that has most of it; one outside of the picture is empty.
    """
    left_eye, right_eye, nose, left_corner, right_corner = landmarks_B52.unbind(1)
    apart, wide = ((b - a).norm(dim=1, keepdim=True) for a, b in ((left_eye, right_eye), (left_corner, right_corner)))

    def disc(middle_B2: Tensor, radius_B1: Tensor) -> Tensor:
        return _in_ellipse(middle_B2, radius_B1.expand(-1, 2), size, grid)

    parts = (
        _in_ellipse((boxes_B4[:, :2] + boxes_B4[:, 2:]) / 2, (boxes_B4[:, 2:] - boxes_B4[:, :2]) / 2, size, grid),
        disc(left_eye, EYE_RADIUS * apart) | disc(right_eye, EYE_RADIUS * apart),
        disc(nose, NOSE_RADIUS * apart),
        disc((left_corner + right_corner) / 2, MOUTH_RADIUS * wide),
    )
    shares = torch.stack([_pooled(part) for part in parts], dim=1)
    most = shares.amax(dim=(2, 3), keepdim=True)
    return (shares > INSIDE) | ((most <= INSIDE) & (most > 0) & (shares == most))


def region_tokens(captions: Sequence[str], spans_BL2: Tensor) -> Tensor:
    """Return which tokens of each caption speak of each of `REGIONS`, bool (B, R, L).

    `spans_BL2` says which characters each token stands for; where both ends are alike it stands for none.
    """
    said = torch.zeros(len(captions), len(REGIONS), spans_BL2.shape[1], dtype=torch.bool)
    firsts, lasts = spans_BL2.unbind(-1)
    for number, caption in enumerate(captions):
        for part, region in enumerate(REGIONS):
            for word in re.finditer(rf"\b(?:{WORDS[region]})\b", caption, re.IGNORECASE):
                within = (firsts[number] < word.end()) & (lasts[number] > word.start())
                said[number, part] |= within & (firsts[number] < lasts[number])
    return said


def grid_of(num_squares: int, latent: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of a grid of so many squares that latents of a height and width become by halving.

    Raises:
        ValueError: there is none.
    """
    height, width = latent
    while height * width > num_squares:
        height, width = -(-height // 2), -(-width // 2)
    if height * width != num_squares:
        raise ValueError(f"{num_squares} queries are no grid over latents of {latent[0]} x {latent[1]}")
    return height, width


def _points(size: tuple[int, int], grid: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return where the squares are looked at, in pixels: x of all columns, y of all rows."""
    (height, width), (rows, columns) = size, grid
    x = (torch.arange(columns * FINE, device=device) + 0.5) * (width / (columns * FINE))
    y = (torch.arange(rows * FINE, device=device) + 0.5) * (height / (rows * FINE))
    return x, y


def _in_ellipse(middle_B2: Tensor, radii_B2: Tensor, size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    x, y = _points(size, grid, middle_B2.device)
    across = ((x - middle_B2[:, :1]) / radii_B2[:, :1]).square()
    down = ((y - middle_B2[:, 1:]) / radii_B2[:, 1:]).square()
    return down[:, :, None] + across[:, None, :] <= 1


def _pooled(inside_BHW: Tensor) -> Tensor:
    return avg_pool2d(inside_BHW.float(), FINE)

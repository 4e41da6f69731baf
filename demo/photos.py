"""Real photos that installed packages carry, and the honest derivatives that the demo corpus is made of.

Face boxes were marked by eye on the originals; every derivative moves them along with its pixels.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

Box = tuple[float, float, float, float]
"""Left, top, right, bottom in pixels."""

TIGHTEST_CROP = 2.4
"""Sides of the face box that the tightest crop of a portrait still holds."""
SEPIA = (
    (0.393, 0.769, 0.189, 0.0),
    (0.349, 0.686, 0.168, 0.0),
    (0.272, 0.534, 0.131, 0.0),
)
"""The usual sepia matrix, R, G, B from R, G, B; bright values saturate."""


@dataclass(frozen=True)
class Face:
    """One face of a photo: where it is, and what a captioner would say of it."""

    box: Box
    description: str


@dataclass(frozen=True)
class Photo:
    """A picture with the faces in it and a record of what it was made from."""

    image: Image.Image
    faces: tuple[Face, ...]
    made_from: str
    alt_text: str


def matplotlib_folder() -> Path:
    """Return the folder of matplotlib's sample data."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "sample_data"


def skimage_folder() -> Path:
    """Return the folder of the photos inside the scikit-image wheel."""
    import skimage

    return Path(skimage.__file__).parent / "data"


def hopper() -> Photo:
    """Grace Hopper, 512x600, colour."""
    face = Face((174, 124, 355, 338), "An elderly woman with grey hair wears glasses and a dark navy cap.")
    return _open(matplotlib_folder() / "grace_hopper.jpg", "matplotlib", "Rear Admiral Grace Hopper, portrait", face)


def astronaut() -> Photo:
    """Eileen Collins, 512x512, colour."""
    face = Face((181, 62, 271, 178), "A smiling woman with short brown hair wears an orange space suit.")
    return _open(skimage_folder() / "astronaut.png", "scikit-image", "Astronaut Eileen Collins, portrait", face)


def cameraman() -> Photo:
    """A man behind a camera, 512x512, grey."""
    face = Face((196, 114, 263, 197), "A man with dark hair looks through a camera on a tripod.")
    return _open(skimage_folder() / "camera.png", "scikit-image", "Photographer on a lawn", face)


def faceless(name: str, alt_text: str) -> Photo:
    """One of scikit-image's photos without a person."""
    return _open(skimage_folder() / name, "scikit-image", alt_text)


def _open(path: Path, package: str, alt_text: str, *faces: Face) -> Photo:
    with Image.open(path) as image:
        return Photo(image.convert("RGB"), faces, f"{package}: {path.name}", alt_text)


def scaled(photo: Photo, width: int, height: int) -> Photo:
    """Resample to `width` x `height` pixels."""
    across, down = width / photo.image.width, height / photo.image.height
    image = photo.image.resize((width, height), Image.Resampling.LANCZOS)
    faces = tuple(
        replace(face, box=(face.box[0] * across, face.box[1] * down, face.box[2] * across, face.box[3] * down))
        for face in photo.faces
    )
    return replace(photo, image=image, faces=faces, made_from=f"{photo.made_from}, scaled to {width}x{height}")


def scaled_to(photo: Photo, longer_side: int) -> Photo:
    """Resample so that the longer side has `longer_side` pixels."""
    scale = longer_side / max(photo.image.size)
    return scaled(photo, round(photo.image.width * scale), round(photo.image.height * scale))


def cropped(photo: Photo, box: tuple[int, int, int, int]) -> Photo:
    """Cut `box` out; faces whose middle is outside are gone."""
    left, top, right, bottom = box
    faces = tuple(
        replace(face, box=(face.box[0] - left, face.box[1] - top, face.box[2] - left, face.box[3] - top))
        for face in photo.faces
        if left < (face.box[0] + face.box[2]) / 2 < right and top < (face.box[1] + face.box[3]) / 2 < bottom
    )
    image = photo.image.crop(box)
    return replace(photo, image=image, faces=faces, made_from=f"{photo.made_from}, cropped to {list(box)}")


def cropped_around_face(photo: Photo, chance: random.Random) -> Photo:
    """Cut a random window that holds the one face with room around it."""
    left, top, right, bottom = photo.faces[0].box
    width, height = photo.image.size
    smallest = TIGHTEST_CROP * max(right - left, bottom - top)
    side = chance.uniform(min(smallest, width, height), min(width, height))
    middle_x, middle_y = (left + right) / 2, (top + bottom) / 2
    shift_x, shift_y = chance.uniform(-0.12, 0.12) * side, chance.uniform(-0.02, 0.15) * side
    x = min(max(middle_x - side / 2 + shift_x, 0), width - side)
    y = min(max(middle_y - side / 2 + shift_y, 0), height - side)
    return cropped(photo, (round(x), round(y), round(x + side), round(y + side)))


def mirrored(photo: Photo) -> Photo:
    """Swap left and right."""
    width = photo.image.width
    faces = tuple(
        replace(face, box=(width - face.box[2], face.box[1], width - face.box[0], face.box[3])) for face in photo.faces
    )
    return replace(photo, image=ImageOps.mirror(photo.image), faces=faces, made_from=f"{photo.made_from}, mirrored")


def relit(photo: Photo, chance: random.Random) -> Photo:
    """Change brightness, contrast and saturation by up to a fifth."""
    image = photo.image
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(chance.uniform(0.8, 1.2))
    return replace(photo, image=image, made_from=f"{photo.made_from}, relit")


def grey(photo: Photo) -> Photo:
    """Take the colour away, leaving three equal channels."""
    image = ImageOps.grayscale(photo.image).convert("RGB")
    return replace(photo, image=image, made_from=f"{photo.made_from}, grey")


def sepia(photo: Photo) -> Photo:
    """Tone brown, as old prints are."""
    matrix = tuple(value for row in SEPIA for value in row)
    return replace(photo, image=photo.image.convert("RGB", matrix), made_from=f"{photo.made_from}, sepia")


def pencilled(photo: Photo) -> Photo:
    """Redraw in coloured pencil: edges as strokes, everything else smooth (Gastal and Oliveira, SIGGRAPH 2011)."""
    import cv2

    bgr = cv2.cvtColor(np.array(photo.image), cv2.COLOR_RGB2BGR)
    _, coloured = cv2.pencilSketch(bgr, sigma_s=60, sigma_r=0.07, shade_factor=0.05)
    drawn = Image.fromarray(cv2.cvtColor(coloured, cv2.COLOR_BGR2RGB))
    return replace(photo, image=drawn, made_from=f"{photo.made_from}, redrawn in coloured pencil")


def masked(photo: Photo) -> Photo:
    """Draw a light blue mask over nose, mouth and chin of the one face, with its two straps."""
    left, top, right, bottom = photo.faces[0].box
    width, height, image = right - left, bottom - top, photo.image.copy()
    draw = ImageDraw.Draw(image)
    outline = [(0.08, 0.56), (0.5, 0.47), (0.92, 0.56), (0.88, 0.84), (0.5, 1.0), (0.12, 0.84)]
    corners = [(left + x * width, top + y * height) for x, y in outline]
    for near, far in ((corners[0], (left, top + 0.5 * height)), (corners[2], (right, top + 0.5 * height))):
        draw.line([near, far], fill=(226, 232, 236), width=max(2, round(width / 40)))
    draw.polygon(corners, fill=(158, 200, 224), outline=(110, 150, 176))
    for share in (0.62, 0.72, 0.82):
        level = top + share * height
        draw.line([(left + 0.14 * width, level), (right - 0.14 * width, level)], fill=(132, 176, 204), width=2)
    return replace(photo, image=image, made_from=f"{photo.made_from}, a mask drawn over it")


def side_by_side(photos: Sequence[Photo], height: int) -> Photo:
    """Set photos beside one another at one height."""
    parts = [scaled(photo, round(photo.image.width * height / photo.image.height), height) for photo in photos]
    image = Image.new("RGB", (sum(part.image.width for part in parts), height))
    faces: list[Face] = []
    x = 0
    for part in parts:
        image.paste(part.image, (x, 0))
        faces += [
            replace(face, box=(face.box[0] + x, face.box[1], face.box[2] + x, face.box[3])) for face in part.faces
        ]
        x += part.image.width
    made_from = " + ".join(photo.made_from for photo in photos)
    return Photo(image, tuple(faces), f"side by side: {made_from}", " and ".join(photo.alt_text for photo in photos))


def captioned(photo: Photo, top: str, bottom: str) -> Photo:
    """Write two lines in large white letters with a black edge, as memes do."""
    image = photo.image.copy()
    draw = ImageDraw.Draw(image)
    for text, at_top in ((top, True), (bottom, False)):
        font = _fitting(text, image.width)
        left, upper, right, lower = draw.textbbox((0, 0), text, font=font)
        margin = image.height * 0.02
        y = margin - upper if at_top else image.height - margin - lower
        place = ((image.width - (right - left)) / 2 - left, y)
        draw.text(place, text, font=font, fill="white", stroke_width=max(2, int(font.size) // 14), stroke_fill="black")
    return replace(photo, image=image, made_from=f"{photo.made_from}, captioned {top!r}, {bottom!r}")


def _fitting(text: str, width: int) -> ImageFont.FreeTypeFont:
    """Return matplotlib's DejaVu Sans Bold at the size at which `text` fills most of `width` pixels."""
    path = matplotlib_folder().parent / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
    reference = ImageFont.truetype(path, 100)
    return ImageFont.truetype(path, 100 * 0.92 * width / reference.getlength(text))
